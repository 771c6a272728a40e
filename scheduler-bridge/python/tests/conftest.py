"""A PostgreSQL and an Airflow home of this run's own; the interpreter is the one that runs pytest.

The environment is set before anything imports Airflow, which reads it then and never again.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.airflow_home import make_database, settings
from support.postgres import Postgres, free_port

ROOT = Path(tempfile.mkdtemp(prefix="windlass-plugin-"))
ROOT.chmod(0o755)  # the server's user passes through
PORT = free_port()
os.environ.update(settings(ROOT / "airflow", PORT))


def pytest_unconfigure(config):
    shutil.rmtree(ROOT, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres():
    folder = ROOT / "postgres"
    folder.mkdir()
    server = Postgres(folder, PORT)
    server.start()
    try:
        make_database(PORT)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def dsn(postgres):
    return f"postgresql://postgres@127.0.0.1:{PORT}/airflow"


@pytest.fixture
def world(dsn):
    from support.world import World

    world = World(dsn)
    yield world
    world.connection.close()


@pytest.fixture
def stepper(postgres):
    from support.stepper import Stepper

    stepper = Stepper()
    yield stepper
    stepper.die()


@pytest.fixture
def locker(dsn):
    """A second connection that holds what it locks until it is rolled back."""
    import psycopg2

    connection = psycopg2.connect(dsn)
    yield connection
    connection.close()


@pytest.fixture
def new_run(world):
    """Makes a DAG run by Airflow's own code and returns its run_id."""

    def make(dag_id):
        from airflow.models.dagbag import DagBag
        from airflow.utils import timezone
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunType

        run_id = f"manual__{uuid.uuid4().hex[:8]}"
        now = timezone.utcnow()
        DagBag(read_dags_from_db=True).get_dag(dag_id).create_dagrun(
            run_id=run_id,
            run_type=DagRunType.MANUAL,
            state=DagRunState.RUNNING,
            execution_date=now,
            data_interval=(now, now),
            external_trigger=True,
        )
        return run_id

    made = []

    def remember(dag_id):
        made.append((dag_id, make(dag_id)))
        return made[-1][1]

    yield remember
    for dag_id, run_id in made:  # nothing of one test is scheduled in the next
        world.sql("UPDATE dag_run SET state = 'failed' WHERE dag_id = %s AND run_id = %s", dag_id, run_id)
        world.sql("UPDATE task_instance SET state = 'failed' WHERE dag_id = %s AND run_id = %s", dag_id, run_id)
    world.sql("UPDATE windlass.launch SET delivered_at = now() WHERE outcome IS NOT NULL AND delivered_at IS NULL")
    world.sql("DELETE FROM windlass.handover")
