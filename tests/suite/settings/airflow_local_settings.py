"""Local settings of the suite's Airflow: every pod is shown to this hook."""

from __future__ import annotations


def pod_mutation_hook(pod) -> None:
    """Marks each worker's environment; fails for one DAG."""
    from kubernetes.client import models as k8s

    if pod.metadata.labels.get("dag_id") == "hook_fails":
        raise ValueError("this DAG has no team")
    base = pod.spec.containers[0]
    base.env = [*(base.env or []), k8s.V1EnvVar(name="SUITE_HOOKED", value=pod.metadata.labels["dag_id"])]
