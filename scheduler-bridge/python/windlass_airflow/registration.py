"""What a scheduler says of itself in windlass.scheduler: the daemon launches tasks of registered schedulers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.exceptions import AirflowException
from sqlalchemy import text

from windlass_airflow.database import airflow_table
from windlass_airflow.version import __version__

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from windlass_airflow.executor import WindlassExecutor

REGISTER = text("""
    INSERT INTO windlass.scheduler AS s (job_id, executor_names, is_default, airflow_version, plugin_version,
                                         has_pod_mutation_hook, parallelism, hostname)
    VALUES (:job_id, :executor_names, :is_default, :airflow_version, :plugin_version,
            :has_pod_mutation_hook, :parallelism, :hostname)
    ON CONFLICT (job_id) DO UPDATE SET
        executor_names = excluded.executor_names, is_default = excluded.is_default,
        airflow_version = excluded.airflow_version, plugin_version = excluded.plugin_version,
        has_pod_mutation_hook = excluded.has_pod_mutation_hook, parallelism = excluded.parallelism,
        hostname = excluded.hostname, seen_at = now()
""")

SCHEDULER_JOB = "SchedulerJob"
BACKFILL_JOB = "BackfillJob"
"""Of Airflow 2: queues the tasks of its own runs and waits for their ends."""

NOT_A_SCHEDULER = (
    "WindlassExecutor runs tasks that an Airflow scheduler has queued, and this is {what}. "
    "{remedy}, or name another executor: AIRFLOW__CORE__EXECUTOR=LocalExecutor."
)


@dataclass(frozen=True)
class SchedulerRow:
    """A row of windlass.scheduler."""

    job_id: int
    executor_names: list[str]
    is_default: bool
    airflow_version: str
    plugin_version: str
    has_pod_mutation_hook: bool
    parallelism: int
    hostname: str


def describe(executor: WindlassExecutor, job_id: int) -> SchedulerRow:
    """Collect the row. Touches no database."""
    from airflow.utils.net import get_hostname
    from airflow.version import version

    return SchedulerRow(
        job_id=job_id,
        executor_names=executor_names(executor),
        is_default=is_default(executor),
        airflow_version=version,
        plugin_version=__version__,
        has_pod_mutation_hook=has_pod_mutation_hook(),
        parallelism=executor.parallelism,
        hostname=str(get_hostname()),  # type: ignore[no-untyped-call]
    )


def register(connection: Connection, row: SchedulerRow) -> None:
    """Write the row or refresh it and its seen_at."""
    connection.execute(REGISTER, vars(row))


def executor_names(executor: WindlassExecutor) -> list[str]:
    """All that `task_instance.executor` may hold for us: Airflow looks up alias, module path, bare class name."""
    kind = type(executor)
    names = {kind.__name__}
    if executor.name is None:
        names.add(f"{kind.__module__}.{kind.__name__}")
    else:
        names.add(executor.name.module_path)
        names.add(executor.name.module_path.rsplit(".", 1)[-1])
        if executor.name.alias:
            names.add(executor.name.alias)
    return sorted(names)


def is_default(executor: WindlassExecutor) -> bool:
    """Whether task instances without an executor of their own are ours."""
    from airflow.executors.executor_loader import ExecutorLoader

    default = ExecutorLoader.get_default_executor_name()
    return executor.name is None or default.module_path == executor.name.module_path


def has_pod_mutation_hook() -> bool:
    """Whether airflow_local_settings or a policy plugin changes pods, which a daemon outside Python cannot do."""
    from airflow import policies, settings

    manager = settings.POLICY_PLUGIN_MANAGER
    if manager is None:
        return False
    hooks = manager.hook.pod_mutation_hook.get_hookimpls()
    return any(hook.plugin is not policies.DefaultPolicy for hook in hooks)


def refuse_other_jobs(connection: Connection, job_id: int) -> str | None:
    """Refuse a job that queues no tasks. Returns its type."""
    job_type = connection.scalar(
        text(f"SELECT job_type FROM {airflow_table('job')} WHERE id = :job_id"), {"job_id": job_id}
    )
    if job_type not in (None, SCHEDULER_JOB, BACKFILL_JOB):
        raise AirflowException(
            NOT_A_SCHEDULER.format(
                what=f"{job_type} {job_id}",
                remedy="Start a DAG run with `airflow dags trigger`",
            )
        )
    return None if job_type is None else str(job_type)


def refuse_other_databases(dialect: str) -> None:
    """Refuse a database that the windlass schema does not exist for."""
    if dialect != "postgresql":
        raise AirflowException(
            f"WindlassExecutor needs PostgreSQL as Airflow's metadata database; [database] sql_alchemy_conn "
            f"names {dialect}. Use another [core] executor, or move the metadata database to PostgreSQL."
        )
