//! `windlass render dag`: the pods of all task instances of one DAG run.

use clap::Args;
use serde_json::Value;
use windlass_core::ids::{Attempt, LaunchId};
use windlass_core::task::TaskSpec;

use super::PodForm;
use crate::cli::{Failure, print};
use crate::config::Config;
use crate::hook::Unmade;
use crate::login;
use crate::pods::Renderer;
use crate::yaml;

/// One document for each task instance as it is in the database, those that are over included. A task that has no pod is
/// told on standard error, and the exit code is 1.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
The counterpart of `airflow kubernetes generate-dag-yaml`, from the rows of a run: with executor_config as it was stored
and every mapped task.

Examples:
  windlass render dag etl
  windlass render dag etl --run-id manual__2026-01-01 --output json | jq '.[].metadata.name'
  windlass render dag etl | kubectl apply --dry-run=server -f -")]
pub struct RenderDag {
    /// dag_id
    dag_id: String,
    /// run_id [default: the run that was queued last]
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "yaml")]
    output: PodForm,
}

/// Prints the pods in the order of the tasks' ids.
pub async fn dag(config: &Config, of: &RenderDag) -> Result<(), Failure> {
    let store = login::open(config).await?;
    let specs = store.run_for_render(&of.dag_id, of.run_id.as_deref()).await?;
    let installation = store.installation().await?;
    store.close().await;
    if specs.is_empty() {
        let run = of.run_id.as_ref().map_or_else(|| "any run".to_owned(), |run| format!("run {run}"));
        return Err(Failure::Other {
            what: format!("there is no task instance of {run} of DAG {}", of.dag_id),
            hint: "check the ids, trigger the DAG once, or describe a task with `windlass render pod --from-flags`"
                .into(),
        });
    }
    let renderer = Renderer::for_once(config, installation.clone());
    let (mut pods, mut faults) = (Vec::new(), Vec::new());
    for spec in &specs {
        match renderer.make(spec, &LaunchId::of(&installation, &spec.queueing), Attempt::FIRST).await {
            Ok(pod) => pods.push((spec, pod)),
            Err(Unmade::NotNow(why)) => faults.push(format!("{}: {why}", spec.queueing.key)),
            Err(Unmade::Never(reason, why) | Unmade::NotYet(reason, why)) => {
                faults.push(format!("{}: {reason}: {why}", spec.queueing.key));
            }
        }
    }
    print(&of.write(&pods))?;
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failure::other(format!("no pod for {}", faults.join("\nno pod for "))))
    }
}

impl RenderDag {
    fn write(&self, pods: &[(&TaskSpec, Value)]) -> String {
        match self.output {
            PodForm::Yaml => {
                let document = |(spec, pod): &(&TaskSpec, Value)| {
                    let queueing = &spec.queueing;
                    // A line break in an id must not end the comment.
                    let title =
                        format!("{} try {}", queueing.key, queueing.try_number).replace(['\n', '\r'], " ");
                    format!("---\n# {title}\n{}", yaml::write(pod))
                };
                pods.iter().map(document).collect()
            }
            PodForm::Json => {
                let pods: Vec<&Value> = pods.iter().map(|(_, pod)| pod).collect();
                format!("{:#}\n", Value::from_iter(pods.into_iter().cloned()))
            }
        }
    }
}
