//! What a thread's work is worth beside that of others.

use std::panic;
use std::thread;

/// Does work on a thread of its own that gives way to all others, and waits for it; threads that the work starts give way too.
/// A hint: where the system does not know of such things, it is a thread like any other.
///
/// Niceness is not enough: Linux lets a nice thread end its slice of some milliseconds when a query wakes up, an idle one not.
pub fn beneath<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            lower();
            work()
        });
        worker.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Makes this thread give way to others of its process that have work, but for a tenth of the time: what must go on, however busy the others are.
/// A hint, likewise.
pub fn give_way() {
    // Linux: the niceness of a thread, not of its process; elsewhere it might be that.
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(error = %e, "a thread keeps its priority");
    }
}

/// About a tenth of the weight of an ordinary thread.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

fn lower() {
    // On Linux, a priority is a thread's own, and threads inherit it; elsewhere it might be that of the whole process.
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let lowered = thread_priority::set_thread_priority_and_policy(thread_priority::thread_native_id(), ThreadPriority::Min, idle);
        if let Err(e) = lowered {
            tracing::debug!(error = %e, "a background thread keeps its priority");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn work_beneath_is_idle_work_and_so_is_what_it_starts() {
        let policy = || thread_priority::thread_schedule_policy().unwrap();
        let idle = thread_priority::ThreadSchedulePolicy::Normal(thread_priority::NormalThreadSchedulePolicy::Idle);
        assert_eq!(beneath(policy), idle);
        assert_eq!(beneath(|| thread::spawn(policy).join().unwrap()), idle);
        assert_ne!(policy(), idle, "the caller stays what it was");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_gives_way_does_so_alone() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let lowered = thread::spawn(move || {
            give_way();
            niceness()
        });
        assert_eq!((lowered.join().unwrap(), niceness()), (before.max(NICENESS), before));
    }

    #[test]
    fn a_panic_beneath_is_the_caller_s() {
        let panicked = panic::catch_unwind(|| beneath(|| panic!("beneath")));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"beneath"));
    }
}
