//! What must hold at the end, and what is shown if it does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::ListParams;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::time::sleep;
use windlass_lab::prepare::cache_dir;

use crate::chaos::Chaos;
use crate::deployment::Deployment;
use crate::journal::{Ended, Key, Launched, Wrong, compare, named};
use crate::load::DAG;
use crate::plan::{Fault, Form};

/// Stories that are told of a failure: more help nobody.
const STORIES_MAX: usize = 5;
/// Faults whose effect is counted: those that something must run into.
const SEEN: [Fault; 6] = [
    Fault::Storm,
    Fault::FillQuota,
    Fault::DeleteNamespace,
    Fault::FillDisk,
    Fault::SilenceWebhook,
    Fault::DropInterfaces,
];
/// Lines of what is wrong that are shown: one fault can leave hundreds, all alike.
const WORDS_MAX: usize = 40;
const LOOK: Duration = Duration::from_millis(500);
/// Warnings of one daemon for each fault. Outages are told when they begin and end, not as often as something is tried.
const WARNINGS_PER_FAULT: usize = 40;

/// Waits for the end of all work, then compares what ran with what was recorded. Returns what is wrong.
pub(crate) async fn judge(on: &mut Deployment, chaos: &mut Chaos, form: &Form) -> Result<Wrong> {
    let deadline = Instant::now() + form.healing;
    let open = loop {
        chaos.tick(on).await?;
        let open = what_is_open(on).await?;
        if open.words.is_empty() || Instant::now() > deadline {
            break open;
        }
        sleep(LOOK).await;
    };
    on.story.say("the wait for the end of all work is over");
    let mut wrong = Wrong::default();
    std::mem::take(&mut chaos.violations).into_iter().for_each(|word| wrong.say(word));
    chaos.seen.insert(Fault::DropInterfaces, on.aws.dropped() as u64);
    for fault in SEEN {
        let planned = form.faults.iter().any(|(planned, _)| *planned == fault);
        if planned && chaos.seen.get(&fault).is_none_or(|count| *count == 0) {
            wrong.say(format!("{fault:?} never struck: this run shows nothing of it"));
        }
    }
    wrong.add(open);
    wrong.add(compare(&on.journal(), &ended(on).await?, &launched(on).await?));
    for part in &on.daemons {
        let log = fs::read_to_string(part.log()).unwrap_or_default();
        alarms(part.name(), &log, form.count(), &mut wrong);
    }
    Ok(wrong)
}

/// What a daemon may not log.
fn alarms(name: &str, log: &str, faults: usize, wrong: &mut Wrong) {
    let alarming = |line: &&str| {
        let lower = line.to_lowercase();
        lower.contains("panicked")
            || (line.contains("ERROR") && (lower.contains("lost") || lower.contains("doubled")))
    };
    log.lines().filter(alarming).for_each(|line| wrong.say(format!("{name}: {line}")));
    let warnings = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).count();
    if warnings > WARNINGS_PER_FAULT * faults {
        wrong.say(format!("{name} has warned {warnings} times of {faults} faults"));
    }
}

const RUNS: &str =
    "SELECT run_id, state FROM dag_run WHERE dag_id = $1 AND state NOT IN ('success', 'failed')";

const TASKS: &str = "
    SELECT run_id, task_id, map_index, coalesce(state, 'NULL'), try_number FROM task_instance
    WHERE dag_id = $1 AND (state IS NULL OR state NOT IN ('success', 'failed', 'removed', 'skipped'))";

const LAUNCHES: &str = "
    SELECT run_id, task_id, map_index, stage, coalesce(outcome, 'none'), delivered_at IS NOT NULL
    FROM windlass.launch WHERE NOT done";

/// What is not over yet.
async fn what_is_open(on: &Deployment) -> Result<Wrong> {
    let mut open = Wrong::default();
    for row in sqlx::query(RUNS).bind(DAG).fetch_all(&on.pool).await.context("look at runs")? {
        let (run_id, state): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        open.say(format!("stuck: {run_id} is {state}"));
    }
    for row in sqlx::query(TASKS).bind(DAG).fetch_all(&on.pool).await.context("look at tasks")? {
        let key = key_of(&row)?;
        let (state, number): (String, i32) = (row.try_get(3)?, row.try_get(4)?);
        open.say_of(&key, format!("stuck: try {number} of {} is {state}", named(&key)));
    }
    for row in sqlx::query(LAUNCHES).fetch_all(&on.pool).await.context("look at launches")? {
        let key = key_of(&row)?;
        let (stage, outcome): (String, String) = (row.try_get(3)?, row.try_get(4)?);
        let delivered = if row.try_get(5)? { "delivered" } else { "not delivered" };
        let word = format!("stuck: a launch of {} is {stage}, outcome {outcome}, {delivered}", named(&key));
        open.say_of(&key, word);
    }
    match on.pods().list_metadata(&ListParams::default()).await {
        Ok(pods) => {
            let names = pods.items.into_iter().filter_map(|pod| pod.metadata.name);
            names.for_each(|name| open.say(format!("stuck: pod {name} is left")));
        }
        Err(error) => open.say(format!("the API server does not tell its pods: {error}")),
    }
    Ok(open)
}

fn key_of(row: &PgRow) -> Result<Key> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

const ENDED: &str = "
    SELECT run_id, task_id, map_index, try_number, state FROM task_instance WHERE dag_id = $1";

async fn ended(on: &Deployment) -> Result<Vec<Ended>> {
    let rows = sqlx::query(ENDED).bind(DAG).fetch_all(&on.pool).await.context("read the end of tasks")?;
    let read =
        |row: &PgRow| Ok(Ended { key: key_of(row)?, try_number: row.try_get(3)?, state: row.try_get(4)? });
    rows.iter().map(read).collect()
}

const LAUNCHED: &str = r#"
    SELECT run_id, task_id, map_index, try_number,
        to_char(queued_dttm AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS queued, outcome
    FROM windlass.launch WHERE dag_id = $1"#;

async fn launched(on: &Deployment) -> Result<Vec<Launched>> {
    let rows = sqlx::query(LAUNCHED).bind(DAG).fetch_all(&on.pool).await.context("read launches")?;
    let read = |row: &PgRow| {
        let (try_number, queued, outcome) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        Ok(Launched { key: key_of(row)?, try_number, queued, outcome })
    };
    rows.iter().map(read).collect()
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

/// Shows how it came to what is wrong, and keeps all logs and rows. Returns what is wrong.
pub(crate) async fn show(on: &Deployment, wrong: &Wrong) -> String {
    println!("faults:\n{}", on.story.text());
    for (run_id, task_id, map_index) in wrong.tasks.iter().take(STORIES_MAX) {
        let index = map_index.to_string();
        let explain = on.windlass(&["explain", DAG, task_id, run_id, "--map-index", &index]).await;
        println!("{}", explain.unwrap_or_else(|error| format!("no story: {error:#}")));
    }
    println!("{}", on.windlass(&["doctor"]).await.unwrap_or_else(|error| format!("no doctor: {error:#}")));
    let kept = keep(on).map_or_else(|error| format!("nothing: {error:#}"), |path| path.display().to_string());
    format!("{}\nlogs and rows are kept: {kept}", told(&wrong.words))
}

/// The number of each kind, then the first lines: kinds are what stands before the colon.
fn told(words: &[String]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        *kinds.entry(word.split_once(": ").map_or("else", |(kind, _)| kind)).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let mut lines = vec![format!("wrong: {}", kinds.join(", "))];
    lines.extend(words.iter().take(WORDS_MAX).map(|word| format!("  {word}")));
    if let Some(more) = words.len().checked_sub(WORDS_MAX).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
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
        let rows = on.postgres.psql(&on.database, &format!("COPY {table} TO STDOUT WITH CSV HEADER"), &[])?;
        fs::write(place.join(format!("{table}.csv")), rows)?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_counted_by_kind_and_told_in_bounds() {
        let mut words: Vec<String> = (0..50).map(|number| format!("stuck: pod p{number} is left")).collect();
        words.insert(0, "doubled: try 1 of run0 quick 3 ran in a and in b".to_owned());
        let told = told(&words);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "wrong: 1 doubled, 50 stuck");
        assert_eq!(lines[1], "  doubled: try 1 of run0 quick 3 ran in a and in b");
        assert_eq!((lines.len(), lines[41]), (42, "  and 11 more"));
    }

    #[test]
    fn a_panic_and_too_many_warnings_are_alarms() {
        let log = "thread 'main' panicked at x\nt  WARN a: b\nt ERROR a: the task is lost\n";
        let mut wrong = Wrong::default();
        alarms("daemon-0", log, 1, &mut wrong);
        assert_eq!(wrong.words.len(), 2, "{wrong:?}");
        alarms("daemon-1", &"t  WARN a: b\n".repeat(41), 1, &mut wrong);
        assert_eq!(wrong.words[2], "daemon-1 has warned 41 times of 1 faults");
    }
}
