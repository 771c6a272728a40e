"""What the webserver shows of a running task: its pod's last lines, through the Kubernetes API.

As the Python KubernetesExecutor does it: the webserver asks with its own service account (the chart's
`webserver.allowPodLogReading`) and its own `[kubernetes_executor]` settings, and needs the Kubernetes provider for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow.configuration import conf
from sqlalchemy import text

from windlass_airflow.database import explain, short_transaction

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

CONTAINER = "base"
LIMIT_SECONDS = (3.0, 10.0)
"""To connect to the API server, and to read: a page of the UI waits."""

LAUNCH = text("""
    SELECT namespace, pod_name, stage FROM windlass.launch
    WHERE dag_id = :dag_id AND task_id = :task_id AND run_id = :run_id AND map_index = :map_index
      AND try_number = :try_number
    ORDER BY queued_dttm DESC LIMIT 1
""")


class TaskLog(NamedTuple):
    """Messages above the log, and the log."""

    messages: list[str]
    logs: list[str]


def read(ti: TaskInstance, try_number: int) -> TaskLog:
    """Read the log of the task's pod. Never raises: the log page must not fail for it."""
    key = {
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": ti.map_index,
        "try_number": try_number,
    }
    try:
        with short_transaction() as connection:
            row = connection.execute(LAUNCH, key).one_or_none()
    except Exception as error:
        return TaskLog([f"Windlass could not look up the task's pod: {explain(error)}"], [])
    if row is None:
        return TaskLog(["Windlass has no launch of this try: it may be kept no longer."], [])
    where = f"The task runs in pod {row.namespace}/{row.pod_name} (launch {row.stage})."
    try:
        lines = conf.getint("kubernetes_executor", "running_pod_log_lines", fallback=100)
        log = last_lines(row.namespace, row.pod_name, lines)
    except Exception as error:
        command = f"kubectl -n {row.namespace} logs {row.pod_name} --all-containers --follow"
        return TaskLog([f"{where} Its log could not be read: {said(error)}. Until it is here: {command}"], [])
    return TaskLog([f"{where} These are the last {lines} lines of its log, read through the Kubernetes API."], [log])


def last_lines(namespace: str, pod_name: str, lines: int) -> str:
    """Ask the API server."""
    from airflow.providers.cncf.kubernetes.kube_client import get_kube_client
    from airflow.utils.log.logging_mixin import remove_escape_codes

    response = get_kube_client().read_namespaced_pod_log(
        name=pod_name,
        namespace=namespace,
        container=CONTAINER,
        tail_lines=lines,
        _preload_content=False,
        _request_timeout=LIMIT_SECONDS,
    )
    return str(remove_escape_codes(response.data.decode(errors="replace")))


def said(error: Exception) -> str:
    """The error in one line; of the API server its status and its own words."""
    if isinstance(error, ImportError):
        return "this image has no apache-airflow-providers-cncf-kubernetes"
    status, body = getattr(error, "status", None), getattr(error, "body", None)
    if status is None:
        return explain(error)
    words = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    return " ".join(f"the API server answers {status} {getattr(error, 'reason', '')}: {words}".split())[:400]
