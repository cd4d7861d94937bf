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

    #[test]
    fn a_panic_beneath_is_the_caller_s() {
        let panicked = panic::catch_unwind(|| beneath(|| panic!("beneath")));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"beneath"));
    }
}
