//! What each route needs: the one table. What is not named here needs an administrator.

use axum::http::Method;

use super::keys::Role;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// No key: probes, and what is the same for everybody.
    Nothing,
    Role {
        role: Role,
        /// What tells of all collections is not for keys of some.
        all_collections: bool,
    },
}

/// Probes, the API's description, the console's own files.
const OPEN: [&str; 6] = ["/healthz", "/livez", "/readyz", "/health", "/openapi.json", "/"];
const OPEN_BELOW: &str = "/console";

/// What is sent, and changes nothing.
const ASKING: [&str; 18] = [
    "/v1/collections/{collection}/search",
    "/v1/collections/{collection}/explain",
    "/v1/match",
    "/v1/fit",
    "/v1/embeddings",
    "/embed",
    // As text-embeddings-inference, which embeds at the root, too.
    "/",
    "/rerank",
    "/v1/rerank",
    "/v2/rerank",
    "/similarity",
    "/tokenize",
    "/mcp",
    "/collections/{collection}/points",
    "/collections/{collection}/points/query",
    "/collections/{collection}/points/search",
    "/collections/{collection}/points/scroll",
    "/collections/{collection}/points/count",
];

/// Documents, and nothing else.
const WRITING: [(&str, &str); 8] = [
    ("PUT", "/v1/collections/{collection}/documents"),
    ("PATCH", "/v1/collections/{collection}/documents"),
    ("POST", "/v1/collections/{collection}/documents/delete"),
    ("PUT", "/v1/collections/{collection}/documents/{id}"),
    ("PATCH", "/v1/collections/{collection}/documents/{id}"),
    ("DELETE", "/v1/collections/{collection}/documents/{id}"),
    ("PUT", "/collections/{collection}/points"),
    ("POST", "/collections/{collection}/points/delete"),
];

/// What tells of every collection at once, or writes all of them.
const ABOUT_ALL: [&str; 2] = ["/metrics", "/v1/snapshots"];

pub(super) fn need(method: &Method, route: &str) -> Need {
    let is_get = *method == Method::GET || *method == Method::HEAD;
    if is_get && (OPEN.contains(&route) || route.strip_prefix(OPEN_BELOW).is_some_and(|rest| rest.starts_with('/'))) {
        return Need::Nothing;
    }
    let is_asking = *method == Method::POST && ASKING.contains(&route);
    let role = if is_get || is_asking {
        Role::Read
    } else if WRITING.contains(&(method.as_str(), route)) {
        Role::Write
    } else {
        Role::Admin
    };
    Need::Role { role, all_collections: ABOUT_ALL.contains(&route) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_open_by_mistake() {
        let role = |method: Method, route: &str| match need(&method, route) {
            Need::Nothing => None,
            Need::Role { role, .. } => Some(role),
        };
        assert_eq!(role(Method::GET, "/"), None);
        assert_eq!(role(Method::POST, "/"), Some(Role::Read), "embeds");
        assert_eq!((role(Method::GET, "/console/{*file}"), role(Method::GET, "/consoles")), (None, Some(Role::Read)));
        assert_eq!(role(Method::POST, "/healthz"), Some(Role::Admin));
        assert_eq!(role(Method::GET, "/v1/collections/{collection}"), Some(Role::Read));
        assert_eq!(role(Method::PUT, "/v1/collections/{collection}"), Some(Role::Admin));
        assert_eq!(role(Method::POST, "/v1/collections/{collection}/documents/delete"), Some(Role::Write));
        assert_eq!(role(Method::DELETE, "/v1/tasks/{id}"), Some(Role::Admin));
        assert_eq!(role(Method::POST, "/what/comes/next"), Some(Role::Admin));
        assert_eq!(need(&Method::GET, "/metrics"), Need::Role { role: Role::Read, all_collections: true });
    }
}
