"""The grader's side of the sandbox: the processes of one grading, and what they may read and write."""

import contextlib
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from src.config import ROOT, model_config
from src.grading import confine
from src.grading.call import START_SECONDS, SandboxError, Worker, not_started, remove
from src.grading.protocol import ProtocolError, receive, send

EXAMINER_BLOB = 500_000_000  # bytes: the logits of 1024 tokens over a vocabulary of 50,257 are 206 MB
PRIVATE = ("staff", "tests", ".git", "dist")  # what a worker may never read
_BOOT = (
    "import os, sys; sys.path[:0] = [sys.argv.pop(1)]; "
    "sys.path += [p for p in sys.argv.pop(1).split(os.pathsep) if p not in sys.path]; "
    "from src.grading.worker import main; main()"
)
_PYTHON = (sys.executable, "-I", "-B", "-u", "-X", "utf8")
_BOOT_COMMAND = (*_PYTHON, "-c", _BOOT, str(ROOT), os.pathsep.join(sys.path[1:]))


class Sandbox:
    """Processes for one grading of one questions folder. Use it as a context manager."""

    def __init__(self, questions: Path, model_name: str, seed: int = 0):
        """`questions` is copied to a scratch folder; student code sees that copy alone."""
        self.config = model_config(model_name)
        self.limits = confine.Limits()
        self.seed = seed
        # Elsewhere than on Linux, a fork of a process that has loaded PyTorch may hang.
        self.forks = sys.platform == "linux" and hasattr(os, "fork") and confine.resource is not None
        self.user = unused_user(os.getpid()) if self.forks and os.geteuid() == 0 else None
        self._scratch = Path(tempfile.mkdtemp(prefix="grading-"))
        self._scratch.chmod(0o711)
        self.questions = self._scratch / "questions"
        shutil.copytree(questions, self.questions, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self.questions, *self.questions.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._nursery: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._examiner: Worker | None = None
        self._spare: Worker | None = None  # where there is no fork, a worker is used again as long as it lives
        self._weaknesses: list[str] = []
        if self.forks:
            self._start_nursery()
        needed = [*_library(), str(self._scratch.parent)]
        self._keep_reading = bool(confine.landlock_version()) and not all(map(open_to_others, needed))

    def __enter__(self) -> "Sandbox":
        try:
            if self.forks:
                with self.start() as worker:  # so that what doesn't work is known before anything is graded
                    self._weaknesses = self._missing(worker)
                if self.user is not None and not worker.protections["paths"]:
                    _close_to_others([ROOT / name for name in PRIVATE])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (self._examiner, self._spare):
            if worker is not None:
                worker.end()
        if self.user is not None and self._weaknesses:
            _sweep(self.user)
        if self._nursery is not None:
            self._control.close()  # upon which it ends its children and itself
            try:
                self._nursery.wait(10)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
        remove(self._scratch)

    def weaknesses(self) -> list[str]:
        """What this machine cannot protect the grader from, a line each; empty where everything is in place."""
        if not self.forks:
            return ["student code runs in a process of its own, under a time limit, but with all of your rights"]
        return self._weaknesses

    def _missing(self, worker: Worker) -> list[str]:
        whose, weak = "your" if self.user is None else "other users'", []
        if self.user is None:
            weak.append("student code runs as you, not as a user without rights")
        if not worker.protections["paths"]:
            weak.append(f"this kernel has no Landlock: student code can read {whose} files, and write where all may")
        if not worker.protections["calls"]:
            weak.append("this kernel has no seccomp filter: student code can start processes and use the network")
        return weak

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The token ids of each text, (T,)."""
        return self._examine({"do": "encode", "texts": list(texts)})["ids"]

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """What the bundled model answers to `ids` (B, T): float32 logits (B, T, V)."""
        return self._examine({"do": "logits", "ids": ids})["logits"]

    def _examine(self, request: dict[str, Any]) -> dict[str, Any]:
        self._examiner = self._examiner or self.start("examiner")
        try:
            send(self._examiner.channel, request)
            return receive(self._examiner.channel, time.monotonic() + START_SECONDS, EXAMINER_BLOB)
        except (EOFError, OSError, ProtocolError):
            self._examiner.end()
            self._examiner = None
            raise SandboxError("the process that asks the model for expected values died; run again") from None

    def start(self, role: str = "student") -> Worker:
        """A student's worker, fresh where processes can fork; or the examiner."""
        if role == "student" and self._spare is not None:
            worker, self._spare = self._spare, None
            return worker
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self._scratch))
        if self.user is not None:
            os.chown(home, self.user, self.user)
        readable = [
            *_library(),
            *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/lib", "/lib64"),
            *("/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu"),
            *map(str, (self.questions, ROOT / "src", ROOT / "checkpoints" / self.config.name)),
        ]
        orders = {
            "do": "fork", "role": role, "questions": str(self.questions), "home": str(home), "user": self.user,
            "keep_reading": self._keep_reading,
            "readable": readable, "writable": [str(home), "/dev/null", "/dev/zero", "/dev/urandom"],
            "limits": asdict(self.limits),
        }  # fmt: skip
        worker = self._fork(orders, home) if self.forks else self._spawn(orders, home)
        worker.await_readiness()
        return worker

    def release(self, worker: Worker) -> None:
        """Take back a student's worker that isn't needed any more."""
        if self.forks or worker.ended:
            worker.end()
        else:
            worker.fresh = True
            self._spare = worker

    def _environment(self) -> dict[str, str]:
        """The little that a worker's environment holds."""
        kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
        fixed = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1"}
        return {name: os.environ[name] for name in kept if name in os.environ} | fixed

    def _start_nursery(self) -> None:
        ours, theirs = socket.socketpair()
        command = [*_BOOT_COMMAND, "fork", str(theirs.fileno()), self.config.name]
        self._log = (self._scratch / "nursery.txt").open("wb")
        self._nursery = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env=self._environment(), start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._control = ours
        self._ready = False

    def _order(self, orders: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """The nursery's answer to `orders`; a nursery that died is started again, once."""
        for attempt in range(2):
            try:
                if not self._ready:
                    receive(self._control, time.monotonic() + START_SECONDS)
                    self._ready = True
                send(self._control, orders)
                if descriptors:
                    socket.send_fds(self._control, [b"x"], list(descriptors))
                return receive(self._control, time.monotonic() + START_SECONDS)
            except (EOFError, OSError, ProtocolError):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._nursery.wait(5)  # one that is about to say why it ends
                self._nursery.kill()
                self._nursery.wait()
                if attempt or not descriptors:
                    break
                self._start_nursery()
        raise not_started(self._scratch / "nursery.txt")

    def _fork(self, orders: dict[str, Any], home: Path) -> Worker:
        ours, theirs = socket.socketpair()
        output = home.with_name(home.name + "-output")
        with theirs, output.open("wb") as file:
            child = self._order(orders, (theirs.fileno(), file.fileno()))["child"]

        def end(patience: float) -> int:
            try:
                return self._order({"do": "end", "child": child, "patience": patience})["status"]
            except SandboxError:
                return -signal.SIGKILL

        return Worker(self.seed, self.limits, ours, end, home, output)

    def _spawn(self, orders: dict[str, Any], home: Path) -> Worker:
        output, token = home.with_name(home.name + "-output"), secrets.token_hex(16)
        with socket.create_server(("127.0.0.1", 0)) as server, output.open("wb") as file:
            port = server.getsockname()[1]
            process = subprocess.Popen(
                [*_BOOT_COMMAND, "connect", str(port), self.config.name],
                stdin=subprocess.PIPE, stdout=file, stderr=file, env=self._environment(),
            )  # fmt: skip

            def end(patience: float) -> int:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(patience)
                process.kill()
                return process.wait()

            process.stdin.write(token.encode() + b"\n")
            process.stdin.close()
            deadline = time.monotonic() + START_SECONDS
            while not select.select([server], [], [], 0.2)[0]:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise not_started(output)
            channel, _ = server.accept()
            try:
                if receive(channel, deadline).get("token") != token:
                    raise SandboxError("a stranger connected to the sandbox; run again")
                send(channel, orders)
            except (OSError, EOFError, ProtocolError):
                end(5)
                raise not_started(output) from None

        return Worker(self.seed, self.limits, channel, end, home, output)


def unused_user(process: int) -> int:
    """The number of a user whom nobody is, and no other grader that runs now; this one is `process`."""
    number = 1_000_000 + process
    with contextlib.suppress(OSError, ValueError):
        spans = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(first <= number < first + length for first, _, length in spans):  # a container with few users
            number = 20_000 + process % 40_000
    return number


def _library() -> list[str]:
    """Where Python and its packages lie."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {path for path in sys.path if path and not ROOT.is_relative_to(path) and os.path.isdir(path)}
    places |= {path for path in (sys.prefix, sys.base_prefix) if path not in ("/", "/usr", "/usr/local")}
    return sorted(places - {str(ROOT)})


def open_to_others(path: str) -> bool:
    """Whether a user who is neither owner nor of the group can get there."""
    place = Path(path).resolve()
    return all(not p.exists() or p.stat().st_mode & 0o005 == 0o005 for p in (place, *place.parents))


def _close_to_others(paths: Sequence[Path]) -> None:
    """Take the rights of users other than owner and group off the paths that are there."""
    for path in paths:
        if path.exists() and path.stat().st_mode & 0o007:
            path.chmod(path.stat().st_mode & 0o770)


def _sweep(user: int) -> None:
    """Remove what `user` left in the folders in which everybody may write."""
    for place in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):
        for path in place.iterdir() if place.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.lstat().st_uid == user:
                    remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()
