//! A blocking HTTP client of one server.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http::{Method, Request};

/// No answer takes longer, unless the server hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Keeps its connections: one for each thread that measures, so that none waits for another.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
    root: String,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Client {
    /// Talks to the server at `root`, for example `http://127.0.0.1:7700`.
    pub fn new(root: &str) -> Self {
        // Whatever proxy the environment names is not between a server and its measure.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(TIMEOUT)).build();
        Self { agent: config.into(), root: root.trim_end_matches('/').to_owned() }
    }

    pub fn get(&self, path: &str) -> Result<Answer> {
        self.call(&Method::GET, path, "")
    }

    pub fn put(&self, path: &str, body: &str) -> Result<Answer> {
        self.call(&Method::PUT, path, body)
    }

    pub fn post(&self, path: &str, body: &str) -> Result<Answer> {
        self.call(&Method::POST, path, body)
    }

    /// Sends a request; an empty body is none.
    ///
    /// # Errors
    /// There is no answer.
    pub fn call(&self, method: &Method, path: &str, body: &str) -> Result<Answer> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.root)).header("content-type", "application/json");
        let answered = if body.is_empty() { self.agent.run(request.body(())?) } else { self.agent.run(request.body(body)?) };
        let mut answer = answered.with_context(|| format!("{method} {path} got no answer"))?;
        let read = answer.body_mut().with_config().limit(u64::MAX).read_to_vec();
        let bytes = read.with_context(|| format!("the answer to {method} {path} broke off"))?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { status: answer.status().as_u16(), body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of an answer that must be a success.
    ///
    /// # Errors
    /// It is none.
    pub fn ok(self) -> Result<Value> {
        if !self.is_success() {
            let message = self.body["error"]["message"].as_str().map_or_else(|| self.body.to_string(), str::to_owned);
            bail!("the server answered {}: {message}", self.status);
        }
        Ok(self.body)
    }
}
