//! Errors as text-embeddings-inference (TEI) tells them.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::error::{self, ApiError};
use crate::http::probe::NotReady;
use crate::pipeline::{EmbedError, RerankError};
use kindred_core::error::ErrorKind;

/// An error as TEI's clients know them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TeiErrorBody)]
pub struct ErrorBody {
    error: String,
    error_type: ErrorType,
}

/// What kind of failure it is; its status stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = TeiErrorType)]
enum ErrorType {
    /// 413, whatever cannot be accepted; 400, what cannot be read.
    Validation,
    /// 422
    Tokenizer,
    /// 400
    Empty,
    /// 424
    Backend,
    /// 429
    Overloaded,
    /// 503
    Unhealthy,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    body: ErrorBody,
    retry_after: Option<Duration>,
}

impl Error {
    fn new(error_type: ErrorType, error: impl Into<String>) -> Self {
        let status = match error_type {
            ErrorType::Validation => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorType::Tokenizer => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::Empty => StatusCode::BAD_REQUEST,
            ErrorType::Backend => StatusCode::FAILED_DEPENDENCY,
            ErrorType::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            ErrorType::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, body: ErrorBody { error: error.into(), error_type }, retry_after: None }
    }

    /// A value that cannot be accepted.
    pub fn validation(error: impl Into<String>) -> Self {
        Self::new(ErrorType::Validation, error)
    }

    /// A server that should not be asked now.
    pub fn unhealthy(e: NotReady) -> Self {
        Self::new(ErrorType::Unhealthy, e.to_string())
    }
}

impl From<EmbedError> for Error {
    fn from(e: EmbedError) -> Self {
        error::log(e.kind(), &e);
        let error_type = match (&e, e.kind()) {
            (EmbedError::NoInputs | EmbedError::Empty { .. }, _) => ErrorType::Empty,
            // What the encoder finds invalid are tokens.
            (EmbedError::Encoder(_), ErrorKind::Invalid) => ErrorType::Tokenizer,
            (_, ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::NotFound) => ErrorType::Validation,
            (_, ErrorKind::Overloaded) => ErrorType::Overloaded,
            (_, ErrorKind::Unavailable) => ErrorType::Unhealthy,
            _ => ErrorType::Backend,
        };
        Self { retry_after: e.retry_after(), ..Self::new(error_type, e.to_string()) }
    }
}

impl From<RerankError> for Error {
    fn from(e: RerankError) -> Self {
        error::log(e.kind(), &e);
        let error_type = match (&e, e.kind()) {
            // As TEI says that its model is no re-ranker.
            (RerankError::NoModel, _) => ErrorType::Backend,
            (RerankError::NoDocuments | RerankError::EmptyQuery, _) => ErrorType::Empty,
            (RerankError::Encoder(_), ErrorKind::Invalid) => ErrorType::Tokenizer,
            (_, ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::NotFound) => ErrorType::Validation,
            (_, ErrorKind::Overloaded) => ErrorType::Overloaded,
            (_, ErrorKind::Unavailable) => ErrorType::Unhealthy,
            _ => ErrorType::Backend,
        };
        Self { retry_after: e.retry_after(), ..Self::new(error_type, e.to_string()) }
    }
}

impl From<ApiError> for Error {
    fn from(e: ApiError) -> Self {
        let (status, message, field) = e.parts();
        let error = match field {
            Some(field) => format!("`{field}`: {message}"),
            None => message,
        };
        let error_type = match status {
            StatusCode::SERVICE_UNAVAILABLE => ErrorType::Unhealthy,
            status if status.is_server_error() => ErrorType::Backend,
            _ => ErrorType::Validation,
        };
        Self { status, body: ErrorBody { error, error_type }, retry_after: None }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        error::answer(self.status, self.retry_after, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_core::domain::EmbeddingError;

    #[test]
    fn what_is_no_fault_of_the_client_is_backend() {
        let error = Error::from(EmbedError::NoDirection { dims: 1, source: EmbeddingError::Zero });
        assert_eq!((error.status.as_u16(), error.body.error_type), (424, ErrorType::Backend));
        let error = Error::from(ApiError::new(ErrorKind::Internal, "a bug", None));
        assert_eq!((error.status.as_u16(), error.body.error_type), (500, ErrorType::Backend));
    }

    #[test]
    fn a_server_that_is_not_ready_is_unhealthy() {
        let error = Error::unhealthy(NotReady::Model);
        assert_eq!((error.status.as_u16(), error.body.error_type), (503, ErrorType::Unhealthy));
    }
}
