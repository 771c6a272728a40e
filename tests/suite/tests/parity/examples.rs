//! The DAGs that Airflow ships as examples: which are played, which are left out and why, and what this machine demands
//! to be changed in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use windlass_lab::prepare::{Series, venv};

use crate::play::Form;

/// Played by each run of the tests, by file.
const HANDFUL: [&str; 5] = [
    "example_bash_operator",
    "example_dynamic_task_mapping",
    "example_nested_branch_dag",
    "example_setup_teardown_taskflow",
    "example_xcomargs",
];

/// Never compared, by file. All others are, in the long form.
const LEFT_OUT: [(&str, &str); 8] = [
    ("example_kubernetes_executor", "LocalExecutor makes no pods: `pods.rs` runs it under Windlass alone"),
    ("example_dag_decorator", "asks a service on the internet for its address"),
    ("tutorial_objectstorage", "needs an object store and a service on the internet"),
    ("example_params_ui_tutorial", "a run of it needs values that a user has typed in"),
    ("example_workday_timetable", "no executor sees its one task, which is empty; its timetable is a plugin"),
    ("tutorial_taskflow_api_virtualenv", "has no DAG where the package virtualenv is not installed, as here"),
    ("example_branch_operator", "has no DAG where the package virtualenv is not installed, as here"),
    (
        "example_branch_operator_decorator",
        "has no DAG where the package virtualenv is not installed, as here",
    ),
];

/// Text to replace in a file, and with what; `{folder}` is the deployment's. Images are not pulled here (a container's
/// process is what its command says, with the machine's programs), and volumes are not mounted: a mount path is a
/// folder of the machine. So the folders that the example mounts are put where the test may write. A deferred sensor has no
/// timeout unless its trigger is given one: the one of `example_sensors` would wait for its hour to pass. Airflow skips
/// what is left of a run after its timeout: with all runs under way at once, what that is is a matter of speed.
const CHANGED: [(&str, &str, &str); 4] = [
    (
        "example_passing_params_via_test_command",
        "datetime.timedelta(minutes=4)",
        "datetime.timedelta(hours=4)",
    ),
    ("example_sensors", "datetime.timedelta(hours=1)", "datetime.timedelta(minutes=1)"),
    ("example_kubernetes_executor", "/foo/", "{folder}/foo/"),
    ("example_kubernetes_executor", "/shared/", "{folder}/shared/"),
];

/// Copies the examples of this form into `to`, changed as the machine demands.
pub(crate) fn copy(form: Form, folder: &Path, to: &Path) -> Result<()> {
    let from = shipped()?;
    let mut played: Vec<String> = match form {
        Form::Short => HANDFUL.map(str::to_owned).to_vec(),
        Form::Long => all(&from)?,
    };
    played.retain(|name| !LEFT_OUT.iter().any(|(left_out, _)| left_out == name));
    for name in played.iter().map(String::as_str) {
        copy_one(&from, name, folder, to)?;
    }
    for file in ["sample.sql", "tutorial_taskflow_template.sql"] {
        let sql = to.join("sql");
        fs::create_dir_all(&sql)?;
        fs::copy(from.join("sql").join(file), sql.join(file)).with_context(|| format!("copy {file}"))?;
    }
    Ok(())
}

/// Copies one example, left out or not.
pub(crate) fn copy_one(from: &Path, name: &str, folder: &Path, to: &Path) -> Result<()> {
    let file = format!("{name}.py");
    let mut text =
        fs::read_to_string(from.join(&file)).with_context(|| format!("read the example {file}"))?;
    for (_, old, new) in CHANGED.iter().filter(|(of, _, _)| *of == name) {
        ensure!(text.contains(old), "{file} has no `{old}` any more: see CHANGED");
        text = text.replace(old, &new.replace("{folder}", &folder.display().to_string()));
    }
    fs::write(to.join(&file), text).with_context(|| format!("write {file}"))
}

/// Where the installed Airflow keeps them.
pub(crate) fn shipped() -> Result<PathBuf> {
    let libraries = venv(Series::default())?.root().join("lib");
    for entry in fs::read_dir(&libraries)? {
        let examples = entry?.path().join("site-packages/airflow/example_dags");
        if examples.is_dir() {
            return Ok(examples);
        }
    }
    anyhow::bail!("no airflow/example_dags below {}", libraries.display())
}

/// Names of all files with DAGs. One that is left out and not there is a line of [`LEFT_OUT`] that is out of date.
fn all(from: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let is_dag = path.extension().is_some_and(|extension| extension == "py");
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if is_dag && name != "__init__" {
            names.push(name);
        }
    }
    for (left_out, _) in LEFT_OUT {
        ensure!(names.iter().any(|name| name == left_out), "there is no example {left_out}: see LEFT_OUT");
    }
    Ok(names)
}
