//! All launches of this term, and the orders in which they are looked at: by time, by task key, by priority.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use windlass_core::ids::{LaunchId, TaskKey};
use windlass_core::launch::{Launch, Policy, Stage};
use windlass_core::task::BranchPool;
use windlass_core::time::{Millis, UtcMicros};

use crate::branches::Branches;
use crate::pacing::Pacing;

/// Highest priority weight first, then the longest queued.
type Rank = (Reverse<i32>, UtcMicros, LaunchId);

/// Ready launches that wait for the same things: of one namespace, and for branch interfaces of the same nodes.
type Lane = (String, Option<BranchPool>);

#[derive(Debug)]
pub(crate) struct Book {
    launches: BTreeMap<LaunchId, Launch>,
    /// Launches of one key in the order in which they were taken in (I11).
    keys: BTreeMap<TaskKey, Vec<LaunchId>>,
    timers: BTreeSet<(Millis, LaunchId)>,
    timer_of: BTreeMap<LaunchId, Millis>,
    /// Ready launches by lane: one that is held is passed over as a whole (I8).
    ready: BTreeMap<Lane, BTreeSet<Rank>>,
    /// Which of them compete for branch interfaces.
    branches: Branches,
    /// Launches that have their turn (a create, or the read before it, is under way).
    turns: BTreeSet<LaunchId>,
    /// Launches without a pod: those that have no turn, back off, are barred or held, and those being claimed.
    waiting: BTreeSet<LaunchId>,
    /// Launches whose pod has not started: what a withdrawal can still stop.
    unstarted: BTreeSet<LaunchId>,
}

impl Book {
    pub(crate) fn new(branches: Branches) -> Self {
        Self {
            launches: BTreeMap::new(),
            keys: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            ready: BTreeMap::new(),
            branches,
            turns: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unstarted: BTreeSet::new(),
        }
    }

    pub(crate) fn branches(&self) -> &Branches {
        &self.branches
    }

    pub(crate) fn branches_mut(&mut self) -> &mut Branches {
        &mut self.branches
    }

    pub(crate) fn get(&self, id: &LaunchId) -> Option<&Launch> {
        self.launches.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &LaunchId) -> Option<&mut Launch> {
        self.launches.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Launch> {
        self.launches.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.launches.len()
    }

    pub(crate) fn turns(&self) -> usize {
        self.turns.len()
    }

    pub(crate) fn unstarted(&self) -> usize {
        self.unstarted.len()
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.values().map(BTreeSet::len).sum()
    }

    /// Ready launches that nothing holds: what could go now, but for the window.
    pub(crate) fn ready_to_go(&self, pacing: &Pacing, now: Millis) -> usize {
        let open = self.ready.iter().filter(|((namespace, _), _)| !pacing.held(namespace, now));
        let could_go = |((_, pool), ranks): (&Lane, &BTreeSet<Rank>)| {
            let room = pool.as_ref().map_or(usize::MAX, |pool| self.branches.room(pool, now));
            ranks.len().min(room)
        };
        open.map(could_go).sum()
    }

    /// Ready launches whose pods wait until others have got their branch interfaces.
    pub(crate) fn held_for_branches(&self, now: Millis) -> usize {
        let of_pool = |((_, pool), ranks): (&Lane, &BTreeSet<Rank>)| {
            let room = self.branches.room(pool.as_ref()?, now);
            Some(ranks.len().saturating_sub(room))
        };
        self.ready.iter().filter_map(of_pool).sum()
    }

    /// All that wait for their pod, whatever for.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Other launches of this launch's key, already known.
    pub(crate) fn others(&self, launch: &Launch) -> Vec<LaunchId> {
        let of_key = self.keys.get(&launch.queueing.key).map(Vec::as_slice).unwrap_or_default();
        of_key.iter().filter(|id| **id != launch.id).cloned().collect()
    }

    pub(crate) fn insert(&mut self, launch: Launch) {
        let of_key = self.keys.entry(launch.queueing.key.clone()).or_default();
        if !of_key.contains(&launch.id) {
            of_key.push(launch.id.clone());
        }
        self.launches.insert(launch.id.clone(), launch);
    }

    /// Files a launch anew after it changed; drops it when it is closed.
    pub(crate) fn file(&mut self, id: &LaunchId, now: Millis, policy: &Policy) {
        let Some(launch) = self.launches.get(id) else { return };
        let key = launch.queueing.key.clone();
        if launch.stage == Stage::Closed {
            self.drop_launch(id, &key);
        } else {
            self.file_one(id, now, policy);
        }
        let siblings = self.keys.get(&key).filter(|of_key| of_key.len() > 1 || !of_key.contains(id)).cloned();
        for sibling in siblings.unwrap_or_default() {
            if sibling != *id {
                self.file_one(&sibling, now, policy);
            }
        }
    }

    fn file_one(&mut self, id: &LaunchId, now: Millis, policy: &Policy) {
        let Some(launch) = self.launches.get(id) else { return };
        let rank = rank(launch);
        let lane = lane(launch);
        self.branches.file(launch, now);
        let turn = matches!(launch.stage, Stage::Checking { .. } | Stage::Creating { .. });
        let unstarted = match &launch.stage {
            Stage::Ready { .. } => true,
            Stage::Alive(alive) => !alive.started,
            _ => false,
        };
        let (ready, timer) = match &launch.stage {
            Stage::Ready { not_before, .. } if *not_before > now => (false, Some(*not_before)),
            // Barred: the rows of those before it are read now and then.
            Stage::Ready { .. } if self.barred(id) => (false, Some(now.plus(policy.reread_ms))),
            Stage::Ready { .. } => (true, None),
            _ => (false, launch.wake_at(policy)),
        };
        let waiting = matches!(launch.stage, Stage::Claiming { .. } | Stage::Ready { .. });
        set(&mut self.waiting, id, waiting);
        set(&mut self.turns, id, turn);
        set(&mut self.unstarted, id, unstarted);
        if ready {
            self.ready.entry(lane).or_default().insert(rank);
        } else if let Some(ranks) = self.ready.get_mut(&lane) {
            ranks.remove(&rank);
            if ranks.is_empty() {
                self.ready.remove(&lane);
            }
        }
        self.set_timer(id, timer);
    }

    /// I11: another launch of the same key may still start a body.
    pub(crate) fn barred(&self, id: &LaunchId) -> bool {
        let Some(launch) = self.launches.get(id) else { return false };
        let Some(of_key) = self.keys.get(&launch.queueing.key) else { return false };
        let at = of_key.iter().position(|id| *id == launch.id);
        of_key.iter().enumerate().filter(|(_, id)| **id != launch.id).any(|(other, id)| {
            // The order of a load follows the schedulers' clocks, which may differ: one that may have a pod bars in
            // either direction. The row tells which of the two is wanted, and the other one is withdrawn.
            self.launches.get(id).is_some_and(|rival| {
                rival.may_still_start() && (at.is_some_and(|at| other < at) || rival.is_tried())
            })
        })
    }

    fn set_timer(&mut self, id: &LaunchId, at: Option<Millis>) {
        if let Some(old) = self.timer_of.remove(id) {
            self.timers.remove(&(old, id.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, id.clone()));
            self.timer_of.insert(id.clone(), at);
        }
    }

    fn drop_launch(&mut self, id: &LaunchId, key: &TaskKey) {
        if let Some(launch) = self.launches.remove(id) {
            self.branches.drop_launch(&launch);
            if let Some(ranks) = self.ready.get_mut(&lane(&launch)) {
                ranks.remove(&rank(&launch));
            }
        }
        if let Some(of_key) = self.keys.get_mut(key) {
            of_key.retain(|other| other != id);
            if of_key.is_empty() {
                self.keys.remove(key);
            }
        }
        self.waiting.remove(id);
        self.turns.remove(id);
        self.unstarted.remove(id);
        self.set_timer(id, None);
    }

    /// Removes a launch that never became durable.
    pub(crate) fn forget(&mut self, id: &LaunchId, now: Millis, policy: &Policy) {
        if let Some(launch) = self.launches.get_mut(id) {
            launch.stage = Stage::Closed;
            self.file(id, now, policy);
        }
    }

    /// The next launch to create: the highest rank among those that nothing holds.
    pub(crate) fn next_ready(&self, pacing: &Pacing, now: Millis) -> Option<LaunchId> {
        let free = |pool: &Option<BranchPool>| pool.as_ref().is_none_or(|pool| self.branches.open(pool, now));
        let held = |(namespace, pool): &Lane| pacing.held(namespace, now) || !free(pool);
        let open = self.ready.iter().filter(|(lane, _)| !held(lane));
        open.filter_map(|(_, ranks)| ranks.first()).min().map(|(_, _, id)| id.clone())
    }

    /// Launches whose time has come; their timers are taken.
    pub(crate) fn due(&mut self, now: Millis) -> Vec<LaunchId> {
        let due: Vec<_> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect();
        for id in &due {
            self.set_timer(id, None);
        }
        due
    }

    pub(crate) fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }
}

fn lane(launch: &Launch) -> Lane {
    (launch.pod.namespace.clone(), launch.branches.clone())
}

fn rank(launch: &Launch) -> Rank {
    (Reverse(launch.priority_weight), launch.queueing.queued_at, launch.id.clone())
}

fn set(of: &mut BTreeSet<LaunchId>, id: &LaunchId, on: bool) {
    if on && !of.contains(id) {
        of.insert(id.clone());
    } else if !on {
        of.remove(id);
    }
}
