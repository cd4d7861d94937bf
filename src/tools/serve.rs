//! Serving: from settings to a listening server and its graceful end.

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;

/// Opens everything and serves until the process is told to end. `ready` is called once the server answers.
///
/// # Errors
/// An address that is taken, a model or a collection that cannot be opened.
pub fn run(settings: &Settings, ready: impl FnOnce(&str)) -> Result<()> {
    let runtime = runtime()?;
    // Listening first: a taken port should be known before seconds are spent on opening.
    let listener = listen(&runtime, settings)?;
    let app = App::open(settings, Access::Serve)?;
    serve(&runtime, listener, app, ready)
}

/// The threads that serve HTTP; encoding, searching and building have their own.
///
/// # Errors
/// The operating system cannot start threads.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the threads that serve HTTP")
}

/// Takes the configured address.
///
/// # Errors
/// The address is taken or not ours.
pub fn listen(runtime: &Runtime, settings: &Settings) -> Result<TcpListener> {
    let address = settings.http.listen;
    runtime
        .block_on(TcpListener::bind(address))
        .with_context(|| format!("cannot listen on {address}: another program may have it; choose another with --listen 127.0.0.1:7701"))
}

/// Serves an open application until the process is told to end; requests under way are answered first.
///
/// # Errors
/// The listener broke.
pub fn serve(runtime: &Runtime, listener: TcpListener, app: App, ready: impl FnOnce(&str)) -> Result<()> {
    let address = listener.local_addr()?.to_string();
    let model = app.catalog.model().clone();
    tracing::info!(address, model = model.name, provider = model.provider, "serving");
    ready(&address);
    runtime.block_on(async move { crate::http::serve(listener, app.into_router(), told_to_end()).await })?;
    tracing::info!("ended");
    Ok(())
}

/// Ctrl-C, or SIGTERM where there is such a thing.
async fn told_to_end() {
    let interrupt = async { tokio::signal::ctrl_c().await.unwrap_or_else(|_| tracing::warn!("cannot listen for Ctrl-C")) };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! { () = interrupt => {}, () = terminate => {} }
}
