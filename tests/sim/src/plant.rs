//! Faults planted into the test bed, never into the product: proof that the checkers bite.

use std::fmt;
use std::str::FromStr;

use crate::check::Broken;

/// A fault planted into the test bed, never into the product: proof that a checker bites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// The driver reports claims as committed and sends none.
    SkipClaim,
    /// The driver reports an outcome as stored before it is: what follows (the delete) overtakes it.
    SettleAfterDelete,
    /// The store never looks at the epoch.
    NoFencing,
    /// The store looks at the epoch when the transaction begins and holds no lock until its commit.
    FenceBySnapshot,
    /// The driver makes up a new pod name for each create.
    RandomPodNames,
    /// The cluster ignores a delete's preconditions.
    IgnorePreconditions,
    /// The driver repeats a create that was already answered, as an HTTP client's own retry does.
    ClientRetry,
    /// GETs are answered from a cache that lags behind.
    StaleGet,
    /// Every GET says that the pod is gone: what a barrier waits for is never waited for.
    NoBarrier,
    /// The row is not read before a second create: it is said to be queued.
    NoReread,
    /// Creates leave the driver late and without another look at the term.
    TermNotChecked,
    /// The plugin compares the try alone when it delivers.
    DeliverByTry,
    /// The end of any pod of the queueing counts for a running task, to the engine and to the plugin.
    EndOfAnyPod,
    /// The plugin takes an outcome as delivered as soon as it was offered.
    DeliverOnce,
    /// The plugin sends its callback request at each offer.
    CallbackAgain,
    /// The full intake pass is never run: what the hand-over loses is lost.
    NoFullPass,
    /// Watches lose events without a word, and never list again.
    SilentWatch,
    /// A launch id is made from the try alone: a task that is queued again in the same try meets its old launch.
    LaunchIdByTry,
    /// The store writes a pod's name to the row of the task key, whatever queueing it carries.
    NoteUnguarded,
    /// The store lets a later outcome replace an earlier one.
    OutcomeReplaced,
    /// The scheduler's plugin sends a callback request for a task whose worker may still write its own end.
    CallbackTooEarly,
    /// Lost launches are not made again from their pods.
    NoRecovery,
    /// The driver takes every pod behind its gate for what its rule demands.
    GateUnchecked,
    /// The driver does not sleep until the engine wants to be woken.
    NoSleep,
}

impl Plant {
    /// Its row in the table of the README.
    pub fn row(self, seed: u64, broken: &Broken) -> String {
        format!("| `{self}` | {} | {seed} | {} |", broken.invariant, without_names(&broken.what))
    }
}

/// Without what stands in brackets, and without numbers of launches: they say nothing to a reader of the table.
fn without_names(what: &str) -> String {
    let outside =
        what.split('(').map(|part| part.split_once(')').map_or(part, |(_, after)| after.trim_start()));
    let text = outside.collect::<String>();
    text.split(' ').filter(|word| word.len() != 26).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|plant| plant.to_string() == name);
        found.ok_or_else(|| format!("`{name}` is no planted fault: see `windlass-sim --plants`"))
    }
}

impl Plant {
    /// All.
    pub const ALL: [Self; 24] = [
        Self::SkipClaim,
        Self::SettleAfterDelete,
        Self::NoFencing,
        Self::FenceBySnapshot,
        Self::RandomPodNames,
        Self::IgnorePreconditions,
        Self::ClientRetry,
        Self::StaleGet,
        Self::NoBarrier,
        Self::NoReread,
        Self::TermNotChecked,
        Self::DeliverByTry,
        Self::EndOfAnyPod,
        Self::DeliverOnce,
        Self::CallbackAgain,
        Self::NoFullPass,
        Self::SilentWatch,
        Self::LaunchIdByTry,
        Self::NoteUnguarded,
        Self::OutcomeReplaced,
        Self::CallbackTooEarly,
        Self::NoRecovery,
        Self::GateUnchecked,
        Self::NoSleep,
    ];
}
