//! Real faults on real parts: nothing is lost, nothing is doubled, nothing is stuck.
//!
//! PostgreSQL, etcd and kube-apiserver, two schedulers of a real Airflow with the plugin, two daemons as they are
//! shipped, and pods that are processes; all of them are killed, cut off, silenced and paused while DAG runs go through
//! them (`plan.rs` has the list). Workers are light ones: a real `airflow tasks run` costs seconds of CPU, and 2,000 of
//! them do not fit ten minutes on two cores; tests/suite/tests/airflow.rs has the real ones. Each body appends one line
//! with the key of its queueing to a file. At the end the file, Airflow's rows and Windlass's launches must tell the
//! same story, and nothing may be left (`verdict.rs`).
//!
//! `WINDLASS_FAULTS_LONG=1` (`cargo xtask test faults --long`) plays ten minutes of faults and 2,100 tasks,
//! `WINDLASS_FAULTS_SEED=N` another plan. A run that fails keeps its logs and rows, and says where.

mod chaos;
mod deployment;
mod http;
mod load;
mod measure;
mod part;
mod plan;
mod proxy;
mod story;
mod verdict;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos::Chaos;
use deployment::Deployment;
use plan::Form;
use story::Rng;

/// The standby takes over within this, the lease (4.5 s) and a poll (0.3 s) included.
const TAKEOVER: Duration = Duration::from_secs(5);
const HAND_OVER: Duration = Duration::from_secs(1);
const KILLED_POD: Duration = Duration::from_secs(2);
/// The short form runs beside builds and other tests, where seconds say little: it bears so many times the promise, and
/// prints what it measured.
const SHORT_BEARS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_doubled_or_stuck() -> Result<()> {
    let is_long = std::env::var_os("WINDLASS_FAULTS_LONG").is_some_and(|value| !value.is_empty());
    let form = if is_long { Form::long() } else { Form::short() };
    let seed = match std::env::var("WINDLASS_FAULTS_SEED") {
        Ok(seed) => seed.parse().context("WINDLASS_FAULTS_SEED is no number")?,
        Err(_) => 1,
    };
    let begun = Instant::now();
    let mut on = Deployment::start().await?;
    let story = std::sync::Arc::clone(&on.story);
    story.say(&format!("seed {seed}; the deployment was started within {:?}", begun.elapsed()));
    let mut chaos = Chaos::default();
    wait_until_it_works(&mut on, &mut chaos).await?;
    story.say("the first run is through: faults begin");

    let mut rng = Rng(seed);
    let plan = plan::plan(&form, &mut rng);
    let every = form.chaos / form.runs;
    let load = load::start(on.airflow.clone(), story.clone(), form.runs, every);
    chaos.play(&mut on, &plan, &form, &mut rng).await?;
    load.await??;
    story.say("all faults are done: measurements begin");
    let measured = measure::measure(&mut on, &mut chaos, form.samples).await?;
    story.say("the last fault is over");
    let (wrong, tasks) = verdict::judge(&mut on, &mut chaos, &form).await?;
    println!("{}", verdict::figures(&on).await?);
    let faults: Vec<String> = form.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    println!("measured: faults of seed {seed}: {}", faults.join(", "));
    println!("{}", measured.lines());
    if !wrong.is_empty() {
        bail!("{}", verdict::show(&on, &wrong, &tasks).await);
    }
    let promises = [
        ("takeover", measured.takeover, TAKEOVER),
        ("hand-over", measured.hand_over, HAND_OVER),
        ("told of a killed pod", measured.killed_pod, KILLED_POD),
    ];
    for (what, times, promised) in promises {
        let at_most = if is_long { promised } else { promised * SHORT_BEARS };
        ensure!(times.percentile(99) <= at_most, "{what}: {times:?} is over {at_most:?}\n{}", story.text());
    }
    Ok(())
}

/// One run from its trigger to its end: schedulers, daemons and kubelet are up.
async fn wait_until_it_works(on: &mut Deployment, chaos: &mut Chaos) -> Result<()> {
    load::trigger(&on.airflow, "warm").await?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while on.airflow.run_state(load::DAG, "warm").await?.as_deref() != Some("success") {
        chaos.tick(on)?;
        if Instant::now() > deadline {
            let none = std::collections::BTreeSet::new();
            bail!("{}", verdict::show(on, &["the first run does not end".to_owned()], &none).await);
        }
        tokio::time::sleep(windlass_lab::process::POLL).await;
    }
    Ok(())
}
