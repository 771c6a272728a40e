//! The client that Windlass is measured against: kube-rs calls and nothing else. No database, no claims, no memory of
//! what it does. It has a runtime of its own, so that its CPU can be told from that of the rest of this process.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, watcher};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::meter;
use crate::pods::{BARE, INSTALLATION, LeanPod};

/// Name of the threads of its runtime.
pub(crate) const THREADS: &str = "bare-client";
/// Deletes in flight, as many as the daemon has.
const DELETES: usize = 16;

/// What a round took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) pods: usize,
    pub(crate) seconds: f64,
    /// Of the client's threads.
    pub(crate) cpu_ms: f64,
}

impl Round {
    pub(crate) fn per_second(&self) -> f64 {
        self.pods as f64 / self.seconds
    }
}

/// Rounds in one.
pub(crate) fn sum(rounds: impl IntoIterator<Item = Round>) -> Round {
    rounds.into_iter().fold(Round::default(), |sum, round| Round {
        pods: sum.pods + round.pods,
        seconds: sum.seconds + round.seconds,
        cpu_ms: sum.cpu_ms + round.cpu_ms,
    })
}

pub(crate) struct Bare {
    runtime: Handle,
    client: kube::Client,
    namespace: String,
}

impl Bare {
    /// With the credentials of this kubeconfig, in its default namespace; `runtime` has threads named [`THREADS`].
    pub(crate) async fn new(runtime: Handle, kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig of the account")?;
        let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        // As in the daemon: kube would send a POST again by itself.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = runtime.spawn(async move { kube::Client::try_from(config) }).await??;
        Ok(Self { runtime, client, namespace })
    }

    /// Creates the pods, so many calls at a time.
    pub(crate) async fn create(&self, pods: Vec<Pod>, in_flight: usize) -> Result<Round> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let work = async move {
            let count = pods.len();
            let (began, cpu) = (Instant::now(), meter::threads_cpu_ms(THREADS)?);
            create_all(api, pods, in_flight).await?;
            Ok(Round {
                pods: count,
                seconds: began.elapsed().as_secs_f64(),
                cpu_ms: meter::threads_cpu_ms(THREADS)? - cpu,
            })
        };
        self.runtime.spawn(work).await?
    }

    /// Creates the pods, watches them, and deletes each when it has succeeded; until the last delete is answered.
    pub(crate) async fn lifecycles(&self, pods: Vec<Pod>, in_flight: usize) -> Result<Round> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let lean: Api<LeanPod> = Api::namespaced(self.client.clone(), &self.namespace);
        let work = async move {
            let count = pods.len();
            let (began, cpu) = (Instant::now(), meter::threads_cpu_ms(THREADS)?);
            let creates = tokio::spawn(create_all(api.clone(), pods, in_flight));
            delete_ended(api, lean, count).await?;
            creates.await??;
            Ok(Round {
                pods: count,
                seconds: began.elapsed().as_secs_f64(),
                cpu_ms: meter::threads_cpu_ms(THREADS)? - cpu,
            })
        };
        self.runtime.spawn(work).await?
    }
}

async fn create_all(api: Api<Pod>, pods: Vec<Pod>, in_flight: usize) -> Result<()> {
    let left = Arc::new(Mutex::new(VecDeque::from(pods)));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (api, left) = (api.clone(), left.clone());
        workers.spawn(async move {
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some(pod) = next() {
                api.create(&PostParams::default(), &pod).await.context("the bare client's create failed")?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

async fn delete_ended(api: Api<Pod>, lean: Api<LeanPod>, count: usize) -> Result<()> {
    let selector = format!("{INSTALLATION}={BARE}");
    let mut seen = BTreeSet::new();
    let events = watcher(lean, watcher::Config::default().labels(&selector));
    let ended = events.filter_map(|event| {
        let pod = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => Some(pod),
            // kube's watcher goes on where it was.
            Ok(_) | Err(_) => None,
        };
        let succeeded = pod.filter(|pod| pod.phase() == "Succeeded").map(|pod| pod.name().to_owned());
        future::ready(succeeded.filter(|name| seen.insert(name.clone())))
    });
    let deletes = ended.map(|name| {
        let api = api.clone();
        tokio::spawn(async move { api.delete(&name, &DeleteParams::default()).await })
    });
    let mut answers = pin!(deletes.buffer_unordered(DELETES).take(count));
    while let Some(answer) = answers.next().await {
        if let Err(error) = answer? {
            bail!("the bare client's delete failed: {error}");
        }
    }
    Ok(())
}
