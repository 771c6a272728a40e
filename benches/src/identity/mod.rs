//! What identity rules add to one launch: the pods of the same tasks made with and without rules, in turns, in one
//! process. No API call is among it: what the cluster has is known from watches, and `watch` measures what these keep.

mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use windlass::config::environment::Environment;
use windlass::config::{Config, Lookup};
use windlass::pods::{Renderer, imaginary};
use windlass_core::identity::sgp::SecurityGroupPolicy;
use windlass_core::identity::surroundings::Surroundings;
use windlass_core::ids::{Attempt, InstallationId, LaunchId, TaskKey};
use windlass_core::task::TaskSpec;

use crate::met;

const RULES: usize = 200;
const ACCOUNTS: usize = 10_000;
/// Tasks of one turn; each rule has as many.
const TASKS: usize = 2_000;
const TURNS: usize = 15;
const NAMESPACE: &str = "airflow";
/// Names the folder for files of the process that watches.
const CONFIG: &str = "WINDLASS_BENCH_FOLDER";
/// The figures to reach.
const MICROS_MAX: f64 = 50.0;
const MIB_MAX: f64 = 30.0;

/// Runs it and prints a table; fails only if something is wrong, never for speed.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let (Ok(kubeconfig), Some(folder)) = (std::env::var(watch::WATCH), std::env::var_os(CONFIG)) {
        return runtime.block_on(watch::watch(&kubeconfig, folder.as_ref()));
    }
    let installation = InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into());
    let folder = tempfile::tempdir()?;
    let plain = Renderer::for_once(&config(folder.path(), "", &[])?, installation.clone());
    let ruled = Renderer::for_once(&config(folder.path(), &rules(), &[])?, installation.clone());
    let surroundings = surroundings()?;
    let ruled = ruled.in_surroundings(Arc::new(RwLock::new(surroundings)));
    let specs: Vec<TaskSpec> = (0..TASKS).map(spec).collect();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        without.push(runtime.block_on(turn(&plain, &specs, &installation))?);
        with.push(runtime.block_on(turn(&ruled, &specs, &installation))?);
    }
    let (without, with) = (median(without), median(with));
    let added = with - without;
    println!(
        "{RULES} rules, {ACCOUNTS} service accounts, {RULES} SecurityGroupPolicies; medians of {TURNS} turns of {TASKS} pods"
    );
    println!("a pod without rules        {without:7.1} us");
    println!("a pod with rules           {with:7.1} us   {:.2} times as long", with / without);
    println!("identity adds              {added:7.1} us   at most {MICROS_MAX}: {}", met(added < MICROS_MAX));
    let watching = tokio::runtime::Runtime::new()?;
    let (before, after) = watching.block_on(watch::measure(folder.path()))?;
    let keeps = after.now_mib - before.now_mib;
    println!(
        "watches of {ACCOUNTS} service accounts of a real API server keep {keeps:5.1} MiB   at most {MIB_MAX}: {}",
        met(keeps < MIB_MAX)
    );
    println!(
        "    the process before and after: {:.1} and {:.1} MiB, at its peak {:.1}",
        before.now_mib, after.now_mib, after.peak_mib
    );
    Ok(())
}

/// Microseconds per pod.
async fn turn(renderer: &Renderer, specs: &[TaskSpec], installation: &InstallationId) -> Result<f64> {
    let mut took = Duration::ZERO;
    for spec in specs {
        let launch = LaunchId::of(installation, &spec.queueing);
        let began = Instant::now();
        let (namespace, _) = renderer.place(spec);
        let pod = renderer.make(spec, &launch, Attempt::FIRST).await;
        took += began.elapsed();
        let pod = pod.map_err(|why| anyhow::anyhow!("{}: {why:?}", spec.queueing.key))?;
        ensure!(pod["metadata"]["namespace"] == namespace.as_str(), "{pod}");
    }
    Ok(took.as_secs_f64() * 1e6 / specs.len() as f64)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn config(folder: &std::path::Path, rules: &str, more: &[(&str, &str)]) -> Result<Config> {
    let template = folder.join("template.yaml");
    std::fs::write(
        &template,
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - name: base\n      image: airflow:2.11\n",
    )?;
    let file = folder.join("windlass.toml");
    std::fs::write(&file, rules)?;
    let ours = [
        ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", template.to_str().context("a path")?),
        ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", NAMESPACE),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://nobody@127.0.0.1/none"),
    ];
    let environment = Environment::of(ours.into_iter().chain(more.iter().copied()));
    let lookup = Lookup { config: Some(file), sets: Vec::new() };
    Ok(Config::load_checked(&lookup, environment)?)
}

fn group(rule: usize) -> String {
    format!("sg-{rule:017x}")
}

fn account(number: usize) -> String {
    format!("team-{number}")
}

fn role(rule: usize) -> String {
    format!("arn:aws:iam::111122223333:role/team-{rule}")
}

/// By glob, list and regular expression in turn.
fn rules() -> String {
    let mut text = String::new();
    for rule in 0..RULES {
        let by = match rule % 3 {
            0 => format!("dag = \"team{rule}_*\""),
            1 => format!("dag = [\"other{rule}\", \"team{rule}_*\"]"),
            _ => format!("dag = \"regex:^team{rule}_\""),
        };
        let _ = writeln!(
            text,
            "[[identity.rule]]\nname = \"team{rule}\"\nmatch = {{ {by}, queue = \"default\" }}\n\
             service-account = \"team-{rule}\"\nrole-arn = \"{}\"\nsecurity-groups = [\"{}\"]\n\
             labels = {{ team = \"t{rule}\" }}\n",
            role(rule),
            group(rule),
        );
    }
    text + "[identity.default]\ndeny = true\n"
}

fn surroundings() -> Result<Surroundings> {
    let mut known = Surroundings { accounts_known: true, policies_known: true, ..Surroundings::default() };
    for number in 0..ACCOUNTS {
        let name = account(number);
        let labels = BTreeMap::from([("team".to_owned(), format!("t{number}"))]);
        known.accounts.insert(NAMESPACE, &name, labels);
        known.accounts.set_role(NAMESPACE, &name, Some(role(number)), None);
    }
    for rule in 0..RULES {
        let policy = json!({
            "metadata": { "namespace": NAMESPACE, "name": format!("team-{rule}") },
            "spec": {
                "podSelector": { "matchLabels": { "team": format!("t{rule}") } },
                "securityGroups": { "groupIds": [group(rule)] },
            },
        });
        known.policies.insert(SecurityGroupPolicy::read(&policy)?);
    }
    Ok(known)
}

fn spec(number: usize) -> TaskSpec {
    let dag_id = format!("team{}_load", number % RULES);
    imaginary(TaskKey { dag_id, task_id: format!("t{number}"), run_id: "r".into(), map_index: -1 })
}
