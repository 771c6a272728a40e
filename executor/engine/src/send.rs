//! The second half of a turn: what leaves now, each kind under its own budget.

use windlass_core::launch::{Fact, Launch, Stage};
use windlass_core::store::{IntakePass, LaunchUpdate};
use windlass_core::time::Millis;

use crate::command::Ask;
use crate::{Engine, Open};

impl Engine {
    pub(crate) fn send(&mut self, now: Millis) {
        if self.exited {
            return;
        }
        self.send_term(now);
        let Some(epoch) = self.term.writing(now) else { return };
        if !self.reign.loaded {
            if self.stopping.is_none() {
                self.send_load(epoch, now);
            }
            return;
        }
        self.send_reads(now);
        self.send_saves(epoch, now);
        self.send_deletes();
        self.send_gets(now);
        self.send_gates(now);
        if self.stopping.is_none() {
            self.send_withdrawn(now);
            self.send_intake(now);
            self.send_claims(epoch, now);
            self.send_creates(now);
            if now >= self.reign.next_purge {
                self.reign.next_purge = now.plus(self.settings.purge_ms);
                self.command(Ask::Purge { epoch }, Open::Other);
            }
            if now >= self.reign.next_follow {
                self.reign.next_follow = now.plus(self.settings.follow_ms);
                self.command(Ask::FollowOwners { epoch }, Open::Other);
            }
        }
    }

    fn send_term(&mut self, now: Millis) {
        if let Some(since) = self.stopping {
            // A create under way trusts in the term: it is waited for in any case. Its own timeout bounds that.
            let creates = self.reign.count_open(|open| matches!(open, Open::Create(..)));
            let late = now.since(since) >= self.settings.drain_ms && creates == 0;
            if !self.term.leads() || late || self.drained() {
                self.term.release(now);
            }
            if self.term.released() {
                self.exited = true;
                self.end_reign();
                self.command(Ask::Exit, Open::Other);
                return;
            }
        }
        if let Some(ask) = self.term.due(now, &self.settings) {
            self.command(ask, Open::Term(now));
        }
    }

    /// Nothing is under way whose answer would be lost with the process.
    fn drained(&self) -> bool {
        let under_way = |open: &Open| {
            matches!(
                open,
                Open::Load
                    | Open::Recover
                    | Open::Claim
                    | Open::Save
                    | Open::Create(..)
                    | Open::Gate(..)
                    | Open::Delete(..)
            )
        };
        self.reign.count_open(under_way) == 0 && self.reign.saves.idle()
    }

    /// How many queueings may be taken in now. What waits for its namespace's quota, or for its own back-off, does not
    /// keep others from being seen (I8), until there is so much of it that memory counts (I10).
    fn room(&self, now: Millis) -> u32 {
        let book = &self.reign.book;
        let could_go = book.ready_to_go(&self.reign.pacing, now) + self.reign.claims.len();
        let most = self.settings.backlog_max.saturating_add(self.settings.held_max);
        let room = self.settings.backlog_max.saturating_sub(could_go);
        let room = room.min(most.saturating_sub(book.waiting()));
        u32::try_from(room).unwrap_or(u32::MAX).min(self.settings.batch)
    }

    fn send_intake(&mut self, now: Millis) {
        let limit = self.room(now);
        if limit == 0 {
            return;
        }
        while let Some(pass) = self.reign.intake.due(now, &self.settings) {
            self.command(Ask::Intake { pass, limit }, Open::Intake(pass, limit));
            if pass == IntakePass::Handover {
                break;
            }
        }
    }

    fn send_withdrawn(&mut self, now: Millis) {
        if self.reign.looks_for_withdrawn() && self.reign.intake.withdrawn_due(now, &self.settings) {
            let limit = self.settings.batch;
            self.command(Ask::FindWithdrawn { limit }, Open::FindWithdrawn(now, limit));
        }
    }

    fn send_claims(&mut self, epoch: windlass_core::ids::Epoch, now: Millis) {
        let (limit, give_up) = (self.settings.batch, self.settings.answer_ms);
        if let Some(batch) = self.reign.claims.take(self.next_id(), limit, now, give_up) {
            let claims = batch.into_values().collect();
            self.command(Ask::Claim { epoch, claims }, Open::Claim);
        }
    }

    fn send_saves(&mut self, epoch: windlass_core::ids::Epoch, now: Millis) {
        let (limit, give_up) = (self.settings.batch, self.settings.answer_ms);
        if let Some(batch) = self.reign.saves.take(self.next_id(), limit, now, give_up) {
            let updates = batch.into_iter().map(|(launch, change)| LaunchUpdate { launch, change }).collect();
            self.command(Ask::Save { epoch, updates }, Open::Save);
        }
        // A note is written after its create is stored, and only when nothing more pressing goes to the database.
        if let Some(batch) = self.reign.notes.take(self.next_id(), limit, now, give_up) {
            self.command(Ask::NotePods(batch.into_values().collect()), Open::Notes);
        }
    }

    fn send_reads(&mut self, now: Millis) {
        let (limit, give_up) = (self.settings.batch, self.settings.answer_ms);
        if let Some(batch) = self.reign.reads.take(self.next_id(), limit, now, give_up) {
            self.command(Ask::ReadTasks(batch.into_iter().collect()), Open::ReadTasks);
        }
        if let Some(batch) = self.reign.specs.take(self.next_id(), limit, now, give_up) {
            self.command(Ask::ReadSpecs(batch.into_iter().collect()), Open::ReadSpecs);
        }
        if let Some(batch) = self.reign.strangers.take(self.next_id(), limit, now, give_up) {
            self.command(Ask::FindLaunches(batch.into_keys().collect()), Open::FindLaunches);
        }
    }

    fn send_deletes(&mut self) {
        let mut in_flight = self.reign.count_open(|open| matches!(open, Open::Delete(..)));
        while in_flight < self.settings.deletes_max as usize
            && let Some(delete) = self.reign.deletes.pop_front()
        {
            let ask = Ask::DeletePod {
                pod: delete.pod.clone(),
                uid: delete.uid.clone(),
                resource_version: delete.resource_version.clone(),
            };
            self.command(ask, Open::Delete(delete));
            in_flight += 1;
        }
    }

    fn send_gets(&mut self, now: Millis) {
        let mut in_flight = self.reign.count_open(|open| matches!(open, Open::Get(..)));
        while in_flight < self.settings.gets_max as usize
            && let Some(id) = self.reign.gets.pop_front()
        {
            let Some(launch) = self.reign.book.get(&id) else { continue };
            let (attempt, pod) = (launch.attempt, launch.pod.clone());
            self.command(Ask::GetPod { launch: id.clone(), attempt, pod }, Open::Get(id, attempt, now));
            in_flight += 1;
        }
    }

    /// As many as creates: each follows one.
    fn send_gates(&mut self, now: Millis) {
        let mut in_flight = self.reign.count_open(|open| matches!(open, Open::Gate(..)));
        while in_flight < self.settings.creates_max as usize
            && let Some((id, uid)) = self.reign.gates.pop_front()
        {
            // Given up or replaced meanwhile: it stays behind its gate.
            let wanted = |launch: &&Launch| matches!(&launch.stage, Stage::Alive(alive) if alive.uid == uid);
            let Some(launch) = self.reign.book.get(&id).filter(wanted) else { continue };
            let (attempt, pod) = (launch.attempt, launch.pod.clone());
            let ask = Ask::OpenGate { launch: id.clone(), attempt, pod, uid };
            self.command(ask, Open::Gate(id, attempt, now));
            in_flight += 1;
        }
    }

    /// Turns are given while the window has room and the term covers a whole create.
    fn send_creates(&mut self, now: Millis) {
        while self.reign.pacing.open(self.reign.book.turns(), now)
            && self.term.covers(now, self.policy.create_ms)
        {
            let Some(id) = self.reign.book.next_ready(&self.reign.pacing, now) else { break };
            if self.reign.book.get(&id).is_some_and(|launch| launch.branches.is_some()) {
                self.reign.book.branches_mut().spend(now);
            }
            self.tell(&id, Fact::Turn, now);
        }
        if self.reign.specs.len() > 0 {
            self.send_reads(now);
        }
    }

    pub(crate) fn next_wake(&self, now: Millis) -> Millis {
        let give_up = self.settings.answer_ms;
        let mut at = vec![self.term.wake_at()];
        // Once it no longer leads, there is nothing left to drain.
        if let Some(since) = self.stopping.filter(|_| self.term.leads()) {
            at.push(Some(since.plus(self.settings.drain_ms)).filter(|at| now < *at));
        }
        let reign = &self.reign;
        if self.term.leads() {
            at.push(reign.landing.wake_at(now, &self.policy));
        }
        if self.term.writing(now).is_some() && self.stopping.is_none() {
            at.push(self.recovery_wake_at());
        }
        if reign.loaded && self.term.leads() {
            at.extend([
                reign.book.next_timer(),
                reign.saves.wake_at(give_up),
                reign.reads.wake_at(give_up),
                reign.specs.wake_at(give_up),
                reign.notes.wake_at(give_up),
                reign.strangers.wake_at(give_up),
            ]);
            // Only what `send` would do then: to be woken for anything else would be to turn without a pause.
            if self.stopping.is_none() {
                at.extend([
                    Some(reign.next_purge),
                    Some(reign.next_follow),
                    reign.claims.wake_at(give_up),
                    reign.pacing.next_end(now),
                    reign.book.branches().next_end(now),
                ]);
                if self.room(now) > 0 {
                    at.push(Some(reign.intake.wake_at(&self.settings)));
                }
                if reign.looks_for_withdrawn() {
                    at.push(Some(reign.intake.withdrawn_wake_at(&self.settings)));
                }
            }
        }
        // Never in the past: what is due now was done in `handle`, what cannot be done now waits for an answer.
        at.into_iter().flatten().min().unwrap_or(now.plus(give_up)).max(now.plus(1))
    }
}
