//! `windlass run`: waits for what it needs, then drives the engine until it is told to stop.
//!
//! A database, schema or API server that is not there is something to wait for, not a reason to exit: the sidecar must
//! not crash-loop beside a healthy scheduler. What it waits for is logged when it changes, and stands in `/readyz`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use scheduler_bridge::{DatabaseConfig, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_cluster::Cluster;
use windlass_engine::Engine;

use crate::clock;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::driver::{Driver, Edges, WakeSource};
use crate::health::{self, Health};
use crate::holder::Holder;
use crate::metrics::Metrics;
use crate::pods::Renderer;

/// Between two looks for something that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT. Errors are only those that waiting cannot mend: the port, the lock.
pub async fn run(config: Config, database: DatabaseConfig, env: &Environment) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let metrics = Arc::new(Metrics::new().context("metrics cannot be registered")?);
    let health = Arc::new(Health::new(config.own.server.live_timeout_seconds * 1_000));
    let holder = Holder::take(&config.own.server.state_directory, env)?;
    let listening =
        health::serve(config.own.server.listen, health.clone(), metrics.clone(), stop.clone()).await?;
    info!("windlass {} as `{}`, probes and metrics on {listening}", env!("CARGO_PKG_VERSION"), holder.id());
    for note in &config.notes {
        warn!("{note}");
    }
    let open = || async { open_store(&database, &config).await };
    let Some(store) = wait_for("database", open, &health, &stop).await else { return Ok(()) };
    let connect = || async {
        let observer: Arc<Metrics> = metrics.clone();
        Cluster::connect(config.cluster(), observer).await.map_err(|error| error.line())
    };
    let Some(cluster) = wait_for("API server", connect, &health, &stop).await else { return Ok(()) };
    let read_id = || async { store.installation().await.map_err(|error| error.chain()) };
    let Some(installation) = wait_for("database", read_id, &health, &stop).await else { return Ok(()) };
    let renderer =
        Arc::new(Renderer::new(config.pod_settings(installation.clone()), &config, metrics.clone()));
    let edges = Edges {
        store: store.clone(),
        cluster,
        renderer,
        installation,
        holder: holder.id().to_owned(),
        namespaces: config.kubernetes.namespaces.clone(),
        metrics,
        grace_seconds: config.kubernetes.delete_grace_seconds,
        retention: Duration::from_secs(u64::from(config.own.retention.days) * 86_400),
    };
    let engine = Engine::new(config.engine_settings(), config.launch_policy());
    let wakes = wake_sources(&config, &store).await;
    Driver::new(engine, edges, health).run(wakes, stop.clone()).await;
    stop.cancel();
    store.close().await;
    Ok(())
}

async fn open_store(database: &DatabaseConfig, config: &Config) -> Result<Store, String> {
    let store = Store::connect(database.clone(), config.store_settings()).await;
    let store = store.map_err(|error| error.chain())?;
    match store.check().await {
        Ok(checked) => {
            info!("{checked}");
            Ok(store)
        }
        Err(error) => {
            store.close().await;
            Err(error.chain())
        }
    }
}

/// Tries until it works; None when stopped before. The loop turns meanwhile: the process is live, and not ready.
async fn wait_for<T, F>(
    what: &str,
    attempt: impl Fn() -> F,
    health: &Health,
    stop: &CancellationToken,
) -> Option<T>
where
    F: Future<Output = Result<T, String>>,
{
    let mut told = String::new();
    loop {
        health.beat(clock::now());
        let problem = tokio::select! {
            tried = attempt() => match tried {
                Ok(found) => return Some(found),
                Err(problem) => problem,
            },
            () = stop.cancelled() => return None,
        };
        if problem != told {
            warn!("waiting for the {what}: {problem}");
            health.waiting(&format!("waiting for the {what}: {problem}"));
            told = problem;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => return None,
        }
    }
}

async fn wake_sources(config: &Config, store: &Store) -> Vec<WakeSource> {
    let mut sources = Vec::new();
    let socket = &config.own.wake.socket;
    if !socket.as_os_str().is_empty() {
        sources.push(WakeSource::Socket(socket.clone()));
    }
    if config.own.database.listen {
        match store.wake_listener().await {
            Ok(Some(listener)) => sources.push(WakeSource::Listen(listener)),
            Ok(None) => {
                info!("NOTIFY does not reach through this connection: new tasks are found by polling")
            }
            Err(error) => {
                warn!("no wake-ups from the database: {}; new tasks are found by polling", error.chain())
            }
        }
    }
    sources
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind).context("cannot listen for signals")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                stop.cancel();
            }
        });
    }
    Ok(stop)
}
