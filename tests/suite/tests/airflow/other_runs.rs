//! Tasks that the scheduler's loop does not queue: backfills, and single tasks by hand.

use anyhow::{Context, Result, ensure};
use windlass_lab::airflow::TaskRow;

use super::{RUN, beside, nothing_is_left};

#[test]
fn a_backfill_runs_in_pods_with_its_own_options() -> Result<()> {
    beside(async |stack| {
        let dates = ["--start-date", "2024-03-01", "--end-date", "2024-03-02"];
        let arguments =
            [&["dags", "backfill", "nightly"], dates.as_slice(), &["--ignore-first-depends-on-past"]];
        stack.airflow.cli(&arguments.concat()).await?;
        for day in ["01", "02"] {
            let run = format!("backfill__2024-03-{day}T00:00:00+00:00");
            let rows = stack.airflow.tasks("nightly", &run).await?;
            ensure!(rows.len() == 2 && rows.iter().all(|row| row.is("success")), "{rows:?}");
            assert_eq!(stack.bodies(&run), ["loads -1 1", "reports -1 1"]);
            nothing_is_left(stack, "nightly", &run, &["loads", "reports"]).await?;
        }
        Ok(())
    })
}

#[test]
fn a_task_that_is_run_by_hand_gets_a_pod_of_its_own() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("by_hand").await?;
        ensure!(stack.airflow.wait_run("by_hand", &run, RUN).await? == "success");
        stack.airflow.cli(&["tasks", "run", "by_hand", "once", &run, "--force"]).await?;
        let again = |row: &TaskRow| row.is("success") && row.try_number == 2;
        stack.airflow.wait_task(("by_hand", &run, "once", -1), RUN, again).await?;
        assert_eq!(stack.bodies(&run), ["once -1 1", "once -1 2"]);
        let row = stack.airflow.task("by_hand", &run, "once", -1).await?.context("no row")?;
        let launch = stack.launches("by_hand", &run, "once").await?.pop().context("no launch")?;
        assert_eq!(row.hostname, launch.pod_name);
        nothing_is_left(stack, "by_hand", &run, &["once"]).await
    })
}
