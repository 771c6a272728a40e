//! What goes wrong in a run: each seed draws its own mixture.

use crate::rng::Rng;

/// Draws a strength: off in about half of the runs, else up to `max`.
fn draw(rng: &mut Rng, max: u64) -> u32 {
    let strength = u32::try_from(rng.between(1, max)).unwrap_or(0);
    if rng.below(2) == 0 { 0 } else { strength }
}

/// The list of faults by name: a seed draws the strength of each, and `--without` switches one off by its name.
macro_rules! faults {
    ($($(#[$says:meta])* $name:ident: $max:literal,)*) => {
        /// Strengths in permille of the occasions, 0: off.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Faults { $($(#[$says])* pub(crate) $name: u32,)* }

        impl Faults {
            /// All names.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The mixture of one seed.
            pub(crate) fn swarm(rng: &mut Rng) -> Self {
                Self { $($name: draw(rng, $max),)* }
            }

            /// The strength of the fault of that name; None: there is none.
            pub(crate) fn strength(&mut self, name: &str) -> Option<&mut u32> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

faults! {
    /// A database call takes seconds instead of milliseconds, and may commit after its caller gave up.
    db_slow: 100,
    /// Committed, but the answer is lost.
    db_lost: 150,
    /// Refused before anything was done.
    db_error: 150,
    /// The database is away for some seconds (per mischief turn).
    db_away: 60,
    /// The database fails over to a replica that misses the last commits (per mischief turn).
    failover: 40,
    /// API calls take long.
    api_slow: 200,
    /// Done, but the answer is lost.
    api_lost: 250,
    /// The connection is cut at once, and the call lands later, within its server-side timeout.
    api_late: 250,
    /// 5xx, nothing done.
    api_error: 200,
    /// 429, with and without Retry-After.
    api_429: 200,
    /// 409 Conflict: two creates met in one ResourceQuota, or anything else that is not AlreadyExists; nothing done.
    api_conflict: 150,
    /// Admission refuses a good pod: a webhook or a policy that is broken for the moment.
    api_refuses: 30,
    /// The API server is away for some seconds (per mischief turn).
    api_away: 60,
    /// The namespace's quota holds so few pods; 0: no quota.
    quota: 4,
    /// A namespace is deleted and made anew, or lacks our Role, for a while (per mischief turn).
    namespace_unready: 40,
    /// The webhook that gives a pod its role is silent (per pod whose rule demands one).
    webhook_silent: 250,
    /// No SecurityGroupPolicy gives a pod its groups yet (per create whose rule demands some).
    groups_missing: 250,
    /// The controller drops the job that makes a pod's branch network interface (per pod that needs one).
    branch_dropped: 300,
    /// A pod runs without its branch network interface (per pod that needs one).
    branch_bypassed: 150,
    /// The policy of a pod goes before its branch network interface is made, which gets the node's groups; the controller
    /// warns (per pod that needs one).
    groups_taken: 150,
    /// Nodes with branch network interfaces come or go (per mischief turn).
    nodes_change: 60,
    /// What makes pods (the helper of `pod_mutation_hook`) is away for a while (per mischief turn).
    hook_away: 40,
    /// An answer reaches the engine a second time.
    answer_twice: 150,
    /// An answer reaches the engine when it has long been given up.
    answer_late: 40,
    /// The watch is cut and its history is gone (410): a list follows.
    watch_gap: 200,
    /// The watch is cut and goes on from where it was.
    watch_cut: 200,
    /// Lists come from a cache that lags behind.
    watch_stale: 800,
    /// Events come late.
    watch_slow: 300,
    /// A daemon dies between two commands (per command).
    crash: 25,
    /// A daemon stands still for seconds (per mischief turn).
    pause: 80,
    /// A command leaves late: the process stood still between deciding and sending.
    late_send: 40,
    /// A daemon is told to stop (per mischief turn).
    stop: 30,
    /// A rolling upgrade: another version with other settings starts, the old one is told to stop (per mischief turn).
    upgrade: 60,
    /// A daemon's clock jumps forward (per mischief turn).
    clock_jump: 60,
    /// Somebody deletes a pod (per mischief turn).
    pod_deleted: 250,
    /// The kubelet evicts a pod (per mischief turn).
    evict: 150,
    /// A node dies (per mischief turn).
    node_lost: 50,
    /// A node is cut off from the API server, its processes go on (per mischief turn).
    node_cut: 50,
    /// A pod is bound or started only after a minute or so (per pod).
    late_start: 150,
    /// A worker's process is killed (per body).
    killed: 400,
    /// A body takes long.
    long_body: 400,
    /// A worker takes long between its container's start and its look at the row, or after its body.
    slow_worker: 400,
    /// A container waits with a fatal reason for a while (per pod).
    image_trouble: 250,
    /// Somebody clears a task (per mischief turn).
    clear: 120,
    /// Somebody marks a task as success or failed (per mischief turn).
    mark: 80,
    /// A task is queued again in the same try, or reset to NULL as an orphan, and nobody says so (per mischief turn).
    requeue: 100,
    /// Somebody runs a task by hand, on a host that is no pod (`airflow tasks run`, per mischief turn).
    by_hand: 250,
    /// A task's row is deleted with its DAG run (per mischief turn).
    row_deleted: 25,
    /// A scheduler dies and comes back with another job id (per mischief turn).
    scheduler_crash: 40,
    /// What the plugin offers has no effect this time: the row is locked.
    event_lost: 500,
    /// The hand-over is lost with its scheduler.
    handover_lost: 500,
    /// The DAG processor executes a callback a second time, later.
    callback_twice: 200,
}
