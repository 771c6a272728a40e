//! What the watches tell: pods as they are now, and what controllers warn of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use windlass_core::cluster::{PodEvent, PodNote};
use windlass_core::ids::PodUid;
use windlass_core::launch::{Fact, Launch, PodEnd, PodStanding, classify};
use windlass_core::pod_view::PodView;
use windlass_core::time::Millis;

use crate::{Engine, Stranger};

/// Warned pods that are remembered: a controller warns of a few, of any executor's.
const WARNED_MAX: usize = 1_024;

/// Warnings outlive a term, and may come before the create is answered: a daemon that takes over has heard them while it
/// stood by, and nobody says them again.
#[derive(Debug, Default)]
pub(crate) struct Warned {
    of: BTreeMap<PodUid, Vec<PodNote>>,
    /// The oldest first.
    order: VecDeque<PodUid>,
}

impl Warned {
    fn keep(&mut self, note: &PodNote) {
        let notes = self.of.entry(note.uid.clone()).or_insert_with(|| {
            self.order.push_back(note.uid.clone());
            Vec::new()
        });
        // The last words of each kind.
        notes.retain(|kept| kept.reason != note.reason);
        notes.push(note.clone());
        if self.order.len() > WARNED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    fn of(&self, uid: &PodUid) -> Vec<PodNote> {
        self.of.get(uid).cloned().unwrap_or_default()
    }
}

impl Engine {
    /// Of a pod that may be anybody's.
    pub(crate) fn noted(&mut self, note: PodNote, now: Millis) {
        self.warned.keep(&note);
        let of_pod = self.reign.book.iter().find(|launch| launch.uid() == Some(&note.uid));
        if let Some(id) = of_pod.map(|launch| launch.id.clone()) {
            self.tell(&id, Fact::PodNoted(note), now);
        }
    }

    pub(crate) fn pod_event(&mut self, event: PodEvent, now: Millis) {
        match event {
            PodEvent::Seen(view) => {
                if self.reign.book.get(&view.launch).is_some() {
                    let (launch, uid) = (view.launch.clone(), view.uid.clone());
                    self.tell(&launch, Fact::PodSeen(view), now);
                    for note in self.warned.of(&uid) {
                        self.tell(&launch, Fact::PodNoted(note), now);
                    }
                } else {
                    self.stranger(&view);
                }
            }
            PodEvent::Deleted(view) => {
                let launch = view.launch.clone();
                self.tell(&launch, Fact::PodDeleted(view.uid), now);
            }
            PodEvent::Listed(uids) => {
                let listed: BTreeSet<PodUid> = uids.into_iter().collect();
                let missing = |launch: &&Launch| launch.uid().is_some_and(|uid| !listed.contains(uid));
                let missing: Vec<_> =
                    self.reign.book.iter().filter(missing).map(|launch| launch.id.clone()).collect();
                for id in missing {
                    self.tell(&id, Fact::PodNotListed, now);
                }
            }
            PodEvent::Interrupted { error } => self.counters.note_error("watch", &error),
        }
    }

    /// A pod of ours that nobody here owns. If it could still start, or is to be removed, its row decides (I11).
    fn stranger(&mut self, view: &PodView) {
        let resource_version = match classify(view, &self.policy) {
            _ if view.deleting => return,
            PodStanding::Waiting(_) | PodStanding::Stuck { .. } => Some(view.resource_version.clone()),
            PodStanding::Ended(end) if self.policy.deletes(end != PodEnd::Succeeded) => None,
            PodStanding::Ended(_) | PodStanding::Started => return,
        };
        let stranger = Stranger { pod: view.pod.clone(), uid: view.uid.clone(), resource_version };
        self.reign.strangers.put(view.launch.clone(), Some(stranger));
    }
}
