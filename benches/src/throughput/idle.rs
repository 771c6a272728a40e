//! What the daemon costs while it leads and nothing is queued.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::progress::Progress;
use crate::meter;
use crate::metrics::Metrics;
use crate::rig::Rig;

const CALLS: &str = "windlass_database_calls_total";

#[derive(Debug)]
pub(super) struct Idle {
    /// Percent of one core.
    pub(super) daemon_percent: f64,
    pub(super) postgres_percent: f64,
    /// By PostgreSQL's own count.
    pub(super) transactions_per_second: f64,
    /// By call, per second.
    pub(super) calls: BTreeMap<String, f64>,
    /// Of a look for handed-over tasks, as the daemon sees it.
    pub(super) poll_ms: f64,
}

pub(super) async fn run(rig: &Rig, seconds: usize, progress: &Progress) -> Result<Idle> {
    // What the last round left to do is done, and statistics of other connections are written.
    tokio::time::sleep(Duration::from_secs(3)).await;
    progress.say(&format!("idle for {seconds} s"));
    let pid = rig.daemon.process().pid();
    let (metrics, transactions) =
        (Metrics::read(rig.daemon.port()).await?, rig.scheduler.transactions().await?);
    let (began, cpu) = (Instant::now(), (meter::cpu_ms(pid)?, meter::family_cpu_ms(rig.postgres.pid())?));
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let spent = (meter::cpu_ms(pid)? - cpu.0, meter::family_cpu_ms(rig.postgres.pid())? - cpu.1);
    let elapsed = began.elapsed().as_secs_f64();
    let after = Metrics::read(rig.daemon.port()).await?;
    let transactions = rig.scheduler.transactions().await? - transactions;
    if after.get("windlass_leading") != 1.0 {
        bail!("the daemon lost its term while it was idle");
    }
    let before = metrics.by_label(CALLS, "call");
    let rate = |(call, count): (String, f64)| {
        let since = count - before.get(&call).copied().unwrap_or(0.0);
        (since > 0.0).then(|| (call, since / elapsed))
    };
    let calls = after.by_label(CALLS, "call").into_iter().filter_map(rate).collect();
    let since = |sample: &str| after.get(sample) - metrics.get(sample);
    let polls = since("windlass_database_call_seconds_count{call=\"intake\"}");
    let poll_ms = 1e3 * since("windlass_database_call_seconds_sum{call=\"intake\"}") / polls.max(1.0);
    Ok(Idle {
        daemon_percent: spent.0 / elapsed / 10.0,
        postgres_percent: spent.1 / elapsed / 10.0,
        transactions_per_second: transactions as f64 / elapsed,
        calls,
        poll_ms,
    })
}
