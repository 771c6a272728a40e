//! What `windlass run` needs before it can work, and how it waits for it.
//!
//! A database, schema or API server that is not there is something to wait for, not a reason to exit: the sidecar must
//! not crash-loop beside a healthy scheduler. What it waits for is logged when it changes, and stands in `/readyz`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use scheduler_bridge::{BridgeError, Store};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_cluster::{Cluster, Finding, Level, blocked, told};
use windlass_core::ids::InstallationId;

use crate::clock;
use crate::config::Config;
use crate::health::Health;
use crate::login::Login;
use crate::metrics::Metrics;
use crate::surroundings::looks;

/// Between two looks for something that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Between two signs of life while something is under way.
const BEAT: Duration = Duration::from_secs(1);

/// What was waited for.
pub struct Ready {
    /// Checked: Airflow, schema, grants.
    pub store: Store,
    /// Checked: reachable, and a namespace to work in.
    pub cluster: Cluster,
    /// Part of every launch id.
    pub installation: InstallationId,
}

/// Waits until everything is there; None when stopped before.
pub async fn wait_for_all(
    config: &Config,
    login: &Login,
    metrics: &Arc<Metrics>,
    health: &Health,
    stop: &CancellationToken,
) -> Option<Ready> {
    let open = || open_store(login, config);
    let (store, installation) = wait_for("the database", open, health, stop).await?;
    let connect = || open_cluster(config, metrics);
    let cluster = wait_for("the API server", connect, health, stop).await?;
    Some(Ready { store, cluster, installation })
}

async fn open_store(login: &Login, config: &Config) -> Result<(Store, InstallationId), String> {
    let store = match Store::connect(login.current(), config.store_settings()).await {
        Ok(store) => store,
        Err(error) => {
            // For the next try.
            if error.is_refusal()
                && let Err(problem) = login.read_again().await
            {
                return Err(format!("{}; read again: {problem}", with_hint(&error)));
            }
            return Err(with_hint(&error));
        }
    };
    let checked = async { Ok((store.check().await?, store.installation().await?)) };
    match checked.await {
        Ok((checked, installation)) => {
            info!("{checked}");
            Ok((store, installation))
        }
        Err(error) => {
            store.close().await;
            Err(with_hint(&error))
        }
    }
}

/// What failed, on which object, why, and what to do, in one line.
fn with_hint(error: &BridgeError) -> String {
    match error.hint() {
        Some(hint) => format!("{} (hint: {hint})", error.chain()),
        None => error.chain(),
    }
}

async fn open_cluster(config: &Config, metrics: &Arc<Metrics>) -> Result<Cluster, String> {
    let cluster = Cluster::connect(config.cluster(), metrics.clone()).await.map_err(|error| error.line())?;
    let findings = cluster.preflight(&config.kubernetes.namespaces, looks(config.rules.as_deref())).await;
    if let Some(problem) = blocked(&findings) {
        return Err(problem);
    }
    for finding in &findings {
        tell(finding);
    }
    Ok(cluster)
}

/// What does not keep us from working is logged once, in its place.
fn tell(finding: &Finding) {
    match finding.level {
        Level::Ok if finding.namespace.is_none() => info!("{}", told(&[finding])),
        Level::Ok => {}
        Level::Warning | Level::Error => warn!("{}", told(&[finding])),
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
        let problem = tokio::select! {
            tried = beating(health, attempt()) => match tried {
                Ok(found) => return Some(found),
                Err(problem) => problem,
            },
            () = stop.cancelled() => return None,
        };
        if problem != told {
            warn!("waiting for {what}: {problem}");
            health.waiting(&format!("waiting for {what}: {problem}"));
            told = problem;
        }
        tokio::select! {
            () = beating(health, tokio::time::sleep(LOOK_AGAIN)) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// Calls have deadlines of their own: an attempt that makes many of them is slow, not dead.
pub async fn beating<T>(health: &Health, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        health.beat(clock::now());
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}
