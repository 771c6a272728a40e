//! What waits to be sent: one batch of each kind in flight, the next one fills meanwhile.
//!
//! Batches clock themselves: a lone item leaves at once, a crowd leaves together. The number of statements per second
//! is bounded by the database's answers, and for what nobody waits for also by a gap between two batches: a fast
//! database would answer each handful at once, and the cost of a transaction fall on five rows instead of fifty.

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
    /// After a failure.
    hold_until: Millis,
    /// From one batch to the next, unless that one is full.
    gap_ms: u64,
    gap_until: Millis,
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
        Self::with_gap(0)
    }
}

impl<V> Batch<V> {
    /// Batches follow each other at this distance at least, in milliseconds.
    pub(crate) fn with_gap(gap_ms: u64) -> Self {
        let (waiting, at) = (BTreeMap::new(), Millis(0));
        Self { waiting, in_flight: None, hold_until: at, gap_ms, gap_until: at }
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
        if now < self.gap_until && self.waiting.len() < limit as usize {
            return None;
        }
        self.gap_until = now.plus(self.gap_ms);
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
            None => Some(self.hold_until.max(self.gap_until)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(at: u8) -> LaunchId {
        format!("{}{}", char::from(b'a' + at % 26), "a".repeat(25)).parse().unwrap()
    }

    #[test]
    fn a_lone_item_leaves_at_once_and_those_behind_it_together() {
        let mut batch = Batch::with_gap(50);
        batch.put(id(0), ());
        assert_eq!(batch.take(CommandId(1), 9, Millis(100), 1_000).map(|items| items.len()), Some(1));
        batch.put(id(1), ());
        batch.done(CommandId(1));
        batch.put(id(2), ());
        assert_eq!(
            (batch.take(CommandId(2), 9, Millis(149), 1_000), batch.wake_at(1_000)),
            (None, Some(Millis(150)))
        );
        assert_eq!(batch.take(CommandId(2), 9, Millis(150), 1_000).map(|items| items.len()), Some(2));
    }

    #[test]
    fn a_full_batch_waits_for_no_gap_but_for_the_end_of_a_failure() {
        let mut batch = Batch::with_gap(50);
        for at in 0..6 {
            batch.put(id(at), ());
        }
        let take = |number, now, batch: &mut Batch<()>| batch.take(CommandId(number), 3, Millis(now), 1_000);
        assert_eq!(take(1, 100, &mut batch).map(|items| items.len()), Some(3));
        batch.done(CommandId(1));
        assert_eq!(take(2, 101, &mut batch).map(|items| items.len()), Some(3));
        batch.failed(CommandId(2), Millis(102), 500);
        assert_eq!(take(3, 601, &mut batch), None);
        assert_eq!(take(3, 602, &mut batch).map(|items| items.len()), Some(3));
    }
}
