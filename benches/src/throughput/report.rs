//! The table at the end.

use std::fmt::Write as _;
use std::process::Command;

use windlass_lab::prepare::workspace;

use super::creates::Creates;
use super::idle::Idle;
use super::latency::Latency;
use super::lifecycles::Lifecycles;
use super::overload::{Overload, Trial};
use super::restart::{Restart, Restarts};
use crate::bare;
use crate::met;
use crate::meter;
use crate::rig::Cpu;

/// Creates per second of Airflow's own KubernetesExecutor (2.11.2, provider 10.25.0) with its default settings, in a
/// tight loop, on two cores like these. Measured once, not in this run.
const PYTHON_CREATES: f64 = 38.0;
/// The same of full lifecycles, at best (64 per batch, asynchronous).
const PYTHON_LIFECYCLES: f64 = 22.3;
/// CPU of the Python executor for a full lifecycle, the least that was seen.
const PYTHON_CPU_MS: f64 = 34.0;

/// First targets; the final ones are higher.
const CREATES_OF_BARE: f64 = 0.7;
const CREATES_OF_PYTHON: f64 = 10.0;
const LATENCY_P99_MS: f64 = 100.0;
const LIFECYCLES_OF_BARE: f64 = 0.7;
const IDLE_PERCENT: f64 = 1.0;
const RSS_MIB: f64 = 50.0;
/// Launches that may wait in memory for their pod: the engine's `backlog_max`, and a batch of each of the two passes.
const BACKLOG: f64 = 5_000.0 + 2.0 * 500.0;
const RESTART_SECONDS: f64 = 2.0;
const TAKEOVER_SECONDS: f64 = 5.0;

const CLAIMED: &str = "windlass_launches_claimed_total";
const CREATED: &str = "windlass_pods_created_total";
const FAILED: &str = "windlass_outcomes_total{outcome=\"failure\"}";
/// Where an operator sees an overload.
const PLAIN_SHOWS: [&str; 5] =
    ["windlass_queueings_seen_total", CLAIMED, CREATED, "windlass_launches_ready", "windlass_create_window"];
const BAD_SHOWS: [&str; 5] = [
    "windlass_namespaces_held",
    "windlass_launches{stage=\"ready\"}",
    "windlass_errors_total{source=\"quota\"}",
    "windlass_errors_total{source=\"pod\"}",
    "windlass_failures_total{reason=\"PodRejected\"}",
];

/// What was measured. A section that did not run is None.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) creates: Option<Creates>,
    pub(super) latency: Option<Latency>,
    pub(super) lifecycles: Option<Lifecycles>,
    pub(super) idle: Option<Idle>,
    pub(super) overload: Option<Overload>,
    pub(super) restarts: Option<Restarts>,
}

/// Where and how.
pub(super) struct Circumstances {
    pub(super) load_before: String,
    pub(super) kubernetes: String,
    pub(super) postgres: u32,
}

#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, figure: &str, measured: &str, target: &str) {
        let line = format!("{figure:<48} {measured:<44} {target}");
        let _ = writeln!(self.0, "{}", line.trim_end());
    }

    fn at_least(&mut self, figure: &str, (value, shown): (f64, &str), target: f64) {
        self.row(figure, shown, &format!(">= {target}: {}", met(value >= target)));
    }

    fn below(&mut self, figure: &str, (value, shown): (f64, &str), (target, unit): (f64, &str)) {
        self.row(figure, shown, &format!("< {target} {unit}: {}", met(value < target)));
    }
}

pub(super) fn text(figures: &Figures, circumstances: &Circumstances) -> String {
    let mut table = Table::default();
    table.row("machine", &meter::machine(), "");
    table.row("load of the minute before", &circumstances.load_before, "");
    table.row("commit", &commit(), "");
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    table.row("command", format!("cargo bench --bench throughput -- {}", words.join(" ")).trim_end(), "");
    let parts = format!(
        "kube-apiserver {}, in-flight limits 400/200, RBAC, ServiceAccount admission; PostgreSQL {}",
        circumstances.kubernetes, circumstances.postgres
    );
    table.row("parts", &parts, "");
    table.row("client", "the shipped service account under the shipped Role, for both", "");
    let _ = writeln!(table.0, "\n{:<48} {:<44} target", "figure", "measured");
    if let Some(creates) = &figures.creates {
        creates_rows(&mut table, creates);
    }
    if let Some(latency) = &figures.latency {
        let (p50, p99) = (latency.standing.p50 * 1e3, latency.standing.p99 * 1e3);
        let figure = format!("queued to created at {:.0}/s (half load)", latency.per_second);
        table.below(&figure, (p99, &format!("p50 {p50:.0} ms, p99 {p99:.0} ms")), (LATENCY_P99_MS, "ms p99"));
    }
    if let Some(lifecycles) = &figures.lifecycles {
        lifecycle_rows(&mut table, lifecycles);
    }
    if let Some(idle) = &figures.idle {
        idle_rows(&mut table, idle);
    }
    if let Some(overload) = &figures.overload {
        overload_rows(&mut table, overload);
    }
    if let Some(restarts) = &figures.restarts {
        restart_rows(&mut table, restarts);
    }
    table.0
}

fn creates_rows(table: &mut Table, creates: &Creates) {
    for (in_flight, rounds) in &creates.bare {
        let rates: Vec<String> = rounds.iter().map(|round| format!("{:.0}", round.per_second())).collect();
        let all = bare::sum(rounds.iter().copied());
        let measured = format!(
            "{:.0} creates/s ({}), client {:.2} ms CPU",
            all.per_second(),
            rates.join(" "),
            all.cpu_ms / all.pods as f64
        );
        table.row(&format!("bare kube-rs, {in_flight} in flight"), &measured, "");
    }
    let (Some((in_flight, best)), false) = (creates.best(), creates.daemon.is_empty()) else { return };
    let rates: Vec<String> = creates
        .daemon
        .iter()
        .map(|burst| format!("{:.0}", burst.tasks as f64 / burst.standing.creating))
        .collect();
    let (rate, of_bare) = (creates.per_second(), creates.per_second() / best.per_second());
    table.row("Windlass", &format!("{rate:.0} creates/s ({})", rates.join(" ")), "");
    let figure = format!("Windlass / bare with {in_flight} in flight (its best)");
    table.at_least(&figure, (of_bare, &format!("{of_bare:.2}")), CREATES_OF_BARE);
    let of_python = rate / PYTHON_CREATES;
    let figure = format!("Windlass / Python executor ({PYTHON_CREATES}/s, not this run)");
    table.at_least(&figure, (of_python, &format!("{of_python:.1}")), CREATES_OF_PYTHON);
    let median = |of: fn(&super::creates::Burst) -> f64| {
        let mut all: Vec<f64> = creates.daemon.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2] * 1e3
    };
    let (p50, p99) = (median(|burst| burst.standing.p50), median(|burst| burst.standing.p99));
    let measured = format!("p50 {p50:.0} ms, p99 {p99:.0} ms (median of the rounds)");
    table.row("queued to created in the burst", &measured, "");
    table.row("CPU per create, Windlass's rounds", &cpu(creates.daemon.iter().map(|burst| burst.cpu)), "");
    table.row("CPU per create, bare rounds", &cpu(creates.bare_cpu.iter().copied()), "");
}

fn lifecycle_rows(table: &mut Table, lifecycles: &Lifecycles) {
    let bare = bare::sum(lifecycles.bare.iter().copied());
    let (rate, of_bare) = (lifecycles.per_second(), lifecycles.per_second() / bare.per_second());
    let bare_cpu = bare.cpu_ms / bare.pods as f64;
    let measured = format!("{:.0} lifecycles/s, client {bare_cpu:.2} ms CPU", bare.per_second());
    table.row("bare kube-rs: create, lean watch, delete", &measured, "");
    table.row("Windlass", &format!("{rate:.0} lifecycles/s"), "");
    table.at_least("Windlass / bare", (of_bare, &format!("{of_bare:.2}")), LIFECYCLES_OF_BARE);
    let figure = format!("Windlass / Python ({PYTHON_LIFECYCLES}/s, not this run)");
    table.row(&figure, &format!("{:.1}", rate / PYTHON_LIFECYCLES), "");
    let own =
        lifecycles.daemon.iter().map(|(_, _, cpu)| cpu.daemon).sum::<f64>() / lifecycles.daemon.len() as f64;
    let measured =
        format!("{own:.2} ms; {:.1} x bare, Python {:.0} x as much", own / bare_cpu, PYTHON_CPU_MS / own);
    table.row("Windlass, CPU per lifecycle", &measured, "");
    table.row("CPU per lifecycle", &cpu(lifecycles.daemon.iter().map(|(_, _, cpu)| *cpu)), "");
    let (now, peak) = (lifecycles.memory.now_mib, lifecycles.memory.peak_mib);
    table.below(
        "Windlass, resident memory",
        (peak, &format!("{now:.0} MiB, peak {peak:.0} MiB")),
        (RSS_MIB, "MiB"),
    );
}

fn idle_rows(table: &mut Table, idle: &Idle) {
    let percent = idle.daemon_percent;
    table.below("idle: Windlass", (percent, &format!("{percent:.2} % of a core")), (IDLE_PERCENT, "%"));
    table.row("idle: PostgreSQL", &format!("{:.2} % of a core", idle.postgres_percent), "");
    let calls: Vec<String> = idle.calls.iter().map(|(call, rate)| format!("{call} {rate:.1}")).collect();
    let measured = format!("{:.1} transactions/s ({})", idle.transactions_per_second, calls.join(", "));
    table.row("idle: database", &measured, "");
    table.row("idle: one poll, wall time", &format!("{:.2} ms", idle.poll_ms), "");
}

fn overload_rows(table: &mut Table, overload: &Overload) {
    let plain = &overload.plain;
    trial_rows(table, "plain tasks at once", plain, &PLAIN_SHOWS);
    let waiting = ["windlass_launches{stage=\"claiming\"}", "windlass_launches{stage=\"ready\"}"];
    let most = plain.most(&waiting);
    table.below("  waiting in memory", (most, &format!("at most {most:.0} launches")), (BACKLOG, "launches"));
    let measured = format!(
        "claims {:.0}/s at most, later {:.0}/s; creates {:.0}/s",
        plain.top_rate(CLAIMED),
        plain.later_rate(CLAIMED),
        plain.later_rate(CREATED)
    );
    table.row("  intake slows to the creates", &measured, "");
    trial_rows(table, "tasks without quota, or refused", &overload.bad, &BAD_SHOWS);
}

fn trial_rows(table: &mut Table, what: &str, trial: &Trial, shows: &[&str]) {
    let memory = format!("{:.0} MiB at most; taken back in {:.0} s", trial.peak_mib, trial.clearing);
    table.row(&format!("{} {what}", trial.tasks), &memory, "");
    for sample in trial.quarters() {
        let of = |name: &str| sample.metrics.get(name);
        let counts = (of(CLAIMED), of(CREATED), of(FAILED));
        let measured = format!("{} claimed, {} created, {} failed", counts.0, counts.1, counts.2);
        let memory = format!("{:.0} MiB", sample.resident_mib);
        table.row(&format!("  after {:.0} s", sample.seconds), &measured, &memory);
    }
    let figure = format!("  {} other tasks beside them: to created", trial.stream.launches);
    for (figure, stream) in
        [(figure.as_str(), trial.stream), ("  those of the second half", trial.stream_later)]
    {
        let (p50, p99, worst) = (stream.p50 * 1e3, stream.p99 * 1e3, stream.worst * 1e3);
        table.row(figure, &format!("p50 {p50:.0} ms, p99 {p99:.0} ms, worst {worst:.0} ms"), "");
    }
    for name in shows {
        let measured = format!("{:.0} at most, {:.0} in the end", trial.most(&[name]), trial.last(name));
        table.row(&format!("  {name}"), &measured, "");
    }
}

fn restart_rows(table: &mut Table, restarts: &Restarts) {
    let (live, rounds) = (restarts.live, &restarts.rounds);
    let worst = |of: fn(&Restart) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let each = |of: fn(&Restart) -> f64| listed(rounds.iter().map(of));
    let (first, all) = (worst(|round| round.first_pod), each(|round| round.first_pod));
    let figure = format!("killed with {live} live pods: start to first pod");
    table.below(&figure, (first, &format!("{all} s, worst {first:.2}")), (RESTART_SECONDS, "s"));
    let (cpu, peak) = (worst(|round| round.cpu_ms), worst(|round| round.memory.peak_mib));
    table.row("until then, at most", &format!("{cpu:.0} ms CPU, {peak:.0} MiB resident"), "");
    table.row("until all live pods are known", &format!("{} s", each(|round| round.all_known)), "");
    let (now, peak) = (worst(|round| round.memory_after.now_mib), worst(|round| round.memory_after.peak_mib));
    let figure = format!("resident memory with {live} live pods");
    table.below(&figure, (peak, &format!("{now:.0} MiB, peak {peak:.0} MiB")), (RSS_MIB, "MiB"));
    let worst = restarts.takeovers.iter().copied().fold(0.0, f64::max);
    let measured = format!("{} s, worst {worst:.2}", listed(restarts.takeovers.iter().copied()));
    table.below("leader killed: until the standby's first pod", (worst, &measured), (TAKEOVER_SECONDS, "s"));
}

fn listed(seconds: impl Iterator<Item = f64>) -> String {
    seconds.map(|one| format!("{one:.2}")).collect::<Vec<_>>().join(" ")
}

fn cpu(of: impl Iterator<Item = Cpu>) -> String {
    let all: Vec<Cpu> = of.collect();
    let mean = |part: fn(&Cpu) -> f64| all.iter().map(part).sum::<f64>() / all.len().max(1) as f64;
    format!(
        "daemon {:.2}, PostgreSQL {:.2}, API server {:.2}, etcd {:.2} ms",
        mean(|cpu| cpu.daemon),
        mean(|cpu| cpu.postgres),
        mean(|cpu| cpu.apiserver),
        mean(|cpu| cpu.etcd)
    )
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "not a git repository".to_owned();
    };
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} and uncommitted changes"),
    }
}
