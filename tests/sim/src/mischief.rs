//! What nodes, networks, operators and users do to a run, and its end: the healing and what must then be true.

use windlass_core::pod_view::PodPhase;
use windlass_core::store::StoredStage;
use windlass_core::task::TaskState;
use windlass_engine::Input;

use crate::agenda::Event;
use crate::faults::Faults;
use crate::world::World;

/// Upgrades end when a run has seen so many daemons.
const DAEMONS_MAX: usize = 6;

impl World {
    pub(crate) fn mischief(&mut self) {
        if self.healed {
            return;
        }
        self.trouble_processes();
        self.trouble_pods();
        self.trouble_tasks();
        let wait = self.rng.between(300, 3_000);
        self.put_in(wait, Event::Mischief);
    }

    fn trouble_processes(&mut self) {
        let daemon = self.rng.index(self.daemons.len());
        if self.rng.chance(self.faults.db_away) {
            self.db.away_until = self.now + self.rng.between(200, 15_000);
            self.say(None, || "the database is away".into());
        }
        if self.rng.chance(self.faults.failover) {
            self.replica_falls_behind();
        }
        if self.rng.chance(self.faults.api_away) {
            self.cluster.away_until = self.now + self.rng.between(200, 15_000);
            self.say(None, || "the API server is away".into());
        }
        if self.rng.chance(self.faults.hook_away) {
            self.cluster.hook_away_until = self.now + self.rng.delay(200, 5_000, 60_000);
            self.say(None, || "no pod can be made".into());
        }
        if self.rng.chance(self.faults.namespace_unready) {
            self.unready_namespace();
        }
        if self.rng.chance(self.faults.pause) {
            self.daemons[daemon].paused_until = self.now + self.rng.between(200, 15_000);
            self.say(None, || format!("daemon {daemon} stands still"));
        }
        if self.rng.chance(self.faults.clock_jump) {
            let by = self.rng.between(100, 20_000);
            self.daemons[daemon].clock.jump(self.now, by);
            self.say(None, || format!("daemon {daemon}'s clock jumps {by} ms ahead"));
            self.wake_soon(daemon);
        }
        if self.rng.chance(self.faults.stop) && self.daemons[daemon].engine.is_some() {
            let incarnation = self.daemons[daemon].incarnation;
            self.say(None, || format!("daemon {daemon} is told to stop"));
            self.put_in(0, Event::Deliver { daemon, incarnation, input: Box::new(Input::Stop) });
        }
        if self.rng.chance(self.faults.upgrade) {
            self.upgrade(daemon);
        }
        if self.rng.chance(self.faults.nodes_change) && self.daemons[daemon].engine.is_some() {
            self.nodes_change(daemon, 0);
        }
        if self.rng.chance(self.faults.scheduler_crash) {
            let number = self.rng.index(self.schedulers.len());
            self.scheduler_dies(number);
        }
    }

    /// For less than the engine's patience, or for more.
    fn unready_namespace(&mut self) {
        let no = self.rng.index(self.db.tasks.len());
        let namespace = self.db.tasks[no].namespace.clone();
        let until = self.now + self.rng.delay(200, 15_000, 60_000);
        self.say(None, || format!("namespace {namespace} takes no pod"));
        self.cluster.unready.insert(namespace, until);
    }

    /// The new version starts beside the old one, which is told to stop before, at that moment or later.
    fn upgrade(&mut self, old: usize) {
        if self.daemons.len() >= DAEMONS_MAX || self.daemons[old].retired {
            return;
        }
        let (start_in, stop_in) = (self.rng.between(0, 5_000), self.rng.between(0, 5_000));
        let new = self.add_daemon(self.now + start_in);
        self.daemons[new].version = self.version.other(&mut self.rng);
        self.say(None, || format!("daemon {new} of another version takes the place of daemon {old}"));
        let daemon = &mut self.daemons[old];
        daemon.retired = true;
        let incarnation = daemon.incarnation;
        self.put_in(stop_in, Event::Deliver { daemon: old, incarnation, input: Box::new(Input::Stop) });
    }

    fn trouble_pods(&mut self) {
        let here: Vec<usize> =
            (0..self.cluster.pods.len()).filter(|number| !self.cluster.pods[*number].gone).collect();
        if !here.is_empty() {
            let (one, other) = (self.rng.pick(&here), self.rng.pick(&here));
            if self.rng.chance(self.faults.pod_deleted) {
                self.pod_deleted_by_others(one);
            }
            if self.rng.chance(self.faults.evict) {
                self.evict(other);
            }
        }
        let node = self.rng.index(self.cluster.nodes.len());
        if self.rng.chance(self.faults.node_lost) {
            self.lose_node(node, true);
        } else if self.rng.chance(self.faults.node_cut) {
            self.lose_node(node, false);
        }
    }

    fn trouble_tasks(&mut self) {
        let no = self.rng.index(self.db.tasks.len());
        if self.db.tasks[no].gone || self.db.away_until > self.now {
            return;
        }
        if self.rng.chance(self.faults.clear) {
            self.clear(no);
        }
        if self.rng.chance(self.faults.mark) {
            let state = self.rng.pick(&[TaskState::Success, TaskState::Failed]);
            self.say(Some(no), || format!("somebody marks it as {state:?}"));
            self.db.tasks[no].state = state;
            self.db.tasks[no].touched += 1;
            self.row_taken(no);
        }
        if self.rng.chance(self.faults.row_deleted) {
            self.say(Some(no), || "its row is deleted".into());
            self.db.tasks[no].gone = true;
            self.row_taken(no);
        }
        if self.rng.chance(self.faults.by_hand) {
            self.run_by_hand(no);
        }
        if self.rng.chance(self.faults.requeue) {
            self.requeue_silently(no);
        }
    }

    /// Airflow resets an orphan to NULL, or queues the same try again, and Windlass is not told: only the row says so.
    fn requeue_silently(&mut self, no: usize) {
        let wait = self.rng.delay(0, 500, 5_000);
        let same_try = self.rng.below(2) == 0;
        let task = &mut self.db.tasks[no];
        let live = matches!(task.state, TaskState::Queued | TaskState::Scheduled | TaskState::Running);
        if !live {
            return;
        }
        task.touched += 1;
        if same_try {
            (task.state, task.queued_at, task.same_try) = (TaskState::Scheduled, None, true);
        } else {
            (task.state, task.not_before) = (TaskState::None, self.now + wait);
            task.max_tries += 1;
        }
        self.say(Some(no), || format!("it goes back to be queued again (same try: {same_try})"));
        self.row_taken(no);
    }

    /// `clear_task_instances`: a running one is restarted by its own worker, any other goes back to NULL.
    pub(crate) fn clear(&mut self, no: usize) {
        self.say(Some(no), || "somebody clears it".into());
        let wait = self.rng.delay(0, 1_000, 5_000);
        let task = &mut self.db.tasks[no];
        (task.not_before, task.same_try, task.max_tries) = (self.now + wait, false, task.try_number + 1);
        task.touched += 1;
        task.state = match task.state {
            TaskState::Running | TaskState::Restarting => TaskState::Restarting,
            _ => TaskState::None,
        };
        self.row_taken(no);
    }

    /// From here on nothing goes wrong any more, and everything must come to its end.
    pub(crate) fn heal(&mut self) {
        self.say(None, || "all faults end".into());
        self.healed = true;
        self.faults = Faults::default();
        self.db.away_until = self.now;
        self.cluster.away_until = self.now;
        self.cluster.unready.clear();
        self.cluster.hook_away_until = 0;
        for node in 0..self.cluster.nodes.len() {
            self.node_back(node);
        }
        for daemon in 0..self.daemons.len() {
            self.daemons[daemon].paused_until = self.now;
        }
        self.put_in(1_000, Event::Converged);
    }

    /// What is not yet as it must be in the end (I2), if anything.
    pub(crate) fn whats_left(&self) -> Option<(Option<usize>, String)> {
        for (no, task) in self.db.tasks.iter().enumerate() {
            if !task.gone && !matches!(task.state, TaskState::Success | TaskState::Failed) {
                let what = format!("task {no} is {:?} in try {}", task.state, task.try_number);
                return Some((Some(no), what));
            }
        }
        for stored in self.db.launches.values() {
            if stored.row.stage != StoredStage::Closed {
                let what = format!("launch {} is {:?}", stored.row.launch, stored.row.stage);
                return Some((Some(stored.task), what));
            }
            if !stored.delivered {
                let what = format!("the outcome of launch {} is not delivered", stored.row.launch);
                return Some((Some(stored.task), what));
            }
        }
        for (number, pod) in self.cluster.pods.iter().enumerate() {
            let failed = pod.view.phase == PodPhase::Failed;
            let kept = pod.ended() && !self.version.policy.deletes(failed);
            if !pod.gone && !kept {
                return Some((Some(pod.task), format!("pod {number} is left, {:?}", pod.process)));
            }
        }
        let engines = self.daemons.iter().filter_map(|daemon| daemon.engine.as_ref());
        let mut held = engines.flat_map(windlass_engine::Engine::launches);
        held.next().map(|launch| {
            let task = self.task_of_launch.get(&launch.id).copied();
            (task, format!("a daemon still holds launch {} in {:?}", launch.id, launch.stage))
        })
    }

    pub(crate) fn not_converged(&mut self) {
        if let Some((task, what)) = self.whats_left() {
            self.check.broke(self.now, "I2", task, format!("long after all healed, {what}"));
        }
    }
}
