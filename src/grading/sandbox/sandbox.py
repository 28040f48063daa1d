"""The grader's side of the sandbox: the processes of one grading, and what they may read and write."""

import contextlib
import os
import pickle
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from src.errors import ProtocolError, SandboxError
from src.files import ROOT
from src.grading.homework import Homework, Limits
from src.grading.sandbox import confine, landlock, readable
from src.grading.sandbox.client import START_SECONDS, Place, WorkerClient, remove, start_error
from src.grading.sandbox.forking import ForkServer, without_debugger, worker_command, worker_environment
from src.grading.sandbox.limits import can_limit
from src.grading.sandbox.memory import MemoryLimit
from src.grading.sandbox.messages import (
    Compared,
    CompareModel,
    Ended,
    EndWorker,
    Forked,
    StartWorker,
    Sweep,
    Swept,
    Token,
)
from src.grading.sandbox.output import Output
from src.grading.sandbox.places import close_to_others, copy_for, remove_files_of
from src.grading.sandbox.protocol import M, Message, receive, send
from src.grading.time_budget import slowness

MAX_REMEMBERED = 300_000_000  # bytes of answers
MAX_ANSWER = 500_000_000  # bytes from the reference worker: logits of 1024 tokens over 50,257 others are 206 MB
_SHARED = ("src/__init__.py", "src/errors.py", "src/files.py")  # what the packages of src/ have in common


class Sandbox:
    """Processes for one grading of one questions folder. Use it as a context manager."""

    def __init__(
        self, homework: Homework, questions: Path | None, model_name: str, seed: int = 0,
        server: ForkServer | None = None,
    ):  # fmt: skip
        """Args:
        questions: see `take`; None: that is called later
        server: forks the workers, and serves other gradings before and after this one; None: one of its own
        """
        self.homework = homework
        self.model_name = model_name
        self.seed = seed
        # Elsewhere than on Linux, a fork of a process that has loaded PyTorch may hang.
        self.forks = sys.platform == "linux" and hasattr(os, "fork") and can_limit()
        owner = server.process.pid if server else os.getpid()
        self.user = confine.unused_user(owner) if self.forks and os.geteuid() == 0 else None
        self._system, self._private = readable.system(), readable.private() if self.forks else ()
        self._scratch = Path(tempfile.mkdtemp(prefix="grading-"))
        self._scratch.chmod(0o711)
        self.questions = self._scratch / "questions"
        self._own: ForkServer | None = None
        try:
            if questions is not None:
                self.take(questions)
            if self.forks and server is None:
                self._own = ForkServer(homework, model_name, self._scratch)
        except BaseException:
            remove(self._scratch)
            raise
        self._server = server or self._own
        self._reference: WorkerClient | None = None
        self._spare: WorkerClient | None = None  # without fork, a worker is used again as long as it lives
        self._weaknesses: list[str] = []
        needed = [*readable.library(), str(self._scratch.parent)]
        self._closed = [path for path in needed if not confine.is_open_to_others(path)] if self.user else []
        self._keep_reading = bool(landlock.version() and self._closed)

    def take(self, questions: Path) -> None:
        """Copy the folder `questions` to a scratch folder; student code sees only the copy."""
        copy_for(self.user, questions, self.questions)

    def lend(self, folder: Path) -> Path:
        """A copy of `folder` that a worker can read."""
        return copy_for(self.user, folder, Path(tempfile.mkdtemp(prefix="lent-", dir=self._scratch)))

    def __enter__(self) -> "Sandbox":
        try:
            if self.forks:
                if self.user is not None and not landlock.version():
                    self._do_without_landlock()
                with self.start() as worker:  # so that what does not work is known before anything is graded
                    self._weaknesses = self._missing(worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _do_without_landlock(self) -> None:
        if self._closed:
            raise SandboxError(
                f"{self._closed[0]}: is closed to other users, such as the one who runs student code, and this kernel "
                "has no Landlock, with which it could be opened to that one alone; use a Python that all users can read"
            )
        close_to_others([ROOT / name for name in readable.PRIVATE])

    def __exit__(self, *_: object) -> None:
        for worker in (self._reference, self._spare):
            if worker is not None:
                worker.end()
        if self.user is not None and self._server is not None:
            with contextlib.suppress(SandboxError):
                self._server.ask(Sweep(self.user), Swept)
        if self.user is not None and self._weaknesses:
            remove_files_of(self.user)
        if self._own is not None:
            self._own.close()
        remove(self._scratch)

    @property
    def slowness(self) -> float:
        """How much slower than two idle cores this machine is, by the time that the fork server took to start."""
        return slowness(self._server.start_seconds) if self._server else 1.0

    def weaknesses(self) -> list[str]:
        """What this machine cannot protect the grader from, a line each; empty where everything is in place."""
        if not self.forks:
            return ["student code runs in a process of its own, under a time limit, but with all of your rights"]
        return self._weaknesses

    def _missing(self, worker: WorkerClient) -> list[str]:
        whose, missing = "your" if self.user is None else "other users'", []
        if self.user is None:
            missing.append("student code runs as you, not as a user without rights")
        if not worker.protections.landlock:
            missing.append(f"this kernel has no Landlock: student code can read {whose} files, and write where all may")
        if not worker.protections.seccomp:
            missing.append("this kernel has no seccomp filter: student code can start processes and use the network")
            if 0 < worker.protections.landlock < landlock.COMPLETE:
                missing.append(
                    f"this kernel's Landlock has version {worker.protections.landlock}, not {landlock.COMPLETE}: "
                    f"student code can send signals to {whose} processes"
                )
        if not worker.limits_memory:
            missing.append("this kernel does not tell how much memory student code uses: it can take twice its limit")
        return missing

    def ask(self, question: Message, expected: type[M]) -> M:
        """The reference worker's answer to `question`, a message of the class `expected`.

        What a fork server of several gradings was asked before, it knows: the model is the same in all of them.

        Raises:
            SandboxError: that process died.
        """
        if self._server is None or self._own is not None:
            return self._asked(question, expected)
        known, key = self._server.answers, pickle.dumps(question)
        answer = known.get(key) or self._asked(question, expected)
        assert isinstance(answer, expected)
        if key not in known:
            if sum(map(_size, known.values())) + _size(answer) > MAX_REMEMBERED:
                known.clear()
            known[key] = answer
        return answer

    def prepare(self, question: Message) -> None:
        """Where a fork server serves several gradings: compute there, once, what workers will be asked in each."""
        if self._server is not None and self._own is None:
            self._server.prepare(question)

    def _asked(self, question: Message, expected: type[M]) -> M:
        self._reference = self._reference or self.start("reference")
        try:
            send(self._reference.channel, question)
            deadline = time.monotonic() + START_SECONDS
            return receive(self._reference.channel, expected, deadline=deadline, max_blob=MAX_ANSWER)
        except (EOFError, OSError, ProtocolError):
            self._reference.end()
            self._reference = None
            raise SandboxError("the process that asks the model for expected values died; run again") from None

    def start(
        self, role: str = "student", source: Path | None = None, limits: Limits | None = None, watch: bool = False,
    ) -> WorkerClient:  # fmt: skip
        """A student worker, fresh where processes can fork; a reader of `source`; or the reference worker.

        Args:
            watch: whether a call of this worker will `watch` the model

        Raises:
            SandboxError: it does not start.
        """
        if role == "student" and self._spare is not None:
            worker, self._spare = self._spare, None
            return worker
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self._scratch))
        if self.user is not None:
            os.chown(home, self.user, self.user)
        is_reader = role == "reader"  # which runs this project's own code alone, and so may read all of it
        own = (
            ("src", "checkpoints", "config.yml") if is_reader else (*_SHARED, *self.homework.readable(self.model_name))
        )
        project = (ROOT / name for name in own)
        read = str(source or self.questions)
        order = StartWorker(
            role=role, questions=read, home=str(home), watched=watch, user=self.user, keep_reading=self._keep_reading,
            readable=(*self._system, read, *map(str, project)),
            writable=(str(home), *readable.DEVICES), forbidden=() if is_reader else self.homework.closed_packages,
            limits=limits or self.homework.limits,
            private=self._private,
        )  # fmt: skip
        worker = self._fork(self._server, order) if self._server else self._spawn(order)
        worker.await_ready()
        return worker

    def release(self, worker: WorkerClient) -> None:
        """Take back a student worker that is not needed any more."""
        if self.forks or worker.ended:
            worker.end()
        else:
            worker.fresh = True
            self._spare = worker

    def _fork(self, server: ForkServer, order: StartWorker) -> WorkerClient:
        ours, theirs = socket.socketpair()
        output = Output(order.limits.output)
        with theirs:
            process = server.ask(order, Forked, (theirs.fileno(), output.descriptor)).process
        output.given()

        def end(patience: float, sweep: bool) -> int:
            try:
                return server.ask(EndWorker(process, float(patience), sweep), Ended).status
            except SandboxError:
                return -signal.SIGKILL

        def is_unchanged() -> bool:
            return server.ask(CompareModel(process), Compared).is_unchanged

        place = Place(Path(order.home), output)
        if order.watched:
            place = replace(place, is_unchanged=is_unchanged)
        if order.role == "student":
            memory = MemoryLimit(order.limits.total_memory, server.group, _received_usage(ours))
            place = replace(place, process=process, memory=memory)
        elif order.role == "reference" and server.group is not None:
            server.group.release(process)
        return WorkerClient(self.homework, self.seed, ours, end, place)

    def _spawn(self, order: StartWorker) -> WorkerClient:
        token, output = secrets.token_hex(16), Output(order.limits.output)
        with socket.create_server(("127.0.0.1", 0)) as listener, without_debugger():
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                worker_command("connect", port, self.homework, self.model_name),
                stdin=subprocess.PIPE, stdout=output.descriptor, stderr=output.descriptor, env=worker_environment(),
            )  # fmt: skip
            output.given()
            assert process.stdin is not None
            process.stdin.write(token.encode() + b"\n")
            process.stdin.close()
            deadline = time.monotonic() + START_SECONDS
            while not select.select([listener], [], [], 0.2)[0]:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    output.wait()
                    raise start_error(output.text())
            channel, _ = listener.accept()
        try:
            if receive(channel, Token, deadline=deadline).token != token:
                raise SandboxError("another program connected to the sandbox; run again")
            send(channel, order)
        except (OSError, EOFError, ProtocolError):
            _ended_process(process)(5, False)
            raise start_error(output.text()) from None
        end = _ended_process(process)
        place = Place(Path(order.home), output, process.pid)
        return WorkerClient(self.homework, self.seed, channel, end, place)


def _size(message: Message) -> int:
    """The bytes of the arrays in `message`."""
    return sum(int(getattr(value, "nbytes", 0)) for value in vars(message).values())


def _received_usage(channel: socket.socket) -> int | None:
    """The descriptor with which a worker shows its memory; see `fork_server.py`."""
    descriptors: list[int] = []
    with contextlib.suppress(OSError):
        channel.settimeout(START_SECONDS)
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    return descriptors[0] if descriptors else None


def _ended_process(process: "subprocess.Popen[bytes]") -> Callable[[float, bool], int]:
    """A function that ends `process`, as `WorkerClient` wants it."""

    def end(patience: float, sweep: bool) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(patience)
        process.kill()
        return process.wait()

    return end
