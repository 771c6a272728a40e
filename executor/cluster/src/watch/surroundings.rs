//! What else of the cluster decides who a pod is, as changes that never end: service accounts, SecurityGroupPolicies,
//! nodes, and what the VPC resource controller warns of. Only for installations with identity rules.

use std::collections::BTreeSet;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use windlass_core::cluster::PodNote;
use windlass_core::identity::sgp::SecurityGroupPolicy;
use windlass_core::identity::surroundings::NodeView;
use windlass_core::ids::PodRef;

use super::kind::{AccountView, Accounts, GroupPolicies, Kind, Nodes, Warnings};
use super::source::{NamespaceWatch, Step};
use crate::config::Namespaces;
use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::selector::Selector;
use crate::transport::Cluster;

/// What the VPC resource controller says when something is wrong.
const OF_CONTROLLER: Selector =
    Selector::Fields("involvedObject.kind=Pod,type=Warning,source=vpc-resource-controller");

/// What a watch of one kind tells.
#[derive(Debug)]
pub enum Told<V> {
    /// It is so now.
    Seen(Box<V>),
    /// It is gone. An object that no namespace holds has an empty one.
    Gone(PodRef),
    /// All there are were told once, in each of the namespaces.
    Listed,
    /// The watch is down, and comes back by itself.
    Interrupted(ClusterError),
}

/// Changes of one kind, for ever. Starts when polled, ends when dropped.
pub type Changes<V> = BoxStream<'static, Told<V>>;

impl Cluster {
    /// Service accounts.
    pub fn watch_accounts(&self, of: &Namespaces) -> Changes<AccountView> {
        self.changes::<Accounts>(of, &Selector::All)
    }

    /// SecurityGroupPolicies. A cluster that does not know the kind has none.
    pub fn watch_policies(&self, of: &Namespaces) -> Changes<SecurityGroupPolicy> {
        self.changes::<GroupPolicies>(of, &Selector::All)
    }

    /// Nodes, of which each has its branch interfaces.
    pub fn watch_nodes(&self) -> Changes<NodeView> {
        self.changes::<Nodes>(&Namespaces::All, &Selector::All)
    }

    /// Warnings of the VPC resource controller about pods; old ones too, as long as the API server keeps them.
    pub fn watch_warnings(&self, of: &Namespaces) -> Changes<PodNote> {
        self.changes::<Warnings>(of, &OF_CONTROLLER)
    }

    fn changes<K: Kind>(&self, of: &Namespaces, selector: &Selector) -> Changes<K::View> {
        let places: Vec<Option<&str>> = match of {
            Namespaces::All => vec![None],
            Namespaces::Only(names) => {
                let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                names.into_iter().filter(|name| is_path_segment(name)).map(Some).collect()
            }
        };
        let mut keeper = Keeper::<K>::new(places.len());
        let watch = |(number, place)| {
            let steps = NamespaceWatch::<K>::new(self.clone(), place, selector).steps();
            steps.map(move |step| (number, step)).boxed()
        };
        let all = stream::select_all(places.into_iter().enumerate().map(watch));
        all.flat_map(move |(number, step)| stream::iter(keeper.take(number, step))).boxed()
    }
}

/// Knows what was told, so that a new list tells what went unseen.
struct Keeper<K> {
    watches: Vec<Kept>,
    kind: std::marker::PhantomData<fn() -> K>,
}

#[derive(Default)]
struct Kept {
    listed: bool,
    known: BTreeSet<PodRef>,
    /// What the list under way has shown.
    fresh: Option<BTreeSet<PodRef>>,
}

impl<K: Kind> Keeper<K> {
    fn new(watches: usize) -> Self {
        Self { watches: (0..watches).map(|_| Kept::default()).collect(), kind: std::marker::PhantomData }
    }

    fn take(&mut self, number: usize, step: Step<K::View>) -> Vec<Told<K::View>> {
        let kept = &mut self.watches[number];
        match step {
            Step::Listing => {
                kept.fresh = Some(BTreeSet::new());
                Vec::new()
            }
            Step::Seen(view) => {
                let name = K::name(&view);
                if let Some(fresh) = &mut kept.fresh {
                    fresh.insert(name.clone());
                }
                kept.known.insert(name);
                vec![Told::Seen(view)]
            }
            Step::Deleted(view) => {
                let name = K::name(&view);
                kept.known.remove(&name);
                vec![Told::Gone(name)]
            }
            Step::Listed(_) => {
                let fresh = kept.fresh.take().unwrap_or_default();
                let gone: Vec<_> = kept.known.difference(&fresh).cloned().map(Told::Gone).collect();
                kept.known = fresh;
                kept.listed = true;
                gone.into_iter().chain(self.listed()).collect()
            }
            Step::Failed { error, .. } => {
                // A kind that is not there, or a namespace: none of it.
                let none = error.status() == Some(404) && !kept.listed;
                kept.listed |= none;
                let listed = if none { self.listed() } else { None };
                [Told::Interrupted(error)].into_iter().chain(listed).collect()
            }
        }
    }

    fn listed(&self) -> Option<Told<K::View>> {
        self.watches.iter().all(|kept| kept.listed).then_some(Told::Listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Box<AccountView> {
        Box::new(AccountView {
            namespace: "etl".into(),
            name: name.into(),
            labels: std::collections::BTreeMap::new(),
            role: None,
            audience: None,
        })
    }

    fn said(told: &[Told<AccountView>]) -> Vec<String> {
        let word = |one: &Told<AccountView>| match one {
            Told::Seen(view) => format!("+{}", view.name),
            Told::Gone(at) => format!("-{}", at.name),
            Told::Listed => "listed".into(),
            Told::Interrupted(_) => "cut".into(),
        };
        told.iter().map(word).collect()
    }

    #[test]
    fn a_new_list_tells_what_went_while_nobody_looked() {
        let mut keeper = Keeper::<Accounts>::new(1);
        let mut take = |step| said(&keeper.take(0, step));
        take(Step::Listing);
        take(Step::Seen(account("a")));
        take(Step::Seen(account("b")));
        assert_eq!(take(Step::Listed(vec![])), ["listed"]);
        assert_eq!(take(Step::Deleted(account("b"))), ["-b"]);
        take(Step::Seen(account("c")));
        // A list that breaks tells nothing.
        take(Step::Listing);
        take(Step::Listing);
        take(Step::Seen(account("c")));
        assert_eq!(take(Step::Listed(vec![])), ["-a", "listed"]);
    }

    #[test]
    fn all_namespaces_have_to_be_listed_and_a_kind_that_is_not_there_is_empty() {
        let mut keeper = Keeper::<Accounts>::new(2);
        let failed = |status| {
            let (url, call, message) = (String::new(), String::new(), String::new());
            let error = ClusterError::Answered { url, call, status, message, retry_after_ms: None };
            Step::Failed { error, refused: true }
        };
        assert_eq!(said(&keeper.take(0, Step::Listed(vec![]))), [""; 0]);
        assert_eq!(said(&keeper.take(1, failed(403))), ["cut"], "what may not be seen may be there");
        assert_eq!(said(&keeper.take(1, failed(404))), ["cut", "listed"]);
        assert_eq!(said(&keeper.take(1, failed(404))), ["cut"]);
    }
}
