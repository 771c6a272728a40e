-- Why: the durable records of Windlass beside Airflow's own tables: launches, the term of leadership, the schedulers
--      that speak to us, and the hand-over from the plugin.
-- Locks: none on Airflow's tables; everything here is new.
-- Undo: DROP SCHEMA windlass CASCADE (Airflow is untouched; the next start of the daemon needs `windlass migrate`).

-- The schema itself is made by `windlass migrate` before the first migration: the tracking table lives in it.

-- One row. Its id is part of every launch id.
CREATE TABLE windlass.installation (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    id      uuid NOT NULL DEFAULT gen_random_uuid(),
    made_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO windlass.installation DEFAULT VALUES;

-- Leadership. One row. Every write transaction of a term takes it FOR KEY SHARE WHERE epoch = its own: a new term
-- changes epoch, a key column (it has a unique index), and so waits for those transactions and ends the next ones;
-- a renewal changes expires_at alone, no key, and waits for nobody. With FOR SHARE overlapping writers could keep the
-- renewal waiting until the lease is lost.
CREATE TABLE windlass.term (
    one_row    boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    epoch      bigint NOT NULL DEFAULT 0 CONSTRAINT term_epoch UNIQUE CHECK (epoch >= 0),
    holder     text,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    -- Of the WAL, up to which commits are known to be all there (scheduler-bridge/src/recovery.rs). A failover begins
    -- another one.
    timeline   text NOT NULL DEFAULT ''
) WITH (fillfactor = 10);
INSERT INTO windlass.term DEFAULT VALUES;
-- Empty where the server has no WAL to ask about: then the first term that can ask begins here.
DO $$
BEGIN
    UPDATE windlass.term SET timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
    NULL;
END $$;

-- Written by the plugin: what a scheduler says of itself at start and now and then.
CREATE TABLE windlass.scheduler (
    job_id                bigint PRIMARY KEY,             -- job.id of the SchedulerJob
    executor_names        text[] NOT NULL,                -- alias, module path and bare class name of WindlassExecutor
    is_default            boolean NOT NULL,               -- it is the default executor: TIs with executor IS NULL are ours
    airflow_version       text NOT NULL,
    plugin_version        text NOT NULL,
    has_pod_mutation_hook boolean NOT NULL DEFAULT false,
    parallelism           integer NOT NULL DEFAULT 0,
    hostname              text NOT NULL DEFAULT '',
    started_at            timestamptz NOT NULL DEFAULT now(),
    seen_at               timestamptz NOT NULL DEFAULT now()
);

-- Written by the plugin after the scheduler's commit, consumed (deleted) by the intake.
CREATE TABLE windlass.handover (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dag_id     text NOT NULL,
    task_id    text NOT NULL,
    run_id     text NOT NULL,
    map_index  integer NOT NULL,
    try_number integer NOT NULL,
    job_id     bigint NOT NULL,
    executor   text,                                      -- task_instance.executor as the scheduler saw it
    command    text[] NOT NULL,                           -- the worker command that Airflow made
    made_at    timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- One row per queueing. Nobody but the current term changes it, except the columns marked (plugin).
CREATE TABLE windlass.launch (
    launch_id        text PRIMARY KEY CHECK (launch_id ~ '^[a-z2-7]{26}$'),
    dag_id           text NOT NULL,
    task_id          text NOT NULL,
    run_id           text NOT NULL,
    map_index        integer NOT NULL,
    try_number       integer NOT NULL,
    queued_dttm      timestamptz NOT NULL,
    scheduler_job_id bigint NOT NULL,                     -- owner when claimed; adoption may move the task instance on
    priority_weight  integer NOT NULL,
    epoch            bigint NOT NULL,                     -- term that wrote it last
    stage            text NOT NULL CHECK (stage IN ('claimed', 'created', 'running', 'settled', 'closed')),
    attempt          integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    namespace        text NOT NULL,
    pod_name         text NOT NULL,
    pod_uid          text,
    lost             text,                                -- why the attempt before this one was lost
    outcome          text CHECK (outcome IN ('success', 'failure', 'superseded', 'withdrawn')),
    reason           text,
    message          text,
    exit_code        integer,
    claimed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at       timestamptz,                         -- of the current attempt's pod, when its create was answered
    running_at       timestamptz,                         -- its container was first seen running
    settled_at       timestamptz,
    closed_at        timestamptz,
    withdrawn_at     timestamptz,                         -- (plugin) revoke_task: the scheduler takes the queueing back
    callback_sent_at timestamptz,                         -- (plugin) committed before a callback request is sent
    delivered_at     timestamptz,                         -- (plugin) the scheduler was seen to have taken the outcome
    done             boolean NOT NULL GENERATED ALWAYS AS (closed_at IS NOT NULL AND delivered_at IS NOT NULL) STORED,
    CONSTRAINT launch_queueing UNIQUE (dag_id, task_id, run_id, map_index, try_number, queued_dttm),
    CONSTRAINT settled_has_outcome CHECK ((stage IN ('settled', 'closed')) = (outcome IS NOT NULL)),
    CONSTRAINT outcome_has_time CHECK ((outcome IS NULL) = (settled_at IS NULL)),
    CONSTRAINT failure_has_reason CHECK (outcome IS DISTINCT FROM 'failure' OR reason IS NOT NULL),
    CONSTRAINT created_has_uid CHECK (stage NOT IN ('created', 'running') OR pod_uid IS NOT NULL),
    CONSTRAINT closed_has_time CHECK ((stage = 'closed') = (closed_at IS NOT NULL)),
    CONSTRAINT delivered_has_outcome CHECK (delivered_at IS NULL OR outcome IS NOT NULL),
    CONSTRAINT callback_is_of_a_failure CHECK (callback_sent_at IS NULL OR outcome = 'failure')
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- An update is HOT (writes no index) if no column of any index changes, predicates included. So no index names stage,
-- attempt, pod_uid, created_at, running_at, closed_at or callback_sent_at; `done` changes once, when the later one of
-- closed_at and delivered_at is set. Of five updates of a task three can be HOT. They come in batches that change all
-- rows of a page at once, so half of a page is kept free: with 5,000 launches in batches of 100, fillfactor 50 gave
-- 13,553 HOT updates of 15,000 possible and 3.7 MB, fillfactor 70 gave 10,432 and, for all its density, 4.4 MB.

-- What a new term loads, and what find_withdrawn and status look at: live rows, however many are past.
CREATE INDEX launch_open ON windlass.launch (launch_id) WHERE NOT done;
-- What the plugin delivers.
CREATE INDEX launch_undelivered ON windlass.launch (scheduler_job_id) WHERE outcome IS NOT NULL AND delivered_at IS NULL;
-- Retention and recent failures. Not closed_at: it changes.
CREATE INDEX launch_claimed_at ON windlass.launch (claimed_at);
