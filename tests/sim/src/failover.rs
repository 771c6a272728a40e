//! A failover of the database to a replica that was behind: its last commits are lost, Airflow's as well as Windlass's.
//! Pods, processes and the daemons' memory go on from what was.

use windlass_core::ids::Epoch;
use windlass_core::store::{LaunchRow, StoredStage};

use crate::agenda::Event;
use crate::database::Stored;
use crate::plant::Plant;
use crate::world::World;

/// The most that a replica lags behind, in milliseconds.
const LAG_MS: u64 = 2_000;
/// A worker looks at its row so often, in milliseconds.
const HEARTBEAT_MS: u64 = 5_000;

impl World {
    /// From here on the replica hears nothing of the primary; soon it takes its place.
    pub(crate) fn replica_falls_behind(&mut self) {
        if self.replica.is_none() {
            self.replica = Some(Box::new(self.db.clone()));
            let lag = self.rng.between(1, LAG_MS);
            self.put_in(lag, Event::Failover);
        }
    }

    pub(crate) fn failover(&mut self) {
        let Some(replica) = self.replica.take().filter(|_| !self.healed) else { return };
        let before = std::mem::replace(&mut self.db, *replica);
        self.db.timeline = before.timeline + 1;
        self.db.begun_on = before.begun_on;
        self.db.away_until = self.now + self.rng.between(100, 10_000);
        self.say(None, || "the database fails over, and its last commits are lost".into());
        for (no, (was, is)) in before.tasks.iter().zip(&self.db.tasks).enumerate() {
            // A row whose deletion is lost is there again, and what was to be done for it was left meanwhile.
            let same = (was.try_number, was.queued_at, &was.state, was.gone)
                == (is.try_number, is.queued_at, &is.state, is.gone);
            if !same {
                self.check.task_lost(no);
            }
        }
        for (launch, was) in &before.launches {
            if self.db.launches.get(launch).is_none_or(|is| is != was) {
                self.check.launch_lost(launch);
            }
        }
        // What was adopted meanwhile is adopted again.
        for task in &mut self.db.tasks {
            if self.schedulers.iter().all(|scheduler| scheduler.job != task.queued_by)
                && let Some(scheduler) = self.schedulers.first()
            {
                task.queued_by = scheduler.job;
            }
        }
        // Rows that say so again of bodies that are over: no heart beats there.
        for (task, was) in self.db.tasks.iter_mut().zip(&before.tasks) {
            let by_hand = was.job.as_ref().is_some_and(|job| job.pod.is_none() && !job.ended);
            if let Some(job) = &mut task.job {
                let lives = job.pod.map_or(by_hand, |pod| self.cluster.pods[pod].runs_body());
                if !lives {
                    job.died.get_or_insert(self.now);
                    job.ended |= job.pod.is_none();
                }
            }
        }
        for number in 0..self.cluster.pods.len() {
            let wait = self.rng.between(0, HEARTBEAT_MS);
            if self.cluster.pods[number].runs_body() {
                self.put_in(wait, Event::WorkerNotices(number));
            }
        }
    }

    /// A list of all pods, and rows for those that have none. Returns how many, and all open ones.
    pub(crate) fn recover(&mut self, epoch: Epoch) -> (u64, Vec<LaunchRow>) {
        let mut made = 0;
        let pods = self.cluster.names.values().map(|number| &self.cluster.pods[*number]);
        let mut pods: Vec<_> = pods.map(|pod| (pod.task, pod.view.clone())).collect();
        pods.sort_by_key(|(_, view)| std::cmp::Reverse(view.attempt));
        for (task, view) in pods {
            let Some(queueing) = self.queueings.get(&view.launch) else { continue };
            if self.plant == Some(Plant::NoRecovery) {
                continue;
            }
            if let Some(stored) = self.db.launches.get_mut(&view.launch) {
                let row = &mut stored.row;
                if row.attempt < view.attempt && row.outcome.is_none() {
                    (row.attempt, row.stage) = (view.attempt, StoredStage::Created);
                    (row.pod, row.uid) = (view.pod.clone(), Some(view.uid));
                    made += 1;
                    self.say(Some(task), || format!("launch {} is brought up to its pod", view.launch));
                }
                continue;
            }
            let row = LaunchRow {
                launch: view.launch.clone(),
                queueing: queueing.clone(),
                stage: StoredStage::Created,
                attempt: view.attempt,
                pod: view.pod.clone(),
                uid: Some(view.uid),
                outcome: None,
                scheduler_job_id: self.db.tasks[task].queued_by,
                priority_weight: 1,
            };
            let stored = Stored { row, task, withdrawn: false, delivered: false, callback_sent: false };
            self.db.launches.insert(view.launch.clone(), stored);
            made += 1;
            self.say(Some(task), || format!("launch {} is made again from its pod", view.launch));
        }
        if self.db.term.epoch == epoch.0 {
            self.db.term.timeline = self.db.timeline;
        }
        (made, self.db.open_launches())
    }
}
