//! Serving: from settings to a listening server and its graceful end.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::signals::{INTERRUPTED, Signals};
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use crate::http::{self, Certificate, ConnectionSettings, Gate, Keys};

/// Opens everything and serves until the process is told to end.
///
/// # Errors
/// An address that is taken, a model or a collection that cannot be opened.
pub fn run(settings: &Settings) -> Result<()> {
    let server = Server::start(settings)?;
    let app = App::open(settings, Access::Serve)?;
    server.serve(app, |_| {})
}

/// A server that answers already: 503, until it gets its application.
#[derive(Debug)]
pub struct Server {
    pub runtime: Runtime,
    address: String,
    gate: Gate,
    keys: Option<Arc<Keys>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Takes the configured address, before seconds are spent on anything else.
    ///
    /// # Errors
    /// The address is taken, not ours, or open to others without API keys; a file of keys that cannot be used.
    pub fn start(settings: &Settings) -> Result<Self> {
        settings.check_public()?;
        let keys = settings.auth.keys_file().map(Keys::open).transpose()?.map(Arc::new);
        if keys.as_ref().is_some_and(|keys| keys.is_empty()) {
            tracing::warn!("the file of API keys has none: nobody is let in (kindred keys create makes one)");
        }
        let runtime = runtime()?;
        let tls = settings.http.tls().map(|(chain, key)| runtime.block_on(Certificate::open(chain, key))).transpose()?;
        let (max_connections, trusted_proxies) = (settings.http.max_connections, settings.http.trusted_proxies.clone());
        let connections = ConnectionSettings { tls, max_connections, trusted_proxies, ..ConnectionSettings::default() };
        let address = settings.http.listen;
        if keys.is_some() && connections.tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                "API keys travel unencrypted to {address}: name http.tls_certificate and http.tls_key, unless something in front encrypts"
            );
        }
        let listener = runtime.block_on(TcpListener::bind(address)).with_context(|| {
            format!("cannot listen on {address}: another program may have it, or this machine has no such address; choose another with --listen 127.0.0.1:7701")
        })?;
        let address = listener.local_addr()?.to_string();
        let gate = Gate::default();
        let served = runtime.spawn(http::serve(listener, connections, gate.clone(), keys.clone(), told_to_end(gate.clone())));
        Ok(Self { runtime, address, gate, keys, served })
    }

    /// Serves an application until the process is told to end; requests under way are answered first, the Kafka feed writes
    /// what it has read, and a rebuild under way is cancelled. `ready` is called with the address once the server is.
    ///
    /// # Errors
    /// The listener broke; the settings of the Kafka feed cannot be used.
    pub fn serve(self, mut app: App, ready: impl FnOnce(&str)) -> Result<()> {
        let (model, rebuild, evaluations) = (app.catalog.model().clone(), Arc::clone(&app.rebuild), Arc::clone(&app.evaluations));
        let feed = app.take_feed().map(|feed| feed.start(self.runtime.handle())).transpose()?;
        self.gate.open(app.into_router(self.keys));
        tracing::info!(address = self.address, model = model.name, provider = model.provider, "serving");
        ready(&self.address);
        let served = self.runtime.block_on(self.served)?;
        if let Some(feed) = feed {
            feed.end();
        }
        rebuild.end();
        evaluations.end();
        served?;
        tracing::info!("ended");
        Ok(())
    }
}

/// The threads that serve HTTP; encoding, searching and building have their own.
///
/// # Errors
/// The operating system cannot start threads.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the threads that serve HTTP")
}

/// Before the server is ready there is nothing to drain, and what was written is durable.
async fn told_to_end(gate: Gate) {
    match Signals::listen() {
        Ok(mut signals) => signals.wait().await,
        Err(e) => {
            tracing::warn!(error = %e, "cannot listen for signals: end the process to end the server");
            std::future::pending::<()>().await;
        }
    }
    if !gate.is_open() {
        eprintln!("ended before it was ready");
        std::process::exit(i32::from(INTERRUPTED));
    }
}
