//! Answering from the first moment: until the server is ready, everything but the probes of life and the console's files is 503.

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tower::ServiceExt;

use super::error::ApiError;
use super::{console, request, routes};
use kindred_core::error::ErrorKind;

/// Stands before the routes until they are there.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<OnceLock<Router>>);

impl Gate {
    /// Lets requests through to these routes from now on.
    pub fn open(&self, router: Router) {
        // A gate is opened once, by the one who made it.
        let _ = self.0.set(router);
    }

    /// Whether the routes are there.
    pub fn is_open(&self) -> bool {
        self.0.get().is_some()
    }

    pub(super) fn router(self) -> Router {
        let closed = Router::new()
            .route(console::INDEX, get(console::index))
            .route(console::FILES_PATH, get(console::file))
            .fallback(async |request: Request| starting(&request))
            .method_not_allowed_fallback(async |request: Request| starting(&request))
            .layer(middleware::from_fn(request::observe));
        Router::new().fallback(pass).with_state((self, closed))
    }
}

async fn pass(State((gate, closed)): State<(Gate, Router)>, request: Request) -> Response {
    let router = gate.0.get().unwrap_or(&closed).clone();
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn starting(request: &Request) -> Response {
    let error = ApiError::new(ErrorKind::Unavailable, "the server is starting: try again in a moment (GET /readyz says when)", None);
    match request.uri().path() {
        "/healthz" | "/livez" => "ok".into_response(),
        path => routes::errors_at(request.method(), path).answer(error),
    }
}
