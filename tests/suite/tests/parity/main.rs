//! Side by side: the same DAGs under Airflow's own LocalExecutor and under Windlass come out the same.
//!
//! Two real Airflows of one version, each with its scheduler, triggerer and database, play the same runs: a folder of
//! our own with the odd cases (`parity_dags`), and DAGs that Airflow ships as examples (`examples.rs` says which are
//! left out, and why). Then run by run, task by task and map index by map index the final state and the number of
//! tries must be equal, or the difference must stand in [`table::EXPLAINED`]. LocalExecutor is the measure because it
//! has nothing between the scheduler and `airflow tasks run`: what differs from it, the executor has done.
//!
//! `WINDLASS_PARITY_LONG=1` (`cargo xtask test parity --long`) plays all examples that can run here, else a handful.

mod examples;
mod play;
mod pods;
mod table;

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use play::{DAGS, Form, LocalAirflow};
use tokio::runtime::Runtime;
use windlass_suite::Stack;

/// Windlass's side: both tests use it at the same time.
struct Shared {
    runtime: Runtime,
    stack: Stack,
    /// Holds the DAG files while the deployment lives.
    _dags: windlass_lab::folder::Folder,
}

#[expect(clippy::expect_used, reason = "without a deployment no test can run")]
static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let (stack, dags) = runtime.block_on(play::windlass(Form::of_environment())).expect("Windlass starts");
    Shared { runtime, stack, _dags: dags }
});

#[test]
fn the_same_tasks_come_to_the_same_end() -> Result<()> {
    let shared = &*SHARED;
    shared.runtime.block_on(async {
        let form = Form::of_environment();
        let local = LocalAirflow::start(form).await?;
        let (by_windlass, by_local) =
            tokio::try_join!(play::all(&shared.stack.airflow, form), play::all(&local.airflow, form))?;
        ensure!(by_windlass.dags() > DAGS, "{} DAGs were played", by_windlass.dags());

        // Windlass ran them: no task that a worker took is without its launch.
        let strangers = play::tasks_without_launch(&shared.stack.airflow).await?;
        ensure!(strangers.is_empty(), "not launched by Windlass: {strangers:?}");

        let compared = table::compare(&by_local, &by_windlass);
        println!("measured: {compared}");
        compared.explained.iter().for_each(|difference| println!("measured: explained: {difference}"));
        let mut told = Vec::new();
        for (cell, how) in compared.different {
            told.push(how);
            told.extend(play::end_of_logs("LocalExecutor", &local.airflow, &cell)?);
            told.extend(play::end_of_logs("Windlass", &shared.stack.airflow, &cell)?);
        }
        ensure!(told.is_empty(), "LocalExecutor and Windlass differ:\n{}", told.join("\n"));
        Ok(())
    })
}

#[test]
fn the_kubernetes_example_runs_with_its_pod_overrides() -> Result<()> {
    let shared = &*SHARED;
    shared.runtime.block_on(async {
        let form = Form::of_environment();
        let seen =
            pods::of_the_example(&shared.stack, form).await.context("run example_kubernetes_executor")?;
        seen.check()
    })
}
