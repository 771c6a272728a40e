//! Creates per second through this client and through bare kube-rs, side by side on one API server.
//!
//! `cargo run --release -p windlass-cluster --example creates -- KUBECONFIG [PODS] [NAMESPACE]`
//!
//! Each way creates PODS pods with 1, 8 and 32 calls in flight, in turns, so that both meet the same neighbours. The
//! pods stay; the namespace is made if it is missing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use windlass_cluster::{Cluster, ClusterConfig, NoObserver, Source};
use windlass_core::cluster::CreateAnswer;
use windlass_core::ids::{Attempt, LaunchId};

const LIMIT: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().context("which kubeconfig?")?);
    let pods: usize = args.next().map_or(Ok(1_000), |n| n.parse())?;
    let namespace = args.next().unwrap_or_else(|| "creates".into());

    let mut bare =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(&path)?, &KubeConfigOptions::default())
            .await?;
    bare.default_retry = false;
    let bare = kube::Client::try_from(bare)?;
    let source = Source::Kubeconfig { path: Some(path), context: None };
    let config = ClusterConfig { source, ..ClusterConfig::default() };
    let cluster = Cluster::connect(config, Arc::new(NoObserver)).await?;
    make_namespace(&bare, &namespace).await?;

    println!("in flight  round  windlass/s  kube-rs/s  ratio  CPU ms/create: windlass  kube-rs");
    let mut serial = 0;
    for in_flight in [1, 8, 32] {
        for round in 1..=ROUNDS {
            let ours = windlass(&cluster, &namespace, in_flight, names(&mut serial, pods)).await?;
            let theirs = kube_rs(&bare, &namespace, in_flight, names(&mut serial, pods)).await?;
            let (rate, base, ratio) =
                (ours.per_second, theirs.per_second, ours.per_second / theirs.per_second);
            let (cpu, base_cpu) = (ours.cpu_ms, theirs.cpu_ms);
            println!(
                "{in_flight:>9} {round:>6} {rate:>11.0} {base:>10.0} {ratio:>6.2} {cpu:>24.2} {base_cpu:>8.2}"
            );
        }
    }
    Ok(())
}

/// What one way of creating cost.
struct Cost {
    per_second: f64,
    /// CPU of this process, per create.
    cpu_ms: f64,
}

struct Meter {
    started: Instant,
    cpu_ticks: u64,
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self { started: Instant::now(), cpu_ticks: cpu_ticks()? })
    }

    fn stop(&self, creates: usize) -> Result<Cost> {
        let creates = creates as f64;
        let per_second = creates / self.started.elapsed().as_secs_f64();
        // A tick is 10 ms on every Linux that Rust runs on (USER_HZ = 100).
        let cpu_ms = (cpu_ticks()? - self.cpu_ticks) as f64 * 10.0 / creates;
        Ok(Cost { per_second, cpu_ms })
    }
}

/// User and system time of this process, fields 14 and 15 of proc(5) stat.
fn cpu_ticks() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field =
        |at: usize| -> Result<u64> { Ok(fields.get(at).context("/proc/self/stat is short")?.parse()?) };
    Ok(field(11)? + field(12)?)
}

fn names(serial: &mut usize, count: usize) -> Vec<String> {
    let from = *serial;
    *serial += count;
    (from..from + count).map(|n| format!("p{}-{n}", std::process::id())).collect()
}

async fn make_namespace(client: &kube::Client, name: &str) -> Result<()> {
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let request = http::Request::post("/api/v1/namespaces")
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes().into())?;
    match client.send(request).await?.status().as_u16() {
        201 | 409 => Ok(()),
        status => bail!("create namespace {name}: {status}"),
    }
}

async fn windlass(cluster: &Cluster, namespace: &str, in_flight: usize, names: Vec<String>) -> Result<Cost> {
    let launch: LaunchId = "abcdefghijklmnopqrstuvwxyz".parse()?;
    let count = names.len();
    let meter = Meter::start()?;
    let mut answers = stream::iter(names.into_iter().map(|name| {
        let launch = &launch;
        async move { cluster.create(&pod(namespace, &name, launch), launch, Attempt::FIRST, LIMIT).await }
    }))
    .buffer_unordered(in_flight);
    while let Some(answer) = answers.next().await {
        let CreateAnswer::Created(_) = answer else { bail!("{answer:?}") };
    }
    meter.stop(count)
}

async fn kube_rs(
    client: &kube::Client,
    namespace: &str,
    in_flight: usize,
    names: Vec<String>,
) -> Result<Cost> {
    let launch: LaunchId = "abcdefghijklmnopqrstuvwxyz".parse()?;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let count = names.len();
    let meter = Meter::start()?;
    let mut answers = stream::iter(names.into_iter().map(|name| {
        let (api, launch) = (&api, &launch);
        async move {
            let typed: Pod = serde_json::from_value(pod(namespace, &name, launch))?;
            api.create(&PostParams::default(), &typed).await.context("bare create")
        }
    }))
    .buffer_unordered(in_flight);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    meter.stop(count)
}

/// About what the official chart's template makes of a task.
fn pod(namespace: &str, name: &str, launch: &LaunchId) -> Value {
    let variable =
        |n: usize| json!({ "name": format!("AIRFLOW__SECTION__KEY_{n}"), "value": "some value of it" });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {
                "dag_id": "etl", "task_id": "load", "run_id": "manual__1", "try_number": "1",
                "airflow_version": "2.11.2", "kubernetes_executor": "True",
                "windlass.dev/launch": launch.as_str(), "windlass.dev/attempt": "1",
                "windlass.dev/installation": "6f1c0f8e",
            },
            "annotations": { "dag_id": "etl", "task_id": "load", "run_id": "manual__1", "try_number": "1" },
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsUser": 50_000, "fsGroup": 0 },
            "containers": [{
                "name": "base",
                "image": "apache/airflow:2.11.2",
                "args": ["airflow", "tasks", "run", "etl", "load", "manual__1", "--local"],
                "env": (0..12).map(variable).collect::<Vec<_>>(),
                "volumeMounts": [
                    { "name": "logs", "mountPath": "/opt/airflow/logs" },
                    { "name": "config", "mountPath": "/opt/airflow/airflow.cfg", "subPath": "airflow.cfg" },
                ],
            }],
            "volumes": [
                { "name": "logs", "emptyDir": {} },
                { "name": "config", "configMap": { "name": "airflow-config" } },
            ],
        },
    })
}
