//! Starting one container: its image, environment, command line, files, process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Context;
use super::client::CallError;
use super::env::{self, ConfigError, Place, Sources};
use super::manifest::{Container, Pod};
use super::process::{Launch, Process};
use crate::logs;

/// Why a container does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Waiting reason `ErrImagePull`, for good.
    #[error(
        "failed to pull and unpack image {0:?}: the local kubelet has no image of this name, by agreement"
    )]
    Image(String),
    /// Waiting reason `CreateContainerConfigError`, tried again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secrets or config maps could not be read; tried again.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The process could not be started: the container ends with 128, reason `StartError`.
    #[error("failed to create containerd task: {0}")]
    Process(#[source] std::io::Error),
}

/// Images that can't be pulled: any whose name starts so.
const NO_SUCH_IMAGE: &str = "invalid/";

/// Starts a container for the `start`th time (0: the first).
pub(crate) async fn start(
    context: &Context,
    pod: &Pod,
    container: &Container,
    place: &Place,
    start: u32,
) -> Result<Process, StartError> {
    if container.image.starts_with(NO_SUCH_IMAGE) {
        return Err(StartError::Image(container.image.clone()));
    }
    let sources = sources(context, pod, container).await?;
    let env = env::environment(&context.image_env, pod, container, place, &sources)?;
    let argv = env::command_line(container, &context.options.entrypoint, &env);
    let meta = &pod.metadata;
    let root = &context.options.log_dir;
    let dir = logs::container_dir(root, &meta.namespace, &meta.name, &meta.uid, &container.name);
    let launch = Launch {
        argv,
        env,
        dir: working_dir(&container.working_dir),
        log: logs::log_file(&dir, start),
        log_is_full: context.options.full_disk.as_ref().is_some_and(|sign| sign.exists()),
        hostname: pod.hostname(),
        hosts_file: hosts_file(root, pod),
    };
    if launch.log_is_full {
        tracing::warn!(pod = %pod.label(), container = %container.name, "the disk of its log is full");
    }
    prepare(&dir, &launch.hosts_file, pod, place).map_err(StartError::Process)?;
    context.spawner.spawn(&launch).await.map_err(StartError::Process)
}

/// The image's default is the root.
fn working_dir(asked: &str) -> PathBuf {
    if asked.is_empty() { "/".into() } else { asked.into() }
}

fn hosts_file(root: &Path, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    logs::pod_dir(root, &meta.namespace, &meta.name, &meta.uid).join("hosts")
}

/// The log folder and the pod's `/etc/hosts`, which makes its name resolve to its own address.
fn prepare(dir: &Path, hosts_file: &Path, pod: &Pod, place: &Place) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let name = pod.hostname();
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{}\t{name}\n", place.pod_ip);
    std::fs::write(hosts_file, hosts)
}

async fn sources(context: &Context, pod: &Pod, container: &Container) -> Result<Sources, CallError> {
    let (secrets, maps) = env::references(container);
    let namespace = &pod.metadata.namespace;
    let mut sources = Sources::default();
    for name in secrets {
        let data = context.client.data(namespace, "secrets", name).await?;
        sources.secrets.insert(name.to_owned(), data);
    }
    for name in maps {
        let data = context.client.data(namespace, "configmaps", name).await?;
        sources.config_maps.insert(name.to_owned(), data);
    }
    Ok(sources)
}

/// What every container's environment starts from: what an image would set. The kubelet's own environment holds
/// secrets of its user, so only harmless names come from it.
pub(crate) fn image_env(own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let inherited = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
    let mut env: BTreeMap<String, String> = inherited
        .into_iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| (name.to_owned(), value)))
        .collect();
    env.entry("PATH".into()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".into());
    env.extend(own.clone());
    env
}
