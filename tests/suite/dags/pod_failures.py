"""One task for each way in which Kubernetes keeps a task from its end, and that its author reads of in Airflow's UI."""

from __future__ import annotations

from datetime import datetime

from airflow.decorators import dag, task
from airflow.operators.python import get_current_context
from journal import ran, wait_for


def override(namespace: str | None = None, container: dict | None = None, **spec):
    """An executor_config; none where the Kubernetes client is not installed, as in workers without an override."""
    try:
        from kubernetes.client import models as k8s
    except ImportError:
        return {}
    base = k8s.V1Container(name="base", **(container or {}))
    metadata = k8s.V1ObjectMeta(namespace=namespace)
    return {"pod_override": k8s.V1Pod(metadata=metadata, spec=k8s.V1PodSpec(containers=[base], **spec))}


# kube-scheduler leaves these pods alone: the test plays their node.
OF_THE_TEST = {"scheduler_name": "the-test"}
IMAGE = {"image": "registry.example.com/etl:2.1"}
SECRET = {
    "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "warehouse", "key": "password"}}}],
}
TOO_MUCH = {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}
# A worker reads the rows of the whole run, and needs the Kubernetes client for those of the others (lean/).
CLIENT = {"env": [{"name": "SUITE_OVERRIDE", "value": "seen"}]}

PODS = {
    "err_image_pull": override(container=IMAGE, **OF_THE_TEST),
    "image_pull_back_off": override(container=IMAGE, **OF_THE_TEST),
    "container_config": override(container=SECRET, **OF_THE_TEST),
    "oom_before": override(**OF_THE_TEST),
    "oom_running": override(container=CLIENT),
    "evicted_before": override(**OF_THE_TEST),
    "evicted_running": override(container=CLIENT),
    "node_lost_before": override(**OF_THE_TEST),
    "node_lost_running": override(container=CLIENT),
    "quota": override(namespace="team"),
    "service_account": override(service_account_name="nobody"),
    "invalid_spec": override(container=TOO_MUCH),
    "unschedulable": override(node_selector={"disk": "fast"}),
    "identity_denied": override(service_account_name="admin"),
}


@dag("pod_failures", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def pod_failures():
    for task_id, executor_config in PODS.items():

        @task(task_id=task_id, executor_config=executor_config)
        def blocks() -> None:
            ti = get_current_context()["ti"]
            ran(ti)
            wait_for(f"go-{ti.run_id}")

        blocks()


pod_failures()
