//! Real faults on real parts: nothing is lost, nothing is doubled, nothing is stuck.
//!
//! PostgreSQL behind PgBouncer, etcd, kube-apiserver and its controllers, two schedulers of a real Airflow with the
//! plugin, two daemons as they are shipped with identity rules, the webhooks and the controller by which EKS gives pods
//! their roles and security groups, and pods that are processes; all of them are killed, cut off, silenced,
//! paused, throttled and filled up while DAG runs go through them (`plan.rs` has the list). Workers are light ones: a
//! real `airflow tasks run` costs seconds of CPU, and 2,000 of them do not fit ten minutes on two cores;
//! tests/suite/tests/airflow.rs has the real ones. Each body appends one line with the key of its queueing to a file. At
//! the end the file, Airflow's rows and Windlass's launches must tell the same story, and nothing may be left
//! (`verdict.rs`).
//!
//! Not here: a clock that steps. What the daemon decides by its own clock it reads from the kernel's time since boot
//! (`executor/daemon/src/clock.rs`), which nobody can set, with a system call that no preloaded library catches; when a
//! lease ends is for the database's clock. Clocks that jump and drift are the simulator's.
//!
//! `WINDLASS_FAULTS_LONG=1` (`cargo xtask test faults --long`) plays ten minutes of faults and 2,100 tasks,
//! `WINDLASS_FAULTS_SEED=N` another plan. The short form tells seconds; only the long one, on a machine of its own, holds
//! them to what was promised. A run that fails keeps its logs and rows, and says where.

mod aws;
mod chaos;
mod cluster_faults;
mod deployment;
mod journal;
mod load;
mod measure;
mod part;
mod plan;
mod story;
mod verdict;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chaos::Chaos;
use deployment::Deployment;
use journal::Wrong;
use load::Load;
use plan::{Fault, Form};
use windlass_lab::pgbouncer::PgBouncer;
use windlass_sim::Rng;

/// The standby takes over within this, the lease (4.5 s) and a poll (0.3 s) included.
const TAKEOVER: Duration = Duration::from_secs(5);
const HAND_OVER: Duration = Duration::from_secs(1);
const KILLED_POD: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_doubled_or_stuck() -> Result<()> {
    let is_long = std::env::var_os("WINDLASS_FAULTS_LONG").is_some_and(|value| !value.is_empty());
    let mut form = if is_long { Form::long() } else { Form::short() };
    let seed = match std::env::var("WINDLASS_FAULTS_SEED") {
        Ok(seed) => seed.parse().context("WINDLASS_FAULTS_SEED is no number")?,
        Err(_) => 1,
    };
    if let Err(missing) = PgBouncer::available() {
        ensure!(std::env::var_os("CI").is_none(), "{missing:#}");
        println!("skipped: a pooler between daemons and database: {missing:#}");
        form = form.without(Fault::RestartPooler);
    }
    let begun = Instant::now();
    let mut on = Deployment::start().await?;
    let story = std::sync::Arc::clone(&on.story);
    story.say(&format!("seed {seed}; the deployment was started within {:?}", begun.elapsed()));
    let mut chaos = Chaos::default();
    wait_until_it_works(&mut on, &mut chaos).await?;
    story.say("the first run is through: faults begin");

    let mut rng = Rng::new(seed);
    let plan = plan::plan(&form, &mut rng);
    let every = form.chaos / form.runs;
    let load = Load::start(on.airflow.clone(), story.clone(), form.runs, every);
    chaos.play(&mut on, &plan, &form, &mut rng).await?;
    load.end().await?;
    story.say("all faults are done: measurements begin");
    let measured = measure::measure(&mut on, &mut chaos, form.samples).await?;
    story.say("the last fault is over");
    let wrong = verdict::judge(&mut on, &mut chaos, &form).await?;
    println!("{}", verdict::figures(&on).await?);
    let faults: Vec<String> = form.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    println!("measured: {} faults of seed {seed}: {}", form.count(), faults.join(", "));
    let seen: Vec<String> = chaos.seen.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    println!("measured: refused, deleted and without room: {}", seen.join(", "));
    println!("{}", measured.lines());
    if !wrong.words.is_empty() {
        bail!("{}", verdict::show(&on, &wrong).await);
    }
    let promises = [
        ("takeover", measured.takeover, TAKEOVER),
        ("hand-over", measured.hand_over, HAND_OVER),
        ("a killed pod's outcome for Airflow", measured.handed_to_airflow, KILLED_POD),
        ("new state of a killed pod's task", measured.killed_pod, KILLED_POD),
    ];
    for (what, times, promised) in promises.into_iter().filter(|_| form.seconds_hold) {
        ensure!(times.percentile(99) <= promised, "{what}: {times:?} is over {promised:?}");
    }
    Ok(())
}

/// One run from its trigger to its end: schedulers, daemons and kubelet are up.
async fn wait_until_it_works(on: &mut Deployment, chaos: &mut Chaos) -> Result<()> {
    load::trigger(&on.airflow, "warm").await?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while on.airflow.run_state(load::DAG, "warm").await?.as_deref() != Some("success") {
        chaos.tick(on).await?;
        if Instant::now() > deadline {
            let mut wrong = Wrong::default();
            wrong.say("stuck: the first run does not end".to_owned());
            bail!("{}", verdict::show(on, &wrong).await);
        }
        tokio::time::sleep(windlass_lab::process::POLL).await;
    }
    Ok(())
}
