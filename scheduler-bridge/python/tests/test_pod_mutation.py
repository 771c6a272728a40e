"""pod_mutation_hook in its helper: a real process behind a real socket."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.polling import until

from windlass_airflow.pod_mutation import Hook
from windlass_airflow.pod_mutation_socket import NAME, PodMutationSocket

LOCAL_SETTINGS = """
def pod_mutation_hook(pod):
    if pod.metadata.name == "bad":
        raise KeyError("team")
    pod.metadata.labels = {**(pod.metadata.labels or {}), "team": "ml"}
    pod.spec.containers[0].image = pod.spec.containers[0].image + "-patched"
"""
FIXTURES = Path(__file__).resolve().parents[3] / "tests" / "fixtures" / "pods"
log = logging.getLogger(__name__)


def pod(name):
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "base", "image": "airflow:2"}]}}


@pytest.fixture
def wake(tmp_path, monkeypatch):
    """A shared folder, and local settings that only the helper loads."""
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
    package = Path(__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'settings'}:{package}")
    monkeypatch.setenv("WINDLASS_WAKE_SOCKET", str(tmp_path / "wake.sock"))
    return tmp_path


@pytest.fixture
def offered(wake):
    offered = PodMutationSocket(log)
    offered.listen()
    yield offered
    offered.close()


class Daemon:
    """The other end of the socket."""

    def __init__(self, folder):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(str(folder / NAME))
        self.stream = self.socket.makefile("rwb")

    def ask(self, *pods):
        self.stream.write(json.dumps({"pods": pods}).encode() + b"\n")
        self.stream.flush()

    def answer(self):
        return json.loads(self.stream.readline())


def test_the_helper_starts_with_the_first_question_and_answers_for_each_pod(offered, wake):
    offered.tend()
    assert offered._helper is None, "nobody asks"
    daemon = Daemon(wake)
    daemon.ask(pod("good"), pod("bad"))
    offered.tend()
    good, bad = daemon.answer()["pods"]
    assert bad == {"error": "KeyError: 'team'"}
    assert good["pod"]["metadata"] == {"name": "good", "labels": {"team": "ml"}}
    assert good["pod"]["spec"]["containers"] == [{"name": "base", "image": "airflow:2-patched"}]
    daemon.ask()
    assert daemon.answer() == {"pods": []}
    daemon.stream.write(b"no json\n")
    daemon.stream.flush()
    assert daemon.answer()["error"].startswith("JSONDecodeError: ")


def test_a_helper_that_dies_is_started_again_by_the_next_question(offered, wake, caplog):
    first = Daemon(wake)
    first.ask()
    offered.tend()
    assert first.answer() == {"pods": []}
    os.kill(offered._helper.pid, signal.SIGKILL)
    offered._helper.wait(10)
    assert first.stream.readline() == b""
    offered.tend()
    assert offered._helper.poll() is not None, "nobody asks"
    second = Daemon(wake)
    second.ask()
    offered.tend()
    assert second.answer() == {"pods": []}
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == ["The helper of pod_mutation_hook ended with -9"]


def test_the_end_of_the_scheduler_is_the_end_of_the_helper(offered, wake):
    daemon = Daemon(wake)
    offered.tend()
    helper = offered._helper
    offered.close()
    assert helper.returncode is not None
    assert not (wake / NAME).exists()
    daemon.socket.close()


def test_a_killed_scheduler_leaves_no_helper_behind(wake):
    scheduler = """
import logging, os, socket, sys
from windlass_airflow.pod_mutation_socket import PodMutationSocket
offered = PodMutationSocket(logging.getLogger())
offered.listen()
asks = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
asks.connect(str(offered._path))
asks.sendall(b'{"pods": []}\\n')
offered.tend()
asks.recv(64)
print(offered._helper.pid, flush=True)
os._exit(9)
"""
    ended = subprocess.run([sys.executable, "-c", scheduler], stdout=subprocess.PIPE, check=False, timeout=120)
    assert ended.returncode == 9
    helper = Path(f"/proc/{int(ended.stdout.split()[-1])}/stat")
    until("the helper's end", lambda: not helper.exists() or helper.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_without_a_shared_folder_the_operator_is_told(monkeypatch, caplog):
    monkeypatch.delenv("WINDLASS_WAKE_SOCKET", raising=False)
    with caplog.at_level(logging.WARNING):
        PodMutationSocket(log).listen()
        monkeypatch.setenv("WINDLASS_WAKE_SOCKET", "/nonexistent/wake.sock")
        PodMutationSocket(log).listen()
    none, nowhere = (record.getMessage() for record in caplog.records)
    assert "set WINDLASS_WAKE_SOCKET for both containers" in none
    assert nowhere.startswith("pod_mutation_hook cannot be offered to the daemon at /nonexistent/pod-mutation.sock: ")


def test_a_hook_that_changes_nothing_leaves_every_golden_pod_as_it_is():
    hook = Hook()
    cases = [json.loads(path.read_text())["expected"] for path in FIXTURES.glob("*.json")]
    pods = [case["pod"] for case in cases if case["kind"] == "pod"]
    assert len(pods) > 80
    for expected in pods:
        assert hook.mutate(expected) == {"pod": expected}
