//! Connections: how they are taken, with TLS or without, how long they may keep us waiting, and how they end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::{Accept, TcpConfigAcceptor, TcpSocketConfig};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower::Service;

use super::auth::Keys;
use super::gate::Gate;

/// Time that requests under way have to finish when the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Time for the first request of a connection to come, and for the head of each.
const HEAD: Duration = Duration::from_secs(60);
/// Time between two looks at the files of keys and certificates.
const RELOAD: Duration = Duration::from_secs(2);

/// How connections are taken.
#[derive(Debug)]
pub struct ConnectionSettings {
    /// Without one there is no TLS.
    pub tls: Option<Certificate>,
    /// More are closed at once.
    pub max_connections: usize,
    /// Time for a client to take more of an answer.
    pub take: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self { tls: None, max_connections: 4_096, take: Duration::from_secs(60) }
    }
}

/// Serves what is behind the gate until `end` comes; requests under way are answered first, if they do not take too long. Files of keys and
/// certificates count anew when they change.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    settings: ConnectionSettings,
    gate: Gate,
    keys: Option<Arc<Keys>>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let handle = Handle::<SocketAddr>::new();
    let config = settings.tls.as_ref().map(|tls| tls.config.clone());
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle.clone()).first_request_timeout(HEAD);
    server.http_builder().http1().timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(HEAD);
    server.http_builder().http2().timer(hyper_util::rt::TokioTimer::new()).keep_alive_interval(HEAD);
    // Answers are small and wanted at once: they must not wait for more bytes to travel with.
    let nodelay = TcpConfigAcceptor::new(TcpSocketConfig::new().nodelay(true));
    let limited = Limited { inner: nodelay, free: Arc::new(Semaphore::new(settings.max_connections)), take: settings.take };
    let router = gate.router().into_make_service();
    let watching = tokio::spawn(watch(settings.tls, keys));
    let ending = tokio::spawn(async move {
        end.await;
        handle.graceful_shutdown(Some(DRAIN));
    });
    let served = match config {
        Some(config) => server.acceptor(RustlsAcceptor::new(config).acceptor(limited)).serve(router).await,
        None => server.acceptor(limited).serve(router).await,
    };
    watching.abort();
    ending.abort();
    served
}

/// A certificate that may be renewed meanwhile.
#[derive(Debug)]
pub struct Certificate {
    config: RustlsConfig,
    files: (PathBuf, PathBuf),
    read: (Vec<u8>, Vec<u8>),
}

impl Certificate {
    /// Reads the files of the certificate chain and of its key, as PEM.
    ///
    /// # Errors
    /// A file that cannot be read, or used.
    pub async fn open(chain: PathBuf, key: PathBuf) -> io::Result<Self> {
        crate::tls::choose_cryptography();
        let files = (chain, key);
        let read = Self::read(&files).await?;
        let config = RustlsConfig::from_pem(read.0.clone(), read.1.clone()).await.map_err(|e| unusable(&files, &e))?;
        Ok(Self { config, files, read })
    }

    async fn read((chain, key): &(PathBuf, PathBuf)) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let read = async |path: &PathBuf| {
            tokio::fs::read(path).await.map_err(|e| io::Error::new(e.kind(), format!("cannot read {} for TLS: {e}", path.display())))
        };
        Ok((read(chain).await?, read(key).await?))
    }

    /// Returns whether it was renewed. One that cannot be used leaves the old one.
    async fn reload(&mut self) -> io::Result<bool> {
        let read = Self::read(&self.files).await?;
        if read == self.read {
            return Ok(false);
        }
        self.config.reload_from_pem(read.0.clone(), read.1.clone()).await.map_err(|e| unusable(&self.files, &e))?;
        self.read = read;
        Ok(true)
    }
}

fn unusable((chain, key): &(PathBuf, PathBuf), e: &io::Error) -> io::Error {
    let reason = format!("the certificate in {} cannot be used with the key in {}: {e}", chain.display(), key.display());
    io::Error::new(e.kind(), reason)
}

async fn watch(mut tls: Option<Certificate>, keys: Option<Arc<Keys>>) {
    // What is wrong is told when it begins, and when it becomes something else.
    let (mut keys_failed, mut tls_failed) = (None, None);
    let is_new = |told: &mut Option<String>, now: String| told.replace(now.clone()) != Some(now);
    loop {
        tokio::time::sleep(RELOAD).await;
        if let Some(keys) = keys.clone() {
            match tokio::task::spawn_blocking(move || keys.reload().map(|new| new.then(|| keys.len()))).await {
                Ok(Ok(new)) => {
                    match new {
                        Some(0) => tracing::warn!("the file of API keys has none: nobody is let in"),
                        Some(n) => tracing::info!(n, "other API keys count now"),
                        None => {}
                    }
                    keys_failed = None;
                }
                Ok(Err(e)) => {
                    let error = kindred_core::error::chain(&e);
                    if is_new(&mut keys_failed, error.clone()) {
                        tracing::warn!(error, "the API keys stay as they were");
                    }
                }
                Err(_) => {}
            }
        }
        if let Some(tls) = &mut tls {
            match tls.reload().await {
                Ok(renewed) => {
                    if renewed {
                        tracing::info!("another certificate counts now");
                    }
                    tls_failed = None;
                }
                Err(e) => {
                    if is_new(&mut tls_failed, e.to_string()) {
                        tracing::warn!(error = %e, "the certificate stays as it was");
                    }
                }
            }
        }
    }
}

/// Takes so many connections, and closes those beyond.
#[derive(Debug, Clone)]
struct Limited {
    inner: TcpConfigAcceptor,
    free: Arc<Semaphore>,
    take: Duration,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Limited {
    type Stream = Pin<Box<TimeoutStream<TcpStream>>>;
    type Service = Held<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Held<S>)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (free, take, accepted) = (Arc::clone(&self.free), self.take, self.inner.accept(stream, service));
        Box::pin(async move {
            let permit = free.try_acquire_owned().map_err(|_| io::Error::other("too many connections"))?;
            let (stream, service) = accepted.await?;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(take));
            Ok((Box::pin(stream), Held { service, _permit: Arc::new(permit) }))
        })
    }
}

/// A connection's service, which holds its place as long as it lives.
#[derive(Debug, Clone)]
struct Held<S> {
    service: S,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<R>, R> Service<R> for Held<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}
