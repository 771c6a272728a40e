//! How Airflow, daemons and the kubelet are set up here, whatever is done to them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use windlass_lab::airflow::{Airflow, Options};
use windlass_lab::binaries;
use windlass_lab::control_plane::ControlPlane;
use windlass_lab::folder::Folder;
use windlass_lab::prepare::{Series, workspace};
use windlass_lab::process::Supervised;

/// Scheduler's side and workers import the plugin from the source tree.
pub const PLUGIN: &str = "scheduler-bridge/python";
/// Where Airflow finds its database.
pub const CONNECTION: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";

/// An Airflow with the plugin, the DAGs of a folder, and what `more` says.
pub fn airflow_options(
    series: Series,
    database_url: String,
    dags: &Path,
    folder: &Folder,
    more: &[(&str, &str)],
) -> Options {
    let python = format!("{}:{}", workspace().join(PLUGIN).display(), dags.display());
    let files = folder.path().display().to_string();
    let own = [
        ("PYTHONPATH", python.as_str()),
        ("SUITE_FOLDER", files.as_str()),
        // A killed scheduler's tasks are adopted while a test waits.
        ("AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "15"),
        ("AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL", "10"),
    ];
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Options {
        series,
        database_url,
        dags_folder: dags.to_owned(),
        executor: "windlass_airflow.WindlassExecutor".into(),
        env: own.into_iter().chain(more.iter().copied()).map(pair).collect(),
    }
}

/// Airflow's environment with what a daemon beside it needs: its cluster, template and folder. The database stays.
pub fn daemon_env(
    airflow: &BTreeMap<String, String>,
    kubeconfig: &Path,
    namespace: &str,
    template: &Path,
    folder: &Folder,
) -> BTreeMap<String, String> {
    let path = |path: &Path| path.display().to_string();
    let mut env = airflow.clone();
    let more = [
        ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False".to_owned()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", path(kubeconfig)),
        ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", namespace.to_owned()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", path(template)),
        ("WINDLASS__SERVER__STATE_DIRECTORY", path(&folder.join("state"))),
        ("WINDLASS__LOG__LEVEL", "info,windlass=debug".to_owned()),
    ];
    env.extend(more.map(|(name, value)| (name.to_owned(), value)));
    env
}

/// A kubelet that runs pods as processes, with its log and theirs in `folder`; with `--bind-pods` in `more` it is the
/// scheduler of its node too.
pub fn start_kubelet(plane: &ControlPlane, folder: &Folder, more: &[&str]) -> Result<Supervised> {
    let mut command = Command::new(binaries::path("windlass-local-cluster")?);
    command.arg("kubelet").arg("--kubeconfig").arg(plane.kubeconfig());
    command.arg("--log-dir").arg(folder.join("pods")).args(more);
    Supervised::spawn("kubelet", command, &folder.join("kubelet.log"))
}

/// The lab's template with the light worker in the place of `airflow`; `more` are variables of its own.
pub fn write_light_template(airflow: &Airflow, folder: &Folder, more: &[(&str, &str)]) -> Result<PathBuf> {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    symlink(binaries::path("windlass-light-worker")?, programs.join("airflow"))?;
    let mut template = airflow.pod_template();
    let env = template["spec"]["containers"][0]["env"].as_array_mut().context("the template has no env")?;
    for variable in env.iter_mut().filter(|variable| variable["name"] == "PATH") {
        variable["value"] = format!("{}:/usr/bin:/bin", programs.display()).into();
    }
    env.extend(more.iter().map(|(name, value)| json!({ "name": name, "value": value })));
    template["spec"]["terminationGracePeriodSeconds"] = 10.into();
    let path = folder.join("template.yaml"); // JSON is YAML
    fs::write(&path, serde_json::to_vec_pretty(&template)?).context("write the pod template")?;
    Ok(path)
}
