//! What goes wrong in a run: each seed draws its own mixture, and may plant a fault into the test bed itself.

use crate::rng::Rng;

/// Strengths in permille of the occasions, 0: off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// A database call takes seconds instead of milliseconds, and may commit after its caller gave up.
    pub(crate) db_slow: u32,
    /// Committed, but the answer is lost.
    pub(crate) db_lost: u32,
    /// Refused before anything was done.
    pub(crate) db_error: u32,
    /// The database is away for some seconds (per mischief turn).
    pub(crate) db_away: u32,
    /// API calls take long.
    pub(crate) api_slow: u32,
    /// Done, but the answer is lost.
    pub(crate) api_lost: u32,
    /// The connection is cut at once, and the call lands later, within its server-side timeout.
    pub(crate) api_late: u32,
    /// 5xx, nothing done.
    pub(crate) api_error: u32,
    /// 429, with and without Retry-After.
    pub(crate) api_429: u32,
    /// The API server is away for some seconds (per mischief turn).
    pub(crate) api_away: u32,
    /// The namespace's quota holds so few pods; 0: no quota.
    pub(crate) quota: u64,
    /// Events are lost, a relist follows.
    pub(crate) watch_gap: u32,
    /// Lists come from a cache that lags behind.
    pub(crate) watch_stale: u32,
    /// Events come late.
    pub(crate) watch_slow: u32,
    /// A daemon dies between two commands (per command).
    pub(crate) crash: u32,
    /// A daemon stands still for seconds (per mischief turn).
    pub(crate) pause: u32,
    /// A command leaves late: the process stood still between deciding and sending.
    pub(crate) late_send: u32,
    /// A daemon is told to stop (per mischief turn).
    pub(crate) stop: u32,
    /// A daemon's clock jumps forward (per mischief turn).
    pub(crate) clock_jump: u32,
    /// Somebody deletes a pod (per mischief turn).
    pub(crate) pod_deleted: u32,
    /// The kubelet evicts a pod (per mischief turn).
    pub(crate) evict: u32,
    /// A node dies (per mischief turn).
    pub(crate) node_lost: u32,
    /// A node is cut off from the API server, its processes go on (per mischief turn).
    pub(crate) node_cut: u32,
    /// A worker's process is killed (per body).
    pub(crate) killed: u32,
    /// A body takes long.
    pub(crate) long_body: u32,
    /// A worker takes long between its container's start and its look at the row, or after its body.
    pub(crate) slow_worker: u32,
    /// A container waits with a fatal reason for a while (per pod).
    pub(crate) image_trouble: u32,
    /// Somebody clears a task (per mischief turn).
    pub(crate) clear: u32,
    /// Somebody marks a task as success or failed (per mischief turn).
    pub(crate) mark: u32,
    /// A task's row is deleted with its DAG run (per mischief turn).
    pub(crate) row_deleted: u32,
    /// A scheduler dies and comes back with another job id (per mischief turn).
    pub(crate) scheduler_crash: u32,
    /// What the plugin offers has no effect this time: the row is locked.
    pub(crate) event_lost: u32,
    /// The hand-over is lost with its scheduler.
    pub(crate) handover_lost: u32,
}

impl Faults {
    /// Each fault is off in about half of the runs, else of a random strength.
    pub(crate) fn swarm(rng: &mut Rng) -> Self {
        let mut draw = |max: u64| {
            if rng.below(2) == 0 { 0 } else { u32::try_from(rng.between(1, max)).unwrap_or(0) }
        };
        Self {
            db_slow: draw(100),
            db_lost: draw(150),
            db_error: draw(150),
            db_away: draw(60),
            api_slow: draw(200),
            api_lost: draw(250),
            api_late: draw(250),
            api_error: draw(200),
            api_429: draw(200),
            api_away: draw(60),
            quota: u64::from(draw(4)),
            watch_gap: draw(200),
            watch_stale: draw(800),
            watch_slow: draw(300),
            crash: draw(25),
            pause: draw(80),
            late_send: draw(40),
            stop: draw(30),
            clock_jump: draw(60),
            pod_deleted: draw(250),
            evict: draw(150),
            node_lost: draw(50),
            node_cut: draw(50),
            killed: draw(400),
            long_body: draw(400),
            slow_worker: draw(400),
            image_trouble: draw(250),
            clear: draw(120),
            mark: draw(80),
            row_deleted: draw(25),
            scheduler_crash: draw(40),
            event_lost: draw(500),
            handover_lost: draw(500),
        }
    }
}

/// A fault planted into the test bed, never into the product: proof that a checker bites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// The driver reports claims as committed and sends none.
    SkipClaim,
    /// The driver reports every write as committed before it is sent.
    AnswerBeforeCommit,
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
}

impl Plant {
    /// All.
    pub const ALL: [Self; 18] = [
        Self::SkipClaim,
        Self::AnswerBeforeCommit,
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
    ];
}
