"""The grader's side of the fork server, and how a process for student code is started at all."""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from src.errors import ProtocolError
from src.files import ROOT
from src.grading.homework import Homework
from src.grading.sandbox.client import START_SECONDS, start_error
from src.grading.sandbox.memory import Group
from src.grading.sandbox.messages import ForkServerReady, Prepared
from src.grading.sandbox.protocol import M, Message, receive, send

_BOOT = (
    "import gc, os, sys; gc.disable(); sys.path[:0] = [sys.argv.pop(1)]; "
    "sys.path += [p for p in sys.argv.pop(1).split(os.pathsep) if p not in sys.path]; "
    "from src.grading.sandbox.worker import main; main()"
)
_PYTHON = (sys.executable, "-I", "-B", "-u", "-X", "utf8")
_BOOT_COMMAND = (*_PYTHON, "-c", _BOOT, str(ROOT), os.pathsep.join(sys.path[1:]))


class ForkServer:
    """The process that forks workers; see `fork_server.py`. One that dies is started again, once.

    It may serve several gradings, one after the other: each `StartWorker` names its own questions and rights.
    """

    def __init__(self, homework: Homework, model_name: str, folder: Path):
        """`folder` is for what it prints."""
        self._homework = homework
        self._model_name = model_name
        self._log = folder / "fork-server.txt"
        self.start_seconds = 0.0  # that it took to load everything, as soon as that is known
        self.answers: dict[bytes, Message] = {}  # of the reference worker, by the question
        self.group: Group | None = None  # which limits the memory of its workers, from then on
        self._start()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("wb") as log, without_debugger():
            self.process = subprocess.Popen(
                worker_command("fork", theirs.fileno(), self._homework, self._model_name),
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=worker_environment(), start_new_session=True,
            )  # fmt: skip
        self._control = ours
        self._prepared: set[bytes] = set()  # questions
        self._is_ready = False
        self._began = time.monotonic()

    def ask(self, order: Message, expected: type[M], descriptors: Sequence[int] = ()) -> M:
        """The fork server's answer to `order`, a message of the class `expected`.

        Raises:
            SandboxError: it died.
        """
        for is_last in (False, True):
            try:
                deadline = time.monotonic() + START_SECONDS
                if not self._is_ready:
                    ready = receive(self._control, ForkServerReady, deadline=deadline)
                    self.start_seconds = time.monotonic() - self._began
                    self._is_ready = True
                    self.group = Group.around(self.process.pid, self._homework.limits.total_memory + ready.shared)
                send(self._control, order)
                if descriptors:
                    socket.send_fds(self._control, [b"x"], list(descriptors))
                return receive(self._control, expected, deadline=time.monotonic() + START_SECONDS)
            except (EOFError, OSError, ProtocolError):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(5)  # it may be about to print why it ends
                self._end()
                if is_last or not descriptors:
                    break
                self._start()
        raise start_error(self._log.read_text(errors="replace"))

    def prepare(self, question: Message) -> None:
        """Let it compute what workers will be asked, unless it has; see `WorkerPlugin.prepare`."""
        key = pickle.dumps(question)
        if key not in self._prepared:
            self.ask(question, Prepared)
            self._prepared.add(key)

    def close(self) -> None:
        """End it, and with it all of its workers."""
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.group is not None:
            self.group.close()
            self.group = None


def worker_command(mode: str, where: int, homework: Homework, model_name: str) -> list[str]:
    """The command that starts a process of `worker.py`; see `main` there."""
    return [*_BOOT_COMMAND, mode, str(where), f"{homework.package}.worker", model_name]


def without_debugger() -> contextlib.AbstractContextManager[None]:
    """Meanwhile debugpy, if this process runs under it, does not attach itself to new processes: it would stop them."""
    debugger = sys.modules.get("_pydev_bundle.pydev_monkey")
    skip: Callable[[], contextlib.AbstractContextManager[None]]
    skip = getattr(debugger, "skip_subprocess_arg_patch", contextlib.nullcontext)
    return skip()


def worker_environment() -> dict[str, str]:
    """The few environment variables that a worker gets."""
    kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
    fixed = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1"}
    return {name: os.environ[name] for name in kept if name in os.environ} | fixed
