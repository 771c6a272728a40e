//! Calls of the daemons to the API server: they land or not, late or at once, and their answers may be lost.

use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use windlass_core::outcome::Reason;
use windlass_core::pod_view::{Branch, Gate};
use windlass_engine::{Answer, Ask};

use crate::agenda::{CreateCall, DeleteCall, Event, GateCall, GetCall, Sender};
use crate::cluster::Deleted;
use crate::database::Demand;
use crate::plant::Plant;
use crate::store_calls::failed;
use crate::world::World;

/// The driver's deadline for a GET or a DELETE in milliseconds.
const DEADLINE_MS: u64 = 5_000;
/// A create is waited for this much longer than its server-side timeout.
const CREATE_GRACE_MS: u64 = 500;

/// When a call lands, and when its answer is back after that; None: the answer is lost.
struct Way {
    lands_in: u64,
    answer_in: Option<u64>,
}

impl World {
    /// `within`: the call lands in this time or never. Tells the sender itself where it loses the answer.
    fn way(&mut self, sender: Sender, within: u64, deadline: u64, lost: Answer) -> Way {
        let slow = self.rng.chance(self.faults.api_slow);
        let usual = if slow { within } else { 30.min(within) };
        let lands_in = self.rng.delay(1, usual, usual).min(within);
        let back = self.rng.delay(1, 10, 100);
        if self.rng.chance(self.faults.api_late) {
            // The connection is cut at once, and a proxy or the server's queue still holds the request.
            let cut_in = self.rng.between(1, 50);
            self.answer_in(sender, cut_in, lost);
            return Way { lands_in: self.rng.between(1, within), answer_in: None };
        }
        if self.rng.chance(self.faults.api_lost) || lands_in + back > deadline {
            self.answer_in(sender, deadline, lost);
            return Way { lands_in, answer_in: None };
        }
        Way { lands_in, answer_in: Some(back) }
    }

    /// A refusal before anything was done, if this call meets one.
    fn refusal(&mut self) -> Option<CreateAnswer> {
        if self.cluster.away_until > self.now || self.rng.chance(self.faults.api_error) {
            return Some(CreateAnswer::Unknown { error: "503".into() });
        }
        if self.rng.chance(self.faults.api_429) {
            let retry_after_ms = (self.rng.below(2) == 0).then(|| self.rng.between(1, 4) * 1_000);
            return Some(CreateAnswer::TooManyRequests { retry_after_ms });
        }
        None
    }

    /// Answers that only a create can get, nothing done.
    fn create_refusal(&mut self) -> Option<CreateAnswer> {
        if self.cluster.hook_away_until > self.now {
            return Some(CreateAnswer::NotMade { why: "the hook's helper is away".into() });
        }
        if self.rng.chance(self.faults.api_conflict) {
            // 409 Conflict of two creates in one ResourceQuota, or of something that says nothing about quota.
            let of_quota = self.rng.below(2) == 0;
            return Some(if of_quota {
                CreateAnswer::QuotaFull { message: "Operation cannot be fulfilled on resourcequotas".into() }
            } else {
                CreateAnswer::Unknown { error: "409 Conflict".into() }
            });
        }
        let refused = self.rng.chance(self.faults.api_refuses);
        refused.then(|| CreateAnswer::Refused { reason: Reason::PodRejected, message: "a webhook".into() })
    }

    pub(crate) fn send_create(&mut self, sender: Sender, ask: Ask) {
        let lost = failed(&ask);
        let Ask::Create { launch, attempt, mut pod, timeout_ms, start_by, .. } = ask else { return };
        let Some(task) = self.task_of_launch.get(&launch).copied() else { return };
        let late = self.daemons[sender.daemon].clock.local(self.now) > start_by.0;
        if late && self.plant != Some(Plant::TermNotChecked) {
            return self.answer_in(sender, 0, lost);
        }
        let row = self.db.launches.get(&launch);
        self.check.create_begins(self.now, task, (&launch, row), attempt);
        let daemon = &self.daemons[sender.daemon];
        let term = &self.db.term;
        // By holder: an acquisition of its own that committed late takes the term from nobody.
        let held = term.holder.as_deref() == Some(&daemon.holder);
        // The renewal that it trusts in may be among what a failover lost: recovery waits for the end of that trust.
        let forgotten = self.db.began_before_failover(&daemon.holder);
        let in_term = forgotten || (held && self.now + timeout_ms <= term.expires);
        self.check.create_in_term(self.now, task, in_term);
        self.say(Some(task), || format!("daemon {} creates {pod} (attempt {})", sender.daemon, attempt.0));
        if let Some(answer) = self.create_refusal().or_else(|| self.refusal()) {
            let wait = self.rng.delay(1, 20, 500);
            return self.answer_in(sender, wait, Answer::Created(answer));
        }
        if self.plant == Some(Plant::RandomPodNames) {
            pod.name = format!("{}-{}", pod.name, self.rng.next());
        }
        let way = self.way(sender, timeout_ms, timeout_ms + CREATE_GRACE_MS, lost);
        let call = CreateCall { launch, attempt, pod, task, began: self.now };
        if self.plant == Some(Plant::ClientRetry) && self.rng.chance(300) {
            let again = self.rng.between(timeout_ms, 4 * timeout_ms);
            self.put_in(again, Event::Create { sender, call: Box::new(call.clone()), answer_in: None });
        }
        self.put_in(way.lands_in, Event::Create { sender, call: Box::new(call), answer_in: way.answer_in });
    }

    pub(crate) fn create_lands(&mut self, sender: Sender, call: Box<CreateCall>, answer_in: Option<u64>) {
        let Some(answer) = self.create_now(&call) else {
            // The client asks what stands there before it answers.
            let look_in = self.rng.delay(1, 20, 300);
            return self.put_in(look_in, Event::CreateConflict { sender, call, answer_in });
        };
        if let Some(back) = answer_in {
            self.answer_in(sender, back, Answer::Created(answer));
        }
    }

    /// What the API server says to a POST. None: 409 AlreadyExists.
    pub(crate) fn create_now(&mut self, call: &CreateCall) -> Option<CreateAnswer> {
        if self.cluster.away_until > self.now {
            return Some(CreateAnswer::Unknown { error: "503".into() });
        }
        if self.cluster.unready.get(&call.pod.namespace).is_some_and(|until| *until > self.now) {
            return Some(CreateAnswer::NamespaceNotReady { message: "it is being terminated".into() });
        }
        if self.rng.chance(self.faults.groups_missing) && self.db.tasks[call.task].demand == Demand::Groups {
            let why = "no SecurityGroupPolicy matches it".into();
            return Some(CreateAnswer::NotYet { reason: Reason::IdentityMissing, why });
        }
        if self.db.tasks[call.task].bad_pod {
            return Some(CreateAnswer::Refused { reason: Reason::PodRejected, message: "422".into() });
        }
        if self.cluster.find(&call.pod).is_some() {
            return None;
        }
        if self.over_quota(&call.pod.namespace) {
            return Some(CreateAnswer::QuotaFull { message: "exceeded quota".into() });
        }
        let behind = self.admit(call.task);
        let groups = self.db.tasks[call.task].demand == Demand::Groups;
        let branch = if groups { Branch::Awaited } else { Branch::NotDemanded };
        let number = self.cluster.insert(call, behind, branch);
        let waited = self.now - call.began;
        self.say(Some(call.task), || format!("pod {number} {} exists ({waited} ms on its way)", call.pod));
        self.waited_for_pod(call.task);
        self.check.pod_created(self.now, number, &self.cluster.pods);
        self.pod_is_new(number);
        let mut view = self.cluster.whole(number);
        if self.plant == Some(Plant::GateUnchecked) && view.gate != Gate::Open {
            view.gate = Gate::Fit;
        }
        Some(CreateAnswer::Created(Box::new(view)))
    }

    /// What admission makes of a pod, as a look behind its gate shows it.
    fn admit(&mut self, task: usize) -> Gate {
        let unfit = |why: &str, again| Gate::Unfit { why: why.into(), again };
        match self.db.tasks[task].demand {
            Demand::Nothing => Gate::Open,
            Demand::OtherRole => unfit("it has another role", false),
            Demand::Role | Demand::Groups if self.rng.chance(self.faults.webhook_silent) => {
                unfit("the webhook was silent", true)
            }
            Demand::Role | Demand::Groups => Gate::Fit,
        }
    }

    /// From its queueing to its pod.
    fn waited_for_pod(&mut self, no: usize) {
        let task = &self.db.tasks[no];
        let waited = self.now - task.queued_since;
        match self.longest_wait.get_mut(&task.namespace) {
            Some(longest) => *longest = waited.max(*longest),
            None => drop(self.longest_wait.insert(task.namespace.clone(), waited)),
        }
    }

    fn over_quota(&self, namespace: &str) -> bool {
        if self.cluster.full.contains(namespace) {
            return true;
        }
        self.faults.quota > 0 && self.cluster.count(namespace) >= self.faults.quota as usize
    }

    /// 409 AlreadyExists: the GET that follows decides.
    pub(crate) fn create_conflict(&mut self, sender: Sender, call: &CreateCall, answer_in: Option<u64>) {
        let Some(back) = answer_in else { return };
        let answer = self.whose(call);
        self.answer_in(sender, back, Answer::Created(answer));
    }

    pub(crate) fn whose(&self, call: &CreateCall) -> CreateAnswer {
        match self.cluster.get(&call.pod, &call.launch, call.attempt) {
            GetAnswer::Found(Some(view)) if !view.deleting => CreateAnswer::Adopted(view),
            GetAnswer::Found(Some(_)) => CreateAnswer::NameTaken { why: "it is terminating".into() },
            GetAnswer::Found(None) => CreateAnswer::NameTaken { why: "another pod".into() },
            // It was there a moment ago, and may have run: not a free name.
            GetAnswer::Gone => CreateAnswer::Unknown { error: "it went meanwhile".into() },
            GetAnswer::Failed { error } => CreateAnswer::Unknown { error },
        }
    }

    pub(crate) fn send_get(&mut self, sender: Sender, ask: Ask) {
        let lost = failed(&ask);
        let Ask::GetPod { launch, attempt, pod } = ask else { return };
        if self.plant == Some(Plant::NoBarrier) {
            return self.answer_in(sender, 5, Answer::Got(GetAnswer::Gone));
        }
        if self.refusal().is_some() {
            let wait = self.rng.delay(1, 20, 500);
            return self.answer_in(sender, wait, lost);
        }
        let way = self.way(sender, DEADLINE_MS - 200, DEADLINE_MS, lost);
        let call = Box::new(GetCall { launch, attempt, pod });
        self.put_in(way.lands_in, Event::Get { sender, call, answer_in: way.answer_in });
    }

    pub(crate) fn get_lands(&mut self, sender: Sender, call: &GetCall, answer_in: Option<u64>) {
        let GetCall { launch, attempt, pod } = call;
        let answer = if self.cluster.away_until > self.now {
            GetAnswer::Failed { error: "503".into() }
        } else if self.plant == Some(Plant::StaleGet) {
            let behind = self.rng.index(12);
            self.cluster.get_stale(pod, launch, *attempt, self.cluster.log.len().saturating_sub(behind))
        } else {
            self.cluster.get(pod, launch, *attempt)
        };
        let answer = self.seen_as_fit(answer);
        if let Some(back) = answer_in {
            self.answer_in(sender, back, Answer::Got(answer));
        }
    }

    /// Planted: nobody looks behind the gate.
    fn seen_as_fit(&self, mut answer: GetAnswer) -> GetAnswer {
        if self.plant == Some(Plant::GateUnchecked)
            && let GetAnswer::Found(Some(view)) = &mut answer
            && view.gate != Gate::Open
        {
            view.gate = Gate::Fit;
        }
        answer
    }

    pub(crate) fn send_gate(&mut self, sender: Sender, ask: Ask) {
        let lost = failed(&ask);
        let Ask::OpenGate { launch, attempt, pod, uid } = ask else { return };
        if self.refusal().is_some() {
            let wait = self.rng.delay(1, 20, 500);
            return self.answer_in(sender, wait, lost);
        }
        let way = self.way(sender, DEADLINE_MS - 200, DEADLINE_MS, lost);
        let call = Box::new(GateCall { launch, attempt, pod, uid });
        self.put_in(way.lands_in, Event::Gate { sender, call, answer_in: way.answer_in });
    }

    pub(crate) fn gate_lands(&mut self, sender: Sender, call: &GateCall, answer_in: Option<u64>) {
        let answer = self.open_gate(call);
        if let Some(back) = answer_in {
            self.answer_in(sender, back, Answer::Got(answer));
        }
    }

    fn open_gate(&mut self, call: &GateCall) -> GetAnswer {
        if self.cluster.away_until > self.now {
            return GetAnswer::Failed { error: "503".into() };
        }
        let Some(number) = self.cluster.find(&call.pod) else { return GetAnswer::Gone };
        if self.cluster.pods[number].view.uid != call.uid {
            return GetAnswer::Failed { error: "409: another uid".into() };
        }
        if self.cluster.pods[number].view.gate == Gate::Closed {
            let pod = &self.cluster.pods[number];
            self.check.gate_opened(self.now, number, pod);
            let task = pod.task;
            self.cluster.pods[number].view.gate = Gate::Open;
            self.cluster.changed(number);
            self.say(Some(task), || format!("pod {number}: its gate is opened"));
            self.wants_node(number);
        }
        self.cluster.get(&call.pod, &call.launch, call.attempt)
    }

    pub(crate) fn send_delete(&mut self, sender: Sender, ask: Ask) {
        let lost = failed(&ask);
        let Ask::DeletePod { pod, uid, resource_version } = ask else { return };
        if self.refusal().is_some() {
            let wait = self.rng.delay(1, 20, 500);
            return self.answer_in(sender, wait, lost);
        }
        let way = self.way(sender, DEADLINE_MS - 200, DEADLINE_MS, lost);
        let call = Box::new(DeleteCall { pod, uid, resource_version });
        self.put_in(way.lands_in, Event::Delete { sender, call, answer_in: way.answer_in });
    }

    pub(crate) fn delete_lands(&mut self, sender: Sender, call: &DeleteCall, answer_in: Option<u64>) {
        let answer = if self.cluster.away_until > self.now {
            DeleteAnswer::Failed { error: "503".into() }
        } else {
            self.delete(sender.daemon, call)
        };
        if let Some(back) = answer_in {
            self.answer_in(sender, back, Answer::Deleted(answer));
        }
    }

    fn delete(&mut self, by: usize, call: &DeleteCall) -> DeleteAnswer {
        let check = self.plant != Some(Plant::IgnorePreconditions);
        match self.cluster.delete(call, check) {
            Deleted::Nothing(answer) => answer,
            Deleted::Removed(number) => {
                self.deleted_by_us(by, number);
                DeleteAnswer::Accepted
            }
            Deleted::Marked(number) => {
                self.deleted_by_us(by, number);
                self.kubelet_is_told(number);
                DeleteAnswer::Accepted
            }
        }
    }

    fn deleted_by_us(&mut self, by: usize, number: usize) {
        let pod = &self.cluster.pods[number];
        let row = self.db.launches.get(&pod.view.launch);
        let reachable = pod.node.is_none_or(|node| !self.cluster.nodes[node].cut);
        self.check.pod_deleted_by_us(self.now, number, (pod, reachable), row);
        let task = pod.task;
        self.say(Some(task), || format!("daemon {by} deletes pod {number}"));
        self.pod_changed();
    }
}
