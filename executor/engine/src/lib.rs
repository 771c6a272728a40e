//! windlass-engine: all launches of one daemon, decided synchronously and purely.
//!
//! `Engine::handle` takes everything that happens and returns everything to do; `Engine::wake_at` says when to come
//! back. No clock, no IO, no randomness inside: the daemon's driver and the simulator drive the same engine.
//!
//! One stage, one module: `term` may we write, `intake` what is new, `book` whose turn is it, `pacing` how many at
//! once, `branches` how many that need a network interface of their own, `creates` what became of one, `watch` what pods
//! do, `landing` what may still be on its way, `recovery` what a database has lost, `outbox` what leaves in which batch;
//! `answers` and `send` are the two halves of a turn of the loop.

mod answers;
mod book;
mod branches;
mod command;
mod creates;
mod intake;
mod landing;
mod outbox;
mod pacing;
mod recovery;
mod report;
mod send;
mod settings;
mod term;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use branches::Capacity;
pub use command::{Answer, Ask, Command, CommandId, Input, Specs};
pub use report::{Counters, Report, Size};
pub use settings::Settings;
use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid, Queueing};
use windlass_core::launch::{Action, Fact, Policy, Stage};
use windlass_core::store::{Claim, LaunchChange};
use windlass_core::task::TaskSpec;
use windlass_core::time::Millis;

use crate::book::Book;
use crate::branches::Branches;
use crate::intake::Intake;
use crate::landing::Landing;
use crate::outbox::Batch;
use crate::pacing::Pacing;
use crate::recovery::Recovery;
use crate::term::Term;
use crate::watch::Warned;

/// Decides for all launches. One per daemon.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    policy: Policy,
    term: Term,
    /// Everything that lives and dies with one term.
    reign: Reign,
    /// Branch interfaces of the nodes, as last told. Outlives terms.
    capacity: Arc<Capacity>,
    warned: Warned,
    stopping: Option<Millis>,
    exited: bool,
    next_id: u64,
    out: Vec<Command>,
    counters: Counters,
}

/// State of one term: a new one starts from nothing but the database.
#[derive(Debug)]
struct Reign {
    loaded: bool,
    book: Book,
    intake: Intake,
    pacing: Pacing,
    landing: Landing,
    /// Some: in the place of the load.
    recovery: Option<Recovery>,
    claims: Batch<Claim>,
    saves: Batch<LaunchChange>,
    reads: Batch<Queueing>,
    specs: Batch<Queueing>,
    notes: Batch<(Queueing, PodRef)>,
    /// Launches that are in nobody's book, with their pod where a pod made them known.
    strangers: Batch<Option<Stranger>>,
    /// A claim was not answered then: it may have been committed, or be committed late, and no answer will say so.
    claim_doubted: Option<Millis>,
    gets: VecDeque<LaunchId>,
    /// Pods that may be let go.
    gates: VecDeque<(LaunchId, PodUid)>,
    deletes: VecDeque<Delete>,
    /// What each open command is about.
    open: BTreeMap<CommandId, Open>,
    next_purge: Millis,
    next_follow: Millis,
}

/// A pod that no launch in the book owns: a create of a lost leader that landed late, or one that ended after its
/// launch was closed.
#[derive(Clone, Debug)]
struct Stranger {
    pod: PodRef,
    uid: PodUid,
    /// For one that waits to start: only in this state.
    resource_version: Option<String>,
}

#[derive(Clone, Debug)]
struct Delete {
    launch: LaunchId,
    pod: PodRef,
    uid: PodUid,
    resource_version: Option<String>,
    /// The launch waits for the answer.
    awaited: bool,
}

#[derive(Clone, Debug)]
enum Open {
    /// Asked when: trust in a term counts from then.
    Term(Millis),
    Load,
    Recover,
    Intake(windlass_core::store::IntakePass, u32),
    Claim,
    Save,
    ReadTasks,
    ReadSpecs,
    /// Begun when, and how many it may return.
    FindWithdrawn(Millis, u32),
    FindLaunches,
    Notes,
    Create(LaunchId, Attempt, Millis),
    /// Begun when: it proves nothing about a create that was answered later.
    Get(LaunchId, Attempt, Millis),
    Gate(LaunchId, Attempt, Millis),
    Delete(Delete),
    Other,
}

impl Reign {
    fn new(settings: &Settings, capacity: Arc<Capacity>) -> Self {
        Self {
            loaded: false,
            book: Book::new(Branches::new(settings, capacity)),
            intake: Intake::default(),
            landing: Landing::default(),
            recovery: None,
            pacing: Pacing::new(settings.creates_max),
            claims: Batch::default(),
            saves: Batch::with_gap(settings.save_gap_ms),
            reads: Batch::with_gap(settings.save_gap_ms),
            specs: Batch::default(),
            notes: Batch::with_gap(settings.note_gap_ms),
            strangers: Batch::default(),
            claim_doubted: None,
            gets: VecDeque::new(),
            gates: VecDeque::new(),
            deletes: VecDeque::new(),
            open: BTreeMap::new(),
            next_purge: Millis(0),
            next_follow: Millis(0),
        }
    }

    /// Something could be found by it.
    fn looks_for_withdrawn(&self) -> bool {
        self.book.unstarted() > 0 || self.claim_doubted.is_some()
    }

    fn count_open(&self, which: impl Fn(&Open) -> bool) -> usize {
        self.open.values().filter(|open| which(open)).count()
    }
}

impl Engine {
    /// A standby with nothing to do.
    pub fn new(settings: Settings, policy: Policy) -> Self {
        let capacity = Arc::default();
        let reign = Reign::new(&settings, Arc::clone(&capacity));
        Self {
            settings,
            policy,
            term: Term::new(),
            reign,
            capacity,
            warned: Warned::default(),
            stopping: None,
            exited: false,
            next_id: 0,
            out: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Everything that happens enters here, everything to do leaves here.
    pub fn handle(&mut self, now: Millis, input: Input) -> Vec<Command> {
        if self.term.expired(now) {
            self.lose(now);
        }
        self.look_at_clock(now);
        match input {
            Input::Tick => {}
            Input::Woken => self.reign.intake.wake(),
            Input::Stop => {
                self.stopping.get_or_insert(now);
            }
            Input::Answer { id, answer } => self.answered(id, answer, now),
            Input::Branches(capacity) => {
                self.capacity = Arc::new(capacity);
                self.reign.book.branches_mut().told(self.capacity.clone());
            }
            Input::Noted(note) => self.noted(note, now),
            Input::Pod(event) if self.reign.loaded => self.pod_event(event, now),
            Input::Pod(_) => {}
        }
        for id in self.reign.book.due(now) {
            self.tell(&id, Fact::Tick, now);
            self.read_rivals(&id);
        }
        self.send(now);
        std::mem::take(&mut self.out)
    }

    /// When to call again with `Input::Tick`, if nothing else happens before.
    pub fn wake_at(&self, now: Millis) -> Millis {
        self.next_wake(now)
    }

    /// Gives one launch a fact, files it anew, and puts what it asks for into the outbox.
    fn tell(&mut self, id: &LaunchId, fact: Fact, now: Millis) {
        let Some(launch) = self.reign.book.get_mut(id) else { return };
        let actions = launch.apply(fact, now, &self.policy);
        self.file(id, now);
        for action in actions {
            self.act(id, action, now);
        }
    }

    /// A launch is barred by others of its key (I11): their rows tell when a body has begun in a pod that had only
    /// started, or that they were taken back.
    fn read_rivals(&mut self, id: &LaunchId) {
        let Some(launch) = self.reign.book.get(id).filter(|_| self.reign.book.barred(id)) else { return };
        for rival in self.reign.book.others(launch) {
            if let Some(rival) = self.reign.book.get(&rival) {
                self.reign.reads.put(rival.id.clone(), rival.queueing.clone());
            }
        }
    }

    fn file(&mut self, id: &LaunchId, now: Millis) {
        if let Some(launch) = self.reign.book.get(id) {
            self.reign.landing.note(launch.lands_by);
            if launch.stage == Stage::Closed {
                self.counters.closed += 1;
                self.reign.intake.closed(&launch.queueing.key);
            }
        }
        self.reign.book.file(id, now, &self.policy);
    }

    fn act(&mut self, id: &LaunchId, action: Action, now: Millis) {
        let Some(launch) = self.reign.book.get(id) else { return };
        let queueing = launch.queueing.clone();
        match action {
            Action::ReadTask => self.reign.reads.put(id.clone(), queueing),
            Action::ReadSpec => self.reign.specs.put(id.clone(), queueing),
            Action::Create => self.create(id, now),
            Action::GetPod => {
                if !self.reign.gets.contains(id) {
                    self.reign.gets.push_back(id.clone());
                }
            }
            Action::OpenGate { uid } => self.reign.gates.push_back((id.clone(), uid)),
            Action::DeletePod { uid, resource_version, attempt } => {
                let awaited = attempt == launch.attempt;
                let key = &launch.queueing.key;
                let name = windlass_core::pod::pod_name(&key.dag_id, &key.task_id, id, attempt);
                let pod = PodRef { namespace: launch.pod.namespace.clone(), name };
                self.reign.deletes.push_back(Delete {
                    launch: id.clone(),
                    pod,
                    uid,
                    resource_version,
                    awaited,
                });
            }
            Action::KeepLog { uid } => {
                let pod = launch.pod.clone();
                if let Some(epoch) = self.term.writing(now) {
                    self.command(Ask::KeepLog { epoch, launch: id.clone(), pod, uid }, Open::Other);
                }
            }
            Action::Save(change) => {
                if let LaunchChange::Created { .. } = change {
                    self.reign.notes.put(id.clone(), (queueing, launch.pod.clone()));
                }
                outbox::merge(self.reign.saves.waiting(), id.clone(), change);
            }
        }
    }

    /// A create goes out at once: its turn was given by `send`, which looked at the term and the window. Reading the row
    /// may have taken time since then.
    fn create(&mut self, id: &LaunchId, now: Millis) {
        let timeout_ms = self.policy.create_ms;
        let in_term = |by: &Millis| now <= *by && self.stopping.is_none();
        let Some(start_by) = self.term.start_by(timeout_ms).filter(in_term) else {
            let error = "the term ends before the create could".into();
            self.tell(id, Fact::CreateAnswered(windlass_core::cluster::CreateAnswer::Unknown { error }), now);
            return;
        };
        let Some(launch) = self.reign.book.get(id) else { return };
        let Stage::Creating { spec, .. } = &launch.stage else { return };
        let (attempt, pod, spec): (Attempt, PodRef, Arc<TaskSpec>) =
            (launch.attempt, launch.pod.clone(), spec.clone());
        let ask = Ask::Create { launch: id.clone(), attempt, pod, spec, timeout_ms, start_by };
        self.command(ask, Open::Create(id.clone(), attempt, now));
    }

    /// The id that the next command will have.
    fn next_id(&self) -> CommandId {
        CommandId(self.next_id + 1)
    }

    fn command(&mut self, ask: Ask, open: Open) {
        let id = self.next_id();
        self.next_id = id.0;
        self.reign.open.insert(id, open);
        self.out.push(Command { id, ask });
    }

    /// Everything of the term is forgotten; what matters is in the database.
    fn lose(&mut self, now: Millis) {
        let settings = self.settings.clone();
        self.term.lose(now, &settings);
        self.end_reign();
    }

    fn end_reign(&mut self) {
        let watched = self.reign.loaded;
        self.reign = Reign::new(&self.settings, self.capacity.clone());
        if watched {
            self.command(Ask::Watch(false), Open::Other);
        }
    }
}
