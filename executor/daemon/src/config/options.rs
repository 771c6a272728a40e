//! Every option of Airflow that concerns the daemon, with Airflow's default and what Windlass does with it.
//!
//! Names and defaults: `airflow/config_templates/config.yml` of 2.11 and `get_provider_info.py` of provider
//! cncf-kubernetes 10.25.0. A test holds the list of `[kubernetes_executor]` complete.

use super::airflow::Name;

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It means here what it means in Airflow; the text says to what it applies.
    Honoured(&'static str),
    /// Windlass works without it; the text says why.
    NotNeeded(&'static str),
    /// Cannot be honoured: a value other than the default is a fault, the text is the way out.
    Refused(&'static str),
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct AirflowOption {
    /// Section and key, deprecated ones as well.
    pub name: Name,
    /// As Airflow ships it. `{AIRFLOW_HOME}` is filled in.
    pub default: Option<&'static str>,
    /// What Windlass does with it.
    pub stance: Stance,
}

use Stance::{Honoured, NotNeeded, Refused};

const fn option(
    section: &'static str,
    key: &'static str,
    default: Option<&'static str>,
    stance: Stance,
) -> AirflowOption {
    AirflowOption { name: Name::plain(section, key), default, stance }
}

/// `[kubernetes_executor]` was `[kubernetes]` before 2.5.
const fn kubernetes(key: &'static str, default: Option<&'static str>, stance: Stance) -> AirflowOption {
    let name =
        Name { section: "kubernetes_executor", key, deprecated: Some(("kubernetes", key)), sensitive: false };
    AirflowOption { name, default, stance }
}

/// `[database]` was part of `[core]` before 2.3.
const fn database(
    key: &'static str,
    default: &'static str,
    sensitive: bool,
    stance: Stance,
) -> AirflowOption {
    let name = Name { section: "database", key, deprecated: Some(("core", key)), sensitive };
    AirflowOption { name, default: Some(default), stance }
}

const KEEPALIVE: Stance = Honoured("TCP keepalive of the connections to the API server");
const FACTORY: Stance = Refused(
    "it names Python code; give the daemon a service account (in_cluster = True) or a kubeconfig with an exec plugin \
     (in_cluster = False, config_file), by AIRFLOW__KUBERNETES_EXECUTOR__* variables of its own container",
);

/// All of them, in the order in which `windlass config` lists them.
pub const OPTIONS: [AirflowOption; 43] = [
    database(
        "sql_alchemy_conn",
        "sqlite:///{AIRFLOW_HOME}/airflow.db",
        true,
        Honoured("the metadata database"),
    ),
    database("sql_alchemy_schema", "", false, Honoured("the schema of Airflow's tables; empty: `public`")),
    option("core", "executor", Some("SequentialExecutor"), Honoured("checked: Windlass should be in it")),
    option(
        "core",
        "dags_folder",
        Some("{AIRFLOW_HOME}/dags"),
        Honoured("DAG file path in the worker's command"),
    ),
    option(
        "core",
        "parallelism",
        Some("32"),
        NotNeeded("the scheduler itself keeps to it: it queues no more than its executor's slots"),
    ),
    option(
        "core",
        "hostname_callable",
        Some("airflow.utils.net.getfqdn"),
        NotNeeded("a host name that names no pod is noticed, and the worker's heartbeat decides then"),
    ),
    option(
        "scheduler",
        "standalone_dag_processor",
        Some("False"),
        Honoured(
            "checked by `windlass doctor`: with identity rules no DAG code should run beside the daemon",
        ),
    ),
    option(
        "scheduler",
        "task_queued_timeout",
        Some("600.0"),
        Honoured("bound of launch.pending-timeout-seconds"),
    ),
    option(
        "scheduler",
        "scheduler_zombie_task_threshold",
        Some("300"),
        Honoured("bound of a worker's heartbeat where local_task_job_heartbeat_sec is 0"),
    ),
    option("scheduler", "job_heartbeat_sec", Some("5"), Honoured("heartbeat of a worker")),
    option("scheduler", "local_task_job_heartbeat_sec", Some("0"), Honoured("heartbeat of a worker")),
    option(
        "windlass",
        "wake_socket",
        Some(""),
        Honoured("the datagram socket by which the plugin wakes the daemon, as wake.socket"),
    ),
    kubernetes(
        "api_client_retry_configuration",
        Some(""),
        NotNeeded("no call is repeated below the engine: a create that is sent twice unseen doubles a pod"),
    ),
    kubernetes("logs_task_metadata", Some("False"), NotNeeded("every line of a launch names its task")),
    kubernetes("running_pod_log_lines", Some("100"), NotNeeded("read by the plugin, in the webserver")),
    kubernetes(
        "pod_template_file",
        Some(""),
        Honoured("the template of worker pods; read again when it changes"),
    ),
    kubernetes("worker_container_repository", Some(""), Honoured("image, if the tag is set too")),
    kubernetes("worker_container_tag", Some(""), Honoured("image, if the repository is set too")),
    kubernetes("namespace", Some("default"), Honoured("namespace of worker pods")),
    kubernetes("delete_worker_pods", Some("True"), Honoured("whether pods that ended are deleted")),
    kubernetes("delete_worker_pods_on_failure", Some("False"), Honoured("the same for pods that failed")),
    kubernetes(
        "worker_pod_pending_fatal_container_state_reasons",
        Some(
            "CreateContainerConfigError,ErrImagePull,CreateContainerError,ImageInspectError,InvalidImageName",
        ),
        Honoured("waiting reasons that fail a pending pod"),
    ),
    kubernetes(
        "worker_pods_creation_batch_size",
        Some("1"),
        NotNeeded("creates are paced by the API server's latency, up to create.concurrency"),
    ),
    kubernetes("async_pod_creation", Some("False"), NotNeeded("creates are always concurrent")),
    kubernetes(
        "pod_creation_max_concurrency",
        Some("0"),
        Honoured("with async_pod_creation: default of create.concurrency; 0 leaves ours"),
    ),
    kubernetes(
        "multi_namespace_mode",
        Some("False"),
        Honoured("pod_override may name a namespace; all, or the listed ones, are watched"),
    ),
    kubernetes("multi_namespace_mode_namespace_list", Some(""), Honoured("the namespaces that are watched")),
    kubernetes("in_cluster", Some("True"), Honoured("service account of the pod, or a kubeconfig")),
    kubernetes("cluster_context", None, Honoured("context of the kubeconfig")),
    kubernetes("config_file", None, Honoured("path of the kubeconfig")),
    kubernetes("client_factory", None, FACTORY),
    kubernetes("async_client_factory", None, FACTORY),
    kubernetes("kube_client_request_args", Some(""), Honoured("_request_timeout; other keys are refused")),
    kubernetes("delete_option_kwargs", Some(""), Honoured("grace_period_seconds; other keys are refused")),
    kubernetes("enable_tcp_keepalive", Some("True"), KEEPALIVE),
    kubernetes("tcp_keep_idle", Some("120"), KEEPALIVE),
    kubernetes("tcp_keep_intvl", Some("30"), KEEPALIVE),
    kubernetes("tcp_keep_cnt", Some("6"), KEEPALIVE),
    kubernetes("verify_ssl", Some("True"), Honoured("certificate of the API server")),
    kubernetes("ssl_ca_cert", Some(""), Honoured("CA of the API server, instead of the one in its source")),
    kubernetes(
        "task_publish_max_retries",
        Some("0"),
        NotNeeded(
            "a full quota holds its namespace back until there is room; the task fails only when Airflow gives it up",
        ),
    ),
    kubernetes(
        "pod_launch_failure_retries",
        Some("1"),
        Honoured("pods for one launch: this + 1, as long as the task has not begun; -1: no limit"),
    ),
    kubernetes(
        "pod_launch_failure_excluded_container_reasons",
        Some("Error"),
        Honoured(
            "container reasons that end a launch whose task has not begun; a pod that was evicted, preempted, killed or \
             deleted, or whose node is gone, is repeated all the same",
        ),
    ),
];

/// Options of a section, for the search for unknown ones.
pub fn keys_of(section: &str) -> Vec<&'static str> {
    OPTIONS.iter().filter(|o| o.name.section == section).map(|o| o.name.key).collect()
}
