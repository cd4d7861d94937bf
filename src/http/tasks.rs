//! Tasks: how long work is doing, and ending it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

use super::error::{ApiError, ErrorBody};
use super::path::PathParts;
use super::{Services, auth};
use crate::pipeline::{PipelineError, Task, TaskInfo};

/// Time between two looks at a task that is listened to.
const INTERVAL: Duration = Duration::from_millis(250);

/// All tasks that are remembered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TaskList {
    /// Newest first.
    tasks: Vec<TaskInfo>,
}

/// List the tasks: those that run, and the last that have ended.
#[utoipa::path(get, path = "/v1/tasks", responses((status = 200, body = TaskList)))]
pub async fn list(State(services): State<Arc<Services>>) -> Json<TaskList> {
    let mut tasks = services.tasks.list();
    tasks.retain(is_visible);
    Json(TaskList { tasks })
}

/// A task, if it is about what who asks may know of.
pub(super) fn visible(services: &Services, id: &str) -> Result<Arc<Task>, ApiError> {
    let task = services.tasks.get(id)?;
    if is_visible(&task.info()) { Ok(task) } else { Err(PipelineError::UnknownTask { id: id.to_owned() }.into()) }
}

fn is_visible(task: &TaskInfo) -> bool {
    task.collection.as_deref().map_or_else(auth::sees_all, auth::sees)
}

/// Look at a task.
#[utoipa::path(get, path = "/v1/tasks/{id}", responses((status = 200, body = TaskInfo), (status = "4XX", body = ErrorBody)))]
pub async fn get(State(services): State<Arc<Services>>, PathParts(id): PathParts<String>) -> Result<Json<TaskInfo>, ApiError> {
    Ok(Json(visible(&services, &id)?.info()))
}

/// Cancel a task. It ends at its next look and leaves everything as it was; one that has ended stays as it is.
#[utoipa::path(delete, path = "/v1/tasks/{id}", responses((status = 200, body = TaskInfo), (status = "4XX", body = ErrorBody)))]
pub async fn cancel(State(services): State<Arc<Services>>, PathParts(id): PathParts<String>) -> Result<Json<TaskInfo>, ApiError> {
    let task = visible(&services, &id)?;
    task.cancel().cancel();
    Ok(Json(task.info()))
}

/// Listen to a task: server-sent events, each with the task as it is; the last when it has ended.
#[utoipa::path(get, path = "/v1/tasks/{id}/events",
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = "4XX", body = ErrorBody)))]
pub async fn events(
    State(services): State<Arc<Services>>,
    PathParts(id): PathParts<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let task = visible(&services, &id)?;
    Ok(Sse::new(changes(task)).keep_alive(KeepAlive::default()))
}

/// The task now, then whenever it has changed after [`INTERVAL`], until it has ended. At most four events a second, although rate
/// and estimate change at every look.
fn changes(task: Arc<Task>) -> impl Stream<Item = Result<Event, Infallible>> {
    let wait = || tokio::time::sleep(INTERVAL);
    states(task, wait).map(|info| Ok(Event::default().event("task").json_data(&info).expect("a task is strings and numbers")))
}

/// The states of a task, with a wait before each but the first.
fn states<W: Future<Output = ()>>(task: Arc<Task>, wait: impl Fn() -> W) -> impl Stream<Item = TaskInfo> {
    stream::unfold((task, wait, None::<TaskInfo>), async |(task, wait, last)| {
        if last.as_ref().is_some_and(|last| last.status.is_final()) {
            return None;
        }
        if last.is_some() {
            wait().await;
        }
        while last.as_ref() == Some(&task.info()) {
            wait().await;
        }
        let info = task.info();
        Some((info.clone(), (task, wait, Some(info))))
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::sync::mpsc;

    use super::*;
    use crate::pipeline::Tasks;

    /// A task that changes at every look has one event a wait.
    #[tokio::test]
    async fn a_busy_task_does_not_flood_its_listeners() {
        let tasks = Tasks::default();
        let (end, ended) = mpsc::channel::<()>();
        let work = move |task: &Arc<Task>| {
            let progress = task.phase("counting", u64::MAX);
            while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                progress.advance(1);
            }
            Ok(serde_json::Value::Null)
        };
        let task = tasks.start("count", None, work).unwrap();
        let n_waits = Cell::new(0);
        let wait = || {
            n_waits.set(n_waits.get() + 1);
            tokio::task::yield_now()
        };
        let n_seen = pin!(states(Arc::clone(&task), wait).take(50)).count().await;
        assert!(n_seen == 50 && n_waits.get() >= 49, "{} waits", n_waits.get());
        drop(end);
        task.wait();
        assert_eq!(pin!(states(task, wait)).count().await, 1, "one that has ended has one event");
    }
}
