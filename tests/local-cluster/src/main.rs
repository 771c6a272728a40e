//! `windlass-local-cluster`: the embedded API, and the kubelet, as programs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use windlass_local_cluster::{
    ApiOptions, ApiServer, Kubelet, KubeletOptions, client_config, kubeconfig_file,
};

/// A Kubernetes small enough for a laptop.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the Kubernetes API for pods, with a kubelet if asked for.
    ///
    /// Prints `ready URL` when it serves. SIGTERM and SIGINT end it and all containers.
    Serve(Serve),
    /// Run the pods of one node as local processes, from any API server.
    ///
    /// Prints `ready NODE` when the node is registered. SIGTERM and SIGINT end it and all its containers.
    Kubelet {
        /// How to reach the API server.
        #[arg(long, env = "KUBECONFIG")]
        kubeconfig: PathBuf,
        #[command(flatten)]
        node: Node,
    },
}

#[derive(Args)]
struct Serve {
    /// Loopback port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Folder for the kubelet's logs and state, if it has no --log-dir.
    #[arg(long)]
    data: PathBuf,
    /// File with the bearer token; written if it does not exist. Without it a new token is made.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Where to write a kubeconfig.
    #[arg(long)]
    write_kubeconfig: PathBuf,
    /// Accept pods whose service account does not exist.
    #[arg(long)]
    no_service_account_admission: bool,
    /// Also run a kubelet that binds pods to its node.
    #[arg(long)]
    with_kubelet: bool,
    #[command(flatten)]
    node: Node,
}

#[derive(Args)]
struct Node {
    /// Name of the node.
    #[arg(long, default_value = "local-node")]
    node: String,
    /// Folder for logs and the state of pods.
    #[arg(long)]
    log_dir: Option<PathBuf>,
    /// Bind unassigned pods to this node (a scheduler for one node).
    #[arg(long)]
    bind_pods: bool,
    /// As the VPC CNI of EKS: a pod whose first container asks for `vpc.amazonaws.com/pod-eni` starts once the annotation
    /// of this name gives it its address.
    #[arg(long)]
    branch_interfaces: bool,
    /// Pods that the node takes; more stay Unschedulable.
    #[arg(long, default_value_t = 110)]
    max_pods: usize,
    /// Pods whose containers run at once; more wait in ContainerCreating. Default: all.
    #[arg(long)]
    max_running: Option<usize>,
    /// Words before the `args` of a container without `command` (the image's entrypoint).
    #[arg(long, num_args = 1.., value_delimiter = ' ')]
    entrypoint: Vec<String>,
    /// What the image would set in the environment, as NAME=VALUE. May be repeated.
    #[arg(long = "image-env", value_parser = pair)]
    image_env: Vec<(String, String)>,
    /// A label of the node, as NAME=VALUE. May be repeated.
    #[arg(long = "node-label", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Start no processes: each pod runs for so many milliseconds and succeeds.
    #[arg(long)]
    fake_run_ms: Option<u64>,
    /// Keep the logs of deleted pods.
    #[arg(long)]
    keep_logs: bool,
    /// While this file exists, containers that start find the disk of their logs full: each write fails with ENOSPC.
    #[arg(long, value_name = "FILE")]
    full_disk_while: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

impl Node {
    fn options(self, default_dir: PathBuf) -> Result<KubeletOptions> {
        let log_dir = self.log_dir.unwrap_or(default_dir);
        std::fs::create_dir_all(&log_dir).with_context(|| format!("folder {}", log_dir.display()))?;
        let log_dir = std::fs::canonicalize(&log_dir)?;
        Ok(KubeletOptions {
            bind_pods: self.bind_pods,
            branch_interfaces: self.branch_interfaces,
            max_pods: self.max_pods,
            max_running: self.max_running,
            entrypoint: self.entrypoint,
            image_env: self.image_env.into_iter().collect(),
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            fake_run: self.fake_run_ms.map(Duration::from_millis),
            keep_logs: self.keep_logs,
            full_disk: self.full_disk_while,
            ..KubeletOptions::new(&self.node, log_dir)
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Serve(serve) => run_server(serve).await,
        Command::Kubelet { kubeconfig, node } => {
            let config = kubeconfig_file(&kubeconfig).await?;
            let name = node.node.clone();
            let kubelet = Kubelet::start(config, node.options("kubelet".into())?).await?;
            println!("ready {name}");
            until_told_to_end().await?;
            kubelet.stop().await;
            Ok(())
        }
    }
}

async fn run_server(serve: Serve) -> Result<()> {
    let mut options = ApiOptions {
        port: serve.port,
        service_account_admission: !serve.no_service_account_admission,
        ..ApiOptions::default()
    };
    if let Some(file) = &serve.token_file {
        options.token = token(file, options.token)?;
    }
    let api = ApiServer::start(options).await?;
    api.write_kubeconfig(&serve.write_kubeconfig)?;
    let kubelet = if serve.with_kubelet {
        let mut node = serve.node.options(serve.data.join("kubelet"))?;
        node.bind_pods = true;
        Some(Kubelet::start(client_config(&api).await?, node).await?)
    } else {
        None
    };
    println!("ready {}", api.url());
    until_told_to_end().await?;
    if let Some(kubelet) = kubelet {
        kubelet.stop().await;
    }
    api.stop().await;
    Ok(())
}

/// The file's token; a new file gets `fresh`.
fn token(file: &std::path::Path, fresh: String) -> Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            use std::io::Write as _;
            use std::os::unix::fs::OpenOptionsExt as _;
            let mut new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
            new.write_all(fresh.as_bytes())?;
            Ok(fresh)
        }
        Err(error) => Err(error).with_context(|| format!("token file {}", file.display())),
    }
}

async fn until_told_to_end() -> Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
