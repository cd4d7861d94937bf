//! Bodies before they are read: how fast they must come, how long they may be, how they may be compressed, and how much memory all of
//! them together may take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, MatchedPath, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderValue};
use axum::http::{StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::body::refused;
use super::error::ApiError;
use super::routes::{self, Route};
use kindred_core::error::ErrorKind;

/// Bodies of up to so many bytes are short.
const SHORT_BYTES: usize = 16 * 1024;
/// Memory is given out in units of this many bytes.
const UNIT: usize = 1024;
/// Memory of all small bodies in flight, so that long bodies leave room for searches. JSON takes many times as much once parsed.
const SMALL_BYTES: usize = 64 << 20;
/// Memory of all longer bodies in flight, in longest bodies.
const LONGEST_BODIES: usize = 2;
/// When to try again after a refusal because of other bodies.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How fast a body must come.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Most time between two of its parts.
    gap: Duration,
    /// Time that it may take on top of what its length takes.
    grace: Duration,
    bytes_per_second: u32,
}

/// 16 KiB/s is slower than any network that people use; a body of 64 MiB then takes 68 minutes at most.
const PACE: Pace = Pace { gap: Duration::from_secs(30), grace: Duration::from_secs(30), bytes_per_second: 16 * 1024 };

impl Pace {
    /// When the next part must be there.
    fn deadline(&self, started: Instant, n_bytes: usize, now: Instant) -> Instant {
        let by_rate = self.grace + Duration::from_secs_f64(n_bytes as f64 / f64::from(self.bytes_per_second));
        (started + by_rate).min(now + self.gap)
    }
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the bodies of other requests take all of the memory for bodies")]
    NoRoom,
}

type Part = Result<Bytes, axum::Error>;

/// Ends a body that comes too slowly or stops.
pub(super) async fn keep_pace(request: Request, next: Next) -> Response {
    if http_body_is_empty(&request) {
        return next.run(request).await;
    }
    let paced = |body: Body| Body::from_stream(paced(body.into_data_stream(), PACE));
    next.run(request.map(paced)).await
}

fn http_body_is_empty(request: &Request) -> bool {
    axum::body::HttpBody::is_end_stream(request.body())
}

fn paced<S: Stream<Item = Part> + Unpin>(parts: S, pace: Pace) -> impl Stream<Item = Part> {
    let started = Instant::now();
    stream::unfold(Some((parts, 0)), move |state: Option<(S, usize)>| async move {
        let (mut parts, n_bytes) = state?;
        match tokio::time::timeout_at(pace.deadline(started, n_bytes, Instant::now()), parts.next()).await {
            Err(_) => Some((Err(axum::Error::new(Cut::TooSlow)), None)),
            Ok(None) => None,
            Ok(Some(part)) => {
                let n_bytes = n_bytes + part.as_ref().map_or(0, Bytes::len);
                Some((part, Some((parts, n_bytes))))
            }
        }
    })
    // Decompression asks once more after the end.
    .fuse()
}

/// Reads a short body before anything else looks at the request. An answer that comes while a body is still to be read ends its stream of
/// HTTP/2 in a way that some clients (curl before 8) take for a failure, and show nothing of the answer.
pub(super) async fn read_short(request: Request, next: Next) -> Response {
    let length = announced_bytes(&request);
    if request.version() != Version::HTTP_2 || length.is_none_or(|length| length > SHORT_BYTES) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match Bytes::from_request(Request::new(body), &()).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(e) => refused(&e).into_response(),
    }
}

/// The limits of bodies, and the memory that is left for them.
#[derive(Debug)]
pub(super) struct Admission {
    max_body_bytes: usize,
    small: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Admission {
    pub fn new(max_body_bytes: usize) -> Self {
        let memory = |n_units: usize| Arc::new(Semaphore::new(n_units.min(Semaphore::MAX_PERMITS)));
        let of_longest = max_body_bytes.div_ceil(UNIT).saturating_mul(LONGEST_BODIES);
        Self { max_body_bytes, small: memory(SMALL_BYTES / UNIT), long: memory(of_longest) }
    }

    fn memory(&self, route: &Route) -> &Arc<Semaphore> {
        if route.body == routes::Body::Small { &self.small } else { &self.long }
    }
}

/// Refuses a body whose announced length is over the route's limit: before it is sent, if the client waits for that
/// (`Expect: 100-continue`, as curl does), else after it has come, unless it is longer than any may be. A client that is sending would
/// see its connection break instead of an answer.
pub(super) async fn refuse_long(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    let limit = route_of(&request).map_or(admission.max_body_bytes, |route| route.body.max_bytes(admission.max_body_bytes));
    let Some(length) = announced_bytes(&request).filter(|&length| length > limit) else { return next.run(request).await };
    let errors = routes::errors_at(request.method(), request.uri().path());
    let waits = request.headers().contains_key(EXPECT);
    if !waits && length <= admission.max_body_bytes.saturating_add(SHORT_BYTES) {
        let mut parts = request.into_body().into_data_stream();
        while let Some(Ok(_)) = parts.next().await {}
    }
    errors.answer(too_long())
}

/// Lets through bodies that are not compressed, or in a way that is decompressed behind this.
pub(super) async fn check_encoding(mut request: Request, next: Next) -> Response {
    let Some(encoding) = request.headers().get(CONTENT_ENCODING) else { return next.run(request).await };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    let known = match encoding.as_str() {
        "" | "identity" => None,
        "gzip" | "x-gzip" => Some(HeaderValue::from_static("gzip")),
        "zstd" => Some(HeaderValue::from_static("zstd")),
        _ => {
            let message = format!("a body with content-encoding {encoding:?} cannot be read: send it as gzip or zstd, or as it is");
            return answer(&request, ApiError::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message));
        }
    };
    match known {
        Some(known) => drop(request.headers_mut().insert(CONTENT_ENCODING, known)),
        None => drop(request.headers_mut().remove(CONTENT_ENCODING)),
    }
    next.run(request).await
}

/// Holds memory for the body of a request until the request is answered; refuses the request if all of it is taken. A body takes what it
/// announces, then what it has in addition.
pub(super) async fn hold_room(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    let Some(route) = route_of(&request).filter(|_| !http_body_is_empty(&request)) else { return next.run(request).await };
    let limit = route.body.max_bytes(admission.max_body_bytes);
    let held = Arc::new(Held { memory: Arc::clone(admission.memory(route)), permit: Mutex::default() });
    if !held.grow_to(announced_bytes(&request).unwrap_or(0).min(limit)) {
        return answer(&request, no_room());
    }
    let counted = {
        let held = Arc::clone(&held);
        move |body: Body| Body::from_stream(counted(body.into_data_stream(), held))
    };
    let response = next.run(request.map(counted)).await;
    drop(held);
    response
}

/// The memory of one body.
#[derive(Debug)]
struct Held {
    memory: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Held {
    /// Takes more memory, if the body has come to be longer than what it holds. Returns false if there is none left.
    fn grow_to(&self, n_bytes: usize) -> bool {
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        let n_held = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Ok(n_more) = u32::try_from(n_bytes.div_ceil(UNIT).saturating_sub(n_held)) else { return false };
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(n_more) else { return false };
        match &mut *permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

fn counted<S: Stream<Item = Part> + Unpin>(parts: S, held: Arc<Held>) -> impl Stream<Item = Part> {
    let mut n_bytes = 0;
    parts.map(move |part| {
        let part = part?;
        n_bytes += part.len();
        if held.grow_to(n_bytes) { Ok(part) } else { Err(axum::Error::new(Cut::NoRoom)) }
    })
}

fn route_of(request: &Request) -> Option<&'static Route> {
    let pattern = request.extensions().get::<MatchedPath>()?;
    routes::find(request.method(), pattern.as_str())
}

fn announced_bytes(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn answer(request: &Request, error: ApiError) -> Response {
    routes::errors_at(request.method(), request.uri().path()).answer(error)
}

pub(super) fn too_long() -> ApiError {
    let message =
        "the body is over the limit of this route, or of the server (http.max_body_bytes): send it in parts, or use `kindred ingest`";
    ApiError::new(ErrorKind::TooLarge, message, None)
}

pub(super) fn no_room() -> ApiError {
    let message = "the bodies of other requests take all of the memory for bodies: try again in a moment";
    ApiError::new(ErrorKind::Overloaded, message, None).after(RETRY_AFTER)
}

pub(super) fn too_slow() -> ApiError {
    let message = format!("the body came too slowly: send it without pauses, at {} KiB/s or more", PACE.bytes_per_second / 1024);
    ApiError::refused(StatusCode::REQUEST_TIMEOUT, "timeout", message)
}

#[cfg(test)]
mod tests {
    use futures_util::pin_mut;

    use super::*;

    fn pace(gap_ms: u64, grace_ms: u64, bytes_per_second: u32) -> Pace {
        Pace { gap: Duration::from_millis(gap_ms), grace: Duration::from_millis(grace_ms), bytes_per_second }
    }

    #[test]
    fn a_body_has_the_time_of_its_length() {
        let (pace, start) = (pace(30_000, 10_000, 1_000), Instant::now());
        let seconds = |n_bytes, now_s| (pace.deadline(start, n_bytes, start + Duration::from_secs(now_s)) - start).as_secs();
        assert_eq!(seconds(0, 0), 10, "the grace");
        assert_eq!(seconds(5_000, 9), 15);
        assert_eq!(seconds(1_000_000, 9), 39, "no longer than the gap");
    }

    /// A body that never pauses for long, but comes at a trickle, is ended; one without end would make this test hang.
    #[tokio::test]
    async fn a_trickle_is_ended() {
        let trickle = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let paced = paced(Box::pin(trickle), pace(10_000, 20, 1_000_000));
        pin_mut!(paced);
        let end = loop {
            if let Err(end) = paced.next().await.expect("it ends with an error") {
                break end;
            }
        };
        assert!(end.into_inner().is::<Cut>());
        assert!(paced.next().await.is_none(), "nothing comes after that");
    }

    #[tokio::test]
    async fn bodies_take_memory_until_they_are_dropped() {
        let memory = Arc::new(Semaphore::new(10));
        let held = || Arc::new(Held { memory: Arc::clone(&memory), permit: Mutex::default() });
        let first = held();
        assert!(first.grow_to(4 * UNIT) && first.grow_to(100) && memory.available_permits() == 6);
        let second = held();
        assert!(second.grow_to(6 * UNIT) && !second.grow_to(6 * UNIT + 1));
        let third = held();
        assert!(!third.grow_to(1) && third.grow_to(0));
        drop(first);
        // One that announced nothing takes what comes.
        let parts = stream::iter((0..9).map(|_| Ok(Bytes::from(vec![0; UNIT / 2]))));
        let parts: Vec<bool> = counted(parts, third).map(|part| part.is_ok()).collect().await;
        assert_eq!(parts, [true, true, true, true, true, true, true, true, false]);
        assert_eq!(memory.available_permits(), 4);
    }
}
