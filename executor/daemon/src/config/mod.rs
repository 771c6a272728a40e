//! The configuration: Airflow's own first, then Windlass's for what Airflow has no word for.
//!
//! Every value knows where it came from (`windlass config`), all faults are told at once, and no secret is shown.

pub mod airflow;
mod check;
pub mod environment;
pub mod fault;
mod identity;
pub mod ini;
pub mod kubernetes;
pub mod options;
mod own;
pub mod secret;
pub mod setting;
pub mod settings;
mod typed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scheduler_bridge::{DatabaseConfig, StoreSettings};
use windlass_cluster::ClusterConfig;
use windlass_core::doctor::Limits;
use windlass_core::identity::rules::Rules;
use windlass_core::ids::InstallationId;
use windlass_core::launch::Policy;
use windlass_core::pod::PodSettings;

use airflow::{Airflow, Source};
use environment::Environment;
use fault::{Fault, Faults};
use kubernetes::Kubernetes;
use options::{OPTIONS, Stance};
pub use own::DEFAULT_PATH;
use secret::Secret;
pub use setting::Kind;
use settings::{Choice, DatabaseAuth, MANUAL, Settings};
use typed::Values;

/// Where to look, from the command line.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--set section.key=value`, in order.
    pub sets: Vec<String>,
}

/// What `[core]`, `[database]` and `[scheduler]` of Airflow say.
#[derive(Clone, Debug)]
pub struct AirflowSettings {
    /// `[core] executor`.
    pub executor: String,
    /// `[core] dags_folder`.
    pub dags_folder: String,
    /// `[database] sql_alchemy_schema`; None: `public`.
    pub schema: Option<String>,
    /// `[core] parallelism`; 0: no limit.
    pub parallelism: u64,
    /// `[scheduler] standalone_dag_processor`: DAG files are not parsed in the scheduler's pod.
    pub standalone_dag_processor: bool,
    /// `[scheduler] task_queued_timeout`, in milliseconds.
    pub task_queued_timeout_ms: u64,
    /// How often a worker's LocalTaskJob writes its heartbeat, in milliseconds.
    pub worker_heartbeat_ms: u64,
    /// `[scheduler] scheduler_zombie_task_threshold`, in milliseconds.
    pub zombie_timeout_ms: u64,
}

/// One line of `windlass config`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Effective {
    /// `[section] key` of Airflow or `section.key` of windlass.toml.
    pub name: String,
    /// Masked.
    pub value: String,
    /// Where from.
    pub source: String,
    /// Masked.
    pub default: String,
    /// What Windlass does with an option of Airflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Airflow's.
    pub airflow: AirflowSettings,
    /// Airflow's, for the executor.
    pub kubernetes: Kubernetes,
    /// Windlass's own.
    pub own: Settings,
    /// Who tasks are: `[[identity.rule]]` of windlass.toml. None: as template and pod_override say.
    pub rules: Option<Arc<Rules>>,
    /// For `windlass config`.
    pub effective: Vec<Effective>,
    /// Worth knowing, and no fault.
    pub notes: Vec<String>,
    /// `[database] sql_alchemy_conn`. Its fault counts only for what needs the database.
    connection: Result<(Secret, Source), Fault>,
}

impl Config {
    /// Reads everything. The faults of the connection string are not among these: see [`Config::connection`].
    pub fn load(lookup: &Lookup, env: Environment) -> (Option<Self>, Vec<Fault>) {
        let named = lookup.config.clone().or_else(|| env.get("WINDLASS_CONFIG").map(PathBuf::from));
        let mut own = own::Own::read(named.as_deref(), &env, &lookup.sets);
        let airflow = match Airflow::read(env) {
            Ok(airflow) => airflow,
            Err(fault) => {
                own.faults.push(fault);
                return (None, own.faults);
            }
        };
        let mut values = Values::read(&airflow);
        let connection = take_connection(&mut values);
        let mut kubernetes = Kubernetes::read(&mut values);
        let settings = airflow_settings(&mut values);
        derive(&mut own, &values, &airflow, &kubernetes);
        let mut faults = std::mem::take(&mut own.faults);
        faults.append(&mut values.faults);
        match kubernetes::named_account(
            &own.settings.kubernetes.api_url,
            &own.settings.kubernetes.token_directory,
        ) {
            Ok(Some(source)) => kubernetes.source = source,
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
        faults.extend(check::relations(&own.settings, &settings));
        let mut effective = effective_of_airflow(&values, &connection);
        effective.extend(effective_of_own(&own));
        let mut notes = check::notes(&airflow, &settings, &values);
        notes.extend(check::missing_template(&kubernetes, &values));
        if let Some((path, rules)) = &own.rules {
            faults.extend(check::namespaces(path, rules, &kubernetes));
        }
        let rules = own.rules.map(|(_, rules)| Arc::new(rules));
        let config =
            Self { airflow: settings, kubernetes, own: own.settings, rules, effective, notes, connection };
        (Some(config), faults)
    }

    /// Reads everything; any fault is an error that tells them all.
    pub fn load_checked(lookup: &Lookup, env: Environment) -> Result<Self, Faults> {
        match Self::load(lookup, env) {
            (Some(config), faults) if faults.is_empty() => Ok(config),
            (_, faults) => Err(Faults(faults)),
        }
    }

    /// Airflow's connection string and where it came from.
    pub fn connection(&self) -> Result<(&Secret, &Source), Faults> {
        match &self.connection {
            Ok((url, source)) => Ok((url, source)),
            Err(fault) => Err(Faults(vec![fault.clone()])),
        }
    }

    /// For the Kubernetes client.
    pub fn cluster(&self) -> ClusterConfig {
        let ours = ClusterConfig::default();
        let kubernetes = &self.kubernetes;
        ClusterConfig {
            source: kubernetes.source.clone(),
            request_timeout: kubernetes.request_timeout.unwrap_or(ours.request_timeout),
            connect_timeout: kubernetes.connect_timeout.unwrap_or(ours.connect_timeout),
            keepalive: kubernetes.keepalive,
            watch_timeout: Duration::from_secs(self.own.observe.watch_timeout_seconds),
            verify_tls: kubernetes.verify_tls,
            ca_file: kubernetes.ca_file.clone(),
            // Creates, and half as many deletes and reads beside them.
            max_connections: ours.max_connections.max(self.own.create.concurrency as usize * 3 / 2),
            ..ours
        }
    }

    /// For the state machine of a launch.
    pub fn launch_policy(&self) -> Policy {
        let kubernetes = &self.kubernetes;
        Policy {
            attempts_max: kubernetes.attempts_max,
            create_ms: self.own.create.timeout_ms,
            pending_ms: self.own.launch.pending_timeout_seconds * 1_000,
            branch_ms: self.own.launch.branch_interface_timeout_seconds.saturating_mul(1_000),
            unreachable_ms: self.own.launch.node_unreachable_seconds * 1_000,
            delete_pods: kubernetes.delete_pods,
            delete_failed_pods: kubernetes.delete_failed_pods,
            fatal_waiting: kubernetes.fatal_waiting.clone(),
            final_reasons: kubernetes.final_reasons.clone(),
            ..Policy::default()
        }
    }

    /// For the engine.
    pub fn engine_settings(&self) -> windlass_engine::Settings {
        let ours = windlass_engine::Settings::default();
        let own = &self.own;
        // The driver gives a call up well before the engine gives the answer up.
        let request_ms =
            self.kubernetes.request_timeout.map_or(0, |limit| whole_ms(limit).saturating_add(5_000));
        windlass_engine::Settings {
            lease_ms: own.term.lease_ms,
            renew_ms: own.term.renew_ms,
            standby_ms: own.term.poll_ms,
            handover_ms: own.intake.poll_ms,
            full_pass_ms: own.intake.full_pass_seconds.saturating_mul(1_000),
            batch: own.intake.batch,
            creates_max: own.create.concurrency,
            branch_waiting_max: own.create.branch_interfaces_waiting,
            branch_waiting_min: ours.branch_waiting_min.min(own.create.branch_interfaces_waiting),
            branch_creates_per_second: own.create.branch_interfaces_per_second,
            drain_ms: own.term.drain_seconds.saturating_mul(1_000),
            answer_ms: ours.answer_ms.max(request_ms),
            ..ours
        }
    }

    /// For rendering pods.
    pub fn pod_settings(&self, installation: InstallationId) -> PodSettings {
        PodSettings {
            hide_from_neighbours: self.hides_from_neighbours(),
            ..self.kubernetes.pod_settings(installation)
        }
    }

    /// For the doctor: from when on something counts as long.
    pub fn doctor_limits(&self) -> Limits {
        let (ours, engine) = (Limits::default(), self.engine_settings());
        Limits {
            // Some passes of a slow database.
            unlaunched_ms: ours.unlaunched_ms.max(engine.full_pass_ms.saturating_mul(3)),
            worker_dead_ms: whole_ms(self.store_settings().worker_dead_after()),
            zombie_ms: self.airflow.zombie_timeout_ms,
            queued_timeout_ms: self.airflow.task_queued_timeout_ms,
            pending_ms: self.own.launch.pending_timeout_seconds.saturating_mul(1_000),
            unreachable_ms: self.own.launch.node_unreachable_seconds.saturating_mul(1_000),
            lease_ms: engine.lease_ms,
            full_pass_ms: engine.full_pass_ms,
            namespace_hold_ms: engine.namespace_hold_ms,
            namespace_ready_ms: engine.namespace_ready_ms,
            refuses_hook: self.own.pod.mutation_hook == settings::MutationHook::Refuse,
            policy: self.launch_policy(),
            watched: match &self.kubernetes.namespaces {
                windlass_cluster::Namespaces::All => None,
                windlass_cluster::Namespaces::Only(names) => Some(names.iter().cloned().collect()),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ours
        }
    }

    /// For the bridge.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            max_connections: self.own.database.pool_size,
            dags_folder: self.airflow.dags_folder.clone(),
            worker_heartbeat: Duration::from_millis(self.airflow.worker_heartbeat_ms),
            ..StoreSettings::default()
        }
    }

    /// Where the metadata database is.
    pub fn database(&self) -> Result<DatabaseConfig, Faults> {
        let (url, source) = self.connection()?;
        self.parse_connection(url, &format!("[database] sql_alchemy_conn ({source})"))
    }

    /// Where `windlass migrate` goes.
    pub fn migrate_database(&self) -> Result<DatabaseConfig, Faults> {
        let own = &self.own.database.migrate_url;
        if own.expose().is_empty() {
            self.database()
        } else {
            self.parse_connection(own, "database.migrate-url")
        }
    }

    fn parse_connection(&self, url: &Secret, place: &str) -> Result<DatabaseConfig, Faults> {
        match DatabaseConfig::parse(url.expose()) {
            Ok(config) if self.own.database.auth == DatabaseAuth::RdsIam && !config.is_encrypted() => {
                let what = "has no encryption demanded, and database.auth = `rds-iam` sends a token";
                let remedy =
                    "add ?sslmode=verify-full&sslrootcert=FILE with AWS's certificate bundle for RDS";
                Err(Faults(vec![Fault::new(place, what, remedy)]))
            }
            Ok(config) => Ok(config.with_airflow_schema(self.airflow.schema.clone())),
            Err(error) => Err(Faults(vec![Fault::new(place, error.to_string(), error.hint())])),
        }
    }

    /// Whether pods are hidden from a KubernetesExecutor in the same namespaces.
    pub fn hides_from_neighbours(&self) -> bool {
        match self.own.launch.hide_from_kubernetes_executor {
            Choice::Yes => true,
            Choice::No => false,
            Choice::Auto => self.airflow.executor.contains("KubernetesExecutor"),
        }
    }
}

fn whole_ms(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// Out of `values`, with the fault that belongs to it.
fn take_connection(values: &mut Values) -> Result<(Secret, Source), Fault> {
    match values.found("database", "sql_alchemy_conn") {
        Some(found) => Ok((Secret::new(found.value.clone()), found.source.clone())),
        // Nothing but its own fault keeps it from being found: it has a default. It was read first.
        None if values.faults.is_empty() => {
            Err(Fault::new("[database] sql_alchemy_conn", "is not set", "set it"))
        }
        None => Err(values.faults.remove(0)),
    }
}

fn airflow_settings(values: &mut Values) -> AirflowSettings {
    let zombie = u64::try_from(values.number("scheduler", "scheduler_zombie_task_threshold", 1)).unwrap_or(1);
    let limit =
        u64::try_from(values.number("scheduler", "local_task_job_heartbeat_sec", i64::MIN)).unwrap_or(0);
    let heartrate_ms = values.seconds_as_ms("scheduler", "job_heartbeat_sec");
    // LocalTaskJobRunner (2.10, 2.11) waits for the shorter of the two.
    let limit_ms = if limit < 1 { zombie * 1_000 } else { limit.saturating_mul(1_000) };
    AirflowSettings {
        executor: values.text("core", "executor"),
        dags_folder: values.text("core", "dags_folder"),
        schema: values.filled("database", "sql_alchemy_schema"),
        parallelism: u64::try_from(values.number("core", "parallelism", 0)).unwrap_or(0),
        standalone_dag_processor: values.flag("scheduler", "standalone_dag_processor"),
        task_queued_timeout_ms: values.seconds_as_ms("scheduler", "task_queued_timeout"),
        worker_heartbeat_ms: limit_ms.min(heartrate_ms.max(1_000)),
        zombie_timeout_ms: zombie.saturating_mul(1_000),
    }
}

/// Own settings that follow from others where nobody set them.
fn derive(own: &mut own::Own, values: &Values, airflow: &Airflow, kubernetes: &Kubernetes) {
    if let Some(max) = kubernetes.creates_max
        && !own.sources.contains_key("create.concurrency")
    {
        own.settings.create.concurrency = max;
        let from = Source::Derived("[kubernetes_executor] pod_creation_max_concurrency".into());
        own.sources.insert("create.concurrency".into(), from);
    }
    if own.settings.wake.socket.as_os_str().is_empty() {
        let variable = airflow.env().get("WINDLASS_WAKE_SOCKET").filter(|path| !path.is_empty());
        let (path, source) = match (variable, values.filled("windlass", "wake_socket")) {
            (Some(path), _) => (path.to_owned(), Source::Variable("WINDLASS_WAKE_SOCKET".into())),
            (None, Some(path)) => (path, values.source("windlass", "wake_socket")),
            (None, None) => return,
        };
        own.settings.wake.socket = path.into();
        own.sources.insert("wake.socket".into(), source);
    }
}

fn effective_of_airflow(values: &Values, connection: &Result<(Secret, Source), Fault>) -> Vec<Effective> {
    let line = |option: &options::AirflowOption| {
        let (section, key) = (option.name.section, option.name.key);
        let (value, source) = if option.name.sensitive {
            match connection {
                Ok((url, source)) => (url.masked_url(), source.to_string()),
                Err(fault) => ("(fault)".into(), fault.place.clone()),
            }
        } else {
            (values.text(section, key), values.source(section, key).to_string())
        };
        let note = match option.stance {
            Stance::Honoured(what) => what.to_owned(),
            Stance::NotNeeded(why) => format!("not needed: {why}"),
            Stance::Refused(way_out) => format!("refused if set: {way_out}"),
        };
        let default = option.default.unwrap_or("").to_owned();
        Effective { name: format!("[{section}] {key}"), value, source, default, note: Some(note) }
    };
    OPTIONS.iter().map(line).collect()
}

fn effective_of_own(own: &own::Own) -> Vec<Effective> {
    let defaults = Settings::default();
    let line = |manual: &setting::Manual| {
        let name = manual.dotted();
        let source = own.sources.get(&name).cloned().unwrap_or(Source::Default);
        Effective {
            value: own.settings.show(manual.section, manual.field),
            source: source.to_string(),
            default: defaults.show(manual.section, manual.field),
            note: None,
            name,
        }
    };
    MANUAL.iter().map(line).collect()
}
