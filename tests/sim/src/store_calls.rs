//! Database calls of the daemons: they take time, commit or not, and their answers may be lost.

use windlass_core::ids::{Epoch, LaunchId, PodRef, Queueing};
use windlass_core::store::{ClaimAnswer, LaunchChange, LaunchRow, LaunchUpdate, SaveAnswer, TermAnswer};
use windlass_core::task::{TaskState, TaskView};
use windlass_engine::{Answer, Ask};

use crate::agenda::{Event, Sender, Snapshot};
use crate::database::Change;
use crate::plant::Plant;
use crate::world::World;

/// The driver's own deadline for a database call in milliseconds: below the lease.
const DEADLINE_MS: u64 = 3_000;

impl World {
    pub(crate) fn send_db(&mut self, sender: Sender, ask: Ask) {
        if let Ask::Intake { pass: windlass_core::store::IntakePass::Full, .. } = ask
            && self.plant == Some(Plant::NoFullPass)
        {
            return self.answer_in(sender, 5, Answer::Intake(Ok(Vec::new())));
        }
        if let Some(answer) = self.planted_answer(&ask) {
            self.answer_in(sender, 1, answer);
            if self.plant != Some(Plant::SettleAfterDelete) {
                return;
            }
        }
        let arrive = self.rng.delay(1, 8, 60);
        if self.rng.chance(self.faults.db_error) {
            return self.answer_in(sender, arrive * 2, failed(&ask));
        }
        let slow = self.rng.chance(self.faults.db_slow);
        let commit_in =
            if slow { self.rng.between(50, DEADLINE_MS + 1_500) } else { self.rng.delay(0, 4, 40) };
        let back = self.rng.delay(1, 8, 60);
        let lost = self.rng.chance(self.faults.db_lost) || arrive + commit_in + back > DEADLINE_MS;
        let ask = Box::new(ask);
        if lost {
            self.answer_in(sender, DEADLINE_MS, failed(&ask));
        }
        self.put_in(arrive, Event::DbBegin { sender, ask, commit_in, answer_in: (!lost).then_some(back) });
    }

    pub(crate) fn db_begin(&mut self, sender: Sender, ask: Box<Ask>, commit_in: u64, answer_in: Option<u64>) {
        if self.db.away_until > self.now {
            if let Some(back) = answer_in {
                self.answer_in(sender, back, failed(&ask));
            }
            return;
        }
        let snapshot = self.snapshot(&ask);
        self.put_in(commit_in, Event::DbCommit { sender, ask, snapshot, answer_in });
    }

    /// What a transaction that begins now sees.
    pub(crate) fn snapshot(&self, ask: &Ask) -> Snapshot {
        let queued = match ask {
            Ask::Claim { claims, .. } => claims
                .iter()
                .map(|claim| {
                    self.db.task_of(&claim.queueing).is_some_and(|task| task.is_queued(&claim.queueing))
                })
                .collect(),
            _ => Vec::new(),
        };
        let in_term = epoch_of(ask).is_none_or(|epoch| epoch.0 == self.db.term.epoch);
        Snapshot { in_term, queued, timeline: self.db.timeline }
    }

    pub(crate) fn db_commit(
        &mut self,
        sender: Sender,
        ask: &Ask,
        snapshot: &Snapshot,
        answer_in: Option<u64>,
    ) {
        if snapshot.timeline != self.db.timeline {
            if let Some(back) = answer_in {
                self.answer_in(sender, back, failed(ask));
            }
            return;
        }
        let holder = self.daemons[sender.daemon].holder.clone();
        let answer = self.execute(&holder, ask, snapshot);
        if self.trace.lines.is_some() {
            self.trace.say(self.now, None, || {
                format!("database: daemon {} {} {ask:?} -> {answer:?}", sender.daemon, sender.id.0)
            });
        }
        if let Some(back) = answer_in {
            self.answer_in(sender, back, answer);
        }
    }

    pub(crate) fn execute(&mut self, holder: &str, ask: &Ask, snapshot: &Snapshot) -> Answer {
        let now = self.now;
        match ask {
            Ask::AcquireTerm { lease_ms } => Answer::Term(self.db.acquire(holder, *lease_ms, now)),
            Ask::RenewTerm { epoch, lease_ms } => Answer::Term(self.db.renew(holder, *epoch, *lease_ms, now)),
            Ask::ReleaseTerm { epoch } => Answer::Term(self.db.release(holder, *epoch, now)),
            Ask::Load { epoch } => {
                let rows = self.in_term(holder, *epoch, snapshot).then(|| self.db.open_launches());
                Answer::Loaded(Ok(rows))
            }
            Ask::Recover { .. } if self.cluster.away_until > now => failed(ask),
            Ask::Recover { epoch } => {
                let rows = self.in_term(holder, *epoch, snapshot).then(|| self.recover(*epoch));
                Answer::Recovered(Ok(rows))
            }
            Ask::Intake { pass, limit } => Answer::Intake(Ok(self.db.intake(*pass, *limit))),
            Ask::Claim { epoch, claims } => {
                let answers = self.in_term(holder, *epoch, snapshot).then(|| {
                    let each = claims.iter().zip(&snapshot.queued);
                    each.map(|(claim, queued)| self.db.claim(claim, *queued)).collect()
                });
                Answer::Claimed(Ok(answers))
            }
            Ask::ReadTasks(of) => {
                let mut views: Vec<_> = of.iter().map(|(id, q)| self.db.view(id, q, now)).collect();
                if self.plant == Some(Plant::EndOfAnyPod) {
                    views.iter_mut().for_each(|view| self.names_every_pod(view));
                }
                Answer::Tasks(Ok(views))
            }
            Ask::ReadSpecs(of) => {
                Answer::Specs(Ok(of.iter().map(|(id, q)| (id.clone(), self.db.spec(q))).collect()))
            }
            Ask::FindWithdrawn { limit } => Answer::Tasks(Ok(self.db.withdrawn(*limit, now))),
            Ask::FindLaunches(of) => Answer::Launches(Ok(self.find_launches(of))),
            Ask::Save { epoch, updates } => Answer::Saved(self.save(holder, *epoch, updates, snapshot)),
            Ask::NotePods(of) => {
                self.note_pods(of);
                Answer::Done
            }
            // Rows are kept for longer than a run takes.
            Ask::Purge { .. }
            | Ask::KeepLog { .. }
            | Ask::FollowOwners { .. }
            | Ask::Create { .. }
            | Ask::GetPod { .. }
            | Ask::OpenGate { .. }
            | Ask::DeletePod { .. }
            | Ask::Watch(_)
            | Ask::Exit => Answer::Done,
        }
    }

    /// The one write to a row of Airflow (I5): only while it is this queueing, queued or running.
    fn note_pods(&mut self, of: &[(Queueing, PodRef)]) {
        for (queueing, pod) in of {
            let Some(no) = self.db.by_key.get(&queueing.key).copied() else { continue };
            let task = &mut self.db.tasks[no];
            let live = matches!(task.state, TaskState::Queued | TaskState::Running);
            if (!task.is_of(queueing) || !live) && self.plant != Some(Plant::NoteUnguarded) {
                continue;
            }
            task.external_id = Some(pod.to_string());
            let stored = task.launch.as_ref().and_then(|launch| self.db.launches.get(launch));
            self.check.noted(self.now, no, (task, queueing), stored);
        }
    }

    /// Planted: the row seems to name the pod of whoever asks.
    fn names_every_pod(&self, view: &mut TaskView) {
        if let (Some(row), Some(stored)) = (&mut view.row, self.db.launches.get(&view.launch)) {
            row.hostname = Some(stored.row.pod.name.clone());
        }
    }

    fn find_launches(&self, of: &[LaunchId]) -> Vec<LaunchRow> {
        of.iter().filter_map(|id| self.db.launches.get(id)).map(|stored| stored.row.clone()).collect()
    }

    /// What fences: the row of the term locked until the commit, so that what was seen still holds.
    fn in_term(&mut self, holder: &str, epoch: Epoch, snapshot: &Snapshot) -> bool {
        let current = self.db.term.epoch;
        let passes = match self.plant {
            Some(Plant::NoFencing) => true,
            Some(Plant::FenceBySnapshot) => snapshot.in_term,
            // On the timeline on which the term began: what it knows may be lost on another.
            _ => epoch.0 == current && !self.db.began_before_failover(holder),
        };
        if passes {
            self.check.committed(self.now, epoch.0, current);
        }
        passes
    }

    fn save(
        &mut self,
        holder: &str,
        epoch: Epoch,
        updates: &[LaunchUpdate],
        snapshot: &Snapshot,
    ) -> SaveAnswer {
        if !self.in_term(holder, epoch, snapshot) {
            return SaveAnswer::Fenced;
        }
        let unguarded = self.plant == Some(Plant::OutcomeReplaced);
        let mut refused = Vec::new();
        for update in updates {
            let task = self.task_of_launch.get(&update.launch).copied();
            match self.db.change(update, unguarded) {
                Change::Held => self.say(task, || format!("stored: {:?}", update.change)),
                Change::Refused(row) => refused.push((update.launch.clone(), row.map(|row| *row))),
                Change::Overwrote => self.check.outcome_changed(self.now, task),
            }
        }
        SaveAnswer::Saved { refused }
    }

    /// The answers of faults planted into the driver.
    fn planted_answer(&self, ask: &Ask) -> Option<Answer> {
        match (self.plant?, ask) {
            (Plant::SkipClaim, Ask::Claim { claims, .. }) => {
                let answers = claims.iter().map(|claim| ClaimAnswer::Claimed(claim.launch.clone())).collect();
                Some(Answer::Claimed(Ok(Some(answers))))
            }
            (Plant::SettleAfterDelete, Ask::Save { updates, .. }) => {
                let settles =
                    updates.iter().any(|update| matches!(update.change, LaunchChange::Settle { .. }));
                settles.then_some(Answer::Saved(SaveAnswer::Saved { refused: Vec::new() }))
            }
            (Plant::NoReread, Ask::ReadSpecs(of)) => {
                let queued = of.iter().map(|(id, queueing)| {
                    let mut task = self.db.task_of(queueing).cloned();
                    if let Some(task) = &mut task {
                        task.try_number = queueing.try_number;
                        task.queued_at = Some(queueing.queued_at);
                    }
                    (id.clone(), task.as_ref().and_then(crate::database::Task::spec))
                });
                Some(Answer::Specs(Ok(queued.collect())))
            }
            _ => None,
        }
    }
}

fn epoch_of(ask: &Ask) -> Option<Epoch> {
    match ask {
        Ask::Load { epoch } | Ask::Recover { epoch } | Ask::Claim { epoch, .. } | Ask::Save { epoch, .. } => {
            Some(*epoch)
        }
        _ => None,
    }
}

/// The driver's answer for a call that failed or did not come back.
pub(crate) fn failed(ask: &Ask) -> Answer {
    use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
    let error = || "no answer".to_owned();
    match ask {
        Ask::AcquireTerm { .. } | Ask::RenewTerm { .. } | Ask::ReleaseTerm { .. } => {
            Answer::Term(TermAnswer::Failed { error: error() })
        }
        Ask::Load { .. } => Answer::Loaded(Err(error())),
        Ask::Recover { .. } => Answer::Recovered(Err(error())),
        Ask::Intake { .. } => Answer::Intake(Err(error())),
        Ask::Claim { .. } => Answer::Claimed(Err(error())),
        Ask::ReadTasks(_) | Ask::FindWithdrawn { .. } => Answer::Tasks(Err(error())),
        Ask::ReadSpecs(_) => Answer::Specs(Err(error())),
        Ask::FindLaunches(_) => Answer::Launches(Err(error())),
        Ask::Save { .. } => Answer::Saved(SaveAnswer::Failed { error: error() }),
        Ask::Create { .. } => Answer::Created(CreateAnswer::Unknown { error: error() }),
        Ask::GetPod { .. } | Ask::OpenGate { .. } => Answer::Got(GetAnswer::Failed { error: error() }),
        Ask::DeletePod { .. } => Answer::Deleted(DeleteAnswer::Failed { error: error() }),
        Ask::NotePods(_)
        | Ask::KeepLog { .. }
        | Ask::FollowOwners { .. }
        | Ask::Purge { .. }
        | Ask::Watch(_)
        | Ask::Exit => Answer::Done,
    }
}
