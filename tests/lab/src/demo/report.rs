//! What was measured, from the two sets of tables and from `/proc`.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use sqlx::Row;

use crate::stack::Stack;
use crate::story::{FAILS, RUN_ID, RUNS};

/// One queueing of a task. Times are in seconds; `queued` since the first one.
struct Line {
    dag: String,
    task: String,
    map_index: i32,
    try_number: i32,
    queued: f64,
    /// Since queued.
    created: Option<f64>,
    running: Option<f64>,
    ended: Option<f64>,
    outcome: Option<String>,
    reason: Option<String>,
}

pub(crate) struct Report {
    lines: Vec<Line>,
    /// Final states of task instances, by dag and task.
    states: Vec<(String, String, Option<String>)>,
    run_states: Vec<(&'static str, &'static str, Option<String>)>,
    daemon: Cost,
}

/// What a process has used so far.
struct Cost {
    cpu_seconds: f64,
    rss_mb: f64,
    peak_rss_mb: f64,
}

const LAUNCHES: &str = "
    SELECT dag_id, task_id, map_index, try_number, outcome, reason,
           extract(epoch FROM queued_dttm - min(queued_dttm) OVER ())::float8 AS queued,
           extract(epoch FROM created_at - queued_dttm)::float8 AS created,
           extract(epoch FROM running_at - queued_dttm)::float8 AS running,
           extract(epoch FROM settled_at - queued_dttm)::float8 AS ended
    FROM windlass.launch ORDER BY queued_dttm, dag_id, task_id, map_index";

impl Report {
    pub(crate) async fn read(stack: &Stack) -> Result<Self> {
        // First: the queries below are not the daemon's work.
        let daemon = Cost::of(stack.daemon.pid())?;
        let rows =
            sqlx::query(LAUNCHES).fetch_all(stack.airflow.pool()).await.context("read the launches")?;
        let lines = rows
            .iter()
            .map(|row| {
                Ok(Line {
                    dag: row.try_get("dag_id")?,
                    task: row.try_get("task_id")?,
                    map_index: row.try_get("map_index")?,
                    try_number: row.try_get("try_number")?,
                    queued: row.try_get("queued")?,
                    created: row.try_get("created")?,
                    running: row.try_get("running")?,
                    ended: row.try_get("ended")?,
                    outcome: row.try_get("outcome")?,
                    reason: row.try_get("reason")?,
                })
            })
            .collect::<sqlx::Result<_>>()?;
        let (mut states, mut run_states) = (Vec::new(), Vec::new());
        for (dag, expected) in RUNS {
            run_states.push((dag, expected, stack.airflow.run_state(dag, RUN_ID).await?));
            let tasks = stack.airflow.tasks(dag, RUN_ID).await?;
            states.extend(tasks.into_iter().map(|task| (task.dag_id, task.task_id, task.state)));
        }
        Ok(Self { lines, states, run_states, daemon })
    }

    /// Whether every run and every task ended as Airflow's semantics say.
    pub(crate) fn as_expected(&self) -> bool {
        let task_is_right = |(dag, task, state): &(String, String, Option<String>)| {
            let expected = if (dag.as_str(), task.as_str()) == FAILS { "failed" } else { "success" };
            state.as_deref() == Some(expected)
        };
        self.states.iter().all(task_is_right)
            && self.run_states.iter().all(|(_, expected, state)| state.as_deref() == Some(*expected))
    }

    fn queued_to_created_ms(&self) -> Vec<f64> {
        let mut all: Vec<f64> =
            self.lines.iter().filter_map(|line| line.created).map(|s| s * 1000.0).collect();
        all.sort_by(f64::total_cmp);
        all
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} try   queued  created  running    ended  outcome", "task")?;
        writeln!(f, "{:<34}          at s  after ms  after s  after s", "")?;
        for line in &self.lines {
            let index = if line.map_index < 0 { String::new() } else { format!("[{}]", line.map_index) };
            let name = format!("{}.{}{index}", line.dag, line.task);
            let number = |value: Option<f64>, factor: f64, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{:.digits$}", value * factor))
            };
            write!(
                f,
                "{name:<34} {:>3} {:>8.2} {:>9} {:>8} {:>8}  {}",
                line.try_number,
                line.queued,
                number(line.created, 1000.0, 0),
                number(line.running, 1.0, 2),
                number(line.ended, 1.0, 2),
                line.outcome.as_deref().unwrap_or("-"),
            )?;
            writeln!(
                f,
                "{}",
                line.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default()
            )?;
        }
        self.summary(f)
    }
}

impl Report {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.states.iter().filter(|(_, _, state)| state.as_deref() == Some("failed")).count();
        let tries = self.lines.iter().filter(|line| line.outcome.as_deref() == Some("failure")).count();
        writeln!(f)?;
        writeln!(f, "tasks                    {}, in {} launches", self.states.len(), self.lines.len())?;
        writeln!(f, "failed for good          {failed} (expected 1: {}.{})", FAILS.0, FAILS.1)?;
        writeln!(f, "pods that died           {tries} (expected 2: the killed ones)")?;
        for (dag, expected, state) in &self.run_states {
            let state = state.as_deref().unwrap_or("missing");
            if state != *expected {
                writeln!(f, "NOT AS EXPECTED          run of {dag} is {state}, expected {expected}")?;
            }
        }
        let created = self.queued_to_created_ms();
        let (p50, p99) = (percentile(&created, 50.0), percentile(&created, 99.0));
        writeln!(f, "queued to pod created    p50 {p50:.0} ms, p99 {p99:.0} ms")?;
        let Cost { cpu_seconds, rss_mb, peak_rss_mb } = &self.daemon;
        let per_launch = cpu_seconds * 1000.0 / self.lines.len().max(1) as f64;
        writeln!(
            f,
            "daemon                   {cpu_seconds:.2} s of CPU ({per_launch:.1} ms a launch), \
                     {rss_mb:.1} MB of memory (at most {peak_rss_mb:.1})"
        )?;
        write!(
            f,
            "result                   {}",
            if self.as_expected() { "as expected" } else { "NOT AS EXPECTED" }
        )
    }
}

/// Nearest rank; `sorted` in rising order.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

impl Cost {
    /// proc(5): fields 14 and 15 of `stat` are user and system time in clock ticks; `status` has the memory.
    fn of(pid: i32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon is gone")?;
        let after_name = stat.get(stat.rfind(')').unwrap_or(0)..).unwrap_or_default();
        let ticks: u64 =
            after_name.split(' ').skip(12).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
            line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap_or(f64::NAN) / 1024.0
        };
        Ok(Self {
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            rss_mb: megabytes("VmRSS:"),
            peak_rss_mb: megabytes("VmHWM:"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&values, 50.0), percentile(&values, 99.0)), (100.0, 198.0));
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
        assert!(percentile(&[], 50.0).is_nan());
    }

    #[test]
    fn the_cost_of_this_process_is_more_than_nothing() -> Result<()> {
        let cost = Cost::of(std::process::id() as i32)?;
        assert!(cost.rss_mb > 0.5 && cost.peak_rss_mb >= cost.rss_mb, "{} {}", cost.rss_mb, cost.peak_rss_mb);
        assert!(cost.cpu_seconds < 60.0);
        Ok(())
    }
}
