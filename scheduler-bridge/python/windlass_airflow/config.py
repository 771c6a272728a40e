"""What can be set, and what is fixed. All settings have a default: switching to Windlass needs none of them."""

from __future__ import annotations

import os

from airflow.configuration import conf

SECTION = "windlass"

# --- fixed bounds; times in seconds unless the name says otherwise ---

LOCK_TIMEOUT_MS = 2_000
"""Longest wait for a row lock in a transaction of ours. The scheduler's loop stands still meanwhile; it counts as
unhealthy after 30 s ([scheduler] scheduler_health_check_threshold)."""

STATEMENT_TIMEOUT_MS = 2_000
"""Longest run of one statement of ours."""

HOUSEKEEPING_SECONDS = 20.0
"""Pause between two refreshes of windlass.scheduler.seen_at and of the running map (must stay below 30)."""

RESYNC_KEYS_MAX = 2_000
"""Keys of the running map compared with the rows per housekeeping: one statement of some 20 ms."""

DELIVERY_PAUSE_SECONDS = 0.1
"""Shortest pause between two delivery queries: a busy scheduler turns its loop faster than outcomes arrive."""

DELIVERY_ROWS_MAX = 512
"""Outcomes read per pass."""

FAILURES_PER_PASS_MAX = 16
"""Failures handed to Airflow per pass: each costs its state machine 10 to 50 ms in the scheduler's thread."""

FAILURE_BUDGET_SECONDS = 0.5
"""Time for failures per pass; the one that crosses it is finished, the rest waits for the next turn."""

REDELIVERY_FIRST_SECONDS = 1.0
"""Pause before a failure that Airflow has not taken is offered again; doubles up to the next constant."""

REDELIVERY_MAX_SECONDS = 30.0
"""Longest such pause."""

UNREPORTED_END_SECONDS = 60.0
"""A launch that ended well while its task instance still stands as before is given this long to be explained by
the row, then the task is failed: nobody else would."""

FOLLOW_SECONDS = 1.0
"""How often `dags test --use-executor` looks for the ends of its tasks."""

LOG_TAIL_SECONDS = 5.0
"""How long a failure waits for the last lines of its pod's log. The daemon reads them while it settles the launch,
gives up after 2 s, and stores then that there are none; one that was killed, lost its term or failed to write it down
leaves this wait to end by itself."""

CLOSE_FOR_OTHERS_SECONDS = 60.0
"""Outcomes with nothing left to deliver are closed for their owner by any scheduler after this time."""

CALLBACK_PATIENCE_SECONDS = 600.0
"""How long a sent callback request keeps a queued task from being requeued: the DAG processor takes it with its
next pass over the file ([scheduler] min_file_process_interval, 30 s by default)."""

WORKER_START_SECONDS = 600.0
"""How long a started container may take until Airflow's worker in it sets the task to running."""

DAEMON_AWAY_SECONDS = 30.0
"""Handover rows older than this, or a term over for this long, mean that no daemon works."""

DAG_CACHE_MAX = 16
"""Serialized DAGs kept for failures of their tasks (a DAG of 1,000 tasks takes some 10 MB)."""

INFO_MAX_CHARACTERS = 240
"""Airflow 2.11's scheduler loop dies of an event's info over 250 characters for some states."""

RETRY_AFTER_FAILURE_SECONDS = (1.0, 30.0)
"""First and longest pause after a failed transaction with the windlass schema."""


def wake_socket() -> str | None:
    """Path of the daemon's Unix datagram socket, if the deployment shares one with its sidecar."""
    path = os.environ.get("WINDLASS_WAKE_SOCKET") or conf.get(SECTION, "wake_socket", fallback="")
    return path or None


def hold_limit_seconds() -> float:
    """How long Windlass may keep a task queued beyond Airflow's task_queued_timeout for a reason it knows.

    For example while no daemon runs: three requeues of 600 s would fail every waiting task without a retry.
    """
    return float(conf.getfloat(SECTION, "hold_limit_seconds", fallback=1800.0))


def worker_silent_seconds() -> float:
    """Two missed heartbeats of a LocalTaskJob."""
    return 2 * float(conf.getfloat("scheduler", "job_heartbeat_sec", fallback=5.0))
