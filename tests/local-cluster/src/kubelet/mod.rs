//! A kubelet that runs pods as local processes, against any API server.
//!
//! As a real one: env with references and expansion, init containers, sidecars, restart policies, exit codes, graceful
//! deletion, statuses and conditions, events for failures, the pod's own host name. Not as a real one: no image is
//! pulled (names that begin with `invalid/` fail), no volume is mounted (paths are the machine's), no network of its
//! own (but see [`KubeletOptions::branch_interfaces`]), no probes, no resource limits, no exec. Containers die with the kubelet.
//!
//! Faults come by annotation, see [`FAULT_ANNOTATION`].

mod bind;
mod client;
mod env;
mod fake;
mod fault;
mod follow;
mod log_server;
mod manifest;
mod network;
mod node;
mod process;
mod record;
mod spawn;
mod start;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use bind::Capacity;
use client::{CallError, Client};
use follow::Seen;
use log_server::LogServer;
use manifest::Pod;
use process::Spawner;
use worker::Worker;

pub use fault::ANNOTATION as FAULT_ANNOTATION;

/// Address of the node, of all nodes.
const HOST_IP: &str = "127.0.0.1";

/// How to run a kubelet.
#[derive(Debug, Clone)]
pub struct KubeletOptions {
    /// Name of the node.
    pub node: String,
    /// Where logs and the state of pods lie. Absolute; of this kubelet alone.
    pub log_dir: PathBuf,
    /// Also be the scheduler: bind unassigned pods to this node.
    pub bind_pods: bool,
    /// Pods that the node takes (`capacity.pods`); with `bind_pods`, more stay Unschedulable.
    pub max_pods: usize,
    /// Pods whose containers run at once; more wait in ContainerCreating. `None`: all.
    pub max_running: Option<usize>,
    /// What a container without `command` runs its `args` with: the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// What the image would set in the environment.
    pub image_env: BTreeMap<String, String>,
    /// More labels of the node.
    pub labels: BTreeMap<String, String>,
    /// As the VPC CNI of EKS with ENABLE_POD_ENI: a pod whose first container asks for `vpc.amazonaws.com/pod-eni` starts
    /// once the annotation of this name is there, and has the address in it. Without it such a pod gets an address of its
    /// node, as others do.
    pub branch_interfaces: bool,
    /// No processes: pods run for so long and succeed.
    pub fake_run: Option<Duration>,
    /// Keep the logs of deleted pods.
    pub keep_logs: bool,
    /// While this file exists, containers that start find the disk of their logs full.
    pub full_disk: Option<PathBuf>,
}

impl KubeletOptions {
    /// The usual node: 110 pods, real processes, no scheduler.
    #[must_use]
    pub fn new(node: &str, log_dir: PathBuf) -> Self {
        Self {
            node: node.to_owned(),
            log_dir,
            bind_pods: false,
            max_pods: 110,
            max_running: None,
            entrypoint: Vec::new(),
            image_env: BTreeMap::new(),
            labels: BTreeMap::new(),
            branch_interfaces: false,
            fake_run: None,
            keep_logs: false,
            full_disk: None,
        }
    }
}

/// Why a kubelet does not start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The log folder is relative, or cannot be used, or no process can be started.
    #[error(
        "the kubelet of node `{node}` cannot use `{dir}`; give --log-dir an absolute path that it may write to"
    )]
    LogDir {
        /// Node.
        node: String,
        /// Folder.
        dir: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The endpoint for logs could not be opened.
    #[error("the kubelet of node `{node}` cannot listen on 127.0.0.1 for log requests")]
    LogServer {
        /// Node.
        node: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The client could not be made from the configuration.
    #[error("the kubelet of node `{node}` cannot use its kubeconfig; check server, CA and token in it")]
    Config {
        /// Node.
        node: String,
        /// kube's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server does not take the node.
    #[error(
        "node `{node}` is not registered; check that the API server runs and that the token may write nodes"
    )]
    Register {
        /// Node.
        node: String,
        /// What the API server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What all pods of the node share.
struct Context {
    client: Client,
    options: KubeletOptions,
    image_env: BTreeMap<String, String>,
    spawner: Spawner,
    room: Option<Arc<Semaphore>>,
    capacity: Capacity,
    labels: BTreeMap<String, String>,
    /// Tasks that wait for the ends of containers.
    reapers: TaskTracker,
    next_ip: AtomicU32,
}

impl Context {
    /// An address for one more pod: loopback, and its own, so that a pod's name can lead to it and back. Empty where the
    /// pod waits for that of its branch interface.
    fn place(&self, pod: &Pod) -> env::Place {
        let host_ip = HOST_IP.to_owned();
        if self.options.branch_interfaces && network::wants_branch(pod) {
            return env::Place { pod_ip: network::branch_address(pod).unwrap_or_default(), host_ip };
        }
        let number = self.next_ip.fetch_add(1, Ordering::Relaxed);
        let [_, a, b, c] = number.to_be_bytes();
        let pod_ip = format!("127.{}.{b}.{c}", 64 + a % 128);
        env::Place { pod_ip, host_ip }
    }
}

/// A running kubelet. Dropping it ends it and its containers.
pub struct Kubelet {
    stop: CancellationToken,
    online: watch::Sender<bool>,
    manager: Option<tokio::task::JoinHandle<()>>,
}

impl Kubelet {
    /// Registers the node and begins to run its pods.
    pub async fn start(config: kube::Config, options: KubeletOptions) -> Result<Self, KubeletError> {
        let node = options.node.clone();
        let spawner = usable(&options).and_then(|()| Spawner::start(&options.log_dir)).map_err(|source| {
            KubeletError::LogDir { node: node.clone(), dir: options.log_dir.display().to_string(), source }
        })?;
        let logs = LogServer::bind(&options.log_dir)
            .await
            .map_err(|source| KubeletError::LogServer { node: node.clone(), source })?;
        let online = watch::Sender::new(true);
        let client = Client::new(config, online.subscribe())
            .map_err(|e| KubeletError::Config { node: node.clone(), source: Box::new(e) })?;
        register(&client, &options, logs.port())
            .await
            .map_err(|e| KubeletError::Register { node, source: Box::new(e) })?;
        let context = Arc::new(Context {
            image_env: start::image_env(&options.image_env),
            spawner,
            room: options.max_running.map(|n| Arc::new(Semaphore::new(n))),
            capacity: Capacity::new(options.max_pods),
            labels: node::labels(&options),
            reapers: TaskTracker::new(),
            // A block of addresses per node: two kubelets of one machine must not share.
            next_ip: AtomicU32::new(block(&options.node) + 1),
            client,
            options,
        });
        let stop = CancellationToken::new();
        let manager = tokio::spawn(manage(context, logs, stop.clone()));
        Ok(Self { stop, online, manager: Some(manager) })
    }

    /// Cuts the node off from the API server (its containers go on), or connects it again.
    pub fn set_online(&self, online: bool) {
        self.online.send_replace(online);
    }

    /// Ends the kubelet and all its containers, and waits for them. Nothing is reported: that is for the next kubelet.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(manager) = self.manager.take() {
            // It ends by the token; a panic in it has been shown already.
            let _ = manager.await;
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn usable(options: &KubeletOptions) -> std::io::Result<()> {
    if !options.log_dir.is_absolute() {
        return Err(std::io::Error::other("the path is relative"));
    }
    std::fs::create_dir_all(&options.log_dir)
}

/// The API server may be starting too: tried for a while.
async fn register(client: &Client, options: &KubeletOptions, log_port: u16) -> Result<(), CallError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match node::register(client, options, log_port).await {
            Err(error) if error.code() == 0 && tokio::time::Instant::now() < deadline => {
                tracing::info!(%error, "the node waits for the API server");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            answer => return answer,
        }
    }
}

fn block(node: &str) -> u32 {
    let hash = node.bytes().fold(0_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    (hash % 128) << 16
}

type Workers = BTreeMap<String, watch::Sender<Option<Arc<Pod>>>>;

/// Hands each pod to its worker.
async fn manage(context: Arc<Context>, logs: LogServer, stop: CancellationToken) {
    let mut helpers = JoinSet::new();
    helpers.spawn(node::heartbeat(context.client.clone(), context.options.clone(), logs.port()));
    helpers.spawn(logs.serve());
    if context.options.bind_pods {
        helpers.spawn(bind::run(Arc::clone(&context)));
    }
    let (out, mut seen) = mpsc::channel(256);
    helpers.spawn(follow::follow(context.client.clone(), "spec.nodeName", context.options.node.clone(), out));
    let mut workers = Workers::new();
    let mut tasks: JoinSet<String> = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(event) = seen.recv() => take(&context, event, &mut workers, &mut tasks),
            Some(ended) = tasks.join_next() => {
                if let Ok(uid) = ended {
                    workers.remove(&uid);
                    context.capacity.release(&uid);
                }
            }
        }
    }
    helpers.shutdown().await;
    tasks.shutdown().await;
    let reapers = context.reapers.clone();
    reapers.close();
    // With the spawner's thread all containers die; then they are reaped.
    drop(context);
    reapers.wait().await;
}

fn take(context: &Arc<Context>, event: Seen, workers: &mut Workers, tasks: &mut JoinSet<String>) {
    match event {
        Seen::Pod(pod) => {
            let uid = pod.metadata.uid.clone();
            if let Some(worker) = workers.get(&uid) {
                worker.send_replace(Some(pod));
                return;
            }
            if pod.is_finished() {
                context.capacity.release(&uid);
            } else {
                context.capacity.hold(&uid);
            }
            let (sender, updates) = watch::channel(Some(Arc::clone(&pod)));
            workers.insert(uid.clone(), sender);
            let context = Arc::clone(context);
            tasks.spawn(async move {
                match context.options.fake_run {
                    Some(lasts) => fake::run(context, pod, updates, lasts).await,
                    None => Worker::new(context, pod, updates).run().await,
                }
                uid
            });
        }
        Seen::Gone(uid) => {
            if let Some(worker) = workers.get(&uid) {
                worker.send_replace(None);
            }
        }
        Seen::Listed(uids) => {
            for (uid, worker) in workers.iter() {
                if !uids.contains(uid) {
                    worker.send_replace(None);
                }
            }
        }
    }
}
