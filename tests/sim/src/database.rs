//! The simulated database: Airflow's task instances and Windlass's own rows, with the guards that the store's words
//! state. Each function is one transaction at one moment; what happens around it (latency, lost answers) is not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use windlass_core::ids::{Epoch, LaunchId, PodRef, Queueing, TaskKey};
use windlass_core::outcome::{Outcome, OutcomeKind};
use windlass_core::store::{
    Claim, ClaimAnswer, IntakePass, LaunchChange, LaunchRow, LaunchUpdate, QueuedTask, StoredStage,
    TermAnswer,
};
use windlass_core::task::{BranchPool, DagFacts, ExecutorConfig, TaskRow, TaskSpec, TaskState, TaskView};
use windlass_core::time::UtcMicros;

/// Two heartbeats of a LocalTaskJob in milliseconds (`[scheduler] job_heartbeat_sec`, 5 s by default).
pub(crate) const TWO_HEARTBEATS_MS: u64 = 10_000;

/// A row of task_instance, and what the simulated people and schedulers still mean to do with it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) key: TaskKey,
    /// Deleted with its DAG run.
    pub(crate) gone: bool,
    pub(crate) state: TaskState,
    pub(crate) try_number: i32,
    pub(crate) max_tries: i32,
    pub(crate) queued_at: Option<UtcMicros>,
    pub(crate) queued_since: u64,
    pub(crate) queued_by: i64,
    pub(crate) hostname: Option<String>,
    pub(crate) job: Option<Job>,
    pub(crate) priority_weight: i32,
    pub(crate) namespace: String,
    /// The API server will never take its pod.
    pub(crate) bad_pod: bool,
    /// What its identity rule demands of its pods.
    pub(crate) demand: Demand,
    pub(crate) has_callback: bool,
    /// Retry delay, trigger, poke interval.
    pub(crate) not_before: u64,
    /// The next scheduling goes on with the same try.
    pub(crate) same_try: bool,
    /// Deferrals and reschedules that it still makes.
    pub(crate) pauses_left: u32,
    /// Times it was stuck in queued in this try.
    pub(crate) stuck: u32,
    /// Of the queueing that the row carries, while it is one.
    pub(crate) launch: Option<LaunchId>,
    /// `external_executor_id`.
    pub(crate) external_id: Option<String>,
    /// How often people, and Airflow for reasons of its own, have changed the row.
    pub(crate) touched: u32,
}

/// What a task's identity rule demands of a pod that admission has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing: the pod has no gate.
    Nothing,
    /// A role, which it gets unless the webhook is silent.
    Role,
    /// A role that its service account never gives it.
    OtherRole,
    /// Security groups: a branch network interface of its node.
    Groups,
}

/// The LocalTaskJob that the row names.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Where it runs. None: on a host that is no pod, where a person started it.
    pub(crate) pod: Option<usize>,
    /// It ended in order: its row says so.
    pub(crate) ended: bool,
    /// Its process died, its heart stopped beating then.
    pub(crate) died: Option<u64>,
}

/// A row of windlass.launch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) row: LaunchRow,
    pub(crate) task: usize,
    pub(crate) withdrawn: bool,
    pub(crate) delivered: bool,
    pub(crate) callback_sent: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Term {
    pub(crate) epoch: i64,
    pub(crate) holder: Option<String>,
    pub(crate) expires: u64,
    /// Up to which commits are known to be there.
    pub(crate) timeline: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    pub(crate) tasks: Vec<Task>,
    pub(crate) by_key: BTreeMap<TaskKey, usize>,
    pub(crate) launches: BTreeMap<LaunchId, Stored>,
    pub(crate) term: Term,
    pub(crate) handover: Vec<usize>,
    pub(crate) away_until: u64,
    /// Failovers so far, and one.
    pub(crate) timeline: u64,
    /// On which timeline the process of a holder began its term: in that process's memory.
    pub(crate) begun_on: BTreeMap<(String, i64), u64>,
}

/// What a guarded change came to.
pub(crate) enum Change {
    Held,
    Refused(Option<Box<LaunchRow>>),
    /// It replaced an outcome: its guard is wrong.
    Overwrote,
}

impl Task {
    pub(crate) fn queueing(&self) -> Option<Queueing> {
        let queued_at = self.queued_at?;
        Some(Queueing { key: self.key.clone(), try_number: self.try_number, queued_at })
    }

    pub(crate) fn is_of(&self, queueing: &Queueing) -> bool {
        !self.gone && self.try_number == queueing.try_number && self.queued_at == Some(queueing.queued_at)
    }

    pub(crate) fn is_queued(&self, queueing: &Queueing) -> bool {
        self.is_of(queueing) && self.state == TaskState::Queued
    }

    pub(crate) fn worker_alive(&self, now: u64) -> Option<bool> {
        let job = self.job.as_ref()?;
        Some(!job.ended && job.died.is_none_or(|died| now - died < TWO_HEARTBEATS_MS))
    }

    pub(crate) fn spec(&self) -> Option<Arc<TaskSpec>> {
        Some(Arc::new(TaskSpec {
            queueing: self.queueing()?,
            queue: String::new(),
            pool: String::new(),
            priority_weight: self.priority_weight,
            scheduler_job_id: self.queued_by,
            airflow_version: String::new(),
            has_pod_mutation_hook: false,
            operator: String::new(),
            dag: DagFacts::default(),
            command_is_own: false,
            branches: (self.demand == Demand::Groups).then(BranchPool::default),
            command: Vec::new(),
            executor_config: Ok(ExecutorConfig::default()),
        }))
    }
}

impl Database {
    /// As `windlass migrate` leaves it.
    pub(crate) fn installed() -> Self {
        Self { timeline: 1, term: Term { timeline: 1, ..Term::default() }, ..Self::default() }
    }

    pub(crate) fn task_of(&self, queueing: &Queueing) -> Option<&Task> {
        self.by_key.get(&queueing.key).map(|no| &self.tasks[*no])
    }

    pub(crate) fn view(&self, launch: &LaunchId, queueing: &Queueing, now: u64) -> TaskView {
        let row = self.task_of(queueing).filter(|task| !task.gone).map(|task| TaskRow {
            state: task.state.clone(),
            try_number: task.try_number,
            queued_at: task.queued_at,
            hostname: task.hostname.clone(),
            worker_alive: task.worker_alive(now),
        });
        let withdrawn = self.launches.get(launch).is_some_and(|stored| stored.withdrawn);
        TaskView { launch: launch.clone(), row, withdrawn }
    }

    pub(crate) fn spec(&self, queueing: &Queueing) -> Option<Arc<TaskSpec>> {
        self.task_of(queueing).filter(|task| task.is_queued(queueing)).and_then(Task::spec)
    }

    pub(crate) fn acquire(&mut self, holder: &str, lease_ms: u64, now: u64) -> TermAnswer {
        let own = self.term.holder.as_deref() == Some(holder);
        if !own && now < self.term.expires {
            return TermAnswer::HeldByOther { holder: self.term.holder.clone().unwrap_or_default() };
        }
        let timeline = self.term.timeline;
        let after_loss = timeline != self.timeline;
        let epoch = self.term.epoch + if after_loss { 1_000 } else { 1 };
        self.term = Term { epoch, holder: Some(holder.to_owned()), expires: now + lease_ms, timeline };
        self.begun_on.insert((holder.to_owned(), epoch), self.timeline);
        let epoch = Epoch(epoch);
        if after_loss { TermAnswer::HeldAfterLoss { epoch } } else { TermAnswer::Held { epoch } }
    }

    /// The term that this holder began last is of before a failover.
    pub(crate) fn began_before_failover(&self, holder: &str) -> bool {
        let last =
            self.begun_on.range((holder.to_owned(), i64::MIN)..=(holder.to_owned(), i64::MAX)).next_back();
        last.is_some_and(|(_, timeline)| *timeline != self.timeline)
    }

    pub(crate) fn renew(&mut self, holder: &str, epoch: Epoch, lease_ms: u64, now: u64) -> TermAnswer {
        if self.term.epoch != epoch.0 || self.term.holder.as_deref() != Some(holder) {
            return TermAnswer::HeldByOther { holder: self.term.holder.clone().unwrap_or_default() };
        }
        if self.began_before_failover(holder) {
            return TermAnswer::Released;
        }
        self.term.expires = now + lease_ms;
        TermAnswer::Held { epoch }
    }

    pub(crate) fn release(&mut self, holder: &str, epoch: Epoch, now: u64) -> TermAnswer {
        if self.term.epoch == epoch.0 && self.term.holder.as_deref() == Some(holder) {
            self.term.holder = None;
            self.term.expires = now;
        }
        TermAnswer::Released
    }

    pub(crate) fn open_launches(&self) -> Vec<LaunchRow> {
        let open = self.launches.values().filter(|stored| stored.row.stage != StoredStage::Closed);
        open.map(|stored| stored.row.clone()).collect()
    }

    /// Queueings without a launch, highest priority first, as the intake query orders them.
    pub(crate) fn intake(&mut self, pass: IntakePass, limit: u32) -> Vec<QueuedTask> {
        let mut numbers: Vec<usize> = match pass {
            IntakePass::Full => (0..self.tasks.len()).collect(),
            IntakePass::Handover => {
                let take = self.handover.len().min(limit as usize);
                self.handover.drain(..take).collect()
            }
        };
        numbers.sort_by_key(|no| (-self.tasks[*no].priority_weight, self.tasks[*no].queued_at, *no));
        numbers.dedup();
        let found = numbers.into_iter().filter_map(|no| {
            let task = &self.tasks[no];
            let launch = task.launch.clone()?;
            if task.gone || task.state != TaskState::Queued || self.launches.contains_key(&launch) {
                return None;
            }
            let name =
                windlass_core::pod::pod_name(&task.key.dag_id, &task.key.task_id, &launch, FIRST_ATTEMPT);
            let pod = PodRef { namespace: task.namespace.clone(), name };
            Some(QueuedTask { launch, spec: task.spec()?, pod })
        });
        found.take(limit as usize).collect()
    }

    /// Unstarted launches whose queueing was taken back.
    pub(crate) fn withdrawn(&self, limit: u32, now: u64) -> Vec<TaskView> {
        let unstarted = self
            .launches
            .values()
            .filter(|stored| matches!(stored.row.stage, StoredStage::Claimed | StoredStage::Created));
        let taken_back = unstarted.filter(|stored| {
            let task = &self.tasks[stored.task];
            let wanted = match task.state {
                TaskState::Queued => true,
                TaskState::Running | TaskState::Restarting => stored.row.stage == StoredStage::Created,
                _ => false,
            };
            stored.withdrawn || !task.is_of(&stored.row.queueing) || !wanted
        });
        let views = taken_back.map(|stored| self.view(&stored.row.launch, &stored.row.queueing, now));
        views.take(limit as usize).collect()
    }

    /// `still_queued`: what the statement's snapshot saw of the task instance.
    pub(crate) fn claim(&mut self, claim: &Claim, still_queued: bool) -> ClaimAnswer {
        if let Some(stored) = self.launches.get(&claim.launch) {
            return ClaimAnswer::Exists(Box::new(stored.row.clone()));
        }
        let task = self.by_key.get(&claim.queueing.key).copied();
        let Some(task) = task.filter(|_| still_queued) else {
            return ClaimAnswer::Withdrawn(claim.launch.clone());
        };
        let row = LaunchRow {
            launch: claim.launch.clone(),
            queueing: claim.queueing.clone(),
            stage: StoredStage::Claimed,
            attempt: FIRST_ATTEMPT,
            pod: claim.pod.clone(),
            uid: None,
            outcome: None,
            scheduler_job_id: claim.scheduler_job_id,
            priority_weight: claim.priority_weight,
        };
        let stored = Stored { row, task, withdrawn: false, delivered: false, callback_sent: false };
        self.launches.insert(claim.launch.clone(), stored);
        ClaimAnswer::Claimed(claim.launch.clone())
    }

    /// One guarded write, as `LaunchChange` states each guard. `unguarded`: planted, an outcome replaces another.
    pub(crate) fn change(&mut self, update: &LaunchUpdate, unguarded: bool) -> Change {
        use StoredStage::{Claimed, Closed, Created, Running, Settled};
        let Some(stored) = self.launches.get_mut(&update.launch) else { return Change::Refused(None) };
        let row = &mut stored.row;
        let held = match &update.change {
            LaunchChange::Created { attempt, .. } => row.stage == Claimed && row.attempt == *attempt,
            LaunchChange::Running { attempt, .. } => {
                matches!(row.stage, Claimed | Created) && row.attempt == *attempt
            }
            LaunchChange::Relaunch { attempt, .. } => {
                matches!(row.stage, Claimed | Created | Running) && row.attempt.next() == *attempt
            }
            LaunchChange::Settle { .. } => matches!(row.stage, Claimed | Created | Running) || unguarded,
            LaunchChange::Close => row.stage == Settled,
        };
        if !held {
            return Change::Refused(Some(Box::new(row.clone())));
        }
        let had = row.outcome.clone();
        match &update.change {
            LaunchChange::Created { uid, .. } => (row.stage, row.uid) = (Created, Some(uid.clone())),
            LaunchChange::Running { uid, .. } => (row.stage, row.uid) = (Running, Some(uid.clone())),
            LaunchChange::Relaunch { attempt, pod, .. } => {
                row.stage = Claimed;
                row.attempt = *attempt;
                row.pod = pod.clone();
                row.uid = None;
            }
            LaunchChange::Settle { outcome } => (row.stage, row.outcome) = (Settled, Some(outcome.clone())),
            LaunchChange::Close => row.stage = Closed,
        }
        if had.is_some() && had != row.outcome { Change::Overwrote } else { Change::Held }
    }

    /// Outcomes that no scheduler has taken, with their launches.
    pub(crate) fn undelivered(&self) -> Vec<(LaunchId, Outcome)> {
        let open = self.launches.values().filter(|stored| !stored.delivered);
        open.filter_map(|stored| Some((stored.row.launch.clone(), stored.row.outcome.clone()?))).collect()
    }
}

pub(crate) const FIRST_ATTEMPT: windlass_core::ids::Attempt = windlass_core::ids::Attempt::FIRST;

pub(crate) fn is_failure(outcome: &Outcome) -> bool {
    outcome.kind == OutcomeKind::Failure
}
