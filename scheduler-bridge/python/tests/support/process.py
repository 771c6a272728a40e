"""A real `airflow scheduler` process, ended with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

from support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.world import World

START_SECONDS = 90
END_SECONDS = 40


class SchedulerProcess:
    """One scheduler. `job_id` is known once the plugin has registered."""

    def __init__(self, folder: Path, world: World, **environment: str) -> None:
        self.log = folder / f"scheduler-{len(list(folder.iterdir()))}.log"
        self._world = world
        (before,) = world.sql("SELECT coalesce(max(id), 0) AS id FROM job")
        with self.log.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "scheduler"],
                env={**os.environ, **environment},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        try:
            self.job_id = until("the scheduler registers", lambda: self._registered(before.id), START_SECONDS)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.tail()}") from error

    def _registered(self, after: int) -> int | None:
        assert self._process.poll() is None, f"the scheduler has exited:\n{self.tail()}"
        rows = self._world.sql("SELECT job_id FROM windlass.scheduler WHERE job_id > %s", after)
        return rows[0].job_id if rows else None

    def tail(self) -> str:
        return self.log.read_text()[-6000:]

    def alive(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """A clean exit."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        family = psutil.Process(self._process.pid).children(recursive=True) if self.alive() else []
        if self.alive():
            self._process.send_signal(how)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for child in family:  # the DAG processor is a process group of its own
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=END_SECONDS)
