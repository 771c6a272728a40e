//! What the engine can say of itself: for metrics, health and `windlass status`. Read-only.

use std::collections::BTreeMap;

use windlass_core::launch::Stage;
use windlass_core::outcome::{Outcome, OutcomeKind, Reason};
use windlass_core::time::Millis;

use crate::Engine;

/// Counts since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Queueings seen for the first time.
    pub seen: u64,
    /// Rows inserted.
    pub claimed: u64,
    /// Pods created.
    pub created: u64,
    /// Pods found already created.
    pub adopted: u64,
    /// Second and later attempts.
    pub relaunched: u64,
    /// Launches that ended, by kind and reason.
    pub outcomes: BTreeMap<(OutcomeKind, Option<Reason>), u64>,
    /// Launches of which nothing is left.
    pub closed: u64,
    /// Writes whose guard did not hold.
    pub refused: u64,
    /// Pods of ours without a launch.
    pub orphans: u64,
    /// Launches made again from their pods after a failover that lost commits.
    pub recovered: u64,
    /// Terms gained.
    pub terms: u64,
    /// Errors by source: `database`, `kubernetes`, `quota`, `namespace`, `pod`, `identity`, `intake`, `watch`, `recovery`.
    pub errors: BTreeMap<&'static str, u64>,
    /// The last error of each source.
    pub last_errors: BTreeMap<&'static str, String>,
}

impl Counters {
    pub(crate) fn note_error(&mut self, source: &'static str, error: &str) {
        *self.errors.entry(source).or_default() += 1;
        self.last_errors.insert(source, error.to_owned());
    }

    pub(crate) fn count_outcome(&mut self, outcome: &Outcome) {
        *self.outcomes.entry((outcome.kind, outcome.reason)).or_default() += 1;
    }
}

/// How much the engine holds in memory (I10). Cheap to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Launches in the book.
    pub launches: usize,
    /// Items that wait to be sent, and commands that wait for their answer.
    pub items: usize,
}

/// A look at the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether this process holds the term.
    pub leading: bool,
    /// Its number, or who else holds it.
    pub epoch: Option<i64>,
    /// Who holds it, as last told.
    pub holder: Option<String>,
    /// The launches of this term are in memory.
    pub loaded: bool,
    /// Launches by stage.
    pub stages: BTreeMap<&'static str, u64>,
    /// Launches whose turn could come now.
    pub ready: u64,
    /// Creates in flight, and how many there may be.
    pub creates_in_flight: u64,
    /// See above.
    pub window: u32,
    /// Namespaces held for quota, or because they are not ready.
    pub held_namespaces: Vec<String>,
    /// Pods that wait for a branch network interface.
    pub branches_waiting: u64,
    /// Launches whose pods are not made yet because of those.
    pub held_for_branches: u64,
    /// Waiting in the outbox, by kind.
    pub outbox: BTreeMap<&'static str, u64>,
    /// Since the process started.
    pub counters: Counters,
}

impl Engine {
    /// A look at the engine.
    pub fn report(&self, now: Millis) -> Report {
        let reign = &self.reign;
        let mut stages = BTreeMap::new();
        for launch in reign.book.iter() {
            *stages.entry(stage_name(&launch.stage)).or_default() += 1;
        }
        let outbox = BTreeMap::from([
            ("claims", reign.claims.len() as u64),
            ("saves", reign.saves.len() as u64),
            ("reads", (reign.reads.len() + reign.specs.len()) as u64),
            ("gets", reign.gets.len() as u64),
            ("deletes", reign.deletes.len() as u64),
        ]);
        Report {
            leading: self.term.leads(),
            epoch: self.term.writing(now).map(|epoch| epoch.0),
            holder: self.term.holder.clone(),
            loaded: reign.loaded,
            stages,
            ready: reign.book.ready() as u64,
            creates_in_flight: reign.book.turns() as u64,
            window: reign.pacing.window(),
            held_namespaces: reign.pacing.held_namespaces(now),
            branches_waiting: reign.book.branches().waiting() as u64,
            held_for_branches: reign.book.held_for_branches(now) as u64,
            outbox,
            counters: self.counters.clone(),
        }
    }

    /// How much it holds.
    pub fn size(&self) -> Size {
        let reign = &self.reign;
        let rows = [reign.claims.size(), reign.saves.size(), reign.notes.size(), reign.strangers.size()];
        let reads = [reign.reads.size(), reign.specs.size(), reign.gets.len(), reign.deletes.len()];
        let items = rows.iter().chain(&reads).sum::<usize>() + reign.open.len();
        Size { launches: reign.book.len(), items }
    }

    /// The launches in memory, for the simulator's checkers and for `status`.
    pub fn launches(&self) -> impl Iterator<Item = &windlass_core::launch::Launch> {
        self.reign.book.iter()
    }
}

/// Stable names of the stages, as metrics label.
fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Claiming { .. } => "claiming",
        Stage::Ready { .. } => "ready",
        Stage::Checking { .. } => "checking",
        Stage::Creating { .. } => "creating",
        Stage::Alive(alive) if alive.started => "running",
        Stage::Alive(_) => "pending",
        Stage::Judging { .. } => "judging",
        Stage::Relaunching { .. } => "relaunching",
        Stage::Settling { .. } => "settling",
        Stage::Settled { .. } => "settled",
        Stage::Closing { .. } => "closing",
        Stage::Closed => "closed",
    }
}
