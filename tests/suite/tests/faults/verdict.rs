//! What must hold at the end, and what is shown if it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::ListParams;
use sqlx::Row;
use tokio::time::sleep;
use windlass_lab::prepare::cache_dir;

use crate::chaos::Chaos;
use crate::deployment::Deployment;
use crate::load::DAG;
use crate::plan::Form;

/// Stories that are told of a failure: more help nobody.
const STORIES_MAX: usize = 5;
const LOOK: Duration = Duration::from_millis(500);
/// Warnings of one daemon for each fault. Outages are told when they begin and end, not as often as something is tried.
const WARNINGS_PER_FAULT: usize = 40;

/// `run_id task_id map_index`.
type Key = (String, String, i32);

/// What is not over yet: in words, and by task.
#[derive(Debug, Default)]
struct Open {
    words: Vec<String>,
    tasks: BTreeSet<Key>,
}

/// Waits for the end of all work, then compares what ran with what was recorded. Returns what is wrong, and the tasks
/// that it is about.
pub(crate) async fn judge(
    on: &mut Deployment,
    chaos: &mut Chaos,
    form: &Form,
) -> Result<(Vec<String>, BTreeSet<Key>)> {
    let deadline = Instant::now() + form.healing;
    let faults: usize = form.faults.iter().map(|(_, count)| *count as usize).sum();
    let open = loop {
        chaos.tick(on)?;
        let open = what_is_open(on).await?;
        if open.words.is_empty() || Instant::now() > deadline {
            break open;
        }
        sleep(LOOK).await;
    };
    on.story.say("the wait for the end of all work is over");
    let (mut wrong, mut tasks) = (std::mem::take(&mut chaos.violations), open.tasks);
    wrong.extend(open.words.into_iter().map(|word| format!("stuck: {word}")));
    bodies(on, &mut wrong, &mut tasks).await?;
    for part in &on.daemons {
        let log = fs::read_to_string(part.log()).unwrap_or_default();
        let alarming = |line: &&str| {
            let lower = line.to_lowercase();
            lower.contains("panicked")
                || (line.contains("ERROR") && (lower.contains("lost") || lower.contains("doubled")))
        };
        wrong.extend(log.lines().filter(alarming).map(|line| format!("{}: {line}", part.name())));
        let warnings = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).count();
        if warnings > WARNINGS_PER_FAULT * faults {
            wrong.push(format!("{} has warned {warnings} times of {faults} faults", part.name()));
        }
    }
    Ok((wrong, tasks))
}

async fn what_is_open(on: &Deployment) -> Result<Open> {
    let mut open = Open::default();
    let runs = "SELECT run_id, state FROM dag_run WHERE dag_id = $1 AND state NOT IN ('success', 'failed')";
    for row in sqlx::query(runs).bind(DAG).fetch_all(&on.pool).await.context("look at runs")? {
        open.words.push(format!("run {} is {}", row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?));
    }
    let tasks = "SELECT run_id, task_id, map_index, coalesce(state, 'NULL'), try_number FROM task_instance
                 WHERE dag_id = $1 AND (state IS NULL OR state NOT IN ('success', 'failed', 'removed', 'skipped'))";
    for row in sqlx::query(tasks).bind(DAG).fetch_all(&on.pool).await.context("look at tasks")? {
        let key = key_of(&row)?;
        let (state, number): (String, i32) = (row.try_get(3)?, row.try_get(4)?);
        open.words.push(format!("task {key:?} is {state} in try {number}"));
        open.tasks.insert(key);
    }
    let launches =
        "SELECT run_id, task_id, map_index, stage, coalesce(outcome, 'none'), delivered_at IS NOT NULL
                    FROM windlass.launch WHERE NOT done";
    for row in sqlx::query(launches).fetch_all(&on.pool).await.context("look at launches")? {
        let key = key_of(&row)?;
        let (stage, outcome, delivered): (String, String, bool) =
            (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        open.words.push(format!("launch of {key:?} is {stage}, outcome {outcome}, delivered {delivered}"));
        open.tasks.insert(key);
    }
    match on.pods().list_metadata(&ListParams::default()).await {
        Ok(pods) => {
            let names = pods.items.into_iter().filter_map(|pod| pod.metadata.name);
            open.words.extend(names.map(|name| format!("pod {name} is left")));
        }
        Err(error) => open.words.push(format!("the API server does not tell its pods: {error}")),
    }
    Ok(open)
}

fn key_of(row: &sqlx::postgres::PgRow) -> Result<Key> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    key: Key,
    try_number: i32,
    queued: String,
    pod: String,
}

impl Body {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [_dag, task_id, run_id, map_index, try_number, queued, pod] = words.as_slice() else {
            return None;
        };
        let key = ((*run_id).to_owned(), (*task_id).to_owned(), map_index.parse().ok()?);
        let (queued, pod) = ((*queued).to_owned(), (*pod).to_owned());
        Some(Self { key, try_number: try_number.parse().ok()?, queued, pod })
    }
}

/// Tries whose body ran more than once. These tasks neither defer nor reschedule, so a try has one queueing that runs.
pub(crate) fn doubled(bodies: &[Body]) -> Vec<String> {
    let mut by_try: BTreeMap<(&Key, i32), Vec<&Body>> = BTreeMap::new();
    for body in bodies {
        by_try.entry((&body.key, body.try_number)).or_default().push(body);
    }
    let twice = by_try.into_iter().filter(|(_, bodies)| bodies.len() > 1);
    twice
        .map(|((key, number), bodies)| {
            let pods: Vec<String> =
                bodies.iter().map(|body| format!("{} queued {}", body.pod, body.queued)).collect();
            format!("doubled: try {number} of {key:?} ran in {}", pods.join(" and in "))
        })
        .collect()
}

const ENDED: &str = "
    SELECT run_id, task_id, map_index, try_number, state FROM task_instance WHERE dag_id = $1";

const LAUNCHED: &str = r#"
    SELECT run_id, task_id, map_index, try_number,
        to_char(queued_dttm AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS queued, outcome
    FROM windlass.launch WHERE dag_id = $1"#;

/// The journal against the rows: nothing ran twice, nothing is a success that did not run, nothing ran unrecorded.
async fn bodies(on: &Deployment, wrong: &mut Vec<String>, tasks: &mut BTreeSet<Key>) -> Result<()> {
    let journal = on.journal();
    let bodies: Vec<Body> = journal.lines().filter_map(Body::parse).collect();
    if bodies.len() != journal.lines().count() {
        wrong.push("a line of the journal is none".to_owned());
    }
    wrong.extend(doubled(&bodies));
    let ran: BTreeSet<(Key, i32)> = bodies.iter().map(|body| (body.key.clone(), body.try_number)).collect();
    for row in sqlx::query(ENDED).bind(DAG).fetch_all(&on.pool).await.context("read the end of tasks")? {
        let (key, number, state) = (key_of(&row)?, row.try_get(3)?, row.try_get::<Option<String>, _>(4)?);
        if state.as_deref() == Some("success") && !ran.contains(&(key.clone(), number)) {
            wrong.push(format!("lost: try {number} of {key:?} is a success and its body never ran"));
            tasks.insert(key.clone());
        }
        if state.as_deref() == Some("failed") {
            wrong.push(format!("lost: {key:?} is failed in try {number}, with tries left"));
            tasks.insert(key);
        }
    }
    let mut launched = BTreeMap::new();
    for row in sqlx::query(LAUNCHED).bind(DAG).fetch_all(&on.pool).await.context("read launches")? {
        let queueing: (Key, i32, String) = (key_of(&row)?, row.try_get(3)?, row.try_get(4)?);
        launched.insert(queueing, row.try_get::<Option<String>, _>(5)?);
    }
    let queueings: BTreeSet<(Key, i32, String)> =
        bodies.into_iter().map(|body| (body.key, body.try_number, body.queued)).collect();
    for queueing in queueings.iter().filter(|queueing| !launched.contains_key(queueing)) {
        wrong.push(format!("unrecorded: a body of {queueing:?} ran without a launch"));
        tasks.insert(queueing.0.clone());
    }
    for (queueing, outcome) in launched {
        if outcome.as_deref() == Some("success") && !queueings.contains(&queueing) {
            wrong.push(format!("lost: the launch of {queueing:?} says success, and no body ran"));
            tasks.insert(queueing.0);
        }
    }
    Ok(())
}

/// Counts of what happened, for the report.
pub(crate) async fn figures(on: &Deployment) -> Result<String> {
    let count =
        async |sql: &'static str| -> Result<i64> { Ok(sqlx::query_scalar(sql).fetch_one(&on.pool).await?) };
    let tasks = count("SELECT count(*) FROM task_instance WHERE dag_id = 'faults'").await?;
    let launches = count("SELECT count(*) FROM windlass.launch").await?;
    let again = count("SELECT count(*) FROM windlass.launch WHERE attempt > 1").await?;
    let terms = count("SELECT epoch FROM windlass.term").await?;
    let reasons =
        "SELECT coalesce(reason, outcome, 'none'), count(*) FROM windlass.launch GROUP BY 1 ORDER BY 2 DESC";
    let reasons: Vec<(String, i64)> = sqlx::query_as(reasons).fetch_all(&on.pool).await?;
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let bodies = on.journal().lines().count();
    Ok(format!(
        "measured: {tasks} tasks, {launches} launches ({}), {again} with a second attempt, {bodies} bodies, {terms} terms",
        reasons.join(", ")
    ))
}

/// Shows what went wrong, and keeps all logs and rows.
pub(crate) async fn show(on: &Deployment, wrong: &[String], tasks: &BTreeSet<Key>) -> String {
    let mut text = format!("faults:\n{}\n", on.story.text());
    for (run_id, task_id, map_index) in tasks.iter().take(STORIES_MAX) {
        let index = map_index.to_string();
        let explain = on.windlass(&["explain", DAG, task_id, run_id, "--map-index", &index]).await;
        text += &explain.unwrap_or_else(|error| format!("no story: {error:#}"));
        text += "\n";
    }
    text += &on.windlass(&["doctor"]).await.unwrap_or_else(|error| format!("no doctor: {error:#}"));
    let kept = keep(on).map_or_else(|error| format!("nothing: {error:#}"), |path| path.display().to_string());
    format!("{text}\nkept: {kept}\nwrong:\n{}", wrong.join("\n"))
}

/// Copies logs, the journal and the rows to a folder that stays.
fn keep(on: &Deployment) -> Result<PathBuf> {
    let place = cache_dir()?.join(format!("faults-{}", std::process::id()));
    fs::create_dir_all(&place)?;
    for entry in fs::read_dir(on.folder())? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, place.join(name))?;
        }
    }
    for component in ["kube-apiserver", "etcd"] {
        fs::copy(on.plane.log(component), place.join(format!("{component}.log")))?;
    }
    fs::copy(on.postgres.log(), place.join("postgres.log"))?;
    for table in ["task_instance", "windlass.launch", "windlass.term", "job", "log"] {
        let rows = on.postgres.psql("airflow_0", &format!("COPY {table} TO STDOUT WITH CSV HEADER"), &[])?;
        fs::write(place.join(format!("{table}.csv")), rows)?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_ran_twice_is_told_and_a_second_try_is_not() {
        let lines = [
            "faults quick run0 3 1 2026-01-01T00:00:00.000001 pod-a",
            "faults quick run0 3 2 2026-01-01T00:00:09.000001 pod-b",
            "faults quick run0 4 1 2026-01-01T00:00:00.000001 pod-c",
            "faults quick run0 4 1 2026-01-01T00:00:00.000001 pod-d",
        ];
        let bodies: Vec<Body> = lines.iter().filter_map(|line| Body::parse(line)).collect();
        assert_eq!(bodies.len(), 4);
        let told = doubled(&bodies);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("pod-c") && told[0].contains("pod-d"), "{told:?}");
        assert_eq!(Body::parse("faults quick run0 x 1 t pod"), None);
    }
}
