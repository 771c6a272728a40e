"""Listens for the daemon's first question about `pod_mutation_hook`, and starts the helper that answers.

Where nobody asks (no hook, or the daemon is told to ignore it) no process is started. The listening socket stays open
here: a helper that dies is started again by the next question, and the daemon need not know of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from windlass_airflow.config import wake_socket
from windlass_airflow.database import explain

if TYPE_CHECKING:
    import logging

NAME = "pod-mutation.sock"
"""In the folder of the wake socket; the daemon knows it by this name."""

END_WITHIN_SECONDS = 2.0


class PodMutationSocket:
    """The socket and the helper behind it. Nothing here blocks or raises: it runs in the scheduler's loop."""

    def __init__(self, log: logging.Logger) -> None:
        """Open nothing yet."""
        self._log = log
        self._path: Path | None = None
        self._listener: socket.socket | None = None
        self._helper: subprocess.Popen[bytes] | None = None

    def listen(self) -> None:
        """Open the socket, where a folder is shared with the daemon."""
        wake = wake_socket()
        if wake is None:
            self._log.warning(
                "This Airflow has a pod_mutation_hook, and no folder is shared with the Windlass daemon: set "
                "WINDLASS_WAKE_SOCKET for both containers to have the hook called."
            )
            return
        path = Path(wake).with_name(NAME)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Of the scheduler before this one.
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen()
        except OSError as error:
            listener.close()
            self._log.warning("pod_mutation_hook cannot be offered to the daemon at %s: %s", path, explain(error))
            return
        self._path, self._listener = path, listener

    def tend(self) -> None:
        """Start the helper if somebody asks and none runs."""
        listener = self._listener
        if listener is None or (self._helper is not None and self._helper.poll() is None):
            return
        if not _asked(listener):
            return
        if self._helper is not None:
            self._log.warning("The helper of pod_mutation_hook ended with %s", self._helper.returncode)
        command = [sys.executable, "-m", "windlass_airflow.pod_mutation", str(listener.fileno())]
        try:
            self._helper = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603
        except OSError as error:
            self._log.warning("The helper of pod_mutation_hook cannot be started: %s", explain(error))
            return
        self._log.info("The helper of pod_mutation_hook runs as process %s", self._helper.pid)

    def close(self) -> None:
        """End the helper and remove the socket."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # type: ignore[arg-type]
        if self._helper is not None:
            self._helper.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._helper.wait(END_WITHIN_SECONDS)
            self._helper = None


def _asked(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    return bool(waiting.poll(0))
