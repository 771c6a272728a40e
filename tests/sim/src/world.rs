//! The world of one run: everything that is simulated, one agenda, one source of chance.

use std::collections::BTreeMap;

use windlass_core::ids::{InstallationId, LaunchId, Queueing};

use crate::agenda::{Agenda, Event};
use crate::check::{Broken, Checkers};
use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::database::Database;
use crate::faults::Faults;
use crate::people::Version;
use crate::plant::Plant;
use crate::play::Play;
use crate::rng::Rng;
use crate::scheduler::Scheduler;
use crate::trace::{Line, Trace};

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
    /// Starting workers by the state in which they found their row.
    pub looks: BTreeMap<String, u64>,
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
    /// An operator's choices, before versions differ.
    pub(crate) version: Version,
    pub(crate) installation: InstallationId,
    pub(crate) task_of_launch: BTreeMap<LaunchId, usize>,
    /// What a pod's annotations tell.
    pub(crate) queueings: BTreeMap<LaunchId, Queueing>,
    /// A replica that has fallen behind, and is to be promoted.
    pub(crate) replica: Option<Box<Database>>,
    /// `hostname_callable` hides the pod's name from the row.
    pub(crate) hidden_hosts: bool,
    /// `[scheduler] task_queued_timeout` in milliseconds.
    pub(crate) queued_timeout: u64,
    /// Faults have ended.
    pub(crate) healed: bool,
    pub(crate) next_job: i64,
    pub(crate) bodies: u64,
    /// Starting workers by the state in which they found their row.
    pub(crate) looks: BTreeMap<String, u64>,
    /// From a queueing to its pod, by namespace, in milliseconds.
    pub(crate) longest_wait: BTreeMap<String, u64>,
    pub(crate) ends: u64,
    seed: u64,
    events: u64,
    done: bool,
}

impl World {
    /// The world of a seed, with its people.
    pub(crate) fn new(play: &Play, tracing: bool) -> Self {
        let mut world = Self::bare(play, tracing);
        world.people(&play.cut);
        world
    }

    /// A world without anybody in it.
    pub(crate) fn bare(play: &Play, tracing: bool) -> Self {
        let mut rng = Rng::new(play.seed);
        let mut faults = Faults::swarm(&mut rng);
        for name in &play.cut.without {
            if let Some(strength) = faults.strength(name) {
                *strength = 0;
            }
        }
        let version = Version::draw(&mut rng);
        Self {
            now: 0,
            agenda: Agenda::default(),
            faults,
            plant: play.plant,
            db: Database::installed(),
            cluster: Cluster::default(),
            schedulers: Vec::new(),
            daemons: Vec::new(),
            check: Checkers::default(),
            trace: Trace { lines: tracing.then(Vec::new), fingerprint: 0 },
            version,
            installation: InstallationId("5eed5eed-0000-4000-8000-000000000000".into()),
            task_of_launch: BTreeMap::new(),
            queueings: BTreeMap::new(),
            replica: None,
            hidden_hosts: rng.below(4) == 0,
            queued_timeout: rng.between(30_000, 120_000),
            healed: false,
            next_job: 1,
            bodies: 0,
            looks: BTreeMap::new(),
            longest_wait: BTreeMap::new(),
            seed: play.seed,
            events: 0,
            ends: 0,
            done: false,
            rng,
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
            looks: self.looks,
        }
    }

    /// Goes on until `end`, or until there is nothing more to come.
    pub(crate) fn play_until(&mut self, end: u64) {
        while self.check.broken.is_none() {
            let Some(((at, _), event)) = self.agenda.next() else { break };
            self.now = at;
            self.step(event);
            if at >= end {
                break;
            }
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
            Event::Failover => self.failover(),
            Event::Create { sender, call, answer_in } => self.create_lands(sender, call, answer_in),
            Event::CreateConflict { sender, call, answer_in } => {
                self.create_conflict(sender, &call, answer_in);
            }
            Event::Get { sender, call, answer_in } => self.get_lands(sender, &call, answer_in),
            Event::Gate { sender, call, answer_in } => self.gate_lands(sender, &call, answer_in),
            Event::Delete { sender, call, answer_in } => self.delete_lands(sender, &call, answer_in),
            Event::WatchStep { daemon, generation } => self.watch_step(daemon, generation),
            Event::Relist { daemon, generation } => self.relist(daemon, generation),
            Event::ListAgain { daemon, generation } => self.list_again(daemon, generation),
            Event::Bind(pod) => self.bind(pod),
            Event::BranchIsThere(pod) => self.branch_is_there(pod),
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
            Event::HandEnds(task) => self.hand_ends(task),
            Event::Callback(callback) => self.callback_runs(*callback),
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
