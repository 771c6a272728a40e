//! `windlass explain`: the story of one task instance, and why it waits now.

mod document;
mod page;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use scheduler_bridge::Store;
use windlass_cluster::{Cluster, NoObserver, Selection};
use windlass_core::doctor::{ClusterFacts, Story, Trial, Waits, Why, why};
use windlass_core::ids::{LaunchId, TaskKey};

use crate::cli::{Failure, Form, print};
use crate::config::Config;
use crate::hook::Unmade;
use crate::login;
use crate::pods::Renderer;

/// For the dry run of a create.
const TRY_LIMIT: Duration = Duration::from_secs(10);
/// Pods of the launches of one key.
const PODS_MAX: usize = 200;

/// The row in Airflow, each launch with the time of each stage, its pods, outcome and remedy, and above all why the
/// task waits now and what lets it go on. It reads; where a launch waits for its pod to be created, it asks the API
/// server by a dry run whether the pod would be admitted.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
In the place of the three ids it takes one word: a launch id (label windlass.dev/launch of a pod), or a
TaskInstanceKey(...) as Airflow's logs print it. Ends with 1 if there is no such task instance, with 4 if the database
cannot be used.

Examples:
  windlass explain etl load manual__2026-01-01
  windlass explain etl load manual__2026-01-01 --map-index 3 --output json
  windlass explain \"TaskInstanceKey(dag_id='etl', task_id='load', run_id='r1', try_number=1, map_index=-1)\"
  windlass explain $(kubectl get pod POD -o jsonpath='{.metadata.labels.windlass\\.dev/launch}')")]
pub struct Explain {
    /// dag_id; or alone a launch id, or TaskInstanceKey(...)
    #[arg(value_name = "DAG")]
    dag_id: String,
    /// task_id, task groups included
    #[arg(value_name = "TASK", requires = "run_id")]
    task_id: Option<String>,
    /// run_id of the DAG run
    #[arg(value_name = "RUN")]
    run_id: Option<String>,
    /// map_index; -1 for a task that is not mapped
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    map_index: i32,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
}

/// What the words on the command line name.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Key(TaskKey),
    Launch(LaunchId),
}

impl Explain {
    fn named(&self) -> Result<Named, Failure> {
        if let (Some(task_id), Some(run_id)) = (&self.task_id, &self.run_id) {
            return Ok(Named::Key(TaskKey {
                dag_id: self.dag_id.clone(),
                task_id: task_id.clone(),
                run_id: run_id.clone(),
                map_index: self.map_index,
            }));
        }
        let word = self.dag_id.trim();
        if let Ok(launch) = word.parse() {
            return Ok(Named::Launch(launch));
        }
        pasted(word).map(Named::Key).ok_or_else(|| Failure::Other {
            what: format!("`{word}` is no launch id and no TaskInstanceKey(...)"),
            hint: "write `windlass explain DAG TASK RUN`".into(),
        })
    }
}

/// `TaskInstanceKey(dag_id='d', task_id='t', run_id='r', try_number=1, map_index=-1)`, as Python prints it.
fn pasted(text: &str) -> Option<TaskKey> {
    let fields = text.strip_prefix("TaskInstanceKey(")?.strip_suffix(')')?;
    let quoted = |name: &str| {
        let after = fields.split_once(&format!("{name}="))?.1;
        let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        Some(after[1..].split_once(quote)?.0.to_owned())
    };
    let map_index = fields.split_once("map_index=")?.1.split([',', ')']).next()?.trim().parse().ok()?;
    Some(TaskKey {
        dag_id: quoted("dag_id")?,
        task_id: quoted("task_id")?,
        run_id: quoted("run_id")?,
        map_index,
    })
}

/// Tells the story.
pub async fn explain(config: &Config, of: &Explain) -> Result<(), Failure> {
    let named = of.named()?;
    let store = login::open(config).await?;
    let key = match named {
        Named::Key(key) => key,
        Named::Launch(id) => {
            let found = store.launches_by_id(std::slice::from_ref(&id)).await?;
            let launch = found.into_iter().next().ok_or_else(|| Failure::Other {
                what: format!("there is no launch {id}"),
                hint: "done launches are deleted after retention.days; name the task by its three ids".into(),
            })?;
            launch.row.queueing.key
        }
    };
    let installation = store.installation().await?;
    let mut story = store.story(&key, installation, config.doctor_limits()).await?;
    let blind = look(config, &store, &mut story).await?;
    store.close().await;
    let answer = why(&story);
    if answer.code == Waits::NoSuchTask && story.launches.is_empty() {
        return Err(Failure::Other { what: answer.what, hint: answer.until });
    }
    match of.output {
        Form::Text => print(&page::text(&story, &answer, blind.as_deref())),
        Form::Json => print(&format!("{:#}\n", document::json(&story, &answer, blind.as_deref()))),
    }
}

/// Adds the pods of its launches and, where its create is what it waits for, the answer to a dry run of it. Some: why
/// the pods are not known.
async fn look(config: &Config, store: &Store, story: &mut Story) -> Result<Option<String>, Failure> {
    if story.launches.is_empty() {
        story.facts.cluster = Some(ClusterFacts { complete: true, ..ClusterFacts::default() });
        return Ok(None);
    }
    let cluster = match Cluster::connect(config.cluster(), Arc::new(NoObserver)).await {
        Ok(cluster) => cluster,
        Err(error) => return Ok(Some(error.line())),
    };
    let ids: Vec<LaunchId> = story.launches.iter().map(|launch| launch.row.launch.clone()).collect();
    let listing = cluster.list(&config.kubernetes.namespaces, &Selection::Launches(&ids), PODS_MAX).await;
    let blind = listing.faults.first().map(windlass_cluster::ClusterError::line);
    story.facts.cluster = Some(ClusterFacts {
        pods: listing.pods,
        complete: listing.faults.is_empty() && !listing.cut,
        ..ClusterFacts::default()
    });
    let Why { code, .. } = why(story);
    if code == Waits::Turn {
        story.trial = try_create(config, store, &cluster, story).await?;
    }
    Ok(blind)
}

async fn try_create(
    config: &Config,
    store: &Store,
    cluster: &Cluster,
    story: &Story,
) -> Result<Option<Trial>, Failure> {
    let Some(launch) = story.current() else { return Ok(None) };
    let of = (launch.row.launch.clone(), launch.row.queueing.clone());
    let specs = store.read_specs(std::slice::from_ref(&of)).await?;
    let Some((id, Some(spec))) = specs.into_iter().next() else { return Ok(None) };
    let renderer = Renderer::for_once(config, story.facts.installation.clone());
    Ok(Some(match renderer.make(&spec, &id, launch.row.attempt).await {
        Ok(pod) => cluster.try_create(&pod, &id, TRY_LIMIT).await,
        Err(Unmade::NotNow(why)) => Trial::NotMade(why),
        Err(Unmade::Never(reason, message) | Unmade::NotYet(reason, message)) => {
            Trial::Refused(format!("{reason}: {message}"))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(dag: &str, more: Option<(&str, &str)>) -> Result<Named, String> {
        let of = Explain {
            dag_id: dag.into(),
            task_id: more.map(|(task, _)| task.into()),
            run_id: more.map(|(_, run)| run.into()),
            map_index: 3,
            output: Form::Text,
        };
        of.named().map_err(|failure| failure.report())
    }

    #[test]
    fn a_task_is_named_by_ids_a_launch_or_a_pasted_key() {
        let key = |map_index| TaskKey {
            dag_id: "d.x".into(),
            task_id: "g.t".into(),
            run_id: "r".into(),
            map_index,
        };
        assert_eq!(named("d.x", Some(("g.t", "r"))), Ok(Named::Key(key(3))));
        let text = "TaskInstanceKey(dag_id='d.x', task_id='g.t', run_id='r', try_number=1, map_index=-1)";
        assert_eq!(named(text, None), Ok(Named::Key(key(-1))));
        let id = "a".repeat(26);
        assert_eq!(named(&id, None), Ok(Named::Launch(id.parse().unwrap())));
        assert_eq!(
            named("etl.load", None),
            Err("error: `etl.load` is no launch id and no TaskInstanceKey(...)\n  hint: write `windlass explain \
                 DAG TASK RUN`"
                .into())
        );
    }
}
