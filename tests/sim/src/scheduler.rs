//! Airflow's scheduler with the plugin in it: queues, retries, resumes, takes back, and delivers outcomes.

use windlass_core::ids::LaunchId;
use windlass_core::outcome::OutcomeKind;
use windlass_core::store::StoredStage;
use windlass_core::task::TaskState;
use windlass_core::time::UtcMicros;
use windlass_engine::Input;

use crate::agenda::{Callback, Event};
use crate::database::is_failure;
use crate::plant::Plant;
use crate::world::World;

/// `[scheduler] scheduler_zombie_task_threshold` in milliseconds, short enough for a run to see it.
const ZOMBIE_MS: u64 = 60_000;
/// num_stuck_in_queued_retries.
const STUCK_MAX: u32 = 2;

/// One SchedulerJob.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) job: i64,
    pub(crate) alive: bool,
    /// Microseconds that its host's clock is ahead.
    offset: i64,
}

impl World {
    pub(crate) fn add_scheduler(&mut self) {
        let number = self.schedulers.len();
        let offset = if self.rng.below(2) == 0 { 0 } else { self.rng.between(0, 10_000_000).cast_signed() };
        self.schedulers.push(Scheduler { job: self.next_job, alive: true, offset });
        self.next_job += 1;
        let at = self.rng.between(0, 1_000);
        self.agenda.put(at, Event::Scheduler(number));
    }

    pub(crate) fn scheduler_turn(&mut self, number: usize) {
        if !self.schedulers[number].alive {
            return;
        }
        if self.db.away_until <= self.now {
            self.zombies();
            self.stuck(number);
            self.schedule(number);
            self.sync(number);
        }
        let wait = self.rng.delay(100, 600, 2_000);
        self.put_in(wait, Event::Scheduler(number));
    }

    pub(crate) fn scheduler_dies(&mut self, number: usize) {
        if std::mem::take(&mut self.schedulers[number].alive) {
            self.say(None, || format!("scheduler {number} dies"));
            let wait = self.rng.between(500, 10_000);
            self.put_in(wait, Event::SchedulerBack(number));
        }
    }

    /// Back with another job id: it adopts what its predecessor owned.
    pub(crate) fn scheduler_back(&mut self, number: usize) {
        let old = std::mem::replace(&mut self.schedulers[number].job, self.next_job);
        self.next_job += 1;
        self.schedulers[number].alive = true;
        let new = self.schedulers[number].job;
        for task in &mut self.db.tasks {
            if task.queued_by == old {
                task.queued_by = new;
            }
        }
        self.put_in(1, Event::Scheduler(number));
    }

    fn zombies(&mut self) {
        for no in 0..self.db.tasks.len() {
            let task = &self.db.tasks[no];
            let dead = task.job.as_ref().and_then(|job| job.died);
            let running = !task.gone && task.state == TaskState::Running;
            // A body that an old pod took up before the intake came by, or after its own queueing was taken back, has
            // no launch that could report its end, nor has one whose only callback is spent. Airflow leaves a restarting
            // one so for ever: an operator marks it.
            let stored = task.launch.as_ref().and_then(|launch| self.db.launches.get(launch));
            let unowned = stored.is_none_or(|stored| stored.delivered || stored.callback_sent);
            let lost = self.check.tasks_lost.contains(&no);
            let given_up = !task.gone && task.state == TaskState::Restarting && (unowned || lost);
            if (running || given_up) && dead.is_some_and(|died| self.now - died > ZOMBIE_MS) {
                self.say(Some(no), || "the scheduler finds a zombie".into());
                self.db.tasks[no].touched += 1;
                self.handle_failure(no);
            }
        }
    }

    /// `_handle_tasks_stuck_in_queued`. Once all has healed it is off, so that it cannot hide what Windlass left
    /// undone, but for what it has already withdrawn.
    fn stuck(&mut self, number: usize) {
        let job = self.schedulers[number].job;
        for no in 0..self.db.tasks.len() {
            let task = &self.db.tasks[no];
            let stuck = !task.gone
                && task.state == TaskState::Queued
                && task.queued_by == job
                && self.now - task.queued_since > self.queued_timeout;
            if !stuck {
                continue;
            }
            let stored = task.launch.as_ref().and_then(|launch| self.db.launches.get_mut(launch));
            // A callback that was executed once and whose work a failover lost is Airflow's own to find.
            let lost = self.check.tasks_lost.contains(&no);
            if self.healed && !lost && !stored.as_ref().is_some_and(|stored| stored.withdrawn) {
                continue;
            }
            if let Some(stored) = stored {
                stored.withdrawn = true;
            }
            self.say(Some(no), || "stuck in queued: the scheduler takes it back".into());
            // The pass may end here with its process; the next one comes again.
            if !self.rng.chance(if self.healed { 0 } else { 150 }) {
                let wait = self.rng.between(1, 300);
                self.put_in(wait, Event::Requeue(no));
            }
        }
    }

    pub(crate) fn requeue(&mut self, no: usize) {
        let task = &mut self.db.tasks[no];
        let still = task.state == TaskState::Queued && self.now - task.queued_since > self.queued_timeout;
        if task.gone || !still {
            return;
        }
        task.stuck += 1;
        task.touched += 1;
        if task.stuck > STUCK_MAX {
            task.state = TaskState::Failed;
        } else {
            (task.state, task.queued_at, task.same_try) = (TaskState::Scheduled, None, true);
        }
    }

    fn schedule(&mut self, number: usize) {
        let mut handed = Vec::new();
        for no in 0..self.db.tasks.len() {
            let task = &mut self.db.tasks[no];
            let due = !task.gone && task.not_before <= self.now;
            match task.state {
                TaskState::None | TaskState::UpForRetry if due => {
                    task.state = TaskState::Scheduled;
                    if !std::mem::take(&mut task.same_try) {
                        task.try_number += 1;
                        task.stuck = 0;
                    }
                }
                TaskState::UpForReschedule | TaskState::Deferred if due => task.state = TaskState::Scheduled,
                TaskState::Scheduled if !task.gone && self.rng.chance(700) => {
                    self.queue(no, number);
                    handed.push(no);
                }
                _ => {}
            }
        }
        if !handed.is_empty() && !self.rng.chance(self.faults.handover_lost) {
            let wait = self.rng.delay(2, 50, 500);
            self.put_in(wait, Event::Handover { scheduler: number, tasks: handed });
        }
    }

    fn queue(&mut self, no: usize, number: usize) {
        let scheduler = &self.schedulers[number];
        let micros =
            (self.now * 1_000).cast_signed() + scheduler.offset + self.rng.below(1_000).cast_signed();
        let task = &mut self.db.tasks[no];
        let mut queued_at = UtcMicros(micros);
        if task.queued_at == Some(queued_at) {
            queued_at.0 += 1;
        }
        task.state = TaskState::Queued;
        task.queued_at = Some(queued_at);
        task.queued_since = self.now;
        task.queued_by = scheduler.job;
        task.same_try = false;
        task.launch = task.queueing().map(|mut queueing| {
            if self.plant == Some(Plant::LaunchIdByTry) {
                queueing.queued_at = UtcMicros(0);
            }
            LaunchId::of(&self.installation, &queueing)
        });
        if let (Some(launch), Some(queueing)) = (task.launch.clone(), task.queueing()) {
            let try_number = task.try_number;
            self.say(Some(no), || format!("queued: try {try_number}, {queued_at}, launch {launch}"));
            self.task_of_launch.insert(launch.clone(), no);
            self.queueings.insert(launch, queueing);
        }
    }

    /// After the scheduler's commit.
    pub(crate) fn hand_over(&mut self, number: usize, tasks: &[usize]) {
        if self.db.away_until > self.now || !self.schedulers[number].alive {
            return;
        }
        self.db.handover.extend_from_slice(tasks);
        if let Some(daemon) = self.daemons.get(number).filter(|daemon| daemon.engine.is_some()) {
            let incarnation = daemon.incarnation;
            let input = Box::new(Input::Woken);
            self.put_in(1, Event::Deliver { daemon: number, incarnation, input });
        }
    }

    /// The plugin's `sync()`: outcomes whose task instance this scheduler owns.
    fn sync(&mut self, number: usize) {
        let job = self.schedulers[number].job;
        for (launch, outcome) in self.db.undelivered() {
            let Some(stored) = self.db.launches.get(&launch) else { continue };
            let (no, task) = (stored.task, &self.db.tasks[stored.task]);
            let of_it = task.is_of(&stored.row.queueing)
                || (self.plant == Some(Plant::DeliverByTry)
                    && !task.gone
                    && task.try_number == stored.row.queueing.try_number);
            let waits = matches!(task.state, TaskState::Queued | TaskState::Running | TaskState::Restarting);
            let closed = matches!(outcome.kind, OutcomeKind::Superseded | OutcomeKind::Withdrawn);
            if !(of_it && waits) || closed {
                self.delivered(&launch);
                continue;
            }
            if task.queued_by != job {
                continue;
            }
            let early = self.plant == Some(Plant::CallbackTooEarly) && task.has_callback;
            let lost = self.rng.chance(self.faults.event_lost);
            if self.plant == Some(Plant::DeliverOnce) {
                self.delivered(&launch);
            }
            if !lost && is_failure(&outcome) && (early || self.is_for_this_row(&launch)) {
                self.fail(no, &launch);
            }
        }
    }

    fn delivered(&mut self, launch: &LaunchId) {
        if let Some(stored) = self.db.launches.get_mut(launch) {
            stored.delivered = true;
            self.check.outcome_closed(self.now, stored.task, &self.db.tasks[stored.task], stored);
        }
    }

    /// I6: a running task is failed only for the end of the pod that runs it.
    fn is_for_this_row(&self, launch: &LaunchId) -> bool {
        let Some(stored) = self.db.launches.get(launch) else { return false };
        let task = &self.db.tasks[stored.task];
        let names_it = task.hostname.as_deref() == Some(stored.row.pod.name.as_str());
        let reason = stored.row.outcome.as_ref().and_then(|outcome| outcome.reason);
        // Decided while the pod waited: it may have started after all, and then its worker's heart tells.
        let waiting = reason.is_some_and(windlass_core::outcome::Reason::leaves_a_waiting_pod);
        let dead = task.worker_alive(self.now) == Some(false);
        // Another pod of the task has it: only one that is to end anyway is failed for that.
        let may_start = waiting && stored.row.stage != StoredStage::Closed;
        let elsewhere = !names_it && task.hostname.as_deref().is_some_and(|host| host.starts_with("d-t"));
        if self.plant == Some(Plant::EndOfAnyPod) {
            return true;
        }
        match task.state {
            // The job that the row names is of an earlier queueing.
            TaskState::Queued => !may_start,
            _ => (names_it && !waiting) || (dead && (!elsewhere || task.state == TaskState::Restarting)),
        }
    }

    fn fail(&mut self, no: usize, launch: &LaunchId) {
        let Some(stored) = self.db.launches.get_mut(launch) else { return };
        if self.db.tasks[no].has_callback {
            // One request; who executes it is the DAG processor, when it comes to that file.
            if !std::mem::replace(&mut stored.callback_sent, true) || self.plant == Some(Plant::CallbackAgain)
            {
                self.check.callback_sent(self.now, no, launch);
                let touched = self.db.tasks[no].touched;
                let callback = Callback { launch: launch.clone(), touched, again: false };
                let wait = self.rng.delay(50, 1_000, 30_000);
                self.put_in(wait, Event::Callback(Box::new(callback)));
            }
            return;
        }
        self.check.failure_applied(self.now, no, &self.db.tasks[no], stored, &self.cluster.pods);
        self.say(Some(no), || format!("the outcome of {launch} is applied"));
        self.handle_failure(no);
    }

    /// The DAG processor runs `handle_failure`, whatever the row has become by then.
    pub(crate) fn callback_runs(&mut self, callback: Callback) {
        let Some(stored) = self.db.launches.get(&callback.launch) else { return };
        let (no, task) = (stored.task, &self.db.tasks[stored.task]);
        if self.db.away_until > self.now {
            let wait = self.db.away_until - self.now;
            return self.put_in(wait, Event::Callback(Box::new(callback)));
        }
        if task.gone {
            return;
        }
        if !callback.again {
            self.check.callback_runs(self.now, no, (task, callback.touched), stored);
        }
        self.say(Some(no), || "the DAG processor runs the callback".into());
        self.db.tasks[no].touched += 1;
        self.handle_failure(no);
        if !callback.again && self.rng.chance(self.faults.callback_twice) {
            let wait = self.rng.delay(50, 1_000, 30_000);
            self.put_in(wait, Event::Callback(Box::new(Callback { again: true, ..callback })));
        }
    }
}
