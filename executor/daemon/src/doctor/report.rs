//! What the doctor says, for people and as JSON, and the page that explains its codes.

use std::fmt::Write as _;

use serde_json::{Value, json};
use windlass_core::doctor::assume::Proven;
use windlass_core::doctor::{Code, Facts, Finding, Severity, count, span};

use super::mend::Mended;
use super::{assume, eks};

/// All checks, in the order in which they are told.
pub(super) const CHECKS: [&str; 8] =
    ["configuration", "database", "schedulers", "leader", "API server", "pod template", ROLES, "tasks"];
/// The check of `--assume`.
pub(super) const ROLES: &str = "roles";

/// Findings of one code that people are shown; the document has all.
const SHOWN_MAX: usize = 20;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// One line each, in order.
    pub(super) checks: Vec<Check>,
    /// What is not as it should be.
    pub(super) findings: Vec<Finding>,
    /// What `--assume` proved; None: it was not asked for, or could not be.
    pub(super) roles: Option<Vec<Proven>>,
    /// What `--repair` did.
    pub(super) repairs: Vec<Mended>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Of what.
    pub(super) name: &'static str,
    /// How it came out.
    pub(super) state: State,
    /// One line.
    pub(super) detail: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing found, or nothing that matters.
    Ok,
    /// The worst finding.
    Found(Severity),
    /// It could not be made.
    Skipped,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Found(severity) => severity.as_str(),
            Self::Skipped => "skipped",
        }
    }
}

impl Report {
    /// A check with its findings; `detail` is told where nothing else is.
    pub(super) fn found(&mut self, name: &'static str, findings: Vec<Finding>, detail: &str) {
        let worst = findings.iter().map(|finding| finding.code.severity()).max();
        let number = count(findings.len(), "finding", "findings");
        let detail = if detail.is_empty() { number } else { detail.to_owned() };
        self.checks.push(Check { name, state: worst.map_or(State::Ok, State::Found), detail });
        self.findings.extend(findings);
    }

    /// A check that could not be made.
    pub(super) fn skipped(&mut self, name: &'static str, why: &str) {
        self.checks.push(Check { name, state: State::Skipped, detail: why.to_owned() });
    }

    /// A call that a check needed failed. One code is told once: the first says it all.
    pub(super) fn failed(&mut self, finding: Finding) {
        if self.findings.iter().all(|told| told.code != finding.code) {
            self.findings.push(finding);
        }
    }

    /// What could be asked first was; people read it in the order of the work.
    pub(super) fn in_order(&mut self) {
        let order = || CHECKS.iter().chain(&eks::CHECKS);
        self.checks.sort_by_key(|check| order().position(|name| *name == check.name));
        self.findings.sort_by_key(|finding| finding.code);
    }

    /// The findings of the looks, sorted into their checks by code.
    pub(super) fn looked(&mut self, facts: &Facts, found: Vec<Finding>) {
        let database = &facts.database;
        let alive = database.schedulers.iter().filter(|s| {
            s.job.as_ref().is_some_and(|job| job.alive(database.now, facts.limits.scheduler_silent_ms))
        });
        let schedulers = format!("{} alive of {} registered", alive.count(), database.schedulers.len());
        let leader = match &database.term.holder {
            Some(holder) if database.term.is_live(database.now) => {
                let left = database.term.expires_at.ms_since(database.now);
                format!("{holder} (term {}, for another {})", database.term.epoch, span(left))
            }
            _ => "none".to_owned(),
        };
        let pods = facts
            .cluster
            .as_ref()
            .map_or("pods not asked for".to_owned(), |cluster| count(cluster.pods.len(), "pod", "pods"));
        let tasks = format!("{} not done, {pods}", count(database.open.len(), "launch", "launches"));
        let (mut of_schedulers, mut of_leader, mut of_tasks) = (Vec::new(), Vec::new(), Vec::new());
        for finding in found {
            if finding.code < Code::NoLeader {
                of_schedulers.push(finding);
            } else if finding.code < Code::ApiServer {
                of_leader.push(finding);
            } else {
                of_tasks.push(finding);
            }
        }
        self.found("schedulers", of_schedulers, &schedulers);
        self.found("leader", of_leader, &leader);
        self.found("tasks", of_tasks, &tasks);
    }

    /// No finding of severity error is left.
    pub(super) fn healthy(&self) -> bool {
        let mended = |finding: &Finding| self.repairs.iter().any(|done| done.of(finding));
        !self.findings.iter().any(|f| f.code.severity() == Severity::Error && !mended(f))
    }
}

/// For people.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<14}{:<9}{}", check.name, check.state.as_str(), one_line(&check.detail));
    }
    text.push_str(&assume::text(report.roles.as_deref().unwrap_or_default()));
    text.push_str(&format!("\n{}\n", summary(report)));
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.code.severity()), finding.code));
    for of_code in findings.chunk_by(|a, b| a.code == b.code) {
        for finding in of_code.iter().take(SHOWN_MAX) {
            text.push_str(&paragraph(finding));
        }
        let more = of_code.len().saturating_sub(SHOWN_MAX);
        if let (Some(first), true) = (of_code.first(), more > 0) {
            let _ = writeln!(text, "\n{more} more of {}: --output json has all", first.code);
        }
    }
    text
}

fn paragraph(finding: &Finding) -> String {
    let mut text = format!("\n{} {}: {}\n", finding.code.severity().as_str(), finding.code, finding.object);
    let _ = writeln!(text, "  {}", one_line(&finding.what));
    let _ = writeln!(text, "  by itself: {}", one_line(&finding.next));
    let _ = writeln!(text, "  to do:     {}", one_line(&finding.remedy));
    if let Some(repair) = &finding.repair {
        let _ = writeln!(text, "  --repair:  {repair}");
    }
    text
}

fn summary(report: &Report) -> String {
    let of = |severity| report.findings.iter().filter(|f| f.code.severity() == severity).count();
    let (errors, warnings, infos) = (of(Severity::Error), of(Severity::Warning), of(Severity::Info));
    let skipped = report.checks.iter().filter(|check| check.state == State::Skipped).count();
    let mut text = if report.findings.is_empty() {
        "nothing found".to_owned()
    } else {
        format!(
            "{}, {}, {infos} info",
            count(errors, "error", "errors"),
            count(warnings, "warning", "warnings")
        )
    };
    if skipped > 0 {
        let _ = write!(text, "; {} skipped", count(skipped, "check", "checks"));
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One document.
pub(super) fn json(report: &Report) -> Value {
    let checks: Vec<Value> = report
        .checks
        .iter()
        .map(|c| json!({"name": c.name, "state": c.state.as_str(), "detail": c.detail}))
        .collect();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|f| {
            json!({
                "code": f.code, "severity": f.code.severity(), "object": f.object, "what": f.what,
                "next": f.next, "remedy": f.remedy, "repair": f.repair,
            })
        })
        .collect();
    let repairs: Vec<Value> = report.repairs.iter().map(Mended::json).collect();
    let mut document =
        json!({"healthy": report.healthy(), "checks": checks, "findings": findings, "repairs": repairs});
    if let Some(roles) = &report.roles {
        document["roles"] = roles.iter().map(assume::document).collect();
    }
    document
}

/// Body of docs/DOCTOR.md.
pub fn page() -> String {
    let mut page = String::from(
        "# Findings of the doctor\n\n`windlass doctor` compares Airflow's task instances, Windlass's launches and the \
         pods of this installation, and tells what does not fit together; with identity rules, or with `--eks`, it also \
         checks what roles and security groups of pods need in an Amazon EKS cluster (docs/EKS.md). It ends with 0 if nothing of severity error \
         was found, else with 1. `windlass explain DAG TASK RUN` tells the story of one task.\n\n| code | severity | \
         what it means | what happens by itself | what to do |\n|---|---|---|---|---|\n",
    );
    for about in Code::all() {
        let _ = writeln!(
            page,
            "| <a id=\"{0}\"></a>`{0}` | {1} | {2} | {3} | {4} |",
            about.name,
            about.severity.as_str(),
            about.meaning,
            about.next,
            about.remedy
        );
    }
    page.push_str(
        "\n## What --repair does\n\nIt shows what it would do and asks, unless `--yes` is given. Each step is one \
         guarded write that is right whatever a working leader does at the same time, so it needs no term:\n\n- a pod \
         that no node has, of a launch that is over or of an attempt that was given up, is deleted by uid and \
         resourceVersion: binding it changes that version, and the delete then does nothing;\n- a pod that has ended, \
         whose launch is closed, is deleted where `delete_worker_pods` and `delete_worker_pods_on_failure` say so;\n- an \
         outcome whose task instance has moved on is marked as delivered, by a statement that compares the rows itself.\n\n\
         It never touches a pod that may run a task, and never writes to Airflow's tables.\n",
    );
    page
}

#[cfg(test)]
mod tests;
