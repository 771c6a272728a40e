//! The Airflow worker in a pod (2.x): the start rule, the body, and what it writes.

use windlass_core::task::TaskState;

use crate::agenda::Event;
use crate::cluster::Process;
use crate::database::Job;
use crate::world::World;

/// A LocalTaskJob looks at its row this often, in milliseconds.
const HEARTBEAT_MS: u64 = 5_000;

/// States in which `airflow tasks run` starts the body (ti_deps/dependencies_states.py, Airflow 2.11).
const RUNNABLE: [TaskState; 4] =
    [TaskState::Queued, TaskState::None, TaskState::UpForRetry, TaskState::UpForReschedule];

impl World {
    /// `airflow tasks run`: the row is locked; the body runs when it is queued, NULL, up_for_retry or
    /// up_for_reschedule (ti_deps/dependencies_states.py), else the worker exits with 0.
    pub(crate) fn worker_looks(&mut self, number: usize) {
        let pod = &self.cluster.pods[number];
        if pod.process != Process::Starting {
            return;
        }
        let no = pod.task;
        let task = &self.db.tasks[no];
        if self.db.away_until > self.now || task.gone {
            return self.finish(number, 1);
        }
        *self.looks.entry(task.state.as_str().to_owned()).or_default() += 1;
        if !RUNNABLE.contains(&task.state) {
            self.say(Some(no), || format!("pod {number}: the worker finds nothing to run"));
            return self.finish(number, 0);
        }
        let of = (task.try_number, task.queued_at);
        let was = task.state.clone();
        self.say(Some(no), || format!("pod {number}: the body of try {} begins (row was {was:?})", of.0));
        let host = if self.hidden_hosts {
            format!("10.0.0.{number}")
        } else {
            self.cluster.pods[number].view.pod.name.clone()
        };
        let task = &mut self.db.tasks[no];
        task.state = TaskState::Running;
        task.hostname = Some(host);
        task.job = Some(Job { pod: Some(number), ended: false, died: None });
        self.cluster.pods[number].process = Process::Body;
        self.cluster.pods[number].body_of = Some(of);
        self.bodies += 1;
        self.check.body_begins(self.now, no, of, number);
        let long = self.rng.chance(self.faults.long_body);
        let takes = if long { self.rng.between(2_000, 40_000) } else { self.rng.delay(10, 1_000, 5_000) };
        if self.rng.chance(self.faults.killed) {
            // By the kernel, or its child alone was: then the worker exits with 0 and writes nothing.
            let (exit_code, oom) = self.rng.pick(&[(137, true), (137, false), (0, false), (1, false)]);
            self.put_in(takes, Event::ContainerEnds { pod: number, exit_code, oom });
        } else {
            self.put_in(takes, Event::BodyEnds(number));
        }
    }

    /// The body is over, the logs go up, the container ends.
    fn finish(&mut self, number: usize, exit_code: i32) {
        self.cluster.pods[number].process = Process::Finishing;
        let slow = self.rng.chance(self.faults.slow_worker);
        let wait = if slow { self.rng.between(500, 20_000) } else { self.rng.delay(5, 300, 2_000) };
        self.put_in(wait, Event::ContainerEnds { pod: number, exit_code, oom: false });
    }

    /// Whether the row is still this pod's to write.
    fn owns_row(&self, number: usize) -> bool {
        let pod = &self.cluster.pods[number];
        let task = &self.db.tasks[pod.task];
        let of = (task.try_number, task.queued_at);
        let here = task.job.as_ref().is_some_and(|job| job.pod == Some(number));
        !task.gone && here && task.state == TaskState::Running && pod.body_of == Some(of)
    }

    pub(crate) fn body_ends(&mut self, number: usize) {
        if self.cluster.pods[number].process != Process::Body {
            return;
        }
        if self.db.away_until > self.now {
            let wait = self.db.away_until - self.now;
            return self.put_in(wait, Event::BodyEnds(number));
        }
        if !self.owns_row(number) {
            return self.worker_notices(number);
        }
        let no = self.cluster.pods[number].task;
        let pauses = self.db.tasks[no].pauses_left > 0 && self.rng.chance(500);
        let fails = self.rng.chance(250);
        let back_in = self.rng.delay(20, 2_000, 6_000);
        let task = &mut self.db.tasks[no];
        let mut exit_code = 0;
        if let Some(job) = &mut task.job {
            job.ended = true;
        }
        if pauses {
            task.pauses_left -= 1;
            let deferred = task.pauses_left.is_multiple_of(2);
            task.state = if deferred { TaskState::Deferred } else { TaskState::UpForReschedule };
            (task.not_before, task.same_try) = (self.now + back_in, true);
        } else if fails {
            self.handle_failure(no);
            exit_code = self.rng.pick(&[0, 0, 1]);
        } else {
            task.state = TaskState::Success;
        }
        let state = self.db.tasks[no].state.clone();
        self.say(Some(no), || format!("pod {number}: the body ends, row is {state:?}"));
        self.finish(number, exit_code);
    }

    /// Airflow's `TaskInstance.handle_failure`.
    pub(crate) fn handle_failure(&mut self, no: usize) {
        let back_in = self.rng.delay(20, 2_000, 6_000);
        let task = &mut self.db.tasks[no];
        let again = task.state == TaskState::Restarting || task.try_number <= task.max_tries;
        task.state = if again { TaskState::UpForRetry } else { TaskState::Failed };
        (task.not_before, task.same_try) = (self.now + back_in, false);
        self.row_taken(no);
    }

    /// Somebody else has written the row: its worker sees it at the next heartbeat.
    pub(crate) fn row_taken(&mut self, no: usize) {
        let job = self.db.tasks[no].job.as_ref();
        let here = job.and_then(|job| job.pod);
        if let Some(number) = here.filter(|number| self.cluster.pods[*number].runs_body()) {
            let wait = self.rng.between(0, HEARTBEAT_MS);
            self.put_in(wait, Event::WorkerNotices(number));
        }
    }

    pub(crate) fn worker_notices(&mut self, number: usize) {
        if !self.cluster.pods[number].runs_body() || self.owns_row(number) {
            return;
        }
        self.end_job(number);
        self.finish(number, 0);
    }

    /// SIGTERM: the worker writes what that means, and ends in order.
    pub(crate) fn worker_is_terminated(&mut self, number: usize) {
        let no = self.cluster.pods[number].task;
        let owns = self.owns_row(number);
        self.cluster.pods[number].process = Process::Finishing;
        self.end_job(number);
        if owns {
            self.handle_failure(no);
        }
    }

    fn end_job(&mut self, number: usize) {
        let no = self.cluster.pods[number].task;
        let task = &mut self.db.tasks[no];
        let mine = task.job.as_ref().is_some_and(|job| job.pod == Some(number));
        if let Some(job) = task.job.as_mut().filter(|_| mine) {
            job.ended = true;
        }
        if mine && task.state == TaskState::Restarting {
            self.handle_failure(no);
        }
    }

    /// `airflow tasks run` on a host of somebody: the start rule is the worker's own.
    pub(crate) fn run_by_hand(&mut self, no: usize) {
        let task = &mut self.db.tasks[no];
        if task.gone || !RUNNABLE.contains(&task.state) {
            return;
        }
        task.state = TaskState::Running;
        task.hostname = Some("laptop".into());
        task.job = Some(Job { pod: None, ended: false, died: None });
        task.touched += 1;
        self.say(Some(no), || "somebody runs it by hand".into());
        let takes = self.rng.delay(200, 5_000, 40_000);
        self.put_in(takes, Event::HandEnds(no));
        // And then it is cleared, now and then.
        if self.rng.below(8) == 0 {
            self.clear(no);
        }
    }

    pub(crate) fn hand_ends(&mut self, no: usize) {
        let end = self.rng.pick(&[
            TaskState::Success,
            TaskState::Deferred,
            TaskState::UpForReschedule,
            TaskState::UpForRetry,
        ]);
        let back_in = self.rng.delay(500, 3_000, 20_000);
        let task = &mut self.db.tasks[no];
        let Some(job) = task.job.as_mut().filter(|job| job.pod.is_none() && !job.ended) else { return };
        job.ended = true;
        self.say(Some(no), || format!("what was run by hand ends: {end:?}"));
        let task = &mut self.db.tasks[no];
        match (&task.state, end) {
            (TaskState::Running, TaskState::UpForRetry) | (TaskState::Restarting, _) => {
                self.handle_failure(no)
            }
            (TaskState::Running, end) => {
                task.same_try = end != TaskState::Success;
                (task.state, task.not_before) = (end, self.now + back_in);
            }
            // Somebody else has written the row meanwhile.
            _ => {}
        }
    }
}
