//! `windlass identity explain`: the rule of a task, and what its pod gets.

use std::fmt::Write as _;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use windlass_core::identity::rules::{Miss, Rule, folder_of};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, TaskKey};
use windlass_core::task::{DagFacts, TaskSpec};

use super::no_rules;
use crate::cli::{Failure, Form, print};
use crate::config::Config;
use crate::login;
use crate::pods::{Renderer, imaginary};
use crate::render::NO_INSTALLATION;

const OF_FLAGS: &str = "What the task is like (any of these: the database is not read)";

/// Reads the tasks of the DAG's newest run, with their executor_config; a DAG or task that has not run yet is taken with
/// the default queue and pool. With one of the flags below, nothing but flags and configuration counts.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("of_flags").multiple(true))]
#[command(after_long_help = "\
Examples:
  windlass identity explain etl
  windlass identity explain etl load --output json
  windlass identity explain etl load --tag pii --dag-file /opt/airflow/dags/finance/etl.py")]
pub struct Explain {
    /// dag_id
    dag_id: String,
    /// task_id [default: all of the DAG]
    task_id: Option<String>,
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "text")]
    output: Form,
    /// queue [default: default]
    #[arg(long, value_name = "QUEUE", help_heading = OF_FLAGS, group = "of_flags")]
    queue: Option<String>,
    /// pool [default: default_pool]
    #[arg(long, value_name = "POOL", help_heading = OF_FLAGS, group = "of_flags")]
    pool: Option<String>,
    /// Class of the operator
    #[arg(long, value_name = "NAME", help_heading = OF_FLAGS, group = "of_flags")]
    operator: Option<String>,
    /// A tag of the DAG; may be repeated
    #[arg(long = "tag", value_name = "TAG", help_heading = OF_FLAGS, group = "of_flags")]
    tags: Vec<String>,
    /// An owner of the DAG; may be repeated
    #[arg(long = "owner", value_name = "OWNER", help_heading = OF_FLAGS, group = "of_flags")]
    owners: Vec<String>,
    /// Path of the DAG file, as in dag.fileloc
    #[arg(long, value_name = "PATH", help_heading = OF_FLAGS, group = "of_flags")]
    dag_file: Option<String>,
}

/// One task with its answer.
struct Explained<'a> {
    spec: TaskSpec,
    rule: Option<&'a Rule>,
    misses: Vec<Miss<'a>>,
    pod: Result<Value, String>,
}

/// Explains and prints.
pub async fn explain(config: &Config, of: &Explain) -> Result<(), Failure> {
    let rules = config.rules.as_ref().ok_or_else(no_rules)?;
    let (specs, installation) = if of.is_described() {
        (vec![of.described(config)], InstallationId(NO_INSTALLATION.into()))
    } else {
        from_database(config, of).await?
    };
    let renderer = Renderer::for_once(config, installation.clone());
    let mut explained = Vec::new();
    for spec in specs {
        let facts = spec.identity_facts();
        let (rule, misses) = rules.explain(&facts);
        let launch = LaunchId::of(&installation, &spec.queueing);
        let made = renderer.of_task(&spec).and_then(|of| {
            let pod = of.draft(&launch, Attempt::FIRST)?;
            of.guard(&pod)?;
            of.check(&pod)?;
            Ok(pod)
        });
        let pod = made.map_err(|(reason, why)| format!("{reason}: {why}"));
        explained.push(Explained { rule, misses, pod, spec });
    }
    print(&match of.output {
        Form::Text => explained.iter().map(Explained::text).collect(),
        Form::Json => format!("{:#}\n", Value::from_iter(explained.iter().map(Explained::document))),
    })
}

/// The newest task instance of each task.
async fn from_database(config: &Config, of: &Explain) -> Result<(Vec<TaskSpec>, InstallationId), Failure> {
    let store = login::open(config).await?;
    let dag = store.dags(Some(&of.dag_id)).await?;
    let specs = store.run_for_render(&of.dag_id, None).await?;
    let installation = store.installation().await?;
    store.close().await;
    let wanted = |spec: &TaskSpec| of.task_id.as_ref().is_none_or(|task| *task == spec.queueing.key.task_id);
    let mut specs: Vec<TaskSpec> = specs.into_iter().filter(wanted).collect();
    // Mapped tasks differ by their index alone, which no rule looks at.
    specs.dedup_by(|a, b| a.queueing.key.task_id == b.queueing.key.task_id);
    if specs.is_empty() {
        let Some((_, dag)) = dag.into_iter().next() else {
            return Err(Failure::Other {
                what: format!("there is no DAG `{}`", of.dag_id),
                hint: "check its id, or describe the task: --dag-file, --tag, --queue, ...".into(),
            });
        };
        specs.push(TaskSpec { dag, ..imaginary(of.key()) });
    }
    Ok((specs, installation))
}

impl Explain {
    fn key(&self) -> TaskKey {
        TaskKey {
            dag_id: self.dag_id.clone(),
            task_id: self.task_id.clone().unwrap_or_else(|| "any".into()),
            run_id: "manual__1".into(),
            map_index: -1,
        }
    }

    fn is_described(&self) -> bool {
        self.queue.is_some()
            || self.pool.is_some()
            || self.operator.is_some()
            || self.dag_file.is_some()
            || !self.tags.is_empty()
            || !self.owners.is_empty()
    }

    fn described(&self, config: &Config) -> TaskSpec {
        let usual = imaginary(self.key());
        let folder = self.dag_file.as_deref().and_then(|file| folder_of(file, &config.airflow.dags_folder));
        TaskSpec {
            queue: self.queue.clone().unwrap_or(usual.queue),
            pool: self.pool.clone().unwrap_or(usual.pool),
            operator: self.operator.clone().unwrap_or_default(),
            dag: DagFacts { tags: self.tags.clone(), owners: self.owners.clone(), folder },
            ..usual
        }
    }
}

impl Explained<'_> {
    /// What the pod gets, in the order in which it is told.
    fn gets(&self) -> Vec<(&'static str, String)> {
        let Ok(pod) = &self.pod else { return Vec::new() };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let account = text(&pod["spec"]["serviceAccountName"]);
        let account = if account.is_empty() { "default (none is named)".to_owned() } else { account };
        let mut gets = vec![("namespace", text(&pod["metadata"]["namespace"])), ("service account", account)];
        let Some(rule) = self.rule else { return gets };
        if let Some(role) = &rule.gives.role_arn {
            gets.push(("role", role.clone()));
            gets.extend(rule.gives.token_audience.clone().map(|audience| ("token audience", audience)));
        }
        let list = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>().join(", ");
        if !rule.gives.security_groups.is_empty() {
            gets.push(("security groups", list(&mut rule.gives.security_groups.iter().cloned())));
        }
        for (name, map) in [
            ("labels", &rule.gives.labels),
            ("annotations", &rule.gives.annotations),
            ("node selector", &rule.gives.node_selector),
        ] {
            if !map.is_empty() {
                gets.push((name, list(&mut map.iter().map(|(key, value)| format!("{key}={value}")))));
            }
        }
        let key = &self.spec.queueing.key;
        let env = rule.gives.worker_env.variables(&key.dag_id, &key.task_id);
        if !env.is_empty() {
            gets.push(("worker env", list(&mut env.iter().map(|(name, value)| format!("{name}={value}")))));
        }
        let may = &rule.may_override;
        if !may.is_empty() {
            gets.push(("may override", list(&mut may.iter().map(ToString::to_string))));
        }
        gets
    }

    fn text(&self) -> String {
        let (key, spec) = (&self.spec.queueing.key, &self.spec);
        let mut text = format!("{}.{}\n", key.dag_id, key.task_id);
        let joined = |texts: &[String]| if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
        let known = |text: &str| if text.is_empty() { "not known".to_owned() } else { text.to_owned() };
        let _ = writeln!(
            text,
            "  queue {}, pool {}, operator {}, tags {}, owners {}, folder {}",
            spec.queue,
            spec.pool,
            known(&spec.operator),
            joined(&spec.dag.tags),
            joined(&spec.dag.owners),
            known(spec.dag.folder.as_deref().unwrap_or_default()),
        );
        for miss in &self.misses {
            let _ = writeln!(text, "  not {}: {}", miss.rule, miss.why);
        }
        match self.rule {
            Some(rule) => {
                let when: Vec<String> = rule.when.iter().map(ToString::to_string).collect();
                let because =
                    if when.is_empty() { "no rule matches".to_owned() } else { when.join(", and ") };
                let _ = writeln!(text, "  rule {} (line {}): {because}", rule.name, rule.place.line);
            }
            None => {
                let _ = writeln!(text, "  no rule matches, and the default denies");
            }
        }
        for (name, value) in self.gets() {
            let _ = writeln!(text, "    {name:<16} {value}");
        }
        if let Err(why) = &self.pod {
            let _ = writeln!(text, "  it gets no pod: {why}");
        }
        text
    }

    fn document(&self) -> Value {
        let (key, spec) = (&self.spec.queueing.key, &self.spec);
        json!({
            "dag_id": key.dag_id,
            "task_id": key.task_id,
            "queue": spec.queue,
            "pool": spec.pool,
            "operator": spec.operator,
            "tags": spec.dag.tags,
            "owners": spec.dag.owners,
            "folder": spec.dag.folder,
            "rule": self.rule.map(|rule| &rule.name),
            "line": self.rule.map(|rule| rule.place.line),
            "not": self.misses.iter().map(|miss| json!({"rule": miss.rule, "why": miss.why})).collect::<Vec<_>>(),
            "gets": self.gets().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "denied": self.pod.as_ref().err(),
        })
    }
}
