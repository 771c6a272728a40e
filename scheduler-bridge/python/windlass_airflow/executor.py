"""The executor class that Airflow's scheduler loads.

It runs in the scheduler's only thread: it must never slow it down or raise into it. So each hook does one bounded
thing, swallows and logs what goes wrong with the windlass schema, and leaves the rest to the daemon, which finds every
queued task by itself.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from airflow import settings
from airflow.exceptions import AirflowException
from airflow.executors.base_executor import PARALLELISM, BaseExecutor
from airflow.utils.state import TaskInstanceState

from windlass_airflow import ad_hoc, adoption, registration, revocation, task_log
from windlass_airflow.backfill import Successes
from windlass_airflow.database import explain, short_transaction
from windlass_airflow.delivery import Delivery
from windlass_airflow.handover import Noted, hand_over
from windlass_airflow.health import Health
from windlass_airflow.housekeeping import Housekeeping
from windlass_airflow.pod_mutation_socket import PodMutationSocket
from windlass_airflow.running import RunningTasks
from windlass_airflow.wake import Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.cli.cli_config import GroupCommand
    from airflow.executors.base_executor import CommandType, EventBufferValueType
    from airflow.models.log import Log
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancekey import TaskInstanceKey

LOG_EVENT_WITHDRAWN = "windlass withdrawn"
"""Event in Airflow's log table when a stuck queueing is taken back."""

STUCK = "it was queued for longer than [scheduler] task_queued_timeout"
"""Why a stuck task has failed, where Airflow does not queue it again."""

LOGGED_MAX = 1_024
"""Log rows kept alive until the scheduler has written them: more than one turn of its loop makes."""


class WindlassExecutor(BaseExecutor):
    """Hands queued tasks to the Windlass daemon and its outcomes to Airflow."""

    supports_ad_hoc_ti_run: bool = True
    supports_pickling: bool = False
    supports_sentry: bool = False
    is_local: bool = False
    is_single_threaded: bool = False
    is_production: bool = True
    change_sensor_mode_to_reschedule: bool = False
    serve_logs: bool = False

    running: RunningTasks

    def __init__(self, parallelism: int = PARALLELISM) -> None:
        """Do nothing but start empty: workers, webserver and triggerer make this object too."""
        super().__init__(parallelism=parallelism)
        self.running = RunningTasks()
        self._wake = Wake()
        self._pod_mutation = PodMutationSocket(self.log)
        self._logged: deque[Log] = deque(maxlen=LOGGED_MAX)
        self._delivery = Delivery(self.running, self._offer_failed, self.send_callback, self.log)
        self._housekeeping = Housekeeping(self.running, self.log)
        self._registration: registration.SchedulerRow | None = None
        self._ad_hoc_owner: int | None = None
        self._handing_over = Health(
            "hand queued tasks to the daemon",
            "They stay queued; the daemon's full pass finds them.",
            self.log,
        )
        self._delivering = Health(
            "read the outcomes of its launches", "They stay in windlass.launch and are delivered later.", self.log
        )
        self._successes: Successes | None = None
        self._registering = Health(
            "register this scheduler", "The daemon launches the tasks of registered schedulers only.", self.log
        )

    # --- life ---

    def start(self) -> None:
        """Register this scheduler or backfill; without a job, find a scheduler that sees to the ends of the tasks."""
        registration.refuse_other_databases(settings.engine.dialect.name)
        if self.job_id is None:
            self._ad_hoc_owner = ad_hoc.find_owner()
            return
        job_id = self._own_job_id
        self._registration = registration.describe(self, job_id)
        try:
            with short_transaction() as connection:
                job_type = registration.refuse_other_jobs(connection, job_id)
            if job_type == registration.BACKFILL_JOB:
                self._delivery.reports_ends = self._report_end
                self._successes = Successes(self.running, self._report_end)
            with short_transaction() as connection:
                registration.register(connection, self._registration)
        except AirflowException:
            raise
        except Exception as error:  # housekeeping registers as soon as it can
            self._registering.failed(error)
        # A backfill may run beside a scheduler, whose socket it must not take.
        if self._registration.has_pod_mutation_hook and self._delivery.reports_ends is None:
            self._pod_mutation.listen()
        self.log.info("WindlassExecutor %s is ready for job %s", self._registration.executor_names, job_id)

    def end(self) -> None:
        """Leave without waiting: the pods go on, and the next scheduler adopts their tasks."""
        self._wake.close()
        self._pod_mutation.close()

    def terminate(self) -> None:
        """As `end`."""
        self.end()

    @property
    def _own_job_id(self) -> int:
        """Who owns the tasks queued here."""
        return self._ad_hoc_owner if self.job_id is None else int(self.job_id)  # type: ignore[return-value]

    # --- from the scheduler ---

    def queue_command(
        self,
        task_instance: TaskInstance,
        command: CommandType,
        priority: int = 1,
        queue: str | None = None,
    ) -> None:
        """Note the task. Called inside the scheduling transaction, with the row as it was before."""
        self.queued_tasks[task_instance.key] = (command, priority, queue, task_instance)

    def trigger_tasks(self, open_slots: int) -> None:
        """Hand over what was noted, after the commit. Airflow's heartbeat calls this, then sync()."""
        noted = self._take_noted(open_slots)
        if noted and (owner := self._ad_hoc_owner) is not None:
            noted = ad_hoc.queue(owner, noted)
        if not noted:
            return
        for note in noted:
            self.running.hold(note.key, None)
        if not self._handing_over.may_try():
            return
        try:
            committed = hand_over(self._own_job_id, noted)
        except Exception as error:
            self._handing_over.failed(error)
            return
        self._handing_over.worked()
        for note in noted:
            if note.key in committed:
                self.running.hold(note.key, committed[note.key])
            else:  # rolled back, cleared, or already over
                self.running.discard(note.key)
        self._wake.ring()

    def _take_noted(self, open_slots: int) -> list[Noted]:
        """Take out of queued_tasks what has a slot."""
        # A key in `running` is an earlier queueing whose outcome is still on its way (a deferral that came back at
        # once): its slot passes to the new one.
        noted: list[Noted] = []
        for key, (command, _, _, ti) in self.order_queued_tasks_by_priority():
            if key not in self.running:
                if open_slots <= 0:
                    continue
                open_slots -= 1
            noted.append(Noted(key, ti.executor, command))
        for note in noted:
            del self.queued_tasks[note.key]
        return noted

    def sync(self) -> None:
        """Deliver outcomes, and see to the rest now and then."""
        if (owner := self._ad_hoc_owner) is not None:
            if self._housekeeping.due():
                self._guarded(self._delivering, lambda: self._housekeeping.follow(owner))
            return
        if (row := self._registration) is None:
            return
        self._pod_mutation.tend()
        if self._housekeeping.due():
            self._guarded(self._registering, lambda: self._housekeeping.run(row))
        self._guarded(self._delivering, lambda: self._delivery.run(row.job_id))

    @staticmethod
    def _guarded(health: Health, work: Callable[[], None]) -> None:
        if not health.may_try():
            return
        try:
            work()
        except Exception as error:
            health.failed(error)
        else:
            health.worked()

    def get_event_buffer(self, dag_ids: list[str] | None = None) -> dict[TaskInstanceKey, EventBufferValueType]:
        """Give the events, those of a backfill as late as can be."""
        if (successes := self._successes) is not None:
            self._guarded(self._delivering, successes.look)
        return super().get_event_buffer(dag_ids)

    def _report_end(self, key: TaskInstanceKey, state: str | None) -> None:
        """Tell a BackfillJob that a task's row has moved on: it expands what is mapped over its result."""
        ended = TaskInstanceState.SUCCESS if state == TaskInstanceState.SUCCESS else TaskInstanceState.FAILED
        self.event_buffer[key] = (ended, None)

    def _offer_failed(self, key: TaskInstanceKey, info: str) -> None:
        self.event_buffer[key] = (TaskInstanceState.FAILED, info)

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Take over the tasks of a scheduler that is gone. Returns those that Airflow is to reset."""
        try:
            adopted = adoption.look_up(tis)
        except Exception as error:
            # What is reset now burns a try, and its pod may be alive.
            self.log.warning("Windlass adopts all %s orphaned tasks unseen: %s", len(tis), explain(error))
            return []
        for task in adopted.values():
            self.running.hold(task.key, task.queued_at)
        self.log.info("Windlass adopts %s of %s orphaned tasks", len(adopted), len(tis))
        return [ti for ti in tis if adoption.primary_key(ti) not in adopted]

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Take a stuck queueing back.

        Raises NotImplementedError for one that must stay: Airflow then asks `cleanup_stuck_queued_tasks` and leaves
        this and the following ones as they are until its next pass.
        """
        try:
            why = revocation.withdraw(ti)
        except revocation.HeldError as held:
            self.log.info("%s has been queued for long, and stays: %s", ti.key, held)
            raise NotImplementedError(str(held)) from held
        except Exception as error:
            self.log.warning("%s has been queued for long, and stays: %s", ti.key, explain(error))
            raise NotImplementedError(explain(error)) from error
        self.queued_tasks.pop(ti.key, None)
        self.running.discard(ti.key)
        self.log_task_event(event=LOG_EVENT_WITHDRAWN, extra=f"Stuck in queued: {why}.", ti_key=ti.key)

    def cleanup_stuck_queued_tasks(self, tis: list[TaskInstance]) -> list[str]:
        """Clean nothing up where Airflow knows `revoke_task`; else (before 2.10.4) do what it would have done.

        There Airflow does not requeue: as with its own executors a task that is taken back has failed this try.
        """
        if hasattr(BaseExecutor, "revoke_task"):
            return []
        failed = []
        for ti in tis:
            try:
                self.revoke_task(ti=ti)
            except NotImplementedError:
                continue
            self._offer_failed(ti.key, STUCK)
            failed.append(repr(ti))
        return failed

    def log_task_event(self, *, event: str, extra: str, ti_key: TaskInstanceKey) -> None:
        """Add a row to Airflow's log table, with the scheduler's next turn."""
        super().log_task_event(event=event, extra=extra, ti_key=ti_key)
        # The scheduler pops the objects inside the call that saves them, and SQLAlchemy holds them weakly meanwhile:
        # a row that nobody else refers to is written empty.
        self._logged.append(self._task_event_logs[-1])

    # --- from the webserver and the command line ---

    def get_task_log(self, ti: TaskInstance, try_number: int) -> tuple[list[str], list[str]]:
        """Read the log of a running task's pod."""
        return task_log.read(ti, try_number)

    @staticmethod
    def get_cli_commands() -> list[GroupCommand]:
        """Keep `airflow kubernetes`, whose cleanup-pods the official chart runs as a CronJob."""
        from airflow.executors.executor_loader import ExecutorLoader

        if any(name.module_path.endswith("KubernetesExecutor") for name in ExecutorLoader.get_executor_names()):
            return []  # it brings the group itself; Airflow refuses two of one name
        commands: Any
        try:
            from airflow.providers.cncf.kubernetes.cli.definition import get_kubernetes_cli_commands as commands
        except ImportError:
            try:  # the newest provider for Airflow 2.10 has them in its executor
                from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
            except ImportError:
                return []
            commands = KubernetesExecutor.get_cli_commands
        return list(commands())
