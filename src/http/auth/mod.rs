//! Who asks, and whether they may: API keys, what each may do, in which collections, how often.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | every request: its key, what it needs, the caller that handlers ask about |
//! | `keys.rs` | the keys, as they lie in a file: hashed |
//!
//! Without a file of keys everyone may do everything, which is why a server without one listens on loopback only.

mod keys;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::Response;

use keys::Key;
pub use keys::{Keys, KeysError, NewKey, Role};

use super::LOOPBACK;
use super::error::ApiError;
use super::routes::{self, About, Need};
use kindred_core::error::ErrorKind;

/// Headers that a key may come in, beside `Authorization: Bearer`: what clients of other servers send.
const KEY_HEADERS: [&str; 2] = ["api-key", "x-api-key"];

/// Who asks.
#[derive(Debug, Clone)]
enum Caller {
    /// There are no keys.
    Anyone,
    With(Arc<Key>),
    /// Without a key, at a route that needs none.
    Nobody,
}

tokio::task_local! {
    static CALLER: Caller;
}

/// The caller of a request that another task answers.
#[cfg(feature = "mcp")]
#[derive(Debug, Clone)]
pub(super) struct Asking(Caller);

/// Returns the caller of the current request.
#[cfg(feature = "mcp")]
pub(super) fn asking() -> Asking {
    Asking(CALLER.try_with(Caller::clone).unwrap_or(Caller::Nobody))
}

/// Answers on behalf of a caller.
#[cfg(feature = "mcp")]
pub(super) async fn within<T>(asking: Asking, answer: impl Future<Output = T>) -> T {
    CALLER.scope(asking.0, answer).await
}

/// Whether who asks may know of a collection. Where nobody was let in, nobody may.
pub(super) fn sees(collection: &str) -> bool {
    CALLER.try_with(|caller| caller.sees(collection)).unwrap_or(false)
}

/// Whether who asks may know of all collections.
pub(super) fn sees_all() -> bool {
    CALLER.try_with(Caller::sees_all).unwrap_or(false)
}

impl Caller {
    fn sees(&self, collection: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::With(key) => key.collections.as_ref().is_none_or(|names| names.iter().any(|name| name.as_str() == collection)),
            Self::Nobody => false,
        }
    }

    fn sees_all(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::With(key) => key.collections.is_none(),
            Self::Nobody => false,
        }
    }
}

/// Who is let through.
#[derive(Debug)]
pub(super) struct Guard {
    /// Without them, everyone.
    pub keys: Option<Arc<Keys>>,
    /// Names by which this server may be called; empty: any.
    pub hosts: Vec<String>,
    /// Pages of other origins that may ask.
    pub origins: Vec<String>,
}

/// Names by which a server may be called, without port; none: any. One that only this machine reaches has no other names than those of the
/// loopback, and whoever has a key may come by any.
pub fn own_names(listen: IpAddr, allowed: Vec<String>, has_keys: bool) -> Vec<String> {
    if allowed.is_empty() && (has_keys || !listen.is_loopback()) {
        return Vec::new();
    }
    let address = match listen {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    LOOPBACK.iter().map(ToString::to_string).chain([address]).chain(allowed).collect()
}

impl Guard {
    /// The name that the request calls this server by, if it is none of its own: a page elsewhere may give its own name this server's address.
    fn misnamed(&self, request: &Request) -> Option<String> {
        let host = host(request).filter(|_| !self.hosts.is_empty() && !routes::is_probe(request.uri().path()))?;
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(name, _)| name);
        let name = name.trim_end_matches('.');
        (!self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))).then(|| name.to_owned())
    }

    /// The origin of the page that asks, if it is neither this server's own nor one that may: in the name of whoever looks at it, such a page
    /// could send anything, even where it may not read the answer. (`/mcp` has its own rule.)
    fn foreign(&self, request: &Request) -> Option<String> {
        let origin = request.headers().get(ORIGIN)?.to_str().unwrap_or_default();
        // Behind a proxy that changes the host, the browser's own word counts, which pages cannot set.
        let is_said_to_be = request.headers().get("sec-fetch-site").is_some_and(|site| site == "same-origin");
        let is_own = is_said_to_be || origin.split_once("://").is_some_and(|(_, of)| Some(of) == host(request));
        let may = is_own || self.origins.iter().any(|allowed| allowed == origin) || request.uri().path() == "/mcp";
        (!may).then(|| origin.to_owned())
    }
}

/// What the request calls this server: name and port.
fn host(request: &Request) -> Option<&str> {
    request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default()).or(request.uri().authority().map(Authority::as_str))
}

/// Lets a request through, or says what it lacks.
pub(super) async fn authorize(
    State(guard): State<Arc<Guard>>,
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(host) = guard.misnamed(&request) {
        return Refused::Misnamed { host }.at(&request);
    }
    if let Some(origin) = guard.foreign(&request) {
        return Refused::Foreign { origin }.at(&request);
    }
    let caller = match guard.keys.as_deref().map_or(Ok(Caller::Anyone), |keys| admit(keys, &request)) {
        Ok(caller) => caller,
        Err(refused) => return refused.at(&request),
    };
    let named = params.iter().flatten().find(|(name, _)| *name == "collection").map(|(_, collection)| collection);
    if let (Some(collection), Caller::With(key)) = (named, &caller)
        && !caller.sees(collection)
    {
        return Refused::Scope { key: key.name.clone(), what: format!("collection {collection:?}") }.at(&request);
    }
    CALLER.scope(caller, next.run(request)).await
}

/// Returns the caller of a request, if the caller's key lets it through.
fn admit(keys: &Keys, request: &Request) -> Result<Caller, Refused> {
    let (role, about) = match request.extensions().get::<MatchedPath>() {
        // Where there is no route, there is nothing to protect.
        None => return Ok(Caller::Nobody),
        Some(pattern) => match routes::find(request.method(), pattern.as_str()).map(|route| route.need) {
            Some(Need::Probe | Need::Nothing) => return Ok(Caller::Nobody),
            Some(Need::Key(role, about)) => (role, about),
            // A method that the path does not have.
            None => (Role::Admin, About::Nothing),
        },
    };
    let presented = presented(request.headers()).ok_or(Refused::NoKey)?;
    let key = keys.find(presented)?;
    if let Some(wait) = key.wait() {
        return Err(Refused::TooOften { key: key.name.clone(), wait });
    }
    if key.role < role {
        return Err(Refused::Role { key: key.name.clone(), has: key.role, needs: role });
    }
    if about == About::All && key.collections.is_some() {
        return Err(Refused::Scope { key: key.name.clone(), what: "what is about all collections".to_owned() });
    }
    Ok(Caller::With(key))
}

/// The key that a request brings.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| KEY_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok())).filter(|key| !key.is_empty())
}

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this needs an API key: send it as \"Authorization: Bearer KEY\"")]
    NoKey,
    #[error("there is no such API key: it may have been removed")]
    UnknownKey,
    #[error("API key {key:?} has expired: ask for a new one")]
    Expired { key: String },
    #[error("API key {key:?} may {has}, and this needs one that may {needs}")]
    Role { key: String, has: Role, needs: Role },
    #[error("this server is not {host:?}: http.allowed_hosts names what else it may be called")]
    Misnamed { host: String },
    #[error("pages of {origin} may not ask here: http.cors_origins names those that may")]
    Foreign { origin: String },
    #[error("API key {key:?} is not for {what}")]
    Scope { key: String, what: String },
    #[error("API key {key:?} asks more often than it may: come again in {} ms", wait.as_millis())]
    TooOften { key: String, wait: Duration },
}

impl Refused {
    fn at(self, request: &Request) -> Response {
        let message = self.to_string();
        let error = match self {
            Self::NoKey | Self::UnknownKey | Self::Expired { .. } => {
                ApiError::refused(StatusCode::UNAUTHORIZED, "unauthenticated", message)
            }
            Self::Misnamed { .. } | Self::Foreign { .. } | Self::Role { .. } | Self::Scope { .. } => {
                ApiError::refused(StatusCode::FORBIDDEN, "forbidden", message)
            }
            Self::TooOften { wait, .. } => ApiError::new(ErrorKind::Overloaded, message, None).after(wait),
        };
        let mut response = routes::errors_at(request.method(), request.uri().path()).answer(error);
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
