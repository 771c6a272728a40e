//! What to connect to and within which bounds.

use std::path::PathBuf;
use std::time::Duration;

/// Where address and credentials come from. One of these is named by the operator; nothing is guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The pod's own service account: `KUBERNETES_SERVICE_HOST`/`_PORT` and the files that the kubelet projects to
    /// `/var/run/secrets/kubernetes.io/serviceaccount`.
    InCluster,
    /// The same files in another place (a token volume mounted elsewhere, tests).
    ServiceAccount {
        /// `https://host:port` of the API server.
        url: String,
        /// Folder with `token` and `ca.crt`.
        directory: PathBuf,
    },
    /// A kubeconfig file. Its exec plugins run commands, hence only when told (Airflow: `in_cluster = False`).
    Kubeconfig {
        /// Airflow: `config_file`. `None`: `$KUBECONFIG`, else `~/.kube/config`, as kubectl does.
        path: Option<PathBuf>,
        /// Airflow: `cluster_context`. `None`: the file's current context.
        context: Option<String>,
    },
}

/// TCP keepalive (Airflow: `enable_tcp_keepalive`, `tcp_keep_idle`, `tcp_keep_intvl`, `tcp_keep_cnt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without answer until the connection is dead.
    pub count: u32,
}

/// All that [`crate::Cluster::connect`] needs. `Default` is in-cluster with the bounds that suit EKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Address and credentials.
    pub source: Source,
    /// Deadline of a read, a delete or one page of a list, and of opening a watch. Creates bring their own.
    pub request_timeout: Duration,
    /// For the TCP connection alone; the TLS handshake counts against the call's deadline.
    pub connect_timeout: Duration,
    /// `None` switches TCP keepalive off.
    pub keepalive: Option<Keepalive>,
    /// Calls in flight at once, which with HTTP/1.1 is connections. Watches have connections of their own.
    pub max_connections: usize,
    /// How long an unused connection is kept. Below the 350 s after which AWS load balancers forget a flow.
    pub idle_connection: Duration,
    /// `timeoutSeconds` of a watch, 1 to 30 s: the server ends it then and it goes on from where it was.
    pub watch_timeout: Duration,
    /// Objects per page where lists are paged.
    pub page_size: u32,
    /// Airflow: `verify_ssl`. Off only for trials: it makes the token readable by whoever stands between.
    pub verify_tls: bool,
    /// Airflow: `ssl_ca_cert`. Instead of the CA that the source names.
    pub ca_file: Option<PathBuf>,
    /// A token file is read again when it was read this long ago (and after a 401). The kubelet renews projected
    /// tokens at 80 % of their life, so a minute is early enough.
    pub token_reload: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            source: Source::InCluster,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            // Airflow's own defaults.
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(120),
                interval: Duration::from_secs(30),
                count: 6,
            }),
            // From 32 to 128 in flight a two-core API server gave +24 % for three times the latency; beyond 64
            // there is only queueing.
            max_connections: 64,
            idle_connection: Duration::from_secs(90),
            watch_timeout: Duration::from_secs(25),
            // As client-go pages.
            page_size: 500,
            verify_tls: true,
            ca_file: None,
            token_reload: Duration::from_secs(60),
        }
    }
}

/// Which namespaces are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// The whole cluster: one watch, needs a ClusterRole.
    All,
    /// These: one watch each, a Role in each is enough.
    Only(Vec<String>),
}
