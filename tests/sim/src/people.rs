//! Who is in a world: tasks, schedulers, daemons and their versions, nodes.

use windlass_core::ids::TaskKey;
use windlass_core::launch::Policy;
use windlass_core::task::TaskState;
use windlass_engine::Settings;

use crate::agenda::Event;
use crate::clock::Clock;
use crate::cluster::Node;
use crate::daemon::Daemon;
use crate::database::{Demand, Task};
use crate::play::Cut;
use crate::rng::Rng;
use crate::world::World;

/// From the healing on, everything must have come to its end within so many milliseconds.
const HEALED_MS: u64 = 900_000;

/// A version of the daemon, as far as it shows: what its operator chose and what its release has for defaults.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) settings: Settings,
    pub(crate) policy: Policy,
}

impl Version {
    /// Times are short, so that a run sees their ends.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let policy = Policy {
            attempts_max: u32::try_from(rng.between(1, 3)).unwrap_or(1),
            create_ms: rng.between(1_000, 3_000),
            answer_ms: rng.between(3_000, 10_000),
            reread_ms: rng.between(1_000, 5_000),
            backoff_ms: rng.between(100, 1_000),
            backoff_max_ms: 8_000,
            pending_ms: if rng.below(2) == 0 { 0 } else { rng.between(8_000, 30_000) },
            branch_ms: rng.between(5_000, 40_000),
            unreachable_ms: rng.between(5_000, 40_000),
            delete_pods: rng.below(4) != 0,
            delete_failed_pods: rng.below(2) == 0,
            ..Policy::default()
        };
        let settings = Settings {
            lease_ms: rng.pick(&[4_000, 4_500, 8_000]),
            batch: rng.pick(&[1, 2, 500]),
            backlog_max: rng.pick(&[2, 5_000]),
            creates_max: rng.pick(&[2, 32]),
            deletes_max: rng.pick(&[1, 16]),
            gets_max: rng.pick(&[1, 8]),
            branch_waiting_max: rng.pick(&[2, 50]),
            branch_waiting_min: 1,
            branch_cooling_ms: rng.between(500, 5_000),
            ..Settings::default()
        };
        Self { settings, policy }
    }

    /// Another version. What becomes of pods that ended is Airflow's own setting, the same for all.
    pub(crate) fn other(&self, rng: &mut Rng) -> Self {
        let mut other = Self::draw(rng);
        other.policy.delete_pods = self.policy.delete_pods;
        other.policy.delete_failed_pods = self.policy.delete_failed_pods;
        other
    }
}

impl World {
    pub(crate) fn people(&mut self, cut: &Cut) {
        self.cluster.nodes = vec![Node::default(); 3];
        for _ in 0..cut.at_most(cut.schedulers, self.rng.between(1, 2)) {
            self.add_scheduler();
        }
        for _ in 0..cut.at_most(cut.daemons, self.rng.between(1, 3)) {
            let at = self.rng.between(0, 3_000);
            self.add_daemon(at);
        }
        for no in 0..cut.at_most(cut.tasks, self.rng.between(1, 6)) {
            let namespace = self.rng.pick(&["a", "a", "b"]);
            self.add_task(no, namespace);
        }
        let heal_at = self.rng.between(20_000, 120_000);
        self.ends = heal_at + HEALED_MS;
        self.agenda.put(heal_at, Event::Heal);
        let at = self.rng.between(500, 3_000);
        self.agenda.put(at, Event::Mischief);
    }

    /// A daemon on a host of its own, which starts then.
    pub(crate) fn add_daemon(&mut self, at: u64) -> usize {
        let number = self.daemons.len();
        let offset = self.rng.between(1, 1_000_000);
        let drift = self.rng.between(0, 40_000).cast_signed() - 20_000;
        // Some runs begin in the middle of a rollout.
        let version = match self.rng.chance(2 * self.faults.upgrade) {
            true => self.version.other(&mut self.rng),
            false => self.version.clone(),
        };
        self.daemons.push(Daemon::new(number, Clock::new(self.now, offset, drift), version));
        self.agenda.put(at, Event::Start(number));
        number
    }

    pub(crate) fn add_task(&mut self, no: usize, namespace: &str) {
        let key = TaskKey {
            dag_id: "d".into(),
            task_id: format!("t{no}"),
            run_id: "r".into(),
            map_index: i32::try_from(no).unwrap_or(0) - 1,
        };
        let task = Task {
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
            namespace: namespace.to_owned(),
            bad_pod: self.rng.chance(40),
            demand: match self.rng.below(40) {
                0 => Demand::OtherRole,
                1..=9 => Demand::Role,
                10..=15 => Demand::Groups,
                _ => Demand::Nothing,
            },
            has_callback: self.rng.chance(250),
            not_before: self.rng.between(0, 20_000),
            same_try: false,
            pauses_left: u32::try_from(self.rng.below(4)).unwrap_or(0),
            stuck: 0,
            launch: None,
            external_id: None,
            touched: 0,
        };
        self.db.by_key.insert(task.key.clone(), no);
        self.db.tasks.push(task);
    }
}
