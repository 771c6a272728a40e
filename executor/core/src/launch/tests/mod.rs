//! The state machine, one story a test.

mod after;
mod alive;
mod before;
mod branch;
mod gate;
mod verdict;

use super::*;
use crate::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use crate::ids::TaskKey;
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pod_view::{Branch, ContainerState, Gate, PodPhase, PodView};
use crate::store::LaunchChange;
use crate::task::{DagFacts, ExecutorConfig, TaskRow, TaskSpec, TaskState, TaskView};
use crate::time::UtcMicros;
use std::sync::Arc;

const T0: Millis = Millis(1_000);

fn queueing() -> Queueing {
    let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
    Queueing { key, try_number: 1, queued_at: UtcMicros(7) }
}

fn queued_task() -> QueuedTask {
    let spec = TaskSpec {
        queueing: queueing(),
        queue: "default".into(),
        pool: "default_pool".into(),
        priority_weight: 1,
        scheduler_job_id: 1,
        airflow_version: "2.11.2".into(),
        has_pod_mutation_hook: false,
        operator: String::new(),
        dag: DagFacts::default(),
        command_is_own: false,
        branches: None,
        command: vec!["airflow".into()],
        executor_config: Ok(ExecutorConfig::default()),
    };
    let launch = LaunchId::of(&crate::ids::InstallationId("i".into()), &queueing());
    QueuedTask { launch, spec: Arc::new(spec), pod: PodRef { namespace: "ns".into(), name: "d-t-1".into() } }
}

fn view(launch: &Launch) -> PodView {
    PodView {
        pod: launch.pod.clone(),
        uid: PodUid("u1".into()),
        resource_version: "10".into(),
        launch: launch.id.clone(),
        attempt: launch.attempt,
        deleting: false,
        bound: false,
        phase: PodPhase::Pending,
        status_reason: String::new(),
        status_message: String::new(),
        worker: ContainerState::Unknown,
        failed_init: None,
        unschedulable: None,
        disruption: None,
        gate: Gate::Open,
        branch: Branch::NotDemanded,
    }
}

fn running(launch: &Launch) -> Box<PodView> {
    Box::new(PodView {
        phase: PodPhase::Running,
        bound: true,
        worker: ContainerState::Running,
        ..view(launch)
    })
}

fn ended(launch: &Launch, exit_code: i32, reason: &str) -> Box<PodView> {
    let phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
    let worker = ContainerState::Terminated { exit_code, reason: reason.into(), message: String::new() };
    Box::new(PodView { phase, bound: true, worker, ..view(launch) })
}

fn row(launch: &Launch, state: TaskState) -> TaskRow {
    TaskRow {
        state,
        try_number: 1,
        queued_at: Some(UtcMicros(7)),
        hostname: Some(launch.pod.name.clone()),
        worker_alive: Some(true),
    }
}

fn seen(launch: &Launch, row: Option<TaskRow>) -> Fact {
    Fact::TaskSeen(TaskView { launch: launch.id.clone(), row, withdrawn: false })
}

/// A launch, and what it has asked for so far.
struct Story {
    launch: Launch,
    policy: Policy,
    now: Millis,
}

impl Story {
    fn claimed() -> Self {
        let mut launch = Launch::seen(&queued_task(), T0);
        let policy = Policy::default();
        assert_eq!(launch.apply(Fact::Claimed, T0, &policy), vec![]);
        Self { launch, policy, now: T0 }
    }

    fn created() -> Self {
        let mut story = Self::claimed();
        assert_eq!(story.tell(Fact::Turn), vec![Action::Create]);
        let view = Box::new(view(&story.launch));
        let actions = story.tell(Fact::CreateAnswered(CreateAnswer::Created(view)));
        assert!(matches!(&actions[..], [Action::Save(LaunchChange::Created { .. })]), "{actions:?}");
        story
    }

    fn started() -> Self {
        let mut story = Self::created();
        let actions = story.tell(Fact::PodSeen(running(&story.launch)));
        assert!(matches!(&actions[..], [Action::Save(LaunchChange::Running { .. })]), "{actions:?}");
        story
    }

    fn tell(&mut self, fact: Fact) -> Vec<Action> {
        self.launch.apply(fact, self.now, &self.policy)
    }

    fn shows(&mut self, view: PodView) -> Vec<Action> {
        self.tell(Fact::PodSeen(Box::new(view)))
    }

    fn ends(&mut self, exit_code: i32, reason: &str) {
        let actions = self.tell(Fact::PodSeen(ended(&self.launch, exit_code, reason)));
        assert!(actions.ends_with(&[Action::ReadTask]), "{actions:?}");
    }

    fn judged(&mut self, row: Option<TaskRow>) -> Vec<Action> {
        self.tell(seen(&self.launch, row))
    }

    #[track_caller]
    fn settled(&mut self, row: Option<TaskRow>) -> Outcome {
        match &self.judged(row)[..] {
            [Action::Save(LaunchChange::Settle { outcome })]
            | [Action::KeepLog { .. }, Action::Save(LaunchChange::Settle { outcome })] => outcome.clone(),
            other => panic!("not settled: {other:?}"),
        }
    }
}

#[test]
fn a_task_that_goes_well_is_claimed_created_run_settled_deleted_closed() {
    let mut story = Story::started();
    story.ends(0, "Completed");
    let outcome = story.settled(Some(row(&story.launch, TaskState::Success)));
    assert_eq!(
        (outcome.kind, outcome.message.as_str()),
        (OutcomeKind::Success, "the worker reported success")
    );
    let delete = story.tell(Fact::Saved);
    assert!(matches!(&delete[..], [Action::DeletePod { resource_version: None, .. }]), "{delete:?}");
    assert_eq!(
        story.tell(Fact::DeleteAnswered(DeleteAnswer::Accepted)),
        vec![Action::Save(LaunchChange::Close)]
    );
    story.tell(Fact::Saved);
    assert_eq!(story.launch.stage, Stage::Closed);
}
