//! What the daemon's watches of a real API server's service accounts keep in memory. Measured in a process of its own,
//! which has done nothing else.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use windlass::config::Config;
use windlass::metrics::Metrics;
use windlass::surroundings::{Watcher, looks};
use windlass_cluster::{Cluster, NoObserver};
use windlass_lab::control_plane::{ControlPlane, Options};

use super::{ACCOUNTS, CONFIG, NAMESPACE, account, config, role, rules};
use crate::meter::{Memory, memory};

/// Names the kubeconfig for the process that watches.
pub(super) const WATCH: &str = "WINDLASS_BENCH_WATCH";
/// Creates in flight.
const AT_ONCE: usize = 32;
const WITHIN: Duration = Duration::from_secs(60);

/// Makes the accounts and has another process watch them: its memory in MiB before and after, and the peak.
pub(super) async fn measure(folder: &Path) -> Result<(Memory, Memory)> {
    let plane = ControlPlane::start(Options::default()).await?;
    plane.create_namespace(NAMESPACE).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), NAMESPACE);
    let made = stream::iter(0..ACCOUNTS).map(|number| {
        let accounts = accounts.clone();
        async move {
            // As they are on EKS: a label or two, and the annotation.
            let object = json!({ "metadata": {
                "name": account(number),
                "labels": { "team": format!("t{number}"), "app.kubernetes.io/managed-by": "eksctl" },
                "annotations": { "eks.amazonaws.com/role-arn": role(number) },
            } });
            accounts.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            anyhow::Ok(())
        }
    });
    made.buffer_unordered(AT_ONCE).try_collect::<()>().await.context("make service accounts")?;
    let mut child = Command::new(std::env::current_exe().context("this program")?);
    child.env(WATCH, plane.kubeconfig()).env(CONFIG, folder);
    let output = tokio::task::spawn_blocking(move || child.output()).await?.context("start the watch")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [before, before_peak, after, after_peak] => Ok((
            Memory { now_mib: *before, peak_mib: *before_peak },
            Memory { now_mib: *after, peak_mib: *after_peak },
        )),
        _ => bail!("the watch failed: {said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// The other process.
pub(super) async fn watch(kubeconfig: &str, folder: &Path) -> Result<()> {
    let config: Config = config(
        folder,
        &rules(),
        &[
            ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False"),
            ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", kubeconfig),
        ],
    )?;
    let own = std::process::id().cast_signed();
    let namespaces = &config.kubernetes.namespaces;
    // With the client and its first calls, which the daemon has anyway.
    let cluster = Cluster::connect(config.cluster(), Arc::new(NoObserver)).await?;
    cluster.preflight(namespaces, looks(config.rules.as_deref())).await;
    let before = memory(own)?;
    let metrics = Arc::new(Metrics::new()?);
    let (known, _news) = Watcher::start(&cluster, namespaces, config.rules.as_deref(), metrics)
        .await
        .context("the rules demand nothing")?;
    let deadline = Instant::now() + WITHIN;
    let last = account(ACCOUNTS - 1);
    let is_known = || {
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        known.accounts_known && known.accounts.role(NAMESPACE, &last).is_some()
    };
    while !is_known() {
        if Instant::now() > deadline {
            bail!("{last} was not seen within {WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = memory(own)?;
    println!("{} {} {} {}", before.now_mib, before.peak_mib, after.now_mib, after.peak_mib);
    Ok(())
}
