//! Where values come from, what is refused, and that no secret is ever shown.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;

use windlass::config::environment::Environment;
use windlass::config::fault::Fault;
use windlass::config::{Config, Lookup};
use windlass_cluster::{Namespaces, Source};

/// An airflow.cfg, a windlass.toml and an environment, read.
fn load(cfg: &str, toml: Option<&str>, env: &[(&str, &str)], sets: &[&str]) -> (Config, Vec<Fault>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("airflow.cfg"), cfg).unwrap();
    let config = toml.map(|text| {
        let path = folder.path().join("windlass.toml");
        fs::write(&path, text).unwrap();
        path
    });
    let lookup = Lookup { config, sets: sets.iter().map(|s| (*s).to_owned()).collect() };
    let (config, faults) = Config::load(&lookup, environment(folder.path(), env));
    let hide = |text: &str| text.replace(&folder.path().display().to_string(), "DIR");
    let faults = faults.iter().map(|f| Fault::new(hide(&f.place), hide(&f.what), hide(&f.remedy))).collect();
    (config.expect("airflow.cfg can be read"), faults)
}

fn environment(home: &Path, env: &[(&str, &str)]) -> Environment {
    let home = home.display().to_string();
    // What a machine of a developer may have at the default place must not change a test.
    env.iter()
        .fold(Environment::of([("AIRFLOW_HOME", home.as_str())]), |all, (name, value)| all.with(name, value))
}

/// Value and source of an own or Airflow's setting.
fn effective(config: &Config, name: &str) -> (String, String) {
    let value = config.effective.iter().find(|e| e.name == name).unwrap();
    let source = value.source.rsplit('/').next().unwrap().to_owned();
    (value.value.clone(), source)
}

type Variables<'a> = &'a [(&'a str, &'a str)];

const CONN: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";

#[test]
fn values_of_airflow_come_from_where_airflow_takes_them() {
    let cfg = "[core]\nsql_alchemy_conn = postgresql://old-file/db\n[database]\nsql_alchemy_conn = postgresql://file/db\n";
    let cfg_cmd = "[database]\nsql_alchemy_conn_cmd = echo postgresql://file-cmd/db\n";
    let old_cfg = "[core]\nsql_alchemy_conn = postgresql://old-file/db\n";
    let old_cmd = "[core]\nsql_alchemy_conn_cmd = echo postgresql://old-file-cmd/db\n";
    let command = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "echo postgresql://env-cmd/db");
    let old = ("AIRFLOW__CORE__SQL_ALCHEMY_CONN", "postgresql://old-env/db");
    let table: [(&str, Variables<'_>, &str, &str); 9] = [
        (cfg, &[(CONN, "postgresql://env/db"), command, old], "postgresql://env/db", "environment"),
        (cfg, &[command, old], "postgresql://env-cmd/db", "output of the command"),
        (cfg, &[old], "postgresql://old-env/db", "environment AIRFLOW__CORE__SQL_ALCHEMY_CONN"),
        (cfg, &[], "postgresql://file/db", "airflow.cfg:4"),
        (old_cfg, &[], "postgresql://old-file/db", "airflow.cfg:2"),
        (cfg_cmd, &[], "postgresql://file-cmd/db", "output of the command in sql_alchemy_conn_cmd"),
        (old_cmd, &[], "postgresql://old-file-cmd/db", "output of the command in sql_alchemy_conn_cmd"),
        // A secrets backend of Airflow's own answers no configuration: the next source counts, as in Airflow.
        (
            cfg,
            &[("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "x")],
            "postgresql://file/db",
            "airflow.cfg:4",
        ),
        ("", &[], "sqlite:///HOME/airflow.db", "default"),
    ];
    for (cfg, env, value, source) in table {
        let (config, faults) = load(cfg, None, env, &[]);
        assert_eq!(faults, [], "{env:?}");
        let (url, from) = config.connection().unwrap();
        let url = url.expose().to_owned();
        let url = if url.starts_with("sqlite") { "sqlite:///HOME/airflow.db" } else { &url };
        assert_eq!(url, value);
        assert!(from.to_string().contains(source), "{from} is not {source}");
    }
}

#[test]
fn a_deprecated_section_and_names_of_the_environment_are_followed() {
    let cfg = "[kubernetes]\nnamespace = old\nworker_container_repository = r\n[kubernetes_executor]\nnamespace = new\n";
    let (config, _) =
        load(cfg, None, &[("AIRFLOW__KUBERNETES__WORKER_CONTAINER_TAG", "t$X"), ("X", "1")], &[]);
    assert_eq!(config.kubernetes.namespace, "new");
    assert_eq!(config.kubernetes.worker_image.as_deref(), Some("r:t1"));
}

#[test]
fn a_secret_for_a_python_backend_is_refused_with_a_way_out() {
    let env = [
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "sql_alchemy_conn"),
        (
            "AIRFLOW__SECRETS__BACKEND",
            "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
        ),
    ];
    let (config, faults) = load("", None, &env, &[]);
    assert_eq!(faults, [], "only what needs the database meets it");
    insta::assert_snapshot!(config.database().unwrap_err(), @"
    the configuration has a fault; nothing was started
      environment AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET: asks the secrets backend `airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend`, which is Python code that Windlass does not run
        remedy: set AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD in the daemon's container to a command that prints the value (`airflow config get-value database sql_alchemy_conn` where Airflow is installed, or `cat` of a mounted secret); it is looked at before _SECRET
    ");
}

#[test]
fn own_settings_are_default_then_file_then_environment_then_flag() {
    let toml = "[create]\nconcurrency = 8\n\n[term]\nlease-ms = 9_000\n[log]\nformat = \"json\"\n";
    let env = [("WINDLASS__TERM__LEASE_MS", "6000"), ("WINDLASS_PORT", "tcp://10.0.0.1:80")];
    let (config, faults) = load("", Some(toml), &env, &["intake.batch=7"]);
    assert_eq!(faults, []);
    for (name, value, source) in [
        ("create.concurrency", "8", "windlass.toml:2"),
        ("term.lease-ms", "6000", "environment WINDLASS__TERM__LEASE_MS"),
        ("intake.batch", "7", "flag --set intake.batch"),
        ("log.format", "json", "windlass.toml:7"),
        ("create.timeout-ms", "2000", "default"),
    ] {
        assert_eq!(effective(&config, name), (value.to_owned(), source.to_owned()));
    }
    assert_eq!(config.engine_settings().lease_ms, 6_000);
}

#[test]
fn airflows_ceiling_for_creates_and_the_plugins_socket_are_defaults() {
    let cfg = "[kubernetes_executor]\nasync_pod_creation = True\npod_creation_max_concurrency = 12\n";
    let (config, _) = load(cfg, None, &[("WINDLASS_WAKE_SOCKET", "/run/w.sock")], &[]);
    assert_eq!(config.own.create.concurrency, 12);
    assert_eq!(
        effective(&config, "wake.socket"),
        ("/run/w.sock".into(), "environment WINDLASS_WAKE_SOCKET".into())
    );
    let (config, _) = load(cfg, None, &[("WINDLASS__CREATE__CONCURRENCY", "3")], &[]);
    assert_eq!(config.own.create.concurrency, 3);
}

#[test]
fn every_fault_is_told_at_once_with_place_and_remedy() {
    let toml = "loose = 1\n[create]\nconcurency = 8\ntimeout-ms = \"2000\"\n[terms]\n[launch]\npending-timeout-seconds = 700\n";
    let cfg = "[kubernetes_executor]\nin_cluster = maybe\ntcp_keep_idle = soon\nclient_factory = a.b\n\
               kube_client_request_args = {\"_preload_content\": false}\n";
    let env = [("WINDLASS__TERM__LEASE", "6000"), ("WINDLASS__TERM__RENEW_MS", "3000")];
    let (_, faults) = load(cfg, Some(toml), &env, &["create.timeout-ms=x", "nothing"]);
    let told = windlass::config::fault::Faults(faults).to_string();
    insta::assert_snapshot!(told, @r"
    the configuration has 13 faults; nothing was started
      DIR/windlass.toml:1: `loose` stands outside of a section
        remedy: put it under its [section]
      DIR/windlass.toml:3: unknown key in [create] `concurency`; did you mean `concurrency`?
        remedy: see docs/CONFIGURATION.md, or `windlass config` for all keys
      DIR/windlass.toml:4: `timeout-ms` has the wrong type
        remedy: write a whole number without quotes
      DIR/windlass.toml:5: unknown section `terms`; did you mean `term`?
        remedy: see docs/CONFIGURATION.md, or `windlass config` for all keys
      environment WINDLASS__TERM__LEASE: unknown variable `WINDLASS__TERM__LEASE`; did you mean `WINDLASS__TERM__LEASE_MS`?
        remedy: see docs/CONFIGURATION.md, or `windlass config` for all keys
      flag --set create.timeout-ms: create.timeout-ms: `x` is not a whole number from 0 to 18446744073709551615
        remedy: see docs/CONFIGURATION.md, or `windlass config` for all keys
      flag --set: has no `=`
        remedy: write --set section.key=value
      [kubernetes_executor] client_factory (DIR/airflow.cfg:4): cannot be honoured
        remedy: it names Python code; give the daemon a service account (in_cluster = True) or a kubeconfig with an exec plugin (in_cluster = False, config_file), by AIRFLOW__KUBERNETES_EXECUTOR__* variables of its own container
      [kubernetes_executor] kube_client_request_args (DIR/airflow.cfg:5): `_preload_content` cannot be honoured: it is an argument of the Python client
        remedy: keep only `_request_timeout` in the daemon's configuration
      [kubernetes_executor] in_cluster (DIR/airflow.cfg:2): `maybe` is neither true nor false
        remedy: write True or False
      [kubernetes_executor] tcp_keep_idle (DIR/airflow.cfg:3): `soon` is not a whole number
        remedy: write a whole number
      term.renew-ms: fewer than three renewals of 3000 ms fit into term.lease-ms = 4500
        remedy: raise the lease or renew more often: one slow answer must not end a term
      launch.pending-timeout-seconds: 700 s is not shorter than [scheduler] task_queued_timeout = 600 s
        remedy: lower it, or raise task_queued_timeout for all of Airflow: else Airflow queues the task again before
    ");
}

#[test]
fn a_file_that_is_not_toml_is_named_by_line_without_its_content() {
    let (_, faults) = load("", Some("[database]\nmigrate-url = postgresql://u:hunter2@db\n"), &[], &[]);
    assert_eq!(faults[0].place, "DIR/windlass.toml:2");
    assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
}

#[test]
fn no_secret_is_shown_anywhere() {
    let env = [
        (CONN, "postgresql+psycopg2://airflow:hunter2@db:5432/airflow?sslmode=require&password=hunter2"),
        ("WINDLASS__DATABASE__MIGRATE_URL", "postgresql://owner:hunter2@db/airflow"),
        ("AIRFLOW__SECRETS__BACKEND_KWARGS", "hunter2"),
    ];
    let (config, _) = load("", None, &env, &["create.concurrency=0"]);
    for form in [windlass::cli::Form::Text, windlass::cli::Form::Json] {
        let shown = windlass::show::values(Some(&config), &[], form);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("postgresql+psycopg2://airflow:***@db:5432/airflow?sslmode=require&password=***")
        );
    }
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", config.database().unwrap()).contains("hunter2"));
}

#[test]
fn kubernetes_options_become_what_the_client_and_the_engine_take() {
    let cfg = "[kubernetes_executor]\nin_cluster = False\nconfig_file = /k\ncluster_context = c\nverify_ssl = false\n\
               multi_namespace_mode = t\nmulti_namespace_mode_namespace_list = a, b\ndelete_worker_pods = 0 # no\n\
               kube_client_request_args = {\"_request_timeout\": [3, 7]}\nenable_tcp_keepalive = F\n\
               delete_option_kwargs = {\"grace_period_seconds\": 9}\npod_launch_failure_retries = 4\n";
    let (config, faults) = load(cfg, None, &[], &["launch.node-unreachable-seconds=60"]);
    assert_eq!(faults, []);
    let cluster = config.cluster();
    assert_eq!(cluster.source, Source::Kubeconfig { path: Some("/k".into()), context: Some("c".into()) });
    assert_eq!((cluster.connect_timeout.as_secs(), cluster.request_timeout.as_secs()), (3, 7));
    assert_eq!((cluster.verify_tls, cluster.keepalive), (false, None));
    assert_eq!(config.kubernetes.namespaces, Namespaces::Only(vec!["a".into(), "b".into()]));
    let policy = config.launch_policy();
    assert_eq!((policy.attempts_max, policy.delete_pods, policy.unreachable_ms), (5, false, 60_000));
    assert_eq!(config.kubernetes.delete_grace_seconds, Some(9));
}

#[test]
fn without_any_setting_it_is_the_python_executor_and_our_own_defaults() {
    let (config, faults) = load("", None, &[], &[]);
    assert_eq!(faults, []);
    assert_eq!(config.cluster(), windlass_cluster::ClusterConfig::default());
    assert_eq!(config.launch_policy(), windlass_core::launch::Policy::default());
    assert_eq!(config.engine_settings(), windlass_engine::Settings::default());
    assert_eq!(config.airflow.worker_heartbeat_ms, 5_000);
    assert_eq!(config.airflow.task_queued_timeout_ms, 600_000);
}

#[test]
fn a_kubernetes_executor_beside_us_is_hidden_from() {
    let hides = |executor: &str, set: &[&str]| {
        load(&format!("[core]\nexecutor = {executor}\n"), None, &[], set).0.hides_from_neighbours()
    };
    assert!(hides("windlass_airflow.WindlassExecutor,KubernetesExecutor", &[]));
    assert!(!hides("windlass_airflow.WindlassExecutor", &[]));
    assert!(!hides("KubernetesExecutor", &["launch.hide-from-kubernetes-executor=no"]));
}

#[test]
fn what_has_no_effect_is_noted() {
    let cfg = "[core]\nexecutor = LocalExecutor\n[kubernetes_executor]\nworker_pods_pending_timeout = 300\n\
               namespace_cmd = echo x\nworker_pods_creation_batch_size = 16\n";
    let (config, faults) = load(cfg, None, &[], &[]);
    assert_eq!(faults, []);
    let notes = config.notes.join("\n");
    for expected in [
        "[kubernetes_executor] worker_pods_pending_timeout has no effect: no provider since 10.25 reads it",
        "[kubernetes_executor] namespace_cmd has no effect: Airflow reads _cmd for secrets only",
        "[core] executor = `LocalExecutor`",
        "is not needed: creates are paced by the API server's latency",
    ] {
        assert!(notes.contains(expected), "{expected} is not in:\n{notes}");
    }
}

/// The sidecar's own mount is easily forgotten.
#[test]
fn a_template_that_does_not_exist_is_noted_with_place_and_remedy() {
    let cfg = "[core]\nexecutor = windlass_airflow.WindlassExecutor\n[kubernetes_executor]\n\
               pod_template_file = /nowhere/template.yaml\n";
    let (config, faults) = load(cfg, None, &[], &[]);
    assert_eq!(faults, []);
    let [note] = config.notes.as_slice() else { panic!("{:?}", config.notes) };
    assert!(
        note.starts_with(
            "the pod template `/nowhere/template.yaml` ([kubernetes_executor] pod_template_file, "
        ) && note
            .contains("airflow.cfg:4) does not exist: pods are made without it; mount it into the daemon's"),
        "{note}"
    );
}

/// `get_provider_info.py` of provider cncf-kubernetes 10.25.0: an option that nobody looked at would be ignored.
#[test]
fn every_option_of_the_provider_is_honoured_not_needed_or_refused() {
    let mut keys = windlass::config::options::keys_of("kubernetes_executor");
    keys.sort_unstable();
    insta::assert_snapshot!(keys.join(" "), @"api_client_retry_configuration async_client_factory async_pod_creation client_factory cluster_context config_file delete_option_kwargs delete_worker_pods delete_worker_pods_on_failure enable_tcp_keepalive in_cluster kube_client_request_args logs_task_metadata multi_namespace_mode multi_namespace_mode_namespace_list namespace pod_creation_max_concurrency pod_launch_failure_excluded_container_reasons pod_launch_failure_retries pod_template_file running_pod_log_lines ssl_ca_cert task_publish_max_retries tcp_keep_cnt tcp_keep_idle tcp_keep_intvl verify_ssl worker_container_repository worker_container_tag worker_pod_pending_fatal_container_state_reasons worker_pods_creation_batch_size");
}
