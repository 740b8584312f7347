//! The endpoint for metrics and probes: `GET /metrics`, `/livez`, `/readyz`.
//!
//! It reads and changes nothing; a router that does (reload, promote) is mounted beside [`router`] with a token of its
//! own. It listens on loopback unless the pipeline file says otherwise, and ends with the run.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::metrics::Metrics;
use super::process;
use crate::config::Listen;
use crate::config::defaults::METRICS_PORT;
use crate::error::{Error, Result};

/// Where metrics are served on loopback unless the pipeline file says otherwise: the first of these ports that is free.
/// `sluice top` looks for a pipeline in the same places.
pub const PORTS: Range<u16> = METRICS_PORT..METRICS_PORT + 64;

/// A scrape that is under way when the run ends may finish within this.
const FAREWELL: Duration = Duration::from_secs(1);

/// A place that is taken, with nobody served yet.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the place for metrics; `None` where they are switched off.
///
/// # Errors
/// The place that the pipeline file names cannot be had. Where it names none, that is only worth a warning.
pub fn bind(listen: &Listen) -> Result<Option<Endpoint>> {
    match listen {
        Listen::Off => Ok(None),
        Listen::At(address) => take(address, "metrics", "[metrics] listen").map(Some),
        Listen::Default => {
            let found = PORTS.into_iter().find_map(|port| Endpoint::at((Ipv4Addr::LOCALHOST, port).into()).ok());
            if found.is_none() {
                tracing::warn!(ports = ?PORTS, "no metrics are served: each of these ports on loopback is taken");
            }
            Ok(found)
        }
    }
}

/// Takes the place where `what` is served, which the pipeline file names under `key`.
///
/// # Errors
/// It cannot be had.
pub fn take(address: &str, what: &str, key: &str) -> Result<Endpoint> {
    let doing = || format!("cannot serve {what} on {address} (`{key}`)");
    let resolved = address.to_socket_addrs().map_err(|e| Error::environment(doing(), e))?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for socket in resolved {
        match Endpoint::at(socket) {
            Ok(endpoint) => return Ok(endpoint),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let who = process::listener(socket.port()).unwrap_or_else(|| "another process".into());
                let why =
                    format!("{who} listens there; name another port, or leave `listen` out to get the next free one");
                return Err(Error::environment(doing(), why));
            }
            Err(e) => last = e,
        }
    }
    Err(Error::environment(doing(), last))
}

impl Endpoint {
    fn at(address: SocketAddr) -> io::Result<Endpoint> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Endpoint { address: listener.local_addr()?, listener })
    }

    /// Where metrics can be scraped from this machine.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}/metrics")
    }

    /// Serves until the answer is dropped.
    pub fn serve(self, router: Router, runtime: &Handle) -> Result<Serving> {
        let inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|e| Error::environment(format!("cannot serve metrics on {}", self.address), e))?;
        drop(inside);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let task = runtime.spawn(async move {
            if let Err(error) = serving.await {
                tracing::warn!(%error, "metrics are not served any more");
            }
        });
        Ok(Serving { end: Some((stop, task)), runtime: runtime.clone() })
    }
}

/// An endpoint that serves; it ends when this is dropped.
pub struct Serving {
    end: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    runtime: Handle,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let Some((stop, task)) = self.end.take() else { return };
        let _ = stop.send(());
        let _ = self.runtime.block_on(async { tokio::time::timeout(FAREWELL, task).await });
    }
}

/// `/metrics`, `/livez`, `/readyz`.
pub fn router(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/", get(|| async { "sluice: /metrics /livez /readyz\n" }))
        .route("/metrics", get(scrape))
        .route("/livez", get(|State(metrics): State<Arc<Metrics>>| async move { probe(metrics.health.live()) }))
        .route("/readyz", get(|State(metrics): State<Arc<Metrics>>| async move { probe(metrics.health.ready()) }))
        .with_state(metrics)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.render())
}

fn probe(health: std::result::Result<(), String>) -> (StatusCode, String) {
    match health {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
