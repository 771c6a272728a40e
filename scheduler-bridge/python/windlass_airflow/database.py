"""Short transactions of the plugin's own.

`create_session()` gives the scheduler's own session: leaving it commits, closes it and drops the row locks that the
scheduler holds. So everything here goes through a connection of its own from the engine's pool, with limits that hold
for one transaction only (`set_config(..., true)` is SET LOCAL, which PgBouncer's transaction mode keeps apart).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow import settings
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from windlass_airflow.config import LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

LIMITS = text(
    f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true), "
    f"set_config('statement_timeout', '{STATEMENT_TIMEOUT_MS}', true)"
)

LIVE_STATES = ("queued", "running", "restarting")
"""States in which a task instance still belongs to the executor that it was queued to."""

KEY_MATCH = (
    "{left}.dag_id = {right}.dag_id AND {left}.task_id = {right}.task_id "
    "AND {left}.run_id = {right}.run_id AND {left}.map_index = {right}.map_index"
)


@contextmanager
def short_transaction() -> Iterator[Connection]:
    """A transaction on a connection of its own, with lock and statement timeouts; commits at the end."""
    with settings.engine.connect() as connection, connection.begin():
        connection.execute(LIMITS)
        yield connection


def airflow_table(name: str) -> str:
    """Name of one of Airflow's tables for SQL text, with [database] sql_alchemy_schema if one is set."""
    from airflow.models.base import Base

    schema = Base.metadata.schema
    return f'"{schema}".{name}' if schema else name


def same_key(left: str, right: str) -> str:
    """SQL condition: both rows are of one task key."""
    return KEY_MATCH.format(left=left, right=right)


def explain(error: Exception) -> str:
    """What went wrong and what the operator can do, in one line; without the SQL and its parameters."""
    if not isinstance(error, SQLAlchemyError):
        return f"{type(error).__name__}: {_first_line(error)}"
    if not isinstance(error, DBAPIError):
        return f"{type(error).__name__}; raise [database] sql_alchemy_pool_size if the pool is exhausted"
    code: Any = getattr(error.orig, "pgcode", None)
    said = _first_line(error.orig)
    if code in ("3F000", "42P01", "42703"):
        return f"{said}: the schema `windlass` is missing or too old; run `windlass migrate`"
    if code == "42501":
        return f"{said}: grant Airflow's database user the plugin's rights (deploy/sql/grants.sql)"
    if code in ("55P03", "57014"):
        return f"{said}: over the plugin's limit of {STATEMENT_TIMEOUT_MS} ms; see pg_stat_activity for what blocks"
    return f"{said}; see that the database answers at [database] sql_alchemy_conn"


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else "no message"
