//! Watches of several namespaces as one: a list is whole only with the lists of all.

use std::collections::BTreeSet;

use windlass_core::cluster::PodEvent;
use windlass_core::ids::PodUid;
use windlass_core::pod_view::PodView;

use super::source::Step;

/// What is known to exist per namespace. Its size is that of the live pods.
pub(super) struct Merge {
    namespaces: Vec<Known>,
}

#[derive(Default)]
struct Known {
    listed: bool,
    uids: BTreeSet<PodUid>,
}

/// The event of a single watch.
pub(super) fn event(step: Step<PodView>) -> Option<PodEvent> {
    match step {
        Step::Listing => None,
        Step::Seen(view) => Some(PodEvent::Seen(view)),
        Step::Deleted(view) => Some(PodEvent::Deleted(view)),
        Step::Listed(uids) => Some(PodEvent::Listed(uids.into_iter().map(PodUid).collect())),
        Step::Failed { error, .. } => Some(PodEvent::Interrupted { error: error.line() }),
    }
}

impl Merge {
    pub(super) fn new(namespaces: usize) -> Self {
        Self { namespaces: (0..namespaces).map(|_| Known::default()).collect() }
    }

    /// The events of a step of watch `number`: one, or none, or `Interrupted` with the list that it does not block.
    pub(super) fn take(&mut self, number: usize, step: Step<PodView>) -> Vec<PodEvent> {
        let known = &mut self.namespaces[number];
        match step {
            Step::Listing => Vec::new(),
            Step::Seen(view) => {
                known.uids.insert(view.uid.clone());
                vec![PodEvent::Seen(view)]
            }
            Step::Deleted(view) => {
                known.uids.remove(&view.uid);
                vec![PodEvent::Deleted(view)]
            }
            Step::Listed(uids) => {
                *known = Known { listed: true, uids: uids.into_iter().map(PodUid).collect() };
                self.listed()
            }
            Step::Failed { error, refused } => {
                let first = refused && !known.listed;
                known.listed |= refused;
                let mut events = vec![PodEvent::Interrupted { error: error.line() }];
                if first {
                    events.extend(self.listed());
                }
                events
            }
        }
    }

    fn listed(&self) -> Vec<PodEvent> {
        if !self.namespaces.iter().all(|n| n.listed) {
            return Vec::new();
        }
        vec![PodEvent::Listed(self.namespaces.iter().flat_map(|n| n.uids.iter().cloned()).collect())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ClusterError;

    fn uids(names: &[&str]) -> Vec<PodUid> {
        names.iter().map(|n| PodUid((*n).into())).collect()
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn failed(refused: bool) -> Step<PodView> {
        let error = ClusterError::Setting { what: "a".into(), why: "b".into() };
        Step::Failed { error, refused }
    }

    #[test]
    fn a_list_of_one_namespace_never_makes_the_pods_of_another_look_missing() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.take(0, Step::Listed(texts(&["a"]))), vec![]);
        assert_eq!(merge.take(1, Step::Listed(texts(&["b"]))), vec![PodEvent::Listed(uids(&["a", "b"]))]);
        assert_eq!(merge.take(0, Step::Listed(texts(&["c"]))), vec![PodEvent::Listed(uids(&["c", "b"]))]);
    }

    #[test]
    fn a_namespace_that_may_not_be_listed_does_not_hold_up_the_others() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.take(0, Step::Listed(texts(&["a"]))), vec![]);
        assert_eq!(merge.take(1, failed(false)).len(), 1, "an outage is waited for");
        assert_eq!(merge.take(1, failed(true))[1], PodEvent::Listed(uids(&["a"])));
        assert_eq!(merge.take(1, failed(true)).len(), 1, "told once");
    }
}
