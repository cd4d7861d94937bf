//! Tasks: how long work is doing, and ending it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream;
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

/// The task whenever it is found changed, until it has ended.
fn changes(task: Arc<Task>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((task, None::<TaskInfo>), async |(task, last)| {
        if last.as_ref().is_some_and(|last| last.status.is_final()) {
            return None;
        }
        loop {
            let info = task.info();
            if last.as_ref() != Some(&info) {
                let event = Event::default().event("task").json_data(&info).expect("a task is strings and numbers");
                return Some((Ok(event), (task, Some(info))));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
}
