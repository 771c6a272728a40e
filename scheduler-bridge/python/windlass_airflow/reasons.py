"""What the operator or the DAG author can do about each reason: the hints of windlass-core's `Reason`.

A test compares this table with the Rust one.
"""

from __future__ import annotations

HINTS = {
    "TaskFailed": "read the task's own log",
    "WorkerExited": "read the worker's log; the exit code is in the message",
    "WorkerDidNotStart": "the worker could not load the DAG file or its database: read the pod's log",
    "OomKilled": "raise resources.limits.memory in pod_override or the pod template",
    "Killed": "see who stopped the pod: `kubectl get events`, node maintenance, a person",
    "Evicted": "set resources.requests to what the task uses; see the node's pressure conditions",
    "Preempted": "give the worker a priorityClassName that is not preempted",
    "NodeLost": "give the task retries: nodes go away, most often on spot capacity",
    "NodeUnreachable": "see `kubectl describe node`; the launch is held until the node's fate is known",
    "PodDeleted": "see who deleted it in the API server's audit log; PodGC and drains do so too",
    "DeadlineExceeded": "raise activeDeadlineSeconds in pod_override or the pod template",
    "ImagePull": "check the image's name and tag, the registry, and imagePullSecrets",
    "ContainerConfig": "check the Secrets, ConfigMaps and mounts that the pod names",
    "InitFailed": "read the init container's log",
    "Unschedulable": "compare its requests, selectors and tolerations with the nodes",
    "PendingTimeout": "see `kubectl describe pod`: its events say what it waits for",
    "PodRejected": "check pod_override and the pod template; the API server's words are in the message",
    "QuotaExceeded": "compare `kubectl describe quota` with Airflow's parallelism and pools",
    "TemplateInvalid": "try `windlass render pod`; see [kubernetes_executor] pod_template_file",
    "MutationHookFailed": "mend pod_mutation_hook; its traceback is in the scheduler's log",
    "ExecutorConfigInvalid": "set executor_config to {'pod_override': k8s.V1Pod(...)}",
    "IdentityDenied": "see the identity rules in windlass.toml",
    "IdentityMissing": "see that EKS's webhooks answer and that the service account has its role: `windlass doctor`",
    "NoBranchInterface": "see the pod's events, the nodes' free branch interfaces and EC2's limits: `windlass doctor`",
    "Unsupported": "run it with another executor",
}

GIVEN_UP_WHILE_WAITING = frozenset({"ImagePull", "ContainerConfig", "Unschedulable", "PendingTimeout"})
"""Decided while the pod still waited: it may start after all before it is removed."""
