//! `pod_mutation_hook` of local settings, called by the helper beside the scheduler.

use anyhow::{Context, Result, ensure};
use windlass_lab::airflow::Component;

use super::{RUN, alone, beside, nothing_is_left};

#[test]
fn a_pod_mutation_hook_changes_each_pod_and_fails_its_own_tasks() -> Result<()> {
    beside(async |stack| {
        let (hooked, failing) = (stack.trigger("hooked").await?, stack.trigger("hook_fails").await?);
        ensure!(stack.airflow.wait_run("hooked", &hooked, RUN).await? == "success");
        assert_eq!(
            stack.file("hooked").lines().filter(|line| *line == format!("{hooked} hooked")).count(),
            1
        );
        ensure!(stack.airflow.wait_run("hook_fails", &failing, RUN).await? == "failed");
        let launch =
            stack.launch(("hook_fails", &failing, "never"), 0, |launch| launch.stage == "closed").await?;
        assert_eq!(launch.reason.as_deref(), Some("MutationHookFailed"));
        let said = "pod_mutation_hook failed: ValueError: this DAG has no team";
        assert_eq!(launch.message.as_deref(), Some(said));
        nothing_is_left(stack, "hooked", &hooked, &["reads"]).await
    })
}

/// The scheduler's process goes and takes the helper with it; the next one offers a new one at the same place.
#[test]
fn a_new_scheduler_brings_a_new_helper() -> Result<()> {
    alone(async |stack| {
        stack.airflow.kill(Component::Scheduler);
        stack.airflow.start(Component::Scheduler).await?;
        let run = stack.trigger("hooked").await?;
        ensure!(stack.airflow.wait_run("hooked", &run, RUN).await? == "success");
        let hooked = stack.file("hooked");
        hooked.lines().find(|line| *line == format!("{run} hooked")).context("the hook was not called")?;
        Ok(())
    })
}
