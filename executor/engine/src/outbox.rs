//! What waits to be sent: one batch of each kind in flight, the next one fills meanwhile.
//!
//! Batches clock themselves: a lone item leaves at once, a crowd leaves together. The number of statements per second
//! is bounded by the database's answers, not by the number of tasks.

use std::collections::BTreeMap;

use windlass_core::ids::LaunchId;
use windlass_core::store::LaunchChange;
use windlass_core::time::Millis;

use crate::command::CommandId;

/// Items of one kind by launch.
#[derive(Debug)]
pub(crate) struct Batch<V> {
    waiting: BTreeMap<LaunchId, V>,
    in_flight: Option<InFlight<V>>,
    hold_until: Millis,
}

#[derive(Debug)]
struct InFlight<V> {
    /// Only the answer to this command counts: one given up before may still be answered.
    id: CommandId,
    since: Millis,
    items: BTreeMap<LaunchId, V>,
}

impl<V> Default for Batch<V> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), in_flight: None, hold_until: Millis(0) }
    }
}

impl<V: Clone> Batch<V> {
    pub(crate) fn put(&mut self, id: LaunchId, value: V) {
        self.waiting.insert(id, value);
    }

    pub(crate) fn waiting(&mut self) -> &mut BTreeMap<LaunchId, V> {
        &mut self.waiting
    }

    /// The next batch, if none is in flight and something waits; it leaves as command `id`.
    pub(crate) fn take(
        &mut self,
        id: CommandId,
        limit: u32,
        now: Millis,
        give_up_ms: u64,
    ) -> Option<BTreeMap<LaunchId, V>> {
        if let Some(InFlight { id, since, .. }) = self.in_flight
            && now.since(since) >= give_up_ms
        {
            self.failed(id, now, 0);
        }
        if self.in_flight.is_some() || self.waiting.is_empty() || now < self.hold_until {
            return None;
        }
        let rest = match self.waiting.keys().nth(limit as usize).cloned() {
            Some(first_left) => self.waiting.split_off(&first_left),
            None => BTreeMap::new(),
        };
        let items = std::mem::replace(&mut self.waiting, rest);
        self.in_flight = Some(InFlight { id, since: now, items: items.clone() });
        Some(items)
    }

    /// Command `id` was answered: what was in it. None: it had been given up.
    pub(crate) fn done(&mut self, id: CommandId) -> Option<BTreeMap<LaunchId, V>> {
        if self.in_flight.as_ref().is_some_and(|batch| batch.id == id) {
            self.in_flight.take().map(|batch| batch.items)
        } else {
            None
        }
    }

    /// Command `id` was not: everything in it waits again, unless something newer does.
    pub(crate) fn failed(&mut self, id: CommandId, now: Millis, retry_ms: u64) {
        if let Some(items) = self.done(id) {
            self.hold_until = now.plus(retry_ms);
            for (id, value) in items {
                self.waiting.entry(id).or_insert(value);
            }
        }
    }

    pub(crate) fn idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_none()
    }

    /// All that is held in memory.
    pub(crate) fn size(&self) -> usize {
        self.waiting.len() + self.in_flight.as_ref().map_or(0, |batch| batch.items.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn wake_at(&self, give_up_ms: u64) -> Option<Millis> {
        match &self.in_flight {
            Some(batch) => Some(batch.since.plus(give_up_ms)),
            None if self.waiting.is_empty() => None,
            None => Some(self.hold_until),
        }
    }
}

/// Changes that wait for one launch. Progress is overtaken by what comes after it: one write instead of two.
pub(crate) fn merge(waiting: &mut BTreeMap<LaunchId, LaunchChange>, id: LaunchId, change: LaunchChange) {
    let older_wins = match (waiting.get(&id), &change) {
        // An outcome that waits is not displaced by late progress.
        (
            Some(LaunchChange::Settle { .. } | LaunchChange::Close | LaunchChange::Relaunch { .. }),
            LaunchChange::Created { .. } | LaunchChange::Running { .. },
        ) => true,
        (Some(LaunchChange::Running { attempt, .. }), LaunchChange::Created { attempt: newer, .. }) => {
            attempt == newer
        }
        _ => false,
    };
    if !older_wins {
        waiting.insert(id, change);
    }
}
