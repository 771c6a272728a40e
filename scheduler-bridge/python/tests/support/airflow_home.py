"""Airflow of the tests' own: settings by environment, so that every process started from here sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
DAGS = PACKAGE / "tests" / "dags"
MIGRATIONS = PACKAGE.parents[1] / "migrations" / "postgres"


def settings(home: Path, port: int) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(PACKAGE),
        "AIRFLOW__CORE__EXECUTOR": "windlass_airflow.WindlassExecutor",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__PARALLELISM": "64",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@127.0.0.1:{port}/airflow",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "6",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "4",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__PARSING_PROCESSES": "1",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__WINDLASS__HOLD_LIMIT_SECONDS": "30",
        "AIRFLOW__TRACES__OTEL_ON": "False",
    }


def make_database(port: int) -> None:
    import psycopg2

    connection = psycopg2.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE airflow")
    connection.close()
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, stdout=subprocess.DEVNULL)
    apply_schema(f"postgresql://postgres@127.0.0.1:{port}/airflow")
    serialize_dags()


def apply_schema(dsn: str) -> None:
    """What `windlass migrate` does, less its bookkeeping."""
    import psycopg2

    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA windlass")
        for file in sorted(MIGRATIONS.glob("*.sql")):
            cursor.execute(file.read_text())
        cursor.execute("UPDATE windlass.term SET expires_at = 'infinity', holder = 'tests', epoch = 1")
    connection.close()


def serialize_dags() -> None:
    from airflow.models.dagbag import DagBag

    bag = DagBag(str(DAGS), include_examples=False)
    assert not bag.import_errors, bag.import_errors
    bag.sync_to_db()
