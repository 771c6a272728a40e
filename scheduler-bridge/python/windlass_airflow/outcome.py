"""An outcome of a launch beside the row of its task instance, and what is to be done with the two. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from airflow.models.taskinstancekey import TaskInstanceKey

from windlass_airflow.config import (
    CLOSE_FOR_OTHERS_SECONDS,
    INFO_MAX_CHARACTERS,
    LOG_TAIL_SECONDS,
    UNREPORTED_END_SECONDS,
)
from windlass_airflow.database import LIVE_STATES
from windlass_airflow.reasons import GIVEN_UP_WHILE_WAITING, HINTS

if TYPE_CHECKING:
    from datetime import datetime

NAME_SUFFIX_CHARACTERS = 8
"""A pod's name ends in 8 characters of the launch's and attempt's hash; what comes before is the task's."""

TAIL_CHARACTERS = 90
"""Of the end of a sentence that is too long."""


class Settled(NamedTuple):
    """An undelivered outcome joined with its task instance (columns of the delivery query, in its order)."""

    launch_id: str
    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int
    queued_dttm: datetime
    scheduler_job_id: int
    """Owner when it was claimed; adoption moves the task instance on, not the launch."""
    namespace: str
    pod_name: str
    outcome: str
    reason: str | None
    message: str | None
    exit_code: int | None
    log_tail: str | None
    """Last lines of the pod's log, once the daemon has them: none are an empty text."""
    callback_sent: bool
    closed: bool
    """Nothing is left in the cluster of its pod."""
    settled_at: datetime
    settled_seconds: float
    """Seconds since it was settled, by the database's clock."""
    ti_state: str | None
    ti_try_number: int | None
    ti_queued_dttm: datetime | None
    ti_queued_by_job_id: int | None
    ti_hostname: str | None
    ti_job_id: int | None
    worker_silent: bool
    """There is no LocalTaskJob, or it has ended or missed two heartbeats."""
    run_over: bool
    """The DAG run has finished, or is gone."""

    @property
    def key(self) -> TaskInstanceKey:
        """Airflow's key, with the try."""
        return TaskInstanceKey(self.dag_id, self.task_id, self.run_id, self.try_number, self.map_index)

    @property
    def is_live(self) -> bool:
        """Whether the task instance still stands where this queueing put it."""
        return (
            self.ti_state in LIVE_STATES
            and self.ti_try_number == self.try_number
            and self.ti_queued_dttm == self.queued_dttm
        )

    @property
    def awaits_log(self) -> bool:
        """Whether the daemon may still be reading the last lines of its pod. One that never ran has none."""
        ran = self.outcome == "failure" and self.exit_code is not None
        return ran and self.log_tail is None and self.settled_seconds < LOG_TAIL_SECONDS

    @property
    def sentence(self) -> str:
        """Reason and message on one line, short enough for an event's info: what is too much goes from the middle.

        What failed stands at the beginning, and the cause of it often at the end (a runtime's wrapped errors).
        """
        reason, message = self.reason, self.message
        if self.outcome == "success":
            reason = "WorkerDidNotStart" if self.ti_state == "queued" else "WorkerExited"
            message = f"pod {self.pod_name} ended well, but the task is still {self.ti_state}"
        line = " ".join(f"{reason}: {message or 'no message'}".split())
        if len(line) <= INFO_MAX_CHARACTERS:
            return line
        return f"{line[: INFO_MAX_CHARACTERS - TAIL_CHARACTERS - 5]} ... {line[-TAIL_CHARACTERS:]}"

    @property
    def log_text(self) -> str:
        """For Airflow's log table: all that is known, and what to do about it."""
        message = self.message if self.outcome != "success" else None
        lines = [f"{self.reason}: {message}" if message else self.sentence]
        if hint := HINTS.get(self.reason or ""):
            lines.append(f"What to do: {hint}.")
        exit_code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        lines.append(f"Pod {self.namespace}/{self.pod_name}{exit_code}, launch {self.launch_id}.")
        if self.log_tail:
            lines.append(f"Last lines of its log:\n{self.log_tail}")
        return "\n".join(lines)


class Verdict(Enum):
    """What a delivery pass does with an outcome."""

    CLOSE = "nothing (more) to tell Airflow: mark it delivered, free the slot"
    FAIL_QUEUED = "the task never began: fail or retry it"
    FAIL_RUNNING = "the task's worker died: fail or retry it"
    WAIT = "not now"


def judge(settled: Settled, job_id: int) -> Verdict:
    """Decide for scheduler `job_id` by DESIGN's rules for a pod's end and for late outcomes (I3, I6)."""
    if settled.run_over or not settled.is_live:
        # Its owner comes first, because a slot hangs on it. An owner that is gone never comes.
        is_ours = job_id in (settled.ti_queued_by_job_id, settled.scheduler_job_id)
        return Verdict.CLOSE if is_ours or settled.settled_seconds > CLOSE_FOR_OTHERS_SECONDS else Verdict.WAIT
    # With a callback sent the DAG processor has it; a second request would run the callbacks twice.
    if settled.ti_queued_by_job_id != job_id or settled.callback_sent:
        return Verdict.WAIT
    return judge_live(settled)


def judge_live(settled: Settled) -> Verdict:
    """Decide about a task instance of our own that stands where the launch's queueing put it."""
    if settled.outcome in ("superseded", "withdrawn"):
        return Verdict.CLOSE
    if settled.outcome == "success" and settled.settled_seconds < UNREPORTED_END_SECONDS:
        return Verdict.WAIT
    if settled.awaits_log:
        return Verdict.WAIT  # the reason is told once, with them
    if settled.ti_state == "queued":
        # A pod that was given up while it waited may start before it is removed, and run the task to its end. A
        # callback request sent before that would be executed on whatever the task has become by then (I6).
        may_start = settled.reason in GIVEN_UP_WHILE_WAITING and not settled.closed
        return Verdict.WAIT if may_start else Verdict.FAIL_QUEUED
    return Verdict.FAIL_RUNNING if runs_in(settled) else Verdict.WAIT


def runs_in(settled: Settled) -> bool:
    """Whether the pod that ended is the one that ran the task (I6).

    The worker writes its host's name when it starts the task: in a pod that is the pod's name, perhaps with a
    domain. Another pod of the same task has the same name up to the suffix. Any other name (hostname_callable, host
    network) says nothing: then the worker must have missed two heartbeats. So must the worker in a pod that was given
    up while it waited, and has started since. A dead worker in another pod of the task is Airflow's to find, which it
    never does for a `restarting` task: that one is to end anyway.
    """
    host = (settled.ti_hostname or "").split(".", 1)[0]
    if host == settled.pod_name:
        return settled.reason not in GIVEN_UP_WHILE_WAITING or settled.worker_silent
    cut = len(settled.pod_name) - NAME_SUFFIX_CHARACTERS
    if len(host) == len(settled.pod_name) and host[:cut] == settled.pod_name[:cut]:
        return settled.ti_state == "restarting" and settled.worker_silent
    return settled.worker_silent
