"""Steps that the tests share: a scheduler on one side, the rows on the other."""

from __future__ import annotations

from support.world import Key


def queued(stepper, new_run, dag_id="single", task_id="t", **kwargs):
    key = Key(dag_id, task_id, new_run(dag_id), **kwargs)
    stepper.queue(key)
    return key


def running(stepper, world, new_run, dag_id="single", task_id="t", **worker):
    key = queued(stepper, new_run, dag_id, task_id)
    launch_id = world.claim(key)
    world.worker_starts(key, worker.pop("hostname", None) or world.pod(launch_id), **worker)
    return key, launch_id


def slots(stepper):
    return {(key.dag_id, key.task_id, key.run_id) for key in stepper.executor.running}


def callback_requests(world, key):
    rows = world.sql("SELECT callback_data FROM callback_request WHERE callback_type = 'TaskCallbackRequest'")
    return [row for row in rows if key.run_id in str(row.callback_data)]


def age(world, key, seconds):
    world.sql(
        "UPDATE task_instance SET queued_dttm = queued_dttm - make_interval(secs => %s) WHERE run_id = %s",
        seconds, key.run_id,
    )  # fmt: skip
