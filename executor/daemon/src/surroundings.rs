//! Watches what of the cluster decides who pods are: service accounts, SecurityGroupPolicies, nodes, and the warnings of
//! the VPC resource controller. Only where identity rules demand something. Needs rights that the rest does not: what may
//! not be seen is told once and not judged by; the check of the admitted pod stands on none of it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};
use windlass_cluster::{AccountView, Cluster, ClusterError, Looks, Namespaces, Told};
use windlass_core::cluster::PodNote;
use windlass_core::identity::Identity;
use windlass_core::identity::rules::Rules;
use windlass_core::identity::sgp::SecurityGroupPolicy;
use windlass_core::identity::surroundings::{NodeView, Surroundings};
use windlass_core::task::BranchPool;
use windlass_engine::{Capacity, Input};

use crate::metrics::Metrics;

/// At the start, all there is is waited for so long.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// News for the engine that may wait.
const NEWS_MAX: usize = 1_024;
const REMEDY: &str = "give Windlass's service account the Role of deploy/rbac/identity";

/// One change of any kind.
enum Change {
    Account(Told<AccountView>),
    Policy(Told<SecurityGroupPolicy>),
    Node(Told<NodeView>),
    Warning(Told<PodNote>),
}

/// What has to be looked at for the rules.
pub fn looks(rules: Option<&Rules>) -> Looks {
    let demands = |demands: fn(&Identity) -> bool| {
        rules.is_some_and(|rules| rules.all().any(|rule| demands(&rule.gives)))
    };
    Looks { accounts: demands(Identity::demands), groups: demands(|gives| gives.branch_pool().is_some()) }
}

/// The watches and what they know.
pub struct Watcher {
    known: Arc<RwLock<Surroundings>>,
    pools: BTreeSet<BranchPool>,
    capacity: Option<Capacity>,
    metrics: Arc<Metrics>,
    news: mpsc::Sender<Input>,
    told: BTreeSet<String>,
}

impl Watcher {
    /// Starts the watches that the rules need, and waits a moment for their first answers. None: they need none. What is
    /// news to the engine comes by the receiver.
    pub async fn start(
        cluster: &Cluster,
        namespaces: &Namespaces,
        rules: Option<&Rules>,
        metrics: Arc<Metrics>,
    ) -> Option<(Arc<RwLock<Surroundings>>, mpsc::Receiver<Input>)> {
        let looks = looks(rules);
        if !looks.accounts {
            return None;
        }
        let pools = rules?.all().filter_map(|rule| rule.gives.branch_pool()).collect();
        let mut watches = vec![cluster.watch_accounts(namespaces).map(Change::Account).boxed()];
        if looks.groups {
            watches.push(cluster.watch_policies(namespaces).map(Change::Policy).boxed());
            watches.push(cluster.watch_nodes().map(Change::Node).boxed());
            watches.push(cluster.watch_warnings(namespaces).map(Change::Warning).boxed());
        }
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let known = Arc::default();
        let told = BTreeSet::new();
        let mut watcher = Self { known: Arc::clone(&known), pools, capacity: None, metrics, news, told };
        let mut changes = stream::select_all(watches);
        if timeout(FIRST_LOOK, watcher.first_look(&mut changes)).await.is_err() {
            info!(
                "identity: not all of the cluster is known yet; the admitted pods are checked all the same"
            );
        }
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                watcher.take(change).await;
            }
        });
        Some((known, receiver))
    }

    /// Until service accounts, policies and nodes are known, or may not be.
    async fn first_look(&mut self, changes: &mut (impl Stream<Item = Change> + Unpin)) {
        let mut waits_for: BTreeSet<&str> = BTreeSet::from(["accounts"]);
        if !self.pools.is_empty() {
            waits_for.extend(["policies", "nodes"]);
        }
        while !waits_for.is_empty()
            && let Some(change) = changes.next().await
        {
            let done = match &change {
                Change::Account(Told::Listed | Told::Interrupted(_)) => Some("accounts"),
                Change::Policy(Told::Listed | Told::Interrupted(_)) => Some("policies"),
                Change::Node(Told::Listed | Told::Interrupted(_)) => Some("nodes"),
                _ => None,
            };
            self.take(change).await;
            if let Some(done) = done {
                waits_for.remove(done);
            }
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Surroundings> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&mut self, change: Change) {
        match change {
            Change::Account(told) => self.account(told),
            Change::Policy(told) => self.policy(told),
            Change::Node(told) => self.node(told).await,
            Change::Warning(Told::Seen(note)) => {
                self.metrics.controller_warning(&note.reason);
                self.tell(Input::Noted(*note)).await;
            }
            Change::Warning(Told::Interrupted(error)) => self.interrupted(&error),
            Change::Warning(Told::Gone(_) | Told::Listed) => {}
        }
    }

    fn account(&mut self, told: Told<AccountView>) {
        match told {
            Told::Seen(view) => {
                let AccountView { namespace, name, labels, role, audience } = *view;
                let mut known = self.write();
                known.accounts.insert(&namespace, &name, labels);
                known.accounts.set_role(&namespace, &name, role, audience);
            }
            Told::Gone(at) => self.write().accounts.remove(&at.namespace, &at.name),
            Told::Listed => self.write().accounts_known = true,
            Told::Interrupted(error) => self.interrupted(&error),
        }
    }

    fn policy(&mut self, told: Told<SecurityGroupPolicy>) {
        match told {
            Told::Seen(policy) => self.write().policies.insert(*policy),
            Told::Gone(at) => self.write().policies.remove(&at.namespace, &at.name),
            Told::Listed => self.write().policies_known = true,
            Told::Interrupted(error) => self.interrupted(&error),
        }
    }

    async fn node(&mut self, told: Told<NodeView>) {
        match told {
            Told::Seen(node) => drop(self.write().nodes.insert(node.name.clone(), *node)),
            Told::Gone(at) => drop(self.write().nodes.remove(&at.name)),
            Told::Listed => self.write().nodes_known = true,
            Told::Interrupted(error) => return self.interrupted(&error),
        }
        let capacity = self.known.read().unwrap_or_else(PoisonError::into_inner).capacity(&self.pools);
        if capacity != self.capacity
            && let Some(capacity) = capacity
        {
            self.metrics.branch_interfaces(capacity.values().copied().map(u64::from).sum());
            self.capacity = Some(capacity.clone());
            self.tell(Input::Branches(capacity)).await;
        }
    }

    /// The loop has ended when nobody receives.
    async fn tell(&self, news: Input) {
        let _ = self.news.send(news).await;
    }

    /// Each way of failing once: a watch that may not be opened is tried for ever.
    fn interrupted(&mut self, error: &ClusterError) {
        let line = error.line();
        if self.told.insert(line.clone()) {
            match error.status() {
                Some(403) => warn!("identity: {line} (hint: {REMEDY}); it is not judged by"),
                Some(404) => warn!("identity: {line}; it is taken to have none"),
                _ => warn!("identity: {line}"),
            }
        }
    }
}
