//! Connections: how they are taken, with TLS or without, how long they may keep us waiting, and how they end.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use axum::response::Response;
use axum_server::Handle;
use axum_server::accept::{Accept, TcpConfigAcceptor, TcpSocketConfig};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures_util::future::Either;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tower::Service;

use super::auth::Keys;
use super::error::ApiError;
use super::gate::Gate;
use super::places::{Place, Places};
use super::routes;
use kindred_core::domain::Network;
use kindred_core::error::ErrorKind;

/// Time that requests under way have to finish when the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Time for the first request of a connection to come, and for the head of each.
const HEAD: Duration = Duration::from_secs(60);
/// Time that a connection which is reserved for probes may say nothing.
const RESERVED_READ: Duration = Duration::from_secs(5);
/// Time between two looks at the files of keys and certificates.
const RELOAD: Duration = Duration::from_secs(2);

/// How connections are taken.
#[derive(Debug)]
pub struct ConnectionSettings {
    /// Without one there is no TLS.
    pub tls: Option<Certificate>,
    /// Beyond these only probes are answered, on a few connections more.
    pub max_connections: usize,
    /// Proxies may have all of the connections; other clients, but for the loopback, a share.
    pub trusted_proxies: Vec<Network>,
    /// Time for a client to take more of an answer.
    pub take: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self { tls: None, max_connections: 4_096, trusted_proxies: Vec::new(), take: Duration::from_secs(60) }
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
    let places = Arc::new(Places::new(settings.max_connections, settings.trusted_proxies));
    let limited = Limited { inner: nodelay, places, take: settings.take };
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

/// Gives each connection a place, and closes those for which there is none.
#[derive(Debug, Clone)]
struct Limited {
    inner: TcpConfigAcceptor,
    places: Arc<Places>,
    take: Duration,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Limited {
    type Stream = Pin<Box<TimeoutStream<TcpStream>>>;
    type Service = Held<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Held<S>)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = stream.peer_addr().map(|address| self.places.take(address.ip()));
        let (take, accepted) = (self.take, self.inner.accept(stream, service));
        Box::pin(async move {
            let place = place?.ok_or_else(|| io::Error::other("too many connections"))?;
            let (stream, service) = accepted.await?;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(take));
            if place.is_reserved() {
                stream.set_read_timeout(Some(RESERVED_READ));
            }
            Ok((Box::pin(stream), Held { service, place: Arc::new(place) }))
        })
    }
}

/// A connection's service, which holds its place as long as it lives.
#[derive(Debug, Clone)]
struct Held<S> {
    service: S,
    place: Arc<Place>,
}

impl<S, B> Service<http::Request<B>> for Held<S>
where
    S: Service<http::Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        if self.place.is_reserved() && !routes::is_probe(path) {
            return Either::Left(ready(Ok(refused(request.method(), path))));
        }
        Either::Right(self.service.call(request))
    }
}

/// Refuses a request on a connection that is reserved for probes, and ends the connection.
fn refused(method: &http::Method, path: &str) -> Response {
    let message = "the server has as many connections as it may have (http.max_connections), or as one client may have: close some, or try \
                   again in a moment";
    let mut response = routes::errors_at(method, path).answer(ApiError::new(ErrorKind::Unavailable, message, None));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
