//! How many pods may wait for a branch network interface (security groups for pods) at once.
//!
//! A node has few of them (m5.large: 9), each takes EC2 some seconds to make, and a finished pod's counts for a minute and
//! more. A burst of such pods would fill the VPC resource controller's queue and EC2's request budget, and would lie
//! unscheduled before the Kubernetes scheduler. So as many are made as the nodes have interfaces for, at EC2's pace; always
//! a few more, for a cluster autoscaler to see. Pods that need no interface never wait for these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use windlass_core::ids::LaunchId;
use windlass_core::launch::{Launch, Stage};
use windlass_core::task::BranchPool;
use windlass_core::time::Millis;

use crate::settings::Settings;

/// Interfaces of the nodes by pool, as far as nodes can be seen.
pub type Capacity = BTreeMap<BranchPool, u32>;

#[derive(Debug)]
pub(crate) struct Branches {
    pools: BTreeMap<BranchPool, Pool>,
    capacity: Arc<Capacity>,
    waiting_max: usize,
    waiting_min: usize,
    cooling_ms: u64,
    /// Creates that EC2's budget allows now, in thousandths; and when that was so.
    budget: (u64, Millis),
    /// Thousandths per millisecond are creates per second.
    per_second: u64,
}

#[derive(Debug, Default)]
struct Pool {
    /// Pods that are being created or have not started.
    waiting: BTreeSet<LaunchId>,
    /// Pods that run.
    holding: BTreeSet<LaunchId>,
    /// When interfaces of pods that ended are free again.
    cooling: VecDeque<Millis>,
}

impl Branches {
    pub(crate) fn new(settings: &Settings, capacity: Arc<Capacity>) -> Self {
        let waiting_max = settings.branch_waiting_max as usize;
        Self {
            pools: BTreeMap::new(),
            capacity,
            waiting_max,
            waiting_min: settings.branch_waiting_min as usize,
            cooling_ms: settings.branch_cooling_ms,
            budget: (u64::from(settings.branch_waiting_max) * 1_000, Millis(0)),
            per_second: u64::from(settings.branch_creates_per_second),
        }
    }

    pub(crate) fn told(&mut self, capacity: Arc<Capacity>) {
        self.capacity = capacity;
    }

    /// Notes where a launch stands.
    pub(crate) fn file(&mut self, launch: &Launch, now: Millis) {
        let Some(pool) = &launch.branches else { return };
        let (waits, holds) = match &launch.stage {
            Stage::Checking { .. } | Stage::Creating { .. } => (true, false),
            Stage::Alive(alive) => (!alive.started, alive.started),
            _ => (false, false),
        };
        if !waits && !holds && !self.pools.contains_key(pool) {
            return;
        }
        let pool = self.pools.entry(pool.clone()).or_default();
        change(&mut pool.waiting, &launch.id, waits);
        if change(&mut pool.holding, &launch.id, holds) {
            pool.cooling.push_back(now.plus(self.cooling_ms));
        }
        while pool.cooling.front().is_some_and(|free| *free <= now) {
            pool.cooling.pop_front();
        }
    }

    /// Whether another pod of the pool may be created.
    pub(crate) fn open(&self, pool: &BranchPool, now: Millis) -> bool {
        self.room(pool, now) > 0 && self.budget(now) >= 1_000
    }

    /// How many more may wait.
    pub(crate) fn room(&self, pool: &BranchPool, now: Millis) -> usize {
        let none = Pool::default();
        let of_pool = self.pools.get(pool).unwrap_or(&none);
        let limit = self.capacity.get(pool).map_or(self.waiting_max, |capacity| {
            let cooling = of_pool.cooling.iter().filter(|free| **free > now).count();
            let taken = of_pool.holding.len() + cooling;
            let free = (*capacity as usize).saturating_sub(taken);
            free.max(self.waiting_min).min(self.waiting_max)
        });
        limit.saturating_sub(of_pool.waiting.len())
    }

    fn budget(&self, now: Millis) -> u64 {
        let (left, at) = self.budget;
        let most = self.waiting_max as u64 * 1_000;
        left.saturating_add(now.since(at).saturating_mul(self.per_second)).min(most)
    }

    /// A pod is about to be created.
    pub(crate) fn spend(&mut self, now: Millis) {
        self.budget = (self.budget(now).saturating_sub(1_000), now);
    }

    /// When a pool that is closed may be open again by time alone.
    pub(crate) fn next_end(&self, now: Millis) -> Option<Millis> {
        let short = 1_000_u64.saturating_sub(self.budget(now));
        let budget = (short > 0 && self.per_second > 0).then(|| now.plus(short.div_ceil(self.per_second)));
        let cooled =
            self.pools.values().filter_map(|pool| pool.cooling.iter().find(|free| **free > now)).min();
        budget.into_iter().chain(cooled.copied()).min()
    }

    /// Pods that wait for an interface, over all pools.
    pub(crate) fn waiting(&self) -> usize {
        self.pools.values().map(|pool| pool.waiting.len()).sum()
    }

    /// A launch is closed.
    pub(crate) fn drop_launch(&mut self, launch: &Launch) {
        if let Some(pool) = launch.branches.as_ref().and_then(|pool| self.pools.get_mut(pool)) {
            pool.waiting.remove(&launch.id);
            pool.holding.remove(&launch.id);
        }
    }
}

/// Whether it was there and is no more.
fn change(of: &mut BTreeSet<LaunchId>, id: &LaunchId, on: bool) -> bool {
    if on && !of.contains(id) {
        of.insert(id.clone());
    }
    !on && of.remove(id)
}

#[cfg(test)]
mod tests {
    use windlass_core::cluster::CreateAnswer;
    use windlass_core::launch::{Fact, Policy};
    use windlass_core::pod_view::{ContainerState, PodView};

    use super::*;
    use crate::tests::{pod, task};

    fn pool() -> BranchPool {
        BranchPool("pool=fin".into())
    }

    fn alive(id: &str, started: bool) -> Launch {
        let task = task(id, "etl", 1, 0);
        let mut launch = Launch::seen(&task, Millis(0));
        launch.branches = Some(pool());
        let worker = if started { ContainerState::Running } else { ContainerState::Unknown };
        let view = Box::new(PodView { worker, ..*pod(&task, "u1") });
        for fact in [Fact::Claimed, Fact::Turn, Fact::CreateAnswered(CreateAnswer::Created(view))] {
            launch.apply(fact, Millis(0), &Policy::default());
        }
        launch
    }

    fn branches(capacity: Option<u32>) -> Branches {
        let settings = Settings {
            branch_waiting_max: 4,
            branch_waiting_min: 1,
            branch_creates_per_second: 2,
            branch_cooling_ms: 90_000,
            ..Settings::default()
        };
        let capacity = capacity.map(|n| Capacity::from([(pool(), n)])).unwrap_or_default();
        Branches::new(&settings, Arc::new(capacity))
    }

    #[test]
    fn as_many_wait_as_nodes_have_interfaces_and_one_more_when_they_have_none() {
        let mut of = branches(Some(3));
        assert_eq!(of.room(&pool(), Millis(0)), 3);
        assert_eq!(of.room(&BranchPool::default(), Millis(0)), 4, "nodes that cannot be seen");
        for id in ["a", "b"] {
            of.file(&alive(id, false), Millis(0));
        }
        assert_eq!((of.waiting(), of.room(&pool(), Millis(0))), (2, 1));
        for id in ["a", "b", "c"] {
            of.file(&alive(id, true), Millis(0));
        }
        assert_eq!((of.waiting(), of.room(&pool(), Millis(0))), (0, 1), "for an autoscaler to see");
    }

    #[test]
    fn an_interface_is_free_again_when_it_has_cooled_down() {
        let mut of = branches(Some(2));
        of.file(&alive("a", true), Millis(0));
        let ended = Launch { stage: Stage::Closing { asked: Millis(5) }, ..alive("a", true) };
        of.file(&ended, Millis(5));
        assert_eq!(of.room(&pool(), Millis(90_004)), 1);
        assert_eq!(of.next_end(Millis(6)), Some(Millis(90_005)));
        assert_eq!(of.room(&pool(), Millis(90_005)), 2);
    }

    #[test]
    fn creates_go_in_a_burst_and_then_at_their_pace() {
        let mut of = branches(None);
        for _ in 0..4 {
            assert!(of.open(&pool(), Millis(0)));
            of.spend(Millis(0));
        }
        assert!(!of.open(&pool(), Millis(499)));
        assert_eq!(of.next_end(Millis(0)), Some(Millis(500)));
        assert!(of.open(&pool(), Millis(500)));
    }
}
