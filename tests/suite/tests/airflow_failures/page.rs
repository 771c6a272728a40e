//! The page that holds what was read.

use std::env;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};
use windlass_lab::prepare::workspace;

use crate::cases::Told;
use crate::quota::Held;

const PAGE: &str = "docs/TASK_FAILURES.md";
const WRITE: &str = "WINDLASS_WRITE_PAGES";
const COMMAND: &str =
    "WINDLASS_WRITE_PAGES=1 cargo xtask test airflow --filter the_sentences_that_authors_read";

/// Fails with the lines that differ, or writes the page if that is asked for.
pub(crate) fn compare(rows: &[Told], held: &Held) -> Result<()> {
    let (path, text) = (workspace().join(PAGE), page(rows, held)?);
    if env::var_os(WRITE).is_some_and(|value| value == "1") {
        return fs::write(&path, text).with_context(|| format!("write {PAGE}"));
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    if there == text {
        return Ok(());
    }
    bail!(
        "{PAGE} is not what was read (`-` the page, `+` Airflow):\n{}\n{COMMAND}",
        difference(&there, &text)
    )
}

fn difference(there: &str, text: &str) -> String {
    let only = |sign: &str, of: &str, other: &str| {
        let lines = of.lines().filter(|line| !other.lines().any(|another| another == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only("-", there, text) + &only("+", text, there)
}

fn page(rows: &[Told], held: &Held) -> Result<String> {
    let mut page = format!("<!-- Written by a test: {COMMAND} -->\n\n{INTRODUCTION}");
    for Told { happened, code, sentence, to_do } in rows {
        let sentence = cell(&without_counts(sentence));
        let code = format!("[`{code}`](ERRORS.md#{code})");
        writeln!(page, "| {happened} | {code} | {sentence} | {} |", cell(to_do))?;
    }
    write!(page, "{HELD}")?;
    writeln!(page, "| `windlass explain DAG TASK RUN`, at any time | {} |", cell(&held.explained))?;
    writeln!(page, "| the scheduler's log, after `task_queued_timeout` | {} |", cell(&held.logged))?;
    for (event, text) in &held.events {
        writeln!(page, "| event `{event}`, when it was held for too long | {} |", cell(text))?;
    }
    page.push_str(AFTER_HELD);
    Ok(page)
}

/// A `|` would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// How many nodes there are is of this cluster alone.
fn without_counts(sentence: &str) -> String {
    let words = sentence.split(' ').map(|word| match word.split_once('/') {
        Some((few, all)) if is_number(few) && is_number(all) => "0/N".to_owned(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

const INTRODUCTION: &str = "\
# What a DAG author reads

When Kubernetes keeps a task from its end, the reason stands in Airflow's UI: **Audit Log** of the task instance, event
`windlass failure`. Three lines: the code and what happened, what to do, and the pod with the id of its launch.

A task whose worker had begun it is failed, or retried if it has retries. One that had not begun gets another pod first
and loses no try by that, where the pod was lost by no fault of its own (`[kubernetes_executor]
pod_launch_failure_retries`); only then it fails, and the sentence says that the task did not begin. Such a task has
Airflow's own event `state mismatch` beside ours, with the same sentence behind `Extra info`, shortened in the middle if
it is long.

All sentences below are what a real Airflow showed, with a real API server, admission, quota and scheduler of Kubernetes.
What a node says (images, configuration, memory, eviction, loss) was written through the API server as the sources of
Kubernetes 1.37 write it. POD stands for the pod's name. All codes: [ERRORS.md](ERRORS.md); other failures, for the
operator: [FAILURES.md](FAILURES.md).

| what happened in Kubernetes | code | what Airflow shows | what to do |
|---|---|---|---|
";

const HELD: &str = "
## Held back: the namespace's quota is full

The task does not fail: it stays `queued`, keeps its slot, and starts when there is room. Meanwhile:

| where | what it says |
|---|---|
";

const AFTER_HELD: &str = "
It is held for `[windlass] hold_limit_seconds` (1,800 s) at most, here for 30 s. Then Airflow queues it again, and fails it
the third time (`[scheduler] num_stuck_in_queued_retries`). What to do: compare `kubectl describe quota` with Airflow's
parallelism and pools.
";
