//! The engine's own rules: order, barrier, batches, budgets, the term. What faults do to them, the simulator shows.

mod barrier;
mod recovery;
mod term;
mod watch;

use super::*;
use std::sync::Arc;
use windlass_core::cluster::{CreateAnswer, PodEvent};
use windlass_core::ids::{Attempt, Epoch, InstallationId, LaunchId, PodRef, PodUid, Queueing, TaskKey};
use windlass_core::launch::Policy;
use windlass_core::outcome::{Outcome, Reason};
use windlass_core::pod_view::{Branch, ContainerState, Gate, PodPhase, PodView};
use windlass_core::store::{
    ClaimAnswer, IntakePass, LaunchRow, QueuedTask, SaveAnswer, StoredStage, TermAnswer,
};
use windlass_core::task::{DagFacts, ExecutorConfig, TaskRow, TaskSpec, TaskState, TaskView};
use windlass_core::time::{Millis, UtcMicros};

/// A world of one engine that remembers what it was asked.
struct World {
    engine: Engine,
    now: Millis,
    asked: Vec<Command>,
}

impl World {
    fn new() -> Self {
        // Without gaps each answer leads to what comes next at once; `outbox` tests the gaps.
        let settings = Settings { save_gap_ms: 0, note_gap_ms: 0, ..Settings::default() };
        let engine = Engine::new(settings, Policy::default());
        Self { engine, now: Millis(1_000), asked: Vec::new() }
    }

    /// One that leads, has loaded nothing, and has had its first passes answered with nothing.
    fn leading() -> Self {
        let mut world = Self::new();
        world.input(Input::Tick);
        world.answer("acquire", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
        world.answer("load", Answer::Loaded(Ok(Some(vec![]))));
        world.answer("full", Answer::Intake(Ok(vec![])));
        world
    }

    fn input(&mut self, input: Input) {
        self.asked.extend(self.engine.handle(self.now, input));
    }

    fn answer(&mut self, what: &str, answer: Answer) {
        let command = self.take(what);
        self.input(Input::Answer { id: command.id, answer });
    }

    /// The oldest open command of this kind.
    #[track_caller]
    fn take(&mut self, what: &str) -> Command {
        let at = self.asked.iter().position(|command| name(&command.ask) == what);
        let Some(at) = at else {
            panic!("nobody asked for `{what}`, but for {:?}", self.names());
        };
        self.asked.remove(at)
    }

    fn names(&self) -> Vec<&'static str> {
        self.asked.iter().map(|command| name(&command.ask)).collect()
    }

    fn count(&self, what: &str) -> usize {
        self.names().into_iter().filter(|name| *name == what).count()
    }

    fn hand_over(&mut self, tasks: Vec<QueuedTask>) {
        self.input(Input::Woken);
        self.answer("handover", Answer::Intake(Ok(tasks)));
    }

    fn claim_all(&mut self) {
        let command = self.take("claim");
        let Ask::Claim { claims, .. } = &command.ask else { unreachable!() };
        let answers = claims.iter().map(|claim| ClaimAnswer::Claimed(claim.launch.clone())).collect();
        self.input(Input::Answer { id: command.id, answer: Answer::Claimed(Ok(Some(answers))) });
    }

    /// Tasks in the order in which their pods were asked for.
    fn created(&self) -> Vec<String> {
        let task = |ask: &Ask| match ask {
            Ask::Create { spec, .. } => Some(spec.queueing.key.task_id.clone()),
            _ => None,
        };
        self.asked.iter().filter_map(|command| task(&command.ask)).collect()
    }
}

fn name(ask: &Ask) -> &'static str {
    match ask {
        Ask::AcquireTerm { .. } => "acquire",
        Ask::RenewTerm { .. } => "renew",
        Ask::ReleaseTerm { .. } => "release",
        Ask::Load { .. } => "load",
        Ask::Recover { .. } => "recover",
        Ask::Intake { pass: IntakePass::Full, .. } => "full",
        Ask::Intake { pass: IntakePass::Handover, .. } => "handover",
        Ask::Claim { .. } => "claim",
        Ask::ReadTasks(_) => "read tasks",
        Ask::ReadSpecs(_) => "read specs",
        Ask::FindWithdrawn { .. } => "withdrawn",
        Ask::FindLaunches(_) => "find",
        Ask::Save { .. } => "save",
        Ask::NotePods(_) => "note",
        Ask::KeepLog { .. } => "keep_log",
        Ask::FollowOwners { .. } => "follow_owners",
        Ask::Purge { .. } => "purge",
        Ask::Create { .. } => "create",
        Ask::GetPod { .. } => "get",
        Ask::DeletePod { .. } => "delete",
        Ask::Watch(true) => "watch",
        Ask::Watch(false) => "unwatch",
        Ask::OpenGate { .. } => "gate",
        Ask::Exit => "exit",
    }
}

pub(crate) fn task(task_id: &str, namespace: &str, priority_weight: i32, queued_at: i64) -> QueuedTask {
    let key = TaskKey { dag_id: "d".into(), task_id: task_id.into(), run_id: "r".into(), map_index: -1 };
    let queueing = Queueing { key, try_number: 1, queued_at: UtcMicros(queued_at) };
    let launch = LaunchId::of(&InstallationId("i".into()), &queueing);
    let name = windlass_core::pod::pod_name("d", task_id, &launch, Attempt::FIRST);
    let spec = TaskSpec {
        queueing,
        queue: "default".into(),
        pool: "default_pool".into(),
        priority_weight,
        scheduler_job_id: 1,
        airflow_version: "2.11.2".into(),
        has_pod_mutation_hook: false,
        operator: String::new(),
        dag: DagFacts::default(),
        command_is_own: false,
        branches: None,
        command: vec![],
        executor_config: Ok(ExecutorConfig::default()),
    };
    QueuedTask { launch, spec: Arc::new(spec), pod: PodRef { namespace: namespace.into(), name } }
}

pub(crate) fn pod(task: &QueuedTask, uid: &str) -> Box<PodView> {
    Box::new(PodView {
        pod: task.pod.clone(),
        uid: PodUid(uid.into()),
        resource_version: "1".into(),
        launch: task.launch.clone(),
        attempt: Attempt::FIRST,
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
    })
}

/// As another term finds its launch, with the pod `u1` where it must have one.
fn row(task: &QueuedTask, stage: StoredStage) -> LaunchRow {
    LaunchRow {
        launch: task.launch.clone(),
        queueing: task.spec.queueing.clone(),
        stage,
        attempt: Attempt::FIRST,
        pod: task.pod.clone(),
        uid: (stage != StoredStage::Claimed).then(|| PodUid("u1".into())),
        outcome: (stage == StoredStage::Closed).then(|| Outcome::success("done")),
        scheduler_job_id: 1,
        priority_weight: 1,
    }
}

#[test]
fn no_pod_is_created_before_its_claim_is_committed() {
    let mut world = World::leading();
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    assert_eq!(world.created(), Vec::<String>::new());
    let command = world.take("claim");
    world.input(Input::Answer { id: command.id, answer: Answer::Claimed(Err("cut".into())) });
    assert_eq!(world.created(), Vec::<String>::new());
    world.now = world.now.plus(Settings::default().retry_ms);
    world.input(Input::Tick);
    world.claim_all();
    assert_eq!(world.created(), ["a"]);
}

#[test]
fn the_highest_priority_is_created_first_then_the_longest_queued() {
    let mut world = World::leading();
    world.hand_over(vec![task("low", "ns", 1, 1), task("late", "ns", 9, 3), task("early", "ns", 9, 2)]);
    world.claim_all();
    assert_eq!(world.created(), ["early", "late", "low"]);
}

#[test]
fn the_window_bounds_creates_in_flight() {
    let mut world = World::leading();
    world.hand_over((0..50).map(|i| task(&format!("t{i}"), "ns", 1, i)).collect());
    world.claim_all();
    assert_eq!(world.count("create"), 8);
}

#[test]
fn a_namespace_without_quota_is_held_and_the_others_go_on() {
    let mut world = World::leading();
    world.hand_over(vec![task("full", "etl", 9, 1), task("full2", "etl", 9, 2)]);
    world.claim_all();
    for _ in 0..2 {
        let full = CreateAnswer::QuotaFull { message: "exceeded quota".into() };
        world.answer("create", Answer::Created(full));
    }
    world.hand_over(vec![task("other", "ml", 1, 3), task("full3", "etl", 9, 4)]);
    world.claim_all();
    assert_eq!(world.created(), ["other"]);
    assert_eq!(world.engine.report(world.now).held_namespaces, ["etl"]);
}

#[test]
fn a_namespace_that_is_not_ready_is_waited_for_and_then_its_tasks_fail_at_once() {
    let mut world = World::leading();
    let tried = |world: &mut World, name: &str, at: i64| {
        world.hand_over(vec![task(name, "etl", 9, at)]);
        world.claim_all();
        let created = world.created().contains(&name.to_owned());
        if created {
            let message = "it is being terminated".into();
            world.answer("create", Answer::Created(CreateAnswer::NamespaceNotReady { message }));
        }
        created
    };
    let failed = |world: &World| world.engine.report(world.now).stages.get("settling").copied().unwrap_or(0);
    assert!(tried(&mut world, "first", 1));
    assert_eq!(world.engine.report(world.now).held_namespaces, ["etl"]);
    assert!(!tried(&mut world, "second", 2), "it is held back");
    let Settings { namespace_hold_ms, namespace_ready_ms, .. } = Settings::default();
    renewed(&mut world, namespace_ready_ms - 100);
    assert!(tried(&mut world, "third", 3));
    assert_eq!(failed(&world), 0, "it may still become ready");
    renewed(&mut world, namespace_hold_ms);
    assert!(tried(&mut world, "fourth", 4));
    assert_eq!(failed(&world), 1);
    let why = &world.engine.launches().find_map(|l| match &l.stage {
        Stage::Settling { outcome, .. } => Some(outcome.message.clone()),
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("it is being terminated, as it has for 30 s"));
    assert!(tried(&mut world, "fifth", 5), "no longer held");
    assert_eq!(failed(&world), 2);
}

#[test]
fn a_late_answer_of_an_earlier_batch_does_not_stand_for_the_one_in_flight() {
    let mut world = World::leading();
    let settings = Settings::default();
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    let first = world.take("claim");
    // The term is kept while the claim is out for longer than an answer may take.
    let mut waited = 0;
    while waited < settings.answer_ms {
        world.now = world.now.plus(settings.renew_ms);
        waited += settings.renew_ms;
        world.input(Input::Tick);
        world.answer("renew", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    }
    assert_eq!(world.count("claim"), 1, "asked again");
    world.input(Input::Answer { id: first.id, answer: Answer::Claimed(Err("late".into())) });
    world.claim_all();
    assert_eq!(world.created(), ["a"]);
}

#[test]
fn a_claim_that_is_committed_after_its_queueing_was_given_up_is_taken_up() {
    // Found by the simulator (seed 4392): nobody knew of the row until the next term.
    let mut world = World::leading();
    let late = task("a", "ns", 1, 1);
    world.hand_over(vec![late.clone()]);
    world.answer("claim", Answer::Claimed(Err("no answer".into())));
    world.now = world.now.plus(Settings::default().retry_ms);
    world.input(Input::Tick);
    world.answer("claim", Answer::Claimed(Ok(Some(vec![ClaimAnswer::Withdrawn(late.launch.clone())]))));
    assert_eq!(world.engine.launches().count(), 0);
    let view = TaskView { launch: late.launch.clone(), row: None, withdrawn: false };
    world.answer("withdrawn", Answer::Tasks(Ok(vec![view])));
    world.answer("find", Answer::Launches(Ok(vec![row(&late, StoredStage::Claimed)])));
    assert_eq!(world.engine.launches().count(), 1);
}

#[test]
fn a_pod_that_ended_after_its_launch_was_closed_is_removed_as_the_policy_says() {
    // Found by the simulator (seed 602): the delete of a lost attempt's pod had itself been lost.
    let mut world = World::leading();
    let over = task("a", "ns", 1, 1);
    let ended =
        ContainerState::Terminated { exit_code: 0, reason: "Completed".into(), message: String::new() };
    let view = PodView { phase: PodPhase::Succeeded, worker: ended, ..*pod(&over, "u1") };
    world.input(Input::Pod(PodEvent::Seen(Box::new(view))));
    world.answer("find", Answer::Launches(Ok(vec![row(&over, StoredStage::Closed)])));
    assert_eq!(world.count("delete"), 1);
}

#[test]
fn a_full_backlog_does_not_hide_withdrawals() {
    let small = Settings { backlog_max: 1, ..Settings::default() };
    let mut world = World::new();
    world.engine = Engine::new(small, Policy::default());
    world.input(Input::Tick);
    world.answer("acquire", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    world.answer("load", Answer::Loaded(Ok(Some(vec![]))));
    world.answer("full", Answer::Intake(Ok(vec![task("a", "ns", 1, 1)])));
    world.claim_all();
    let full = CreateAnswer::QuotaFull { message: "exceeded quota".into() };
    world.answer("create", Answer::Created(full));
    world.now = world.now.plus(Policy::default().backoff_ms);
    world.input(Input::Tick);
    assert_eq!(world.engine.report(world.now).ready, 1);
    world.now = world.now.plus(Settings::default().withdrawn_ms);
    world.input(Input::Tick);
    assert!(world.count("withdrawn") > 0, "{:?}", world.names());
}

/// Turns that nothing but the engine's own wish brings, in the next `ms`.
fn turns(world: &mut World, ms: u64) -> u32 {
    let (mut turns, end) = (0, world.now.plus(ms));
    loop {
        let at = world.engine.wake_at(world.now);
        assert!(at > world.now, "it wants to be woken in the past");
        if at > end {
            return turns;
        }
        world.now = at;
        world.input(Input::Tick);
        turns += 1;
    }
}

#[test]
fn a_full_backlog_does_not_make_the_engine_turn_without_a_pause() {
    // Found by the simulator: the passes were due and not sent, and the engine wanted to be woken each millisecond.
    let small = Settings { backlog_max: 1, lease_ms: 60_000, ..Settings::default() };
    let mut world = World::new();
    world.engine = Engine::new(small, Policy::default());
    world.input(Input::Tick);
    world.answer("acquire", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    world.answer("load", Answer::Loaded(Ok(Some(vec![]))));
    // Its claim is not answered: there is no room for another.
    world.answer("full", Answer::Intake(Ok(vec![task("a", "ns", 1, 1), task("b", "ns", 1, 2)])));
    assert!(turns(&mut world, 10_000) < 60);
}

/// Time passes in steps short enough for the term to be kept.
fn renewed(world: &mut World, ms: u64) {
    for _ in 0..ms.div_ceil(100) {
        world.now = world.now.plus(100);
        world.input(Input::Tick);
        if world.count("renew") > 0 {
            let renewal = world.take("renew");
            let Ask::RenewTerm { epoch, .. } = renewal.ask else { unreachable!() };
            let answer = Answer::Term(TermAnswer::Held { epoch });
            world.input(Input::Answer { id: renewal.id, answer });
        }
    }
}
