//! The settings that Airflow has no word for. The doc comments here are the manual (`docs/CONFIGURATION.md`), the
//! defaults stand nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::secret::Secret;
use super::setting::{settings, words};

words! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// Yes, no, or as the rest of the configuration suggests.
    Choice {
        /// Follows from another value.
        Auto = "auto",
        /// Yes.
        Yes = "yes",
        /// No.
        No = "no",
    }
}

words! {
    /// What is done about the `pod_mutation_hook` of Airflow's local settings.
    MutationHook {
        /// Pods are not made.
        Refuse = "refuse",
        /// Pods are made without it.
        Ignore = "ignore",
        /// It is called.
        Helper = "helper",
    }
}

words! {
    /// How one logs in to the metadata database.
    DatabaseAuth {
        /// With the password of the connection string, or what libpq finds.
        Password = "password",
        /// With a token of RDS.
        RdsIam = "rds-iam",
    }
}

settings! {
    /// How pods are created.
    create: Create {
        /// Pod creations in flight at most. The window below it follows the API server's latency; from 32 to 128 in
        /// flight a two-core API server gave 24 % more for three times the latency.
        concurrency: u32 = 32,
        /// A create that takes longer than this, in milliseconds, is given up (also by the server, as `?timeout=`)
        /// and looked for before it is repeated: with admission webhooks that are slower, no pod comes to be. Must fit into
        /// the lease: see term.lease-ms.
        timeout_ms: u64 = 2_000,
        /// Pods with security groups (identity rules) that may wait for their branch network interface at once, among
        /// nodes of one node selector. Also the burst of branch-interfaces-per-second.
        branch_interfaces_waiting: u32 = 50,
        /// Such pods are created this fast in the long run: what EC2 and the VPC resource controller can follow.
        branch_interfaces_per_second: u32 = 5,
    }
    /// Leadership: one daemon works, the others stand by.
    term: Term {
        /// A term ends this long after its last renewal, in milliseconds. A standby takes over after it at the latest.
        lease_ms: u64 = 4_500,
        /// The leader renews its term this often, in milliseconds. At least three renewals must fit into the lease.
        renew_ms: u64 = 1_000,
        /// A standby asks for the term this often, in milliseconds.
        poll_ms: u64 = 300,
        /// After SIGTERM, work under way is waited for at most this long, in seconds, before the term is handed over.
        drain_seconds: u64 = 5,
    }
    /// How queued task instances are found.
    intake: Intake {
        /// Longest time between two passes over all queued task instances, in seconds. The pass pauses for at least
        /// twenty times its own duration, so a slow database is not worn down by it.
        full_pass_seconds: u64 = 5,
        /// The hand-over of the plugin is read this often, in milliseconds, where no wake reaches the daemon.
        poll_ms: u64 = 500,
        /// Task instances per pass and launches per statement.
        batch: u32 = 500,
    }
    /// How one launch is treated.
    launch: Launch {
        /// A pod that has not started after this long, in seconds, fails its launch with the reason. 0: never; then
        /// Airflow's `[scheduler] task_queued_timeout` rules, and this must be shorter than that.
        pending_timeout_seconds: u64 = 0,
        /// A bound pod with security groups that has no branch network interface after this long, in seconds, is replaced:
        /// the VPC resource controller has dropped its job. The time of a finished pod's interface (60 to 90 s) has to
        /// fit in. 0: never.
        branch_interface_timeout_seconds: u64 = 150,
        /// A pod that has been terminating for this long, in seconds, is taken to be on a lost node: the heartbeat of
        /// its worker then decides.
        node_unreachable_seconds: u64 = 120,
        /// Last lines of a failed pod's log that are kept with its reason, shown in Airflow's event log and added to the
        /// task's log; at most 8 KiB. They are what the container wrote, secrets included. 0: none.
        failed_log_lines: u32 = 40,
        /// Whether pods carry the label `airflow_executor_done=True`, which hides them from a KubernetesExecutor that
        /// watches the same namespaces (it would delete or adopt them). auto: yes if `[core] executor` names one.
        hide_from_kubernetes_executor: Choice = Choice::Auto,
    }
    /// How pods are made.
    pod: Pod {
        /// Where the scheduler has a `pod_mutation_hook` (airflow_local_settings.py or a policy plugin), which is
        /// Python. helper: a process that the plugin starts beside the scheduler calls it for each pod, by the socket
        /// `pod-mutation.sock` in the folder of wake.socket. ignore: pods are made without it. refuse: pods are not
        /// made, and their tasks stay queued, until you have chosen.
        mutation_hook: MutationHook = MutationHook::Refuse,
    }
    /// How pods are watched.
    observe: Observe {
        /// A watch is ended by the server after this long, in seconds (1 to 30), and goes on where it was: the bound
        /// for noticing a silent connection.
        watch_timeout_seconds: u64 = 25,
    }
    /// Access to the API server where it is neither in-cluster nor a kubeconfig.
    kubernetes: KubernetesAccess {
        /// Address of the API server, `https://host:port`, for a service account token outside its standard place.
        /// Empty: as `[kubernetes_executor] in_cluster` says.
        api_url: String = String::new(),
        /// Folder with `token` and `ca.crt` of that service account. Goes with api-url.
        token_directory: PathBuf = PathBuf::new(),
    }
    /// The metadata database, beyond what `[database]` of Airflow says.
    database: Database {
        /// Connections at most: one renews the term, one hears wakes, the rest is for the work. At least 3.
        pool_size: u32 = 5,
        /// Connection string for `windlass migrate`: a direct one, as the owner of the schema, where Airflow's leads
        /// through PgBouncer or to a lesser role. Empty: Airflow's. May be a secret.
        migrate_url: Secret = Secret::default(),
        /// password: as the connection string says. rds-iam: with a token of IAM database authentication in the place of
        /// the password, made anew for each login; the daemon's service account needs a role with `rds-db:connect`,
        /// the database's user the role `rds_iam`, and the connection string `sslmode=verify-full` with `sslrootcert`
        /// naming AWS's bundle for RDS. See docs/DATABASE.md.
        auth: DatabaseAuth = DatabaseAuth::Password,
        /// Region of an RDS database, for its tokens. Empty: `AWS_REGION`, else the one in the database's address.
        region: String = String::new(),
        /// Whether to be woken by NOTIFY. It needs a connection that is not pooled per transaction; where it does not
        /// work the daemon notices and polls.
        listen: bool = true,
    }
    /// How the plugin wakes the daemon.
    wake: Wake {
        /// Path of the Unix datagram socket in a folder shared with the scheduler's container. Empty: the variable
        /// `WINDLASS_WAKE_SOCKET`, which the plugin reads too, else `[windlass] wake_socket` of airflow.cfg, else none.
        socket: PathBuf = PathBuf::new(),
    }
    /// The HTTP server for probes and metrics.
    server: Server {
        /// Address and port of `/livez`, `/readyz` and `/metrics`.
        listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9190),
        /// `/livez` fails when the daemon's loop has not turned for this long, in seconds.
        live_timeout_seconds: u64 = 30,
        /// Folder for the lock by which two processes never act as the same holder. Empty: a folder of the system's
        /// temporary one.
        state_directory: PathBuf = PathBuf::new(),
    }
    /// What is logged.
    log: Log {
        /// text or json.
        format: LogFormat = LogFormat::Text,
        /// error, warn, info, debug or trace; or a filter of crates such as `info,windlass_cluster=debug`.
        level: String = "info".to_owned(),
    }
    /// What is kept.
    retention: Retention {
        /// Launches that were closed and delivered this many days ago are deleted, in small batches.
        days: u32 = 7,
    }
}
