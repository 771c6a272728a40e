//! Half load: small turns of the scheduler at half of the rate that a burst had; how long a queued task waits for its pod.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval};

use super::creates;
use super::progress::Progress;
use crate::rig::Rig;
use crate::scheduler::Standing;

/// Turns of the scheduler's loop per second.
const TURNS: f64 = 10.0;
const RUN: &str = "latency";

#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// Asked for.
    pub(super) per_second: f64,
    pub(super) standing: Standing,
}

pub(super) async fn run(rig: &Rig, full_rate: f64, seconds: usize, progress: &Progress) -> Result<Latency> {
    let per_turn = (full_rate / 2.0 / TURNS).max(1.0) as usize;
    let tasks = per_turn * (TURNS as usize) * seconds;
    rig.scheduler.new_run(RUN, tasks).await?;
    let mut turns = interval(Duration::from_secs_f64(1.0 / TURNS));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for from in (0..tasks).step_by(per_turn) {
        turns.tick().await;
        rig.scheduler.queue(RUN, from..from + per_turn).await?;
    }
    creates::wait_for_pods(rig, RUN, tasks).await?;
    let standing = creates::check_pods(rig, RUN, tasks).await?;
    let (p50, p99) = (standing.p50 * 1e3, standing.p99 * 1e3);
    let per_second = per_turn as f64 * TURNS;
    progress
        .say(&format!("half load, {per_second:.0}/s: queued to created p50 {p50:.0} ms, p99 {p99:.0} ms"));
    creates::clear(rig, RUN, tasks).await?;
    Ok(Latency { per_second, standing })
}
