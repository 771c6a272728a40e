//! Thousands of queueings at once, among them a namespace without room and pods that no API server takes: what the
//! daemon holds in memory stays bounded, and the other namespaces go on (I8, I10).

use std::collections::BTreeMap;

use windlass_core::task::TaskState;
use windlass_engine::Settings;

use crate::check::Broken;
use crate::cluster::Node;
use crate::play::{Cut, Play};
use crate::world::World;

/// The namespace whose ResourceQuota lets no pod in.
const FULL: &str = "full";
/// The namespace whose pods are all refused by the API server.
const REFUSED: &str = "refused";
/// The namespace that must not notice.
const GOOD: &str = "good";

/// How many tasks of each kind are queued within a second, and what the daemon may hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    /// Of the namespace without room. Their priority is the highest.
    pub full: usize,
    /// Of the namespace whose pods are refused.
    pub refused: usize,
    /// Of the namespace that must not notice.
    pub good: usize,
    /// `Settings::backlog_max`.
    pub backlog_max: usize,
    /// `Settings::held_max`.
    pub held_max: usize,
}

/// What became of a crowd.
#[derive(Clone, Debug, Default)]
pub struct Overload {
    /// An invariant that did not hold.
    pub broken: Option<Broken>,
    /// Longest time from queued to pod in the good namespace, in milliseconds.
    pub longest_wait_ms: u64,
    /// Good tasks that have ended after two minutes.
    pub good_ended: usize,
    /// Refused tasks that have failed after two minutes.
    pub refused_ended: usize,
    /// The most launches that a daemon held in these two minutes.
    pub launches_held: usize,
    /// The most items that waited in it, or commands that were open.
    pub items_held: usize,
    /// Tasks that have not ended ten minutes after room was made.
    pub left: usize,
}

/// Plays a crowd without any fault: two minutes, then the quota is lifted, and ten minutes more.
pub fn overload(seed: u64, crowd: Crowd) -> Overload {
    let without = Cut::names().iter().map(|name| (*name).to_owned()).collect();
    let play = Play { seed, plant: None, cut: Cut { without, ..Cut::default() } };
    let mut world = World::bare(&play, false);
    world.gather(crowd);
    world.play_until(120_000);
    let most = world.daemons.iter().map(|daemon| daemon.meter.most);
    let (launches, items) = most.fold((0, 0), |(l, i), size| (l.max(size.launches), i.max(size.items)));
    let ended = |world: &World, namespace: &str| {
        let here = world.db.tasks.iter().filter(|task| task.namespace == namespace);
        here.filter(|task| matches!(task.state, TaskState::Success | TaskState::Failed)).count()
    };
    let mut result = Overload {
        longest_wait_ms: world.longest_wait.get(GOOD).copied().unwrap_or_default(),
        good_ended: ended(&world, GOOD),
        refused_ended: ended(&world, REFUSED),
        launches_held: launches,
        items_held: items,
        ..Overload::default()
    };
    world.cluster.full.clear();
    world.play_until(720_000);
    result.left =
        world.db.tasks.len() - [FULL, REFUSED, GOOD].map(|n| ended(&world, n)).iter().sum::<usize>();
    result.broken = world.check.broken;
    result
}

impl World {
    fn gather(&mut self, crowd: Crowd) {
        self.cluster.nodes = vec![Node::default(); 3];
        self.cluster.full.insert(FULL.to_owned());
        // Nothing is taken back for being stuck: the daemon alone is looked at.
        self.queued_timeout = 10_000_000;
        self.version.policy.pending_ms = 0;
        self.version.settings = Settings {
            backlog_max: crowd.backlog_max,
            held_max: crowd.held_max,
            batch: 100,
            ..Settings::default()
        };
        self.add_scheduler();
        for at in [0, 1_000] {
            self.add_daemon(at);
        }
        let kinds = BTreeMap::from([(FULL, crowd.full), (REFUSED, crowd.refused), (GOOD, crowd.good)]);
        for (namespace, count) in kinds {
            for _ in 0..count {
                self.add_task(self.db.tasks.len(), namespace);
                let not_before = self.rng.between(0, 1_000);
                if let Some(task) = self.db.tasks.last_mut() {
                    task.not_before = not_before;
                    task.max_tries = 0;
                    task.bad_pod = namespace == REFUSED;
                    task.priority_weight = if namespace == FULL { 9 } else { 1 };
                }
            }
        }
    }
}
