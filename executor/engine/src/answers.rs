//! The first half of a turn: an answer becomes facts.

use std::sync::Arc;

use windlass_core::cluster::{DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, LaunchId};
use windlass_core::launch::{Fact, Launch, Stage};
use windlass_core::store::{
    Claim, ClaimAnswer, LaunchChange, LaunchRow, QueuedTask, SaveAnswer, StoredStage,
};
use windlass_core::task::{TaskSpec, TaskView};
use windlass_core::time::Millis;

use crate::command::{Answer, Ask, CommandId};
use crate::term::Change;
use crate::{Delete, Engine, Open};

impl Engine {
    /// After a restart it shows only now which launches compete for branch interfaces: they wait for their turn among those.
    fn spec_read(&mut self, launch: &LaunchId, spec: Option<Arc<TaskSpec>>, now: Millis) {
        let unknown = self.reign.book.get(launch).is_some_and(|launch| launch.branches.is_none());
        let pool = spec.as_ref().and_then(|spec| spec.branches.clone()).filter(|_| unknown);
        let fact = match pool {
            Some(pool) if !self.reign.book.branches().open(&pool, now) => Fact::TurnBack(pool),
            Some(_) => {
                self.reign.book.branches_mut().spend(now);
                Fact::SpecRead(spec)
            }
            None => Fact::SpecRead(spec),
        };
        self.tell(launch, fact, now);
    }

    pub(crate) fn answered(&mut self, id: CommandId, answer: Answer, now: Millis) {
        // A command of an earlier term is not open any more: its answer is stale, whatever it says. What it did is in
        // the database and in the cluster, where this term has read or will read it.
        let Some(open) = self.reign.open.remove(&id) else {
            return;
        };
        match (open, answer) {
            (Open::Term(asked), Answer::Term(answer)) => self.term_answered(answer, asked, now),
            (Open::Load, Answer::Loaded(answer)) => self.loaded(answer, now),
            (Open::Recover, Answer::Recovered(answer)) => self.recovered(answer, now),
            (Open::Intake(pass, limit), Answer::Intake(answer)) => {
                let more = match answer {
                    Ok(tasks) => self.taken_in(&tasks, limit, now),
                    Err(error) => {
                        self.counters.note_error("intake", &error);
                        false
                    }
                };
                self.reign.intake.ended(pass, more, now, &self.settings);
            }
            (Open::Claim, Answer::Claimed(answer)) => self.claimed(id, answer, now),
            (Open::Save, Answer::Saved(answer)) => self.saved(id, answer, now),
            (Open::ReadTasks, Answer::Tasks(answer)) => {
                match &answer {
                    Ok(_) => drop(self.reign.reads.done(id)),
                    Err(_) => self.reign.reads.failed(id, now, self.settings.retry_ms),
                }
                self.tasks_seen(answer, now);
            }
            (Open::ReadSpecs, Answer::Specs(answer)) => match answer {
                Ok(specs) => {
                    self.reign.specs.done(id);
                    for (launch, spec) in specs {
                        self.spec_read(&launch, spec, now);
                    }
                }
                Err(error) => {
                    self.counters.note_error("database", &error);
                    self.reign.specs.failed(id, now, self.settings.retry_ms);
                }
            },
            (Open::FindWithdrawn(asked, limit), Answer::Tasks(answer)) => {
                let full = answer.as_ref().is_ok_and(|views| views.len() >= limit as usize);
                let before = self.reign.saves.len();
                self.orphans_seen(&answer, asked, limit);
                self.tasks_seen(answer, now);
                let more = full && self.reign.saves.len() > before;
                self.reign.intake.withdrawn_ended(more, now, &self.settings);
            }
            (Open::FindLaunches, Answer::Launches(answer)) => self.strangers_found(id, answer, now),
            (Open::Notes, _) => {
                self.reign.notes.done(id);
            }
            (Open::Create(launch, attempt, asked), Answer::Created(answer)) => {
                self.create_answered(&launch, attempt, asked, answer, now);
            }
            (Open::Get(launch, attempt, asked) | Open::Gate(launch, attempt, asked), Answer::Got(answer)) => {
                self.got(&launch, attempt, asked, answer, now);
            }
            (Open::Delete(delete), Answer::Deleted(answer)) => {
                if let DeleteAnswer::Failed { error } = &answer {
                    self.counters.note_error("kubernetes", error);
                }
                if delete.awaited {
                    self.tell(&delete.launch, Fact::DeleteAnswered(answer), now);
                }
            }
            // Best effort, or an answer that does not fit its question: nothing hangs on it.
            _ => {}
        }
    }

    fn got(&mut self, launch: &LaunchId, attempt: Attempt, asked: Millis, answer: GetAnswer, now: Millis) {
        if let GetAnswer::Failed { error } = &answer {
            self.counters.note_error("kubernetes", error);
        }
        let known = self.reign.book.get_mut(launch).filter(|known| known.attempt == attempt);
        let Some(known) = known else { return };
        let proves = known.proves_gone(asked);
        let answer = match answer {
            // Begun too early to prove that nothing is there: asked again.
            GetAnswer::Gone | GetAnswer::Found(None) if !proves => {
                GetAnswer::Failed { error: "a create may still land".into() }
            }
            GetAnswer::Gone | GetAnswer::Found(_) if proves => {
                known.landed();
                answer
            }
            GetAnswer::Gone | GetAnswer::Found(_) | GetAnswer::Failed { .. } => answer,
        };
        self.tell(launch, Fact::GetAnswered(answer), now);
    }

    fn tasks_seen(&mut self, answer: Result<Vec<TaskView>, String>, now: Millis) {
        match answer {
            Ok(views) => {
                for view in views {
                    let launch = view.launch.clone();
                    self.tell(&launch, Fact::TaskSeen(view), now);
                }
            }
            Err(error) => self.counters.note_error("database", &error),
        }
    }

    /// Rows without a launch in the book: a claim that was committed after its queueing was given up.
    fn orphans_seen(&mut self, answer: &Result<Vec<TaskView>, String>, asked: Millis, limit: u32) {
        let Ok(views) = answer else { return };
        // All of them, and begun when a claim that was given up could not be committed any more.
        let sure = |at: Millis| asked >= at.plus(self.settings.answer_ms) && views.len() < limit as usize;
        self.reign.claim_doubted = self.reign.claim_doubted.filter(|at| !sure(*at));
        for view in views {
            if self.reign.book.get(&view.launch).is_none() {
                self.reign.strangers.put(view.launch.clone(), None);
            }
        }
    }

    fn term_answered(&mut self, answer: windlass_core::store::TermAnswer, asked: Millis, now: Millis) {
        if let windlass_core::store::TermAnswer::Failed { error } = &answer {
            self.counters.note_error("database", error);
        }
        match self.term.answered(answer, asked, now, &self.settings) {
            Change::None | Change::Released => {}
            Change::Lost => self.end_reign(),
            Change::Gained { after_loss } => {
                self.counters.terms += 1;
                self.end_reign();
                if after_loss {
                    self.must_recover(now);
                }
            }
        }
    }

    pub(crate) fn loaded(&mut self, answer: Result<Option<Vec<LaunchRow>>, String>, now: Millis) {
        match answer {
            Ok(Some(mut rows)) => {
                // In the order in which they were queued: the earlier bar the later (I11).
                rows.sort_by(|a, b| {
                    (a.queueing.queued_at, &a.launch).cmp(&(b.queueing.queued_at, &b.launch))
                });
                let ids: Vec<LaunchId> = rows.iter().map(|row| row.launch.clone()).collect();
                for row in rows {
                    self.reign.book.insert(self.found(row, now));
                }
                for id in ids {
                    self.file(&id, now);
                }
                self.reign.loaded = true;
                self.command(Ask::Watch(true), Open::Other);
            }
            Ok(None) => self.lose(now),
            // Asked again by the next `send`.
            Err(error) => self.counters.note_error("database", &error),
        }
    }

    /// A launch of an earlier term, whose last create may be on its way still.
    fn found(&self, row: LaunchRow, now: Millis) -> Launch {
        let mut launch = Launch::found(row, now);
        launch.may_land_until(now.plus(self.policy.landing_ms()));
        launch
    }

    /// A row that this term has neither loaded nor claimed.
    pub(crate) fn adopt(&mut self, row: LaunchRow, now: Millis) {
        if self.reign.book.get(&row.launch).is_none() {
            let id = row.launch.clone();
            let launch = self.found(row, now);
            self.reign.book.insert(launch);
            self.file(&id, now);
        }
    }

    /// New queueings get a claim. Returns whether there is more to fetch at once.
    fn taken_in(&mut self, tasks: &[QueuedTask], limit: u32, now: Millis) -> bool {
        let mut new = 0;
        for task in tasks {
            if self.stopping.is_some() || self.reign.book.get(&task.launch).is_some() {
                continue;
            }
            new += 1;
            let mut launch = Launch::seen(task, now);
            let claim = Claim {
                launch: launch.id.clone(),
                queueing: launch.queueing.clone(),
                pod: launch.pod.clone(),
                scheduler_job_id: launch.scheduler_job_id,
                priority_weight: launch.priority_weight,
                command: task.spec.command_is_own.then(|| task.spec.command.clone()),
            };
            // Another queueing of the key means that the earlier one is over, or soon: its row is read again.
            let others = self.reign.book.others(&launch);
            // A body of this queueing may have begun in the other's pod after the intake read the row (I1).
            if !others.is_empty() || self.reign.intake.closed_meanwhile(&launch.queueing.key) {
                launch.read_before_create();
            }
            for other in others {
                if let Some(other) = self.reign.book.get(&other) {
                    self.reign.reads.put(other.id.clone(), other.queueing.clone());
                }
            }
            let id = launch.id.clone();
            self.reign.book.insert(launch);
            self.file(&id, now);
            self.reign.claims.put(id, claim);
        }
        self.counters.seen += new;
        new > 0 && tasks.len() >= limit as usize
    }

    fn claimed(&mut self, id: CommandId, answer: Result<Option<Vec<ClaimAnswer>>, String>, now: Millis) {
        match answer {
            Ok(Some(answers)) => {
                self.reign.claims.done(id);
                for answer in answers {
                    self.claim_answered(answer, now);
                }
            }
            Ok(None) => self.lose(now),
            Err(error) => {
                self.counters.note_error("database", &error);
                self.reign.claim_doubted = Some(now);
                self.reign.claims.failed(id, now, self.settings.retry_ms);
            }
        }
    }

    fn claim_answered(&mut self, answer: ClaimAnswer, now: Millis) {
        match answer {
            ClaimAnswer::Claimed(id) => {
                self.counters.claimed += 1;
                self.tell(&id, Fact::Claimed, now);
                let pacing = &self.reign.pacing;
                let held = self.reign.book.get(&id).is_some_and(|l| pacing.held(&l.pod.namespace, now));
                // What will wait for long is read again then, and need not be kept in memory until then.
                if (held || self.reign.book.barred(&id))
                    && let Some(launch) = self.reign.book.get_mut(&id)
                {
                    launch.read_before_create();
                }
            }
            // Our own INSERT whose answer was lost, or a row that this term has not loaded.
            ClaimAnswer::Exists(row) => {
                let id = row.launch.clone();
                if let Some(launch) = self.reign.book.get_mut(&id)
                    && matches!(launch.stage, Stage::Claiming { .. })
                {
                    *launch = Launch::found(*row, now);
                    launch.may_land_until(now.plus(self.policy.landing_ms()));
                    self.file(&id, now);
                }
            }
            ClaimAnswer::Withdrawn(id) => {
                let claiming =
                    self.reign.book.get(&id).is_some_and(|l| matches!(l.stage, Stage::Claiming { .. }));
                if claiming {
                    self.reign.book.forget(&id, now, &self.policy);
                }
            }
        }
    }

    fn saved(&mut self, id: CommandId, answer: SaveAnswer, now: Millis) {
        let refused = match answer {
            SaveAnswer::Saved { refused } => refused,
            SaveAnswer::Fenced => return self.lose(now),
            SaveAnswer::Failed { error } => {
                self.counters.note_error("database", &error);
                return self.reign.saves.failed(id, now, self.settings.retry_ms);
            }
        };
        // A row that is gone was lost in a failover, or somebody deleted it: what the database knows is read anew.
        if refused.iter().any(|(_, row)| row.is_none()) {
            return self.lose(now);
        }
        let Some(mut batch) = self.reign.saves.done(id) else { return };
        for (id, row) in refused.into_iter().filter_map(|(id, row)| Some((id, row?))) {
            if let Some(LaunchChange::Settle { .. } | LaunchChange::Close | LaunchChange::Relaunch { .. }) =
                batch.remove(&id)
            {
                self.counters.refused += 1;
                self.tell(&id, Fact::Refused(row), now);
            }
        }
        for (id, change) in batch {
            match change {
                LaunchChange::Created { .. } | LaunchChange::Running { .. } => {}
                LaunchChange::Settle { outcome } => {
                    self.counters.count_outcome(&outcome);
                    self.tell(&id, Fact::Saved, now);
                }
                LaunchChange::Relaunch { .. } => {
                    self.counters.relaunched += 1;
                    self.tell(&id, Fact::Saved, now);
                }
                LaunchChange::Close => self.tell(&id, Fact::Saved, now),
            }
        }
    }

    /// Pods whose launches are over go; launches that are not over are taken up. Without a row nothing is decided here.
    fn strangers_found(&mut self, id: CommandId, answer: Result<Vec<LaunchRow>, String>, now: Millis) {
        let rows = match answer {
            Ok(rows) => rows,
            Err(error) => {
                self.counters.note_error("database", &error);
                return self.reign.strangers.failed(id, now, self.settings.retry_ms);
            }
        };
        let Some(mut strangers) = self.reign.strangers.done(id) else { return };
        for row in rows {
            let pod = strangers.remove(&row.launch).flatten();
            if row.stage != StoredStage::Closed {
                self.adopt(row, now);
            } else if let Some(pod) = pod {
                self.reign.deletes.push_back(Delete {
                    launch: row.launch,
                    pod: pod.pod,
                    uid: pod.uid,
                    resource_version: pod.resource_version,
                    awaited: false,
                });
            }
        }
        self.counters.orphans += strangers.len() as u64;
    }
}
