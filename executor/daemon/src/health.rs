//! `/livez`, `/readyz` and `/metrics`.
//!
//! Live: the driver's loop turns. Never a dependency: a database that is away is no reason to restart the sidecar.
//! Ready: it can serve. A standby is ready, else a rollout would wait for ever.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_core::time::Millis;

use crate::clock;
use crate::metrics::Metrics;

/// What the probes are told. The driver writes it.
#[derive(Debug)]
pub struct Health {
    beat: AtomicU64,
    live_timeout_ms: u64,
    ready: RwLock<Result<String, String>>,
}

impl Health {
    /// Live from now on, not ready.
    pub fn new(live_timeout_ms: u64) -> Self {
        let ready = RwLock::new(Err("starting".to_owned()));
        Self { beat: AtomicU64::new(clock::now().0), live_timeout_ms, ready }
    }

    /// The loop has turned. Call at least every few seconds.
    pub fn beat(&self, now: Millis) {
        self.beat.store(now.0, Ordering::Relaxed);
    }

    /// Can serve, and how: `leading`, `standby`.
    pub fn ready(&self, how: &str) {
        self.set(Ok(how.to_owned()));
    }

    /// Cannot serve, and what it waits for.
    pub fn waiting(&self, what: &str) {
        self.set(Err(what.to_owned()));
    }

    fn set(&self, state: Result<String, String>) {
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Whether the loop turns; else what is wrong.
    fn live(&self, now: Millis) -> Result<String, String> {
        let silent_ms = now.since(Millis(self.beat.load(Ordering::Relaxed)));
        if silent_ms <= self.live_timeout_ms {
            Ok("ok".to_owned())
        } else {
            Err(format!("the loop has not turned for {silent_ms} ms"))
        }
    }

    fn readiness(&self) -> Result<String, String> {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} for probes and metrics: {source}; choose another server.listen")]
pub struct ListenError {
    /// Where.
    pub listen: SocketAddr,
    /// Of the operating system.
    pub source: std::io::Error,
}

struct Shared {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// Serves until `stop`. Returns the address that it listens on.
pub async fn serve(
    listen: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<SocketAddr, ListenError> {
    let failed = |source| ListenError { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Arc::new(Shared { health, metrics }));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!("the server for probes and metrics ended: {error}");
        }
    });
    Ok(address)
}

async fn livez(State(shared): State<Arc<Shared>>) -> Response {
    probe(shared.health.live(clock::now()))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    probe(shared.health.readiness())
}

fn probe(answer: Result<String, String>) -> Response {
    match answer {
        Ok(text) => (StatusCode::OK, format!("{text}\n")).into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")).into_response(),
    }
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_means_that_the_loop_turns_and_nothing_else() {
        let health = Health::new(30_000);
        health.waiting("the database does not answer");
        health.beat(Millis(1_000));
        assert_eq!(health.live(Millis(31_000)), Ok("ok".into()));
        assert_eq!(health.live(Millis(31_001)), Err("the loop has not turned for 30001 ms".into()));
        assert_eq!(health.readiness(), Err("the database does not answer".into()));
        health.ready("standby");
        assert_eq!(health.readiness(), Ok("standby".into()));
    }
}
