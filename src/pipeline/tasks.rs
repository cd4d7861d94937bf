//! Long work that runs in the background: what it is, how far it has come, how it ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value as Json;
use tracing::Span;
use tracing::field::Empty;

use super::PipelineError;
use crate::telemetry::traces::stage;
use kindred_core::domain::CollectionName;
use kindred_core::error::chain;
use kindred_core::{Cancel, Progress};

/// Finished tasks that are remembered.
const MAX_FINISHED: usize = 100;
/// Most tasks that run or wait for their turn: each has a thread.
const MAX_ACTIVE: usize = 64;
/// Time between two looks of a caller that waits for the end of a task.
const POLL: Duration = Duration::from_millis(50);

/// How a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl TaskStatus {
    /// Whether it has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A task as its users see it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TaskInfo {
    pub id: String,
    /// `rebuild`, `snapshot`, …
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    pub status: TaskStatus,
    /// What is being done, for example `embedding jobs`.
    pub phase: String,
    /// Of the phase.
    pub done: u64,
    /// Of the phase; 0 if it is not known.
    pub total: u64,
    /// Of the phase, per second.
    pub rate: f64,
    /// Seconds until the phase is done, at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<f64>,
    /// RFC 3339.
    pub started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it failed, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub result: Option<Json>,
}

/// All tasks of a process.
#[derive(Debug, Default)]
pub struct Tasks {
    next: AtomicU64,
    /// Oldest first.
    all: Mutex<VecDeque<Arc<Task>>>,
}

/// One task, shared by those who work on it and those who look at it.
#[derive(Debug)]
pub struct Task {
    id: String,
    kind: &'static str,
    collection: Option<String>,
    started_at: jiff::Timestamp,
    cancel: Cancel,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    status: TaskStatus,
    /// Until it has ended.
    span: Span,
    phase: String,
    phase_span: Span,
    phase_started: Instant,
    done: u64,
    total: u64,
    ended_at: Option<jiff::Timestamp>,
    error: Option<String>,
    result: Option<Json>,
}

impl Tasks {
    /// Starts work on a thread of its own.
    ///
    /// # Errors
    /// [`PipelineError::Thread`] when the operating system cannot start one.
    pub fn start(
        &self,
        kind: &'static str,
        collection: Option<String>,
        work: impl FnOnce(&Arc<Task>) -> Result<Json, PipelineError> + Send + 'static,
    ) -> Result<Arc<Task>, PipelineError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        // A trace of its own, which names what began it: that is answered long before this ends.
        let span = stage!(parent: None, "task", otel.name = kind, otel.status_code = Empty, collection, task = id);
        span.follows_from(Span::current());
        let state = State {
            status: TaskStatus::Queued,
            span,
            phase: String::new(),
            phase_span: Span::none(),
            phase_started: Instant::now(),
            done: 0,
            total: 0,
            ended_at: None,
            error: None,
            result: None,
        };
        let task = Arc::new(Task {
            id: id.to_string(),
            kind,
            collection,
            started_at: jiff::Timestamp::now(),
            cancel: Cancel::default(),
            state: Mutex::new(state),
            ended: Condvar::new(),
        });
        let running = Arc::clone(&task);
        let run = move || {
            // A panic ends this thread; the task must not look as if it went on.
            let guard = EndsOnDrop(&running);
            running.lock().status = TaskStatus::Running;
            let result = work(&running);
            running.end(result);
            drop(guard);
        };
        // Held until it is in the list: whoever cancels all of them misses none.
        let mut all = self.lock();
        if all.iter().filter(|task| !task.lock().status.is_final()).count() >= MAX_ACTIVE {
            return Err(PipelineError::TooManyTasks { limit: MAX_ACTIVE });
        }
        std::thread::Builder::new().name(kind.to_owned()).spawn(run).map_err(|source| PipelineError::Thread { source })?;
        all.push_back(Arc::clone(&task));
        while all.len() > MAX_FINISHED && all.front().is_some_and(|task| task.info().status.is_final()) {
            all.pop_front();
        }
        Ok(task)
    }

    /// All tasks that are remembered, newest first.
    pub fn list(&self) -> Vec<TaskInfo> {
        self.lock().iter().rev().map(|task| task.info()).collect()
    }

    /// The task of this number.
    ///
    /// # Errors
    /// [`PipelineError::UnknownTask`].
    pub fn get(&self, id: &str) -> Result<Arc<Task>, PipelineError> {
        let found = self.lock().iter().find(|task| task.id == id).cloned();
        found.ok_or_else(|| PipelineError::UnknownTask { id: id.to_owned() })
    }

    /// Cancels all that are about a collection, for its end.
    pub fn cancel_of(&self, collection: &CollectionName) {
        let is_of = |task: &&Arc<Task>| task.collection.as_deref() == Some(collection.as_str());
        self.lock().iter().filter(is_of).for_each(|task| task.cancel.cancel());
    }

    /// Cancels all, for the end of the server.
    pub fn cancel_all(&self) {
        self.lock().iter().for_each(|task| task.cancel.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Task>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct EndsOnDrop<'a>(&'a Task);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        if !self.0.lock().status.is_final() {
            self.0.end(Err(PipelineError::WorkerLost));
        }
    }
}

impl Task {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it ended; waits for that.
    pub fn wait(&self) -> TaskInfo {
        let ended = self.ended.wait_while(self.lock(), |state| !state.status.is_final());
        drop(ended.unwrap_or_else(PoisonError::into_inner));
        self.info()
    }

    /// Waits until it has ended, without holding a thread.
    pub async fn ended(&self) -> TaskInfo {
        while !self.info().status.is_final() {
            tokio::time::sleep(POLL).await;
        }
        self.info()
    }

    /// The handle that cancels it.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The handle of its next phase: shows how far it has come here, and is cancelled with the task.
    pub fn phase(self: &Arc<Self>, phase: &str, total: u64) -> Progress {
        {
            let mut state = self.lock();
            (state.phase, state.phase_started) = (phase.to_owned(), Instant::now());
            state.phase_span = stage!(parent: &state.span, "phase", otel.name = phase, total);
            (state.done, state.total) = (0, total);
        }
        let task = Arc::clone(self);
        Progress::watched(move |done| task.lock().done = done).cancelled_by(&self.cancel)
    }

    /// How it is doing.
    pub fn info(&self) -> TaskInfo {
        let state = self.lock();
        let is_running = state.status == TaskStatus::Running;
        let seconds = state.phase_started.elapsed().as_secs_f64();
        let rate = if is_running && seconds > 0.0 { state.done as f64 / seconds } else { 0.0 };
        let rounded = |x: f64| (x * 10.0).round() / 10.0;
        TaskInfo {
            id: self.id.clone(),
            kind: self.kind,
            collection: self.collection.clone(),
            status: state.status,
            phase: state.phase.clone(),
            done: state.done,
            total: state.total,
            rate: rounded(rate),
            eta_s: (rate > 0.0 && state.total > 0).then(|| rounded(state.total.saturating_sub(state.done) as f64 / rate)),
            started_at: self.started_at.to_string(),
            ended_at: state.ended_at.map(|at| at.to_string()),
            error: state.error.clone(),
            result: state.result.clone(),
        }
    }

    fn end(&self, result: Result<Json, PipelineError>) {
        let mut state = self.lock();
        state.ended_at = Some(jiff::Timestamp::now());
        match result {
            Ok(result) => (state.status, state.result) = (TaskStatus::Done, Some(result)),
            Err(_) if self.cancel.is_cancelled() => state.status = TaskStatus::Cancelled,
            Err(e) => {
                tracing::error!(task = self.id, kind = self.kind, collection = self.collection, error = chain(&e), "a task failed");
                state.span.record("otel.status_code", "ERROR");
                (state.status, state.error) = (TaskStatus::Failed, Some(e.to_string()));
            }
        }
        (state.phase_span, state.span) = (Span::none(), Span::none());
        self.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn ended(tasks: &Tasks, id: &str) -> TaskInfo {
        tasks.get(id).unwrap().wait()
    }

    #[test]
    fn tasks_tell_how_they_are_doing_and_how_they_ended() {
        let tasks = Tasks::default();
        let (go, wait) = mpsc::channel::<()>();
        let (half, at_half) = mpsc::channel();
        let work = move |task: &Arc<Task>| {
            let progress = task.phase("counting", 10);
            progress.advance(5);
            half.send(()).unwrap();
            wait.recv().unwrap();
            if progress.is_cancelled() { Err(PipelineError::Cancelled { kept: "nothing" }) } else { Ok(Json::Null) }
        };
        let task = tasks.start("count", None, work).unwrap();
        at_half.recv().unwrap();
        let info = task.info();
        assert_eq!((info.status, info.phase.as_str(), info.done, info.total), (TaskStatus::Running, "counting", 5, 10));
        tasks.get(task.id()).unwrap().cancel().cancel();
        go.send(()).unwrap();
        assert_eq!(ended(&tasks, task.id()).status, TaskStatus::Cancelled);
        let failing = tasks.start("fail", Some("jobs".into()), |_| Err(PipelineError::EmptyQuery)).unwrap();
        let info = ended(&tasks, failing.id());
        assert_eq!((info.status, info.error.is_some(), info.collection.as_deref()), (TaskStatus::Failed, true, Some("jobs")));
        let panicking = tasks.start("panic", None, |_| panic!("told on standard error")).unwrap();
        assert_eq!(ended(&tasks, panicking.id()).status, TaskStatus::Failed);
        assert_eq!(tasks.list().iter().map(|info| info.kind).collect::<Vec<_>>(), ["panic", "fail", "count"]);
        assert!(matches!(tasks.get("7"), Err(PipelineError::UnknownTask { .. })));
    }

    #[test]
    fn tasks_that_wait_are_bounded() {
        let tasks = Tasks::default();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let start = || {
            let released = Arc::clone(&released);
            tasks.start("wait", None, move |_| Ok(Json::Bool(released.lock().unwrap().recv().is_err())))
        };
        let waiting: Vec<_> = (0..MAX_ACTIVE).map(|_| start().unwrap()).collect();
        let refused = start().unwrap_err();
        assert_eq!(refused.kind(), kindred_core::error::ErrorKind::Overloaded, "{refused}");
        drop(release);
        waiting.iter().for_each(|task| drop(task.wait()));
        start().unwrap().wait();
    }
}
