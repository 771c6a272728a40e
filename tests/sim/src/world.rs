//! The world of one run: everything that is simulated, one agenda, one source of chance.

use std::collections::BTreeMap;

use windlass_core::ids::{InstallationId, LaunchId, TaskKey};
use windlass_core::launch::Policy;
use windlass_core::task::TaskState;
use windlass_engine::Settings;

use crate::agenda::{Agenda, Event};
use crate::check::{Broken, Checkers};
use crate::cluster::{Cluster, Node};
use crate::daemon::Daemon;
use crate::database::{Database, Task};
use crate::faults::{Faults, Plant};
use crate::rng::Rng;
use crate::scheduler::Scheduler;
use crate::trace::{Line, Trace};

/// From the healing on, everything must have come to its end within so many milliseconds.
const HEALED_MS: u64 = 900_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What must not be, if it was.
    pub broken: Option<Broken>,
    /// The story, where asked for.
    pub trace: Vec<Line>,
    /// Of everything that happened: equal for equal seeds.
    pub fingerprint: u64,
    /// Events that happened.
    pub events: u64,
    /// Bodies that ran.
    pub bodies: u64,
    /// Launches made.
    pub launches: u64,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) agenda: Agenda,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) plant: Option<Plant>,
    pub(crate) db: Database,
    pub(crate) cluster: Cluster,
    pub(crate) schedulers: Vec<Scheduler>,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) check: Checkers,
    pub(crate) trace: Trace,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    pub(crate) installation: InstallationId,
    pub(crate) task_of_launch: BTreeMap<LaunchId, usize>,
    /// `hostname_callable` hides the pod's name from the row.
    pub(crate) hidden_hosts: bool,
    /// `[scheduler] task_queued_timeout` in milliseconds.
    pub(crate) queued_timeout: u64,
    /// Faults have ended.
    pub(crate) healed: bool,
    pub(crate) next_job: i64,
    pub(crate) bodies: u64,
    seed: u64,
    events: u64,
    ends: u64,
    done: bool,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::swarm(&mut rng);
        let policy = policy(&mut rng);
        let settings = settings(&mut rng);
        let mut world = Self {
            now: 0,
            agenda: Agenda::default(),
            faults,
            plant,
            db: Database::default(),
            cluster: Cluster::default(),
            schedulers: Vec::new(),
            daemons: Vec::new(),
            check: Checkers::default(),
            trace: Trace { lines: tracing.then(Vec::new), fingerprint: 0 },
            policy,
            settings,
            installation: InstallationId("5eed5eed-0000-4000-8000-000000000000".into()),
            task_of_launch: BTreeMap::new(),
            hidden_hosts: rng.below(4) == 0,
            queued_timeout: rng.between(30_000, 120_000),
            healed: false,
            next_job: 1,
            bodies: 0,
            seed,
            events: 0,
            ends: 0,
            done: false,
            rng,
        };
        world.people();
        world
    }

    /// Tasks, schedulers, daemons and nodes.
    fn people(&mut self) {
        self.cluster.nodes = vec![Node::default(); 3];
        for _ in 0..self.rng.between(1, 2) {
            self.add_scheduler();
        }
        for daemon in 0..usize::try_from(self.rng.between(1, 3)).unwrap_or(1) {
            let offset = self.rng.between(1, 1_000_000);
            let drift = self.rng.between(0, 40_000).cast_signed() - 20_000;
            self.daemons.push(Daemon::new(daemon, offset, drift));
            let at = self.rng.between(0, 3_000);
            self.agenda.put(at, Event::Start(daemon));
        }
        for no in 0..usize::try_from(self.rng.between(1, 6)).unwrap_or(1) {
            let task = self.new_task(no);
            self.db.by_key.insert(task.key.clone(), no);
            self.db.tasks.push(task);
        }
        let heal_at = self.rng.between(20_000, 120_000);
        self.ends = heal_at + HEALED_MS;
        self.agenda.put(heal_at, Event::Heal);
        let at = self.rng.between(500, 3_000);
        self.agenda.put(at, Event::Mischief);
    }

    fn new_task(&mut self, no: usize) -> Task {
        let key = TaskKey {
            dag_id: "d".into(),
            task_id: format!("t{no}"),
            run_id: "r".into(),
            map_index: i32::try_from(no).unwrap_or(0) - 1,
        };
        Task {
            key,
            gone: false,
            state: TaskState::None,
            try_number: 0,
            max_tries: i32::try_from(self.rng.below(3)).unwrap_or(0),
            queued_at: None,
            queued_since: 0,
            queued_by: 0,
            hostname: None,
            job: None,
            priority_weight: i32::try_from(self.rng.between(1, 3)).unwrap_or(1),
            namespace: self.rng.pick(&["a", "a", "b"]).to_owned(),
            bad_pod: self.rng.chance(40),
            has_callback: self.rng.chance(250),
            not_before: self.rng.between(0, 20_000),
            same_try: false,
            pauses_left: u32::try_from(self.rng.below(4)).unwrap_or(0),
            stuck: 0,
            launch: None,
        }
    }

    pub(crate) fn run(mut self) -> Run {
        while !self.done && self.check.broken.is_none() {
            let Some(((at, order), event)) = self.agenda.next() else { break };
            if at > self.ends {
                self.not_converged();
                break;
            }
            self.now = at;
            self.events += 1;
            self.trace.stamp(at);
            self.trace.stamp(order);
            self.step(event);
        }
        Run {
            seed: self.seed,
            broken: self.check.broken,
            trace: self.trace.lines.unwrap_or_default(),
            fingerprint: self.trace.fingerprint,
            events: self.events,
            bodies: self.bodies,
            launches: self.db.launches.len() as u64,
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Start(daemon) => self.start_daemon(daemon),
            Event::Wake(daemon) => self.wake_daemon(daemon),
            Event::Deliver { daemon, incarnation, input } => self.deliver(daemon, incarnation, input),
            Event::Send { sender, ask } => self.send(sender, *ask),
            Event::DbBegin { sender, ask, commit_in, answer_in } => {
                self.db_begin(sender, ask, commit_in, answer_in);
            }
            Event::DbCommit { sender, ask, snapshot, answer_in } => {
                self.db_commit(sender, &ask, &snapshot, answer_in);
            }
            Event::Create { sender, call, answer_in } => self.create_lands(sender, call, answer_in),
            Event::CreateConflict { sender, call, answer_in } => {
                self.create_conflict(sender, &call, answer_in);
            }
            Event::Get { sender, launch, attempt, pod, answer_in } => {
                self.get_lands(sender, (launch, attempt, pod), answer_in);
            }
            Event::Delete { sender, call, answer_in } => self.delete_lands(sender, &call, answer_in),
            Event::WatchStep { daemon, generation } => self.watch_step(daemon, generation),
            Event::Relist { daemon, generation } => self.relist(daemon, generation),
            Event::ListAgain { daemon, generation } => self.list_again(daemon, generation),
            Event::Bind(pod) => self.bind(pod),
            Event::StartContainer(pod) => self.start_container(pod),
            Event::WorkerLooks(pod) => self.worker_looks(pod),
            Event::BodyEnds(pod) => self.body_ends(pod),
            Event::WorkerNotices(pod) => self.worker_notices(pod),
            Event::ContainerEnds { pod, exit_code, oom } => self.container_ends(pod, exit_code, oom),
            Event::Terminate(pod) => self.terminate(pod),
            Event::Remove(pod) => self.remove_pod(pod),
            Event::ImageArrives(pod) => self.image_arrives(pod),
            Event::NodeTainted(node) => self.node_tainted(node),
            Event::NodeCollected(node) => self.node_collected(node),
            Event::NodeBack(node) => self.node_back(node),
            Event::Scheduler(scheduler) => self.scheduler_turn(scheduler),
            Event::SchedulerBack(scheduler) => self.scheduler_back(scheduler),
            Event::Handover { scheduler, tasks } => self.hand_over(scheduler, &tasks),
            Event::Requeue(task) => self.requeue(task),
            Event::Callback(launch) => self.callback_runs(&launch),
            Event::Mischief => self.mischief(),
            Event::Heal => self.heal(),
            Event::Converged => self.converged(),
        }
    }

    fn converged(&mut self) {
        self.done = self.whats_left().is_none();
        self.agenda.put(self.now + 1_000, Event::Converged);
    }

    pub(crate) fn say(&mut self, task: Option<usize>, text: impl FnOnce() -> String) {
        self.trace.say(self.now, task, text);
    }

    pub(crate) fn put_in(&mut self, delay: u64, event: Event) {
        self.agenda.put(self.now + delay, event);
    }
}

/// An operator's choices. Times are short, so that a run sees their ends.
fn policy(rng: &mut Rng) -> Policy {
    Policy {
        attempts_max: u32::try_from(rng.between(1, 3)).unwrap_or(1),
        answer_ms: rng.between(3_000, 10_000),
        reread_ms: rng.between(1_000, 5_000),
        backoff_ms: rng.between(100, 1_000),
        backoff_max_ms: 8_000,
        pending_ms: if rng.below(2) == 0 { 0 } else { rng.between(8_000, 30_000) },
        unreachable_ms: rng.between(5_000, 40_000),
        delete_pods: rng.below(4) != 0,
        delete_failed_pods: rng.below(2) == 0,
        ..Policy::default()
    }
}

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        batch: rng.pick(&[1, 2, 500]),
        backlog_max: rng.pick(&[2, 5_000]),
        creates_max: rng.pick(&[2, 32]),
        deletes_max: rng.pick(&[1, 16]),
        gets_max: rng.pick(&[1, 8]),
        ..Settings::default()
    }
}
