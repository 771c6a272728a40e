//! What an operator can set about the engine. Times are in milliseconds.

/// Limits and periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A term holds for so long after its last renewal.
    pub lease_ms: u64,
    /// Trust in our own term ends so much earlier than the database's: covers the clocks' drift over one lease.
    pub margin_ms: u64,
    /// Renewed so often.
    pub renew_ms: u64,
    /// A standby asks for the term so often.
    pub standby_ms: u64,
    /// The hand-over is read so often where no wake reaches us.
    pub handover_ms: u64,
    /// The full pass runs at least so often.
    pub full_pass_ms: u64,
    /// Unstarted launches are compared with their rows so often.
    pub withdrawn_ms: u64,
    /// After a pass that looks at all rows, at least so many times its duration is left free.
    pub pass_rest: u64,
    /// Queueings per intake pass, launches per statement.
    pub batch: u32,
    /// Launches that may wait for their pod in memory; the rest waits in the database, in Airflow's order.
    pub backlog_max: usize,
    /// As many launches more may wait in namespaces that are held: they must not keep the others from being seen (I8).
    pub held_max: usize,
    /// Creates in flight at most.
    pub creates_max: u32,
    /// Deletes in flight at most: a budget of their own.
    pub deletes_max: u32,
    /// GETs in flight at most.
    pub gets_max: u32,
    /// Pods that may wait for a branch network interface at once, of one pool of nodes.
    pub branch_waiting_max: u32,
    /// So many may wait whatever the nodes have: a cluster autoscaler adds nodes for what it sees waiting.
    pub branch_waiting_min: u32,
    /// Pods that need one are created so fast in the long run.
    pub branch_creates_per_second: u32,
    /// The interface of a pod that ended is free again after so long.
    pub branch_cooling_ms: u64,
    /// A namespace whose quota is full, or that is not ready, is left alone for so long.
    pub namespace_hold_ms: u64,
    /// A namespace that is not ready (deleted, not there, without our Role) is waited for so long; then its tasks fail.
    pub namespace_ready_ms: u64,
    /// Writes and re-reads of launches leave at this distance at least, unless a batch is full. Claims, for which a task
    /// waits, have none.
    pub save_gap_ms: u64,
    /// The same of the pods' names for people.
    pub note_gap_ms: u64,
    /// A batch that failed is tried again after so long.
    pub retry_ms: u64,
    /// An answer is given up after so long (the driver's own deadlines are shorter).
    pub answer_ms: u64,
    /// After SIGTERM, work under way is waited for so long.
    pub drain_ms: u64,
    /// Old rows are looked for so often.
    pub purge_ms: u64,
    /// Pods are labelled anew with the schedulers that own their tasks so often.
    pub follow_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ms: 4_500,
            margin_ms: 500,
            renew_ms: 1_000,
            standby_ms: 300,
            handover_ms: 500,
            full_pass_ms: 5_000,
            withdrawn_ms: 1_000,
            pass_rest: 20,
            batch: 500,
            backlog_max: 5_000,
            held_max: 50_000,
            creates_max: 32,
            deletes_max: 16,
            gets_max: 8,
            // The controller works at 30 at once, and EC2 takes some seconds for each.
            branch_waiting_max: 50,
            branch_waiting_min: 10,
            branch_creates_per_second: 5,
            // Its cool down (60 s) and one pass of the controller's delete queue (30 s).
            branch_cooling_ms: 90_000,
            namespace_hold_ms: 2_000,
            namespace_ready_ms: 30_000,
            save_gap_ms: 50,
            note_gap_ms: 1_000,
            retry_ms: 500,
            answer_ms: 15_000,
            drain_ms: 5_000,
            purge_ms: 60_000,
            follow_ms: 10_000,
        }
    }
}
