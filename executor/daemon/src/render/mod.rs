//! `windlass render`: the exact pod for a task instance, or all of a run.

mod dag;
mod input;

pub use dag::{RenderDag, dag};

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use scheduler_bridge::airflow::executor_config;
use serde_json::Value;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::outcome::Reason;
use windlass_core::pod::{dag_file_argument, worker_command};
use windlass_core::task::TaskSpec;
use windlass_core::time::UtcMicros;

use crate::cli::{Failure, print};
use crate::config::Config;
use crate::document;
use crate::hook::Unmade;
use crate::login;
use crate::pods::{Renderer, imaginary};
use crate::yaml;

use self::input::Case;

/// Stands for the installation where no database tells it.
pub const NO_INSTALLATION: &str = "00000000-0000-0000-0000-000000000000";
/// Largest executor_config read from a file, in bytes.
const PICKLE_MAX: u64 = 16 * 1024 * 1024;
const OF_FLAGS: &str = "What the task instance is like (any of these: the database is not read)";

/// Without any of the flags below "What the task instance is like", the task instance is read from the database
/// (state, try, executor_config, DAG file as they are now). With one of them nothing but flags and configuration
/// counts, and no database is needed; what is not given has the default shown.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("of_flags").multiple(true))]
#[command(after_long_help = "\
The name's last eight characters and the labels windlass.dev/* follow from installation, task instance, try and
queued_dttm: without --installation and --queued-at they are those of an imaginary queueing. The pod template and the
image come from the configuration ([kubernetes_executor] pod_template_file, worker_container_repository, ...).

With --input, everything is in one JSON document: {\"input\": {\"key\": {\"dag_id\", \"task_id\", \"run_id\",
\"try_number\", \"map_index\"}, \"queue\", \"scheduler_job_id\", \"executor_config_pickle_hex\", \"command\"}, \"config\":
{\"kubernetes_executor\": {\"namespace\", \"worker_container_repository\", \"worker_container_tag\"}},
\"airflow_version\", \"pod_template_yaml\", \"task_pod_template_yaml\"}. The answer is {\"kind\": \"pod\", \"pod\"}, also
of a pod that lacks something, or {\"kind\": \"error\", \"reason\"}, with exit code 0. A name that executor_config gives the
pod is shown as its name, as in the Python executor's pods; the daemon gives the pod its own.

Examples:
  windlass render pod --dag-id etl --task-id load --run-id manual__2026-01-01
  windlass render pod --dag-id etl --task-id load --run-id r1 --map-index 3 --try-number 2 --queue gpu --output yaml
  psql -AtXc \"select executor_config from task_instance where ...\" > config.hex
  windlass render pod --dag-id etl --task-id load --run-id r1 --executor-config-pickle config.hex --output json
  windlass render pod --input case.json --output json")]
pub struct RenderPod {
    /// dag_id
    #[arg(long, value_name = "ID", required_unless_present = "input")]
    dag_id: Option<String>,
    /// task_id, task groups included
    #[arg(long, value_name = "ID", required_unless_present = "input")]
    task_id: Option<String>,
    /// run_id of the DAG run
    #[arg(long, value_name = "ID", required_unless_present = "input")]
    run_id: Option<String>,
    /// Take the task instance, its configuration and its templates from this JSON document; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dag_id", "task_id", "run_id", "of_flags"])]
    input: Option<PathBuf>,
    /// map_index; -1 for a task that is not mapped
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    map_index: i32,
    /// Which pod of the launch, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "yaml")]
    output: PodForm,
    /// Do not read the database, even if no other flag says so
    #[arg(long, help_heading = OF_FLAGS, group = "of_flags")]
    from_flags: bool,
    /// try_number [default: 1]
    #[arg(long, value_name = "N", help_heading = OF_FLAGS, group = "of_flags")]
    try_number: Option<i32>,
    /// queue [default: default]
    #[arg(long, value_name = "QUEUE", help_heading = OF_FLAGS, group = "of_flags")]
    queue: Option<String>,
    /// executor_config as in the database: pickle bytes, or their hexadecimal form; `-` is standard input [default: {}]
    #[arg(long, value_name = "FILE", help_heading = OF_FLAGS, group = "of_flags")]
    executor_config_pickle: Option<PathBuf>,
    /// Path of the DAG file as in dag.fileloc; below [core] dags_folder it becomes DAGS_FOLDER/...
    #[arg(long, value_name = "PATH", visible_alias = "subdir", help_heading = OF_FLAGS, group = "of_flags")]
    dag_file: Option<String>,
    /// queued_dttm, as 2026-01-01T00:00:00.000000Z [default: 1970-01-01T00:00:00Z]
    #[arg(long, value_name = "TIME", help_heading = OF_FLAGS, group = "of_flags")]
    queued_at: Option<String>,
    /// Id of the SchedulerJob: the label airflow-worker [default: 1]
    #[arg(long, value_name = "N", help_heading = OF_FLAGS, group = "of_flags")]
    scheduler_job_id: Option<i64>,
    /// Version of Airflow: the label airflow_version [default: 2.11.2]
    #[arg(long, value_name = "VERSION", help_heading = OF_FLAGS, group = "of_flags")]
    airflow_version: Option<String>,
    /// Installation id (`windlass status` shows it) [default: all zeroes]
    #[arg(long, value_name = "UUID", help_heading = OF_FLAGS, group = "of_flags")]
    installation: Option<String>,
}

/// Form of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PodForm {
    /// As `kubectl apply -f` takes it.
    Yaml,
    /// As it is sent.
    Json,
}

/// Prints what comes of a document that holds everything: needs no configuration. None: none is given.
pub fn of_input(of: &RenderPod) -> Option<Result<(), Failure>> {
    let answer = Case::read(of.input.as_deref()?).map(Case::answer);
    Some(answer.and_then(|answer| print(&of.write(&answer))))
}

/// Prints the pod, also one that would not be created: why not is the error that follows.
pub async fn pod(config: &Config, of: &RenderPod) -> Result<(), Failure> {
    let (spec, installation) =
        if of.needs_database() { from_database(config, of).await? } else { of.described(config)? };
    let renderer = Renderer::for_once(config, installation.clone());
    let launch = LaunchId::of(&installation, &spec.queueing);
    let failed = |what: &str, (reason, message): (Reason, String)| {
        Failure::other(format!("{what} {}: {reason}: {message}", spec.queueing.key))
    };
    let attempt = Attempt(of.attempt);
    let no_pod = |why| failed("no pod for", why);
    let of_task = renderer.of_task(&spec).map_err(no_pod)?;
    let draft = of_task.draft(&launch, attempt).map_err(no_pod)?;
    let pod = match of_task.mutate(draft.clone(), &launch, attempt).await {
        Ok(pod) => pod,
        Err(Unmade::Never(reason, message) | Unmade::NotYet(reason, message)) => {
            return Err(no_pod((reason, message)));
        }
        Err(Unmade::NotNow(why)) => {
            print(&of.write(&draft))?;
            return Err(Failure::other(format!("this is the pod before pod_mutation_hook: {why}")));
        }
    };
    print(&of.write(&pod))?;
    let allowed = of_task.guard(&draft).and_then(|()| of_task.check(&pod));
    allowed.map_err(|why| failed("this pod would not be created for", why))
}

async fn from_database(config: &Config, of: &RenderPod) -> Result<(TaskSpec, InstallationId), Failure> {
    let store = login::open(config).await?;
    let TaskKey { dag_id, task_id, run_id, map_index } = of.key();
    let spec = store.task_for_render(&dag_id, &task_id, &run_id, map_index).await?;
    let installation = store.installation().await?;
    store.close().await;
    let spec = spec.ok_or_else(|| Failure::Other {
        what: format!("there is no task instance {}", of.key()),
        hint: "check the four ids (--map-index for a mapped task), or describe one with --from-flags".into(),
    })?;
    Ok((spec, installation))
}

impl RenderPod {
    fn key(&self) -> TaskKey {
        TaskKey {
            dag_id: self.dag_id.clone().unwrap_or_default(),
            task_id: self.task_id.clone().unwrap_or_default(),
            run_id: self.run_id.clone().unwrap_or_default(),
            map_index: self.map_index,
        }
    }

    fn needs_database(&self) -> bool {
        let given = [
            self.from_flags,
            self.try_number.is_some(),
            self.queue.is_some(),
            self.executor_config_pickle.is_some(),
            self.dag_file.is_some(),
            self.queued_at.is_some(),
            self.scheduler_job_id.is_some(),
            self.airflow_version.is_some(),
            self.installation.is_some(),
        ];
        !given.contains(&true)
    }

    fn described(&self, config: &Config) -> Result<(TaskSpec, InstallationId), Failure> {
        let key = self.key();
        let time = |text: &String| {
            UtcMicros::parse(text).ok_or_else(|| Failure::Other {
                what: format!("--queued-at `{text}` is no time"),
                hint: "write 2026-01-01T00:00:00.000000Z".into(),
            })
        };
        let queued_at = self.queued_at.as_ref().map(time).transpose()?;
        let pickle = self.executor_config_pickle.as_deref().map(read_pickle).transpose()?;
        let file = self.dag_file.as_deref().map(|path| match path.starts_with("DAGS_FOLDER") {
            // As Airflow writes it into the command already.
            true => path.to_owned(),
            false => dag_file_argument(path, &config.airflow.dags_folder),
        });
        let usual = imaginary(key.clone());
        let spec = TaskSpec {
            command: worker_command(&key, file.as_deref()),
            queueing: Queueing {
                key,
                try_number: self.try_number.unwrap_or(usual.queueing.try_number),
                queued_at: queued_at.unwrap_or(usual.queueing.queued_at),
            },
            queue: self.queue.clone().unwrap_or(usual.queue),
            scheduler_job_id: self.scheduler_job_id.unwrap_or(usual.scheduler_job_id),
            airflow_version: self.airflow_version.clone().unwrap_or(usual.airflow_version),
            executor_config: executor_config::decode(pickle.as_deref()).map_err(|error| error.to_string()),
            ..usual
        };
        let installation = self.installation.clone().unwrap_or_else(|| NO_INSTALLATION.into());
        Ok((spec, InstallationId(installation)))
    }

    fn write(&self, pod: &Value) -> String {
        match self.output {
            PodForm::Yaml => yaml::write(pod),
            PodForm::Json => format!("{pod:#}\n"),
        }
    }
}

fn read_pickle(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::Other {
        what: format!("the executor_config in `{}` cannot be read: {error}", path.display()),
        hint: "name a file with the bytes of task_instance.executor_config, or their hexadecimal form".into(),
    };
    let bytes = document::read(path, PICKLE_MAX).map_err(failed)?;
    Ok(unhex(&bytes).unwrap_or(bytes))
}

/// psql prints bytea as `\x8005..`. A pickle is never all hexadecimal: it ends with a full stop.
fn unhex(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let digits = text.strip_prefix("\\x").unwrap_or(text);
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_is_taken_as_bytes_or_as_psql_prints_it() {
        assert_eq!(unhex(b"\\x80057d942e\n"), Some(vec![0x80, 5, 0x7d, 0x94, 0x2e]));
        assert_eq!(unhex(b"80057d942e"), Some(vec![0x80, 5, 0x7d, 0x94, 0x2e]));
        for raw in [&b"\x80\x05}\x94."[..], b"(dp0\n.", b"", b"abc"] {
            assert_eq!(unhex(raw), None);
        }
    }
}
