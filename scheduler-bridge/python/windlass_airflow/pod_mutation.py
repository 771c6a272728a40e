"""The helper that calls `pod_mutation_hook` for the daemon: a process of its own, beside the scheduler.

The hook is the users' Python and may be slow: here it delays neither the scheduler nor anything but pods. Started by
`pod_mutation_socket` as `python -m windlass_airflow.pod_mutation FD`, with a listening socket; ends with its parent.

A request is a line `{"pods": [pod, ...]}` with pods as the API takes them; the answer is a line
`{"pods": [{"pod": pod} or {"error": text}, ...]}` in the same order, or `{"error": text}` if none can be made.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from typing import Any

log = logging.getLogger(__name__)

LOOK_AFTER_PARENT_SECONDS = 1.0
ERROR_MAX_CHARACTERS = 500

Pod = dict[str, Any]
"""A pod in API form."""


class Hook:
    """The hook between JSON and the Kubernetes client's objects, as the Python KubernetesExecutor has it."""

    def __init__(self) -> None:
        """Load Airflow's local settings (importing airflow does) and the Kubernetes client."""
        from airflow import settings
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
        from kubernetes.client import ApiClient  # type: ignore[import-untyped]

        self._call: Any = settings.pod_mutation_hook
        self._read = PodGenerator.deserialize_model_dict
        self._write = ApiClient().sanitize_for_serialization

    def mutate(self, pod: Pod) -> dict[str, Any]:
        """The answer for one pod. What the hook raises is the pod's error; its traceback goes to the log."""
        try:
            model = self._read(pod)
            self._call(model)
            return {"pod": self._write(model)}
        except Exception as error:
            name = pod.get("metadata", {}).get("name")
            log.exception("pod_mutation_hook failed for pod %s", name)
            return {"error": f"{type(error).__name__}: {error}"[:ERROR_MAX_CHARACTERS]}


class Server:
    """Answers connections, each in a thread, and one batch at a time: hooks were never called at the same time."""

    def __init__(self) -> None:
        """Load nothing yet."""
        self._one_at_a_time = threading.Lock()
        self._hook: Hook | None = None

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one request."""
        with self._one_at_a_time:
            try:
                if self._hook is None:
                    self._hook = Hook()
                hook = self._hook
                pods = json.loads(line)["pods"]
            except Exception as error:
                log.exception("No pod can be given to pod_mutation_hook")
                return {"error": f"{type(error).__name__}: {error}"[:ERROR_MAX_CHARACTERS]}
            return {"pods": [hook.mutate(pod) for pod in pods]}

    def serve(self, connection: socket.socket) -> None:
        """Answer until the other end closes."""
        with connection, connection.makefile("rwb") as stream:
            try:
                for line in stream:
                    stream.write(json.dumps(self.answer(line)).encode() + b"\n")
                    stream.flush()
            except OSError as error:
                log.info("The daemon's connection ended: %s", error)

    def run(self, listener: socket.socket) -> None:
        """Accept until the parent is gone."""
        parent = os.getppid()
        listener.settimeout(LOOK_AFTER_PARENT_SECONDS)
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()


def main() -> None:
    """Serve the listening socket whose descriptor is the argument."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s pod_mutation_hook helper %(levelname)s %(message)s")
    Server().run(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
