"""Worker images often have no Kubernetes client, and importing it takes longer than everything else a worker does.

Python imports this module at its start when its folder is on PYTHONPATH. The suite puts it there for worker pods: they
behave as an image without `kubernetes`, and hundreds of them fit on two cores. Tasks with a pod_override keep it.

In a pod of the executor Airflow imports the client before each body, to keep the pod's YAML for a page that its UI shows
for the executor named KubernetesExecutor alone. The variable that asks for it is taken away here.
"""

from __future__ import annotations

import os
import sys

ABSENT = {"kubernetes", "kubernetes_asyncio"}
# DAGs of Airflow's own that import the client. The interpreter's arguments name the worker's DAG.
NEED_IT = {"example_kubernetes_executor", "example_local_kubernetes_executor"}


class Absent:
    """A finder that finds nothing, first in line."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


os.environ.pop("AIRFLOW_IS_K8S_EXECUTOR_POD", None)
# A worker whose task has a pod_override reads it back from its row, and needs the client for that.
if "SUITE_OVERRIDE" not in os.environ and NEED_IT.isdisjoint(sys.orig_argv):
    sys.meta_path.insert(0, Absent)  # type: ignore[arg-type]
