"""What every task body of the suite does first: append one line with its key to the journal.

One line per body that ran, whatever Airflow and Windlass say of it: `dag task run map_index try`. A single write of
less than PIPE_BUF bytes to a file opened with O_APPEND is atomic, so bodies of many processes do not mix.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER = Path(os.environ.get("SUITE_FOLDER", "."))


def ran(ti) -> None:
    """Notes that the body of this task instance began."""
    line = f"{ti.dag_id} {ti.task_id} {ti.run_id} {ti.map_index} {ti.try_number}\n"
    _append(FOLDER / "journal", line)


def note(name: str, text: str) -> None:
    """Appends one line to a file of its own: callbacks, worker pids."""
    _append(FOLDER / name, text + "\n")


def wait_for(name: str, seconds: float = 120) -> None:
    """Blocks until the test makes the file `name`."""
    deadline = time.monotonic() + seconds
    while not (FOLDER / name).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {name} within {seconds} s")
        time.sleep(0.1)


def _append(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
