//! What happens to pods outside of Windlass: binding, starting, ending, eviction, lost and cut nodes.

use windlass_core::cluster::PodNote;
use windlass_core::pod_view::{Branch, Gate, PodPhase};
use windlass_engine::Input;

use crate::agenda::Event;
use crate::cluster::Process;
use crate::world::World;

impl World {
    pub(crate) fn pod_is_new(&mut self, number: usize) {
        self.cluster.pods[number].image_trouble = self.rng.chance(self.faults.image_trouble);
        self.pod_changed();
        if self.cluster.pods[number].view.gate == Gate::Open {
            self.wants_node(number);
        }
    }

    /// The scheduler of Kubernetes has it in its queue.
    pub(crate) fn wants_node(&mut self, number: usize) {
        let late = self.rng.chance(self.faults.late_start);
        let wait = if late { self.rng.between(500, 70_000) } else { self.rng.delay(5, 500, 10_000) };
        self.put_in(wait, Event::Bind(number));
    }

    pub(crate) fn bind(&mut self, number: usize) {
        let node = self.rng.index(self.cluster.nodes.len());
        let pod = &mut self.cluster.pods[number];
        if pod.gone || pod.view.bound {
            return;
        }
        if self.cluster.nodes[node].cut || self.cluster.away_until > self.now {
            let wait = self.rng.between(100, 2_000);
            return self.put_in(wait, Event::Bind(number));
        }
        pod.node = Some(node);
        pod.view.bound = true;
        let needs_branch = pod.view.branch == Branch::Awaited;
        self.cluster.changed(number);
        self.pod_changed();
        if needs_branch {
            if !self.rng.chance(self.faults.branch_dropped) {
                let wait = self.rng.delay(10, 2_000, 8_000);
                self.put_in(wait, Event::BranchIsThere(number));
            }
            return;
        }
        self.container_will_start(number);
    }

    /// The VPC resource controller writes it down.
    pub(crate) fn branch_is_there(&mut self, number: usize) {
        if self.cluster.away_until > self.now {
            let wait = self.rng.between(100, 2_000);
            return self.put_in(wait, Event::BranchIsThere(number));
        }
        if self.cluster.pods[number].gone {
            return;
        }
        self.cluster.pods[number].view.branch = Branch::Attached;
        self.cluster.changed(number);
        self.pod_changed();
        if self.rng.chance(self.faults.groups_taken) {
            self.controller_warns(number);
        }
        self.container_will_start(number);
    }

    /// Of groups that are the node's. Daemons that are not there hear of it when they start.
    fn controller_warns(&mut self, number: usize) {
        self.cluster.pods[number].warned = true;
        let task = self.cluster.pods[number].task;
        self.say(Some(task), || format!("pod {number} gets its node's groups"));
        let note = self.warning(number);
        for daemon in 0..self.daemons.len() {
            let (wait, incarnation) = (self.rng.delay(1, 300, 5_000), self.daemons[daemon].incarnation);
            let input = Box::new(Input::Noted(note.clone()));
            self.put_in(wait, Event::Deliver { daemon, incarnation, input });
        }
    }

    fn warning(&self, number: usize) -> PodNote {
        let view = &self.cluster.pods[number].view;
        PodNote {
            pod: view.pod.clone(),
            uid: view.uid.clone(),
            reason: "SecurityGroupRequested".into(),
            message: "no policy".into(),
        }
    }

    /// What a daemon's watch of warnings begins with.
    pub(crate) fn warnings(&self) -> Vec<PodNote> {
        let all = 0..self.cluster.pods.len();
        all.filter(|number| self.cluster.pods[*number].warned).map(|number| self.warning(number)).collect()
    }

    fn container_will_start(&mut self, number: usize) {
        let late = self.rng.chance(self.faults.late_start);
        let wait = if late { self.rng.between(500, 70_000) } else { self.rng.delay(10, 600, 4_000) };
        self.put_in(wait, Event::StartContainer(number));
    }

    pub(crate) fn start_container(&mut self, number: usize) {
        let skips = self.rng.below(2) == 0;
        let pod = &self.cluster.pods[number];
        let dead = pod.node.is_none_or(|node| self.cluster.nodes[node].dead);
        let told = pod.view.deleting && skips;
        let without_network = pod.view.branch == Branch::Awaited;
        if pod.gone
            || dead
            || told
            || without_network
            || pod.process != Process::None
            || pod.view.phase == PodPhase::Failed
        {
            return;
        }
        if pod.image_trouble {
            self.tell_status(number);
            let wait = self.rng.delay(300, 3_000, 30_000);
            return self.put_in(wait, Event::ImageArrives(number));
        }
        if pod.view.branch == Branch::Attached && self.rng.chance(self.faults.branch_bypassed) {
            let why = "it has another address".into();
            self.cluster.pods[number].view.branch = Branch::Bypassed { why };
        }
        self.cluster.pods[number].process = Process::Starting;
        let task = self.cluster.pods[number].task;
        self.say(Some(task), || format!("pod {number}: container started"));
        self.tell_status(number);
        let slow = self.rng.chance(self.faults.slow_worker);
        let wait = if slow { self.rng.between(500, 10_000) } else { self.rng.delay(10, 400, 2_000) };
        self.put_in(wait, Event::WorkerLooks(number));
    }

    pub(crate) fn image_arrives(&mut self, number: usize) {
        self.cluster.pods[number].image_trouble = false;
        self.start_container(number);
    }

    /// The kubelet writes the pod's status, if it can.
    pub(crate) fn tell_status(&mut self, number: usize) {
        if self.cluster.report(number) {
            self.pod_changed();
        }
    }

    pub(crate) fn container_ends(&mut self, number: usize, exit_code: i32, oom: bool) {
        let pod = &mut self.cluster.pods[number];
        if matches!(pod.process, Process::Ended { .. }) {
            return;
        }
        let task = pod.task;
        self.body_dies(number);
        self.cluster.pods[number].process = Process::Ended { exit_code, oom };
        self.say(Some(task), || format!("pod {number}: container ended with {exit_code}"));
        self.tell_status(number);
        if self.cluster.pods[number].view.deleting {
            let wait = self.rng.delay(5, 100, 1_000);
            self.put_in(wait, Event::Remove(number));
        }
    }

    /// The process goes without a word: the row stays as it is, the heart stops.
    fn body_dies(&mut self, number: usize) {
        let pod = &self.cluster.pods[number];
        if pod.process != Process::Body {
            return;
        }
        if let Some(job) = &mut self.db.tasks[pod.task].job
            && job.pod == Some(number)
        {
            job.died.get_or_insert(self.now);
        }
    }

    /// Its deletion has begun.
    pub(crate) fn kubelet_is_told(&mut self, number: usize) {
        let pod = &mut self.cluster.pods[number];
        let reachable = pod.node.is_some_and(|node| !self.cluster.nodes[node].cut);
        if reachable && !pod.terminating {
            pod.terminating = true;
            let wait = self.rng.delay(5, 200, 3_000);
            self.put_in(wait, Event::Terminate(number));
        }
    }

    /// SIGTERM, and the end within the grace period.
    pub(crate) fn terminate(&mut self, number: usize) {
        let pod = &mut self.cluster.pods[number];
        pod.terminating = false;
        let cut = pod.node.is_none_or(|node| self.cluster.nodes[node].cut);
        if pod.gone || cut {
            return;
        }
        let wait = self.rng.delay(5, 200, 3_000);
        match &pod.process {
            Process::None => {
                // Never started, and never will: no status is written, the object goes.
                pod.process = Process::Ended { exit_code: 137, oom: false };
                self.put_in(wait, Event::Remove(number));
            }
            Process::Starting => self.container_ends(number, 143, false),
            Process::Body => {
                self.worker_is_terminated(number);
                let exit_code = self.rng.pick(&[0, 143]);
                self.put_in(wait, Event::ContainerEnds { pod: number, exit_code, oom: false });
            }
            // Its end is put down, and the removal follows it.
            Process::Finishing => {}
            Process::Ended { .. } => self.put_in(wait, Event::Remove(number)),
        }
    }

    pub(crate) fn remove_pod(&mut self, number: usize) {
        let pod = &self.cluster.pods[number];
        if pod.gone || pod.node.is_some_and(|node| self.cluster.nodes[node].cut) {
            return;
        }
        let task = pod.task;
        self.cluster.remove(number);
        self.say(Some(task), || format!("pod {number} is gone"));
        self.pod_changed();
    }

    /// Somebody deletes it (`kubectl delete`, a drain, the cleanup job).
    pub(crate) fn pod_deleted_by_others(&mut self, number: usize) {
        let task = self.cluster.pods[number].task;
        self.say(Some(task), || format!("somebody deletes pod {number}"));
        if self.cluster.pods[number].view.bound {
            self.cluster.mark_deleting(number);
            self.kubelet_is_told(number);
        } else {
            self.cluster.remove(number);
        }
        self.pod_changed();
    }

    pub(crate) fn evict(&mut self, number: usize) {
        let graceful = self.rng.below(2) == 0;
        let pod = &self.cluster.pods[number];
        let cut = pod.node.is_none_or(|node| self.cluster.nodes[node].cut);
        if cut || pod.ended() || pod.gone {
            return;
        }
        let (task, in_body) = (pod.task, pod.runs_body());
        self.say(Some(task), || format!("pod {number} is evicted"));
        if graceful && in_body {
            self.worker_is_terminated(number);
        }
        let view = &mut self.cluster.pods[number].view;
        view.phase = PodPhase::Failed;
        view.status_reason = "Evicted".into();
        self.container_ends(number, 137, false);
    }

    /// `dead`: everything on it ends at once. Else only its kubelet is cut off.
    pub(crate) fn lose_node(&mut self, node: usize, dead: bool) {
        if self.cluster.nodes[node].cut {
            return;
        }
        self.cluster.nodes[node].cut = true;
        self.cluster.nodes[node].dead = dead;
        self.say(None, || format!("node {node} is {}", if dead { "dead" } else { "cut off" }));
        for number in self.pods_on(node) {
            if dead && !matches!(self.cluster.pods[number].process, Process::None | Process::Ended { .. }) {
                self.container_ends(number, 137, false);
            }
        }
        let taint_in = self.rng.between(2_000, 10_000);
        self.put_in(taint_in, Event::NodeTainted(node));
        let back_in = self.rng.between(3_000, 60_000);
        self.put_in(back_in, Event::NodeBack(node));
        if dead {
            let collect_in = taint_in + self.rng.between(1_000, 20_000);
            self.put_in(collect_in, Event::NodeCollected(node));
        }
    }

    fn pods_on(&self, node: usize) -> Vec<usize> {
        let here = self.cluster.pods.iter().enumerate();
        here.filter(|(_, pod)| pod.node == Some(node) && !pod.gone).map(|(number, _)| number).collect()
    }

    /// The taint manager deletes its pods; nobody there hears of it.
    pub(crate) fn node_tainted(&mut self, node: usize) {
        if self.cluster.nodes[node].cut {
            for number in self.pods_on(node) {
                self.cluster.mark_deleting(number);
            }
            self.pod_changed();
        }
    }

    /// The node's object is gone: the garbage collector removes its pods.
    pub(crate) fn node_collected(&mut self, node: usize) {
        if self.cluster.nodes[node].dead {
            for number in self.pods_on(node) {
                let pod = &mut self.cluster.pods[number];
                pod.view.phase = PodPhase::Failed;
                pod.view.disruption = Some(("DeletionByPodGC".into(), "node not found".into()));
                self.cluster.changed(number);
                self.cluster.remove(number);
            }
            self.pod_changed();
        }
    }

    pub(crate) fn node_back(&mut self, node: usize) {
        if !self.cluster.nodes[node].cut {
            return;
        }
        self.cluster.nodes[node].cut = false;
        self.cluster.nodes[node].dead = false;
        self.say(None, || format!("node {node} is back"));
        for number in self.pods_on(node) {
            self.tell_status(number);
            if self.cluster.pods[number].view.deleting {
                self.kubelet_is_told(number);
            } else if self.cluster.pods[number].process == Process::None {
                self.put_in(500, Event::StartContainer(number));
            }
        }
    }
}
