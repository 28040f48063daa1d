"""Processes that run student code: they start, fail and end as they should."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from src.errors import CallFailed, SandboxError
from src.files import ROOT
from src.grading.sandbox.client import Place, WorkerClient
from src.grading.sandbox.forking import ForkServer
from src.grading.sandbox.messages import EndWorker, Foreign, Raised, Returned
from src.grading.sandbox.output import Output
from src.grading.sandbox.protocol import send
from src.grading.sandbox.sandbox import Sandbox
from src.hw1.messages import Encode, Encoded, LogitsAnswer, TableQuestion
from src.hw1.oracle import TableModel
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from tests.answers import SOLUTION, points, varied
from tests.processes import is_alive, looping, wait_for

LOGITS = np.array([[1.0, 2.0]])


def sandbox_of(questions) -> Sandbox:
    return Sandbox(HOMEWORK, questions, BUNDLED)


def top_1(worker: WorkerClient) -> list:
    return worker.run("sample.py", "top_k_logits", LOGITS, 1, seconds=20).value.tolist()


def test_a_dead_fork_server_is_replaced():
    with sandbox_of(SOLUTION) as sandbox:
        with sandbox.start() as worker:
            assert top_1(worker) == [[-1e10, 2]]
        sandbox._server.process.kill()
        sandbox._server.process.wait()
        with sandbox.start() as worker:
            assert top_1(worker) == [[-1e10, 2]]


def test_what_each_call_needs_is_loaded_before_the_fork():
    code = "import sys, src.grading.sandbox.worker; sys.exit('numpy.random.mtrand' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_sandbox_that_does_not_start_leaves_nothing(monkeypatch, tmp_path):
    def no_process(*_: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("src.grading.sandbox.sandbox.ForkServer", no_process)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BlockingIOError):
        sandbox_of(SOLUTION)
    assert not list(tmp_path.iterdir())


def test_one_fork_server_serves_several_gradings(tmp_path, open_folder):
    """Each grading sees its own questions, and none ends the server."""
    with ForkServer(HOMEWORK, BUNDLED, open_folder) as server:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "sample.py").write_text(f"def name():\n    return {name!r}\n")
            with Sandbox(HOMEWORK, tmp_path / name, BUNDLED, server=server) as sandbox, sandbox.start() as worker:
                assert worker.run("sample.py", "name", seconds=20).value == name
            assert server.process.poll() is None
    assert server.process.poll() is not None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("is_held_up", [False, True])
def test_nothing_survives_a_killed_grader(is_held_up, tmp_path, open_folder):
    """Neither fork server nor worker, also while a debugger holds the fork server up (here: it is stopped)."""
    (tmp_path / "likelihood.py").write_text("def log_likelihood(model, text):\n    while True: pass\n")
    grader = subprocess.Popen(
        [sys.executable, ROOT / "grader.py", "6.4", "--submission", tmp_path],
        env=os.environ | {"TMPDIR": str(open_folder)},  # where it leaves its files
    )
    children: list[int] = []
    try:
        children = wait_for(lambda: looping(grader.pid))
        if is_held_up:
            os.kill(children[0], signal.SIGSTOP)
        grader.kill()
        grader.wait()
        wait_for(lambda: not any(map(is_alive, children)))
    finally:
        for process in [grader.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        grader.wait()


def test_debugpy_stays_out_of_the_fork_server(open_folder, monkeypatch):
    """Under debugpy, `subprocess` attaches the debugger to every Python process, but not while this is entered."""
    entered, popen = [], subprocess.Popen

    @contextlib.contextmanager
    def skip():
        entered.append(True)
        yield
        entered.pop()

    class Patched(popen):
        def __init__(self, *arguments, **options):
            assert entered, "debugpy would attach itself"
            super().__init__(*arguments, **options)

    monkeypatch.setitem(sys.modules, "_pydev_bundle.pydev_monkey", SimpleNamespace(skip_subprocess_arg_patch=skip))
    monkeypatch.setattr(subprocess, "Popen", Patched)
    ForkServer(HOMEWORK, BUNDLED, open_folder).close()


def test_many_threads_may_use_pytorch_at_once(tmp_path):
    """In a process that was just forked, PyTorch fails 9 times of 10 if its first users are 32 threads at once."""
    (tmp_path / "sample.py").write_text(
        "import threading, torch\n"
        "def together(x):\n"
        "    barrier, done = threading.Barrier(32), []\n"
        "    def use():\n"
        "        barrier.wait()\n"
        "        done.append(x.softmax(-1))\n"
        "    threads = [threading.Thread(target=use) for _ in range(32)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
        "    return len(done)\n"
    )
    with sandbox_of(tmp_path) as sandbox:
        for _ in range(4):
            with sandbox.start() as worker:
                assert worker.run("sample.py", "together", np.ones(4), seconds=20).value == 32


def test_the_reference_worker_answers_about_the_model():
    with sandbox_of(SOLUTION) as sandbox:
        (ids,) = sandbox.ask(Encode(("to be or not to be",)), Encoded).ids
        assert ids.dtype == np.int64
        with pytest.raises(SandboxError, match="died; run again"):
            sandbox.ask(Encode(("a",)), LogitsAnswer)  # an answer of another class than expected


def test_the_grader_works_without_fork_and_user_ids(tmp_path):
    """As on Windows: those modules and functions are taken away before anything is imported."""
    code = (
        "import os, sys, runpy\n"
        "sys.modules['resource'] = None\n"
        "for name in ('fork', 'geteuid', 'setresuid', 'setresgid', 'setgroups', 'setsid', 'killpg', 'chown'):\n"
        "    delattr(os, name)\n"
        f"sys.argv = ['grader.py', '6.4', '6.6', '--seed', '1', '--submission', {str(SOLUTION)!r}, '--json', {str(tmp_path / 'r.json')!r}]\n"
        f"runpy.run_path({str(ROOT / 'grader.py')!r}, run_name='__main__')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    results = json.loads((tmp_path / "r.json").read_text())
    assert points(results) == {"6.4": 8, "6.6": 7}, process.stderr
    assert "with all of your rights" in results["output"]


def test_results_are_on_disk_at_every_moment(tmp_path, open_folder):
    """Here: while 6.5 is graded, the grader is killed."""
    folder = varied(tmp_path / "mine", "classifier.py", ("return log", "while True: pass\n    return log"))
    path = tmp_path / "results.json"
    grader = subprocess.Popen(
        [sys.executable, ROOT / "grader.py", "--submission", folder, "--json", path],
        stdout=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(open_folder)},
    )  # fmt: skip
    try:
        wait_for(lambda: path.exists() and len(json.loads(path.read_text())["tests"]) >= 4)
    finally:
        grader.kill()
        grader.wait()
    results = json.loads(path.read_text())
    assert [test["number"] for test in results["tests"]] == ["6.3.1", "6.3.2", "6.4.1", "6.4.2"]
    assert results["score"] == sum(test["score"] for test in results["tests"]) > 0
    assert "did not finish" in results["output"]


FLOAT = {"kind": "plain", "dtype": "float", "value": 1.0, "requires_grad": False, "model_changed": False}


@pytest.mark.parametrize(
    "reply",
    [
        Foreign("Thing"),
        EndWorker(1, 0.0, False),
        Raised("ValueError", "text", "6.4"),
        Returned(**FLOAT, tensors=()),
        Returned(**FLOAT, tensors=(np.zeros(1), np.zeros(1))),
        TableQuestion(np.zeros((200_000, 1), np.int64), np.zeros((1, 63), np.int64)),
    ],
    ids=lambda reply: type(reply).__name__,
)
def test_a_forged_reply_costs_the_call_and_nothing_else(reply, tmp_path):
    ours, theirs = socket.socketpair()
    output = Output(1000)
    output.given()
    client = WorkerClient(HOMEWORK, 0, ours, lambda patience, sweep: 0, Place(tmp_path, output))

    def answer() -> None:
        with contextlib.suppress(OSError):  # the client may have closed the channel already
            send(theirs, reply)
            theirs.shutdown(socket.SHUT_WR)

    with theirs:
        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(CallFailed) as caught:
            client.run(
                "sample.py", "top_k_logits", np.zeros((1, 2), np.float32), 1, seconds=5, answerer=TableModel(7, 1)
            )
    assert caught.value.part is None  # a forged claim that the block is empty is not believed
