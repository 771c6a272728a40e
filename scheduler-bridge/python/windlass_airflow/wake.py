"""Wakes the daemon of the same pod through a Unix datagram socket. A lost datagram costs a poll, nothing else."""

from __future__ import annotations

import contextlib
import socket

from windlass_airflow.config import wake_socket


class Wake:
    """One non-blocking datagram per handover."""

    def __init__(self) -> None:
        """Opens nothing yet."""
        self._socket: socket.socket | None = None

    def ring(self) -> bool:
        """Send it. False if no socket is configured or nobody reads it."""
        path = wake_socket()
        if path is None:
            return False
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto(b"w", path)
            return True
        return False

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
