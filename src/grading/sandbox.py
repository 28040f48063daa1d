"""The grader's side of the sandbox: start workers, send requests, hold to limits, say what became of a call."""

import contextlib
import os
import re
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.artifacts import FILES
from src.config import ROOT, model_config
from src.errors import UserError
from src.grading import confine
from src.grading.protocol import ProtocolError, receive, send

START_SECONDS = 180  # to import PyTorch and load the model, on the slowest of machines
SCRATCH_BYTES, SCRATCH_FILES, SCRATCH_DEPTH = 64_000_000, 1000, 20
EXAMINER_BLOB = 500_000_000  # bytes: the logits of 1024 tokens over a vocabulary of 50,257 are 206 MB
PRIVATE = ("staff", "tests", ".git", "dist")  # what a worker may never read
_PYTHON = (sys.executable, "-I", "-B", "-u", "-X", "utf8")
_BOOT = (
    "import os, sys; sys.path[:0] = [sys.argv.pop(1)]; "
    "sys.path += [p for p in sys.argv.pop(1).split(os.pathsep) if p not in sys.path]; "
    "from src.grading.worker import main; main()"
)


_TOO_MUCH_PRINTED = "your code printed far too much"
_PLACE = re.compile(r"questions/\w{1,40}\.py:\d{1,6}")

_BOOT_COMMAND = (*_PYTHON, "-c", _BOOT, str(ROOT), os.pathsep.join(sys.path[1:]))


class SandboxError(UserError):
    """The sandbox itself doesn't work: not the student's fault."""


class Lost(Exception):
    """A call of the student's function gave no value. `reason` never depends on what the function was given."""

    def __init__(self, reason: str, shown: str = "", part: str | None = None):
        super().__init__(reason)
        self.reason = reason
        self.shown = shown  # the student's own traceback or prints: not for hidden tests
        self.part = part  # the part whose block isn't written, where that is the reason


class _ScratchFull(Exception):
    pass


@dataclass(frozen=True)
class Returned:
    """What a student's function returned."""

    kind: str  # tensor, numpy, plain or other
    dtype: str  # of a tensor or an array; else the name of the type
    value: Any
    requires_grad: bool
    model_changed: bool
    tensors: list[np.ndarray]  # the tensors among the arguments, as they were after the call

    def number(self) -> float | None:
        """The value as a float if it is one number or bool of any kind, else None."""
        if isinstance(self.value, np.ndarray) and self.value.size == 1:
            return float(self.value.reshape(()))
        if type(self.value) in (int, float, bool):
            with contextlib.suppress(OverflowError):
                return float(self.value)
        return None

    def described(self) -> str:
        """What it is, for a person, in a few words."""
        if isinstance(self.value, np.ndarray):
            what = "tensor" if self.kind == "tensor" else "NumPy array"
            shown = f" with the value {self.value.reshape(()):.6g}" if self.value.size == 1 else ""
            return f"a {what} of shape {self.value.shape} and type {self.dtype}{shown}"
        if self.value is None:
            return "nothing (None)"
        if self.kind == "plain":
            return f"{_printable(str(self.value)[:60])} ({self.dtype})"
        return f"a value of type {self.dtype}"


class Sandbox:
    """Processes for one grading of one questions folder. Use it as a context manager."""

    def __init__(self, questions: Path, model_name: str, seed: int = 0):
        """`questions` is copied to a scratch folder; student code sees that copy alone."""
        self.config = model_config(model_name)
        self.limits = confine.Limits()
        self.seed = seed
        # Elsewhere than on Linux, a fork of a process that has loaded PyTorch may hang.
        self.forks = sys.platform == "linux" and hasattr(os, "fork") and confine.resource is not None
        self.user = _unused_user() if self.forks and os.geteuid() == 0 else None
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
        self._keep_reading = bool(confine.landlock_version()) and not all(map(_open_to_others, needed))

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
        _remove(self._scratch)

    def weaknesses(self) -> list[str]:
        """What this machine cannot protect the grader from, a line each; empty where everything is in place."""
        if not self.forks:
            return ["student code runs in a process of its own, under a time limit, but with all of your rights"]
        return self._weaknesses

    def _missing(self, worker: "Worker") -> list[str]:
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

    def start(self, role: str = "student") -> "Worker":
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

    def release(self, worker: "Worker") -> None:
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
                self._nursery.kill()
                self._nursery.wait()
                if attempt or not descriptors:
                    break
                self._start_nursery()
        raise _not_started(self._scratch / "nursery.txt")

    def _fork(self, orders: dict[str, Any], home: Path) -> "Worker":
        ours, theirs = socket.socketpair()
        output = home.with_name(home.name + "-output")
        with theirs, output.open("wb") as file:
            child = self._order(orders, (theirs.fileno(), file.fileno()))["child"]

        def end(patience: float) -> int:
            try:
                return self._order({"do": "end", "child": child, "patience": patience})["status"]
            except SandboxError:
                return -signal.SIGKILL

        return Worker(self, ours, end, home, output)

    def _spawn(self, orders: dict[str, Any], home: Path) -> "Worker":
        output, token = home.with_name(home.name + "-output"), secrets.token_hex(16)
        with socket.create_server(("127.0.0.1", 0)) as server, output.open("wb") as file:
            port = server.getsockname()[1]
            process = subprocess.Popen(
                [*_BOOT_COMMAND, "connect", str(port), self.config.name],
                stdin=subprocess.PIPE, stdout=file, stderr=file, env=self._environment(),
            )  # fmt: skip
            process.stdin.write(token.encode() + b"\n")
            process.stdin.close()
            deadline = time.monotonic() + START_SECONDS
            while not select.select([server], [], [], 0.2)[0]:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise _not_started(output)
            channel, _ = server.accept()
            try:
                if receive(channel, deadline).get("token") != token:
                    raise SandboxError("a stranger connected to the sandbox; run again")
                send(channel, orders)
            except (OSError, EOFError, ProtocolError):
                process.kill()
                raise _not_started(output) from None

        def end(patience: float) -> int:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(patience)
            process.kill()
            return process.wait()

        return Worker(self, channel, end, home, output)


class Worker:
    """One process that runs student code. After a call that was lost it is gone; start another."""

    def __init__(self, sandbox: Sandbox, channel: socket.socket, end: Callable[[float], int], home: Path, output: Path):
        self.channel = channel
        self._sandbox = sandbox
        self._end = end
        self._home = home
        self._output = output
        self.ended = False
        self.protections = {"paths": False, "calls": False}  # what the kernel could do
        self.fresh = True  # whether to import the student's files anew
        self._calls = 0
        self._last_look = time.monotonic()  # at the scratch folder

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def await_readiness(self) -> None:
        """Wait until the process has given up its rights; nothing of the student's has run in it by then.

        Raises:
            SandboxError: it could not.
        """
        try:
            ready = receive(self.channel, time.monotonic() + START_SECONDS)
        except (EOFError, OSError, ProtocolError):
            error = _not_started(self._output)
            self.end()
            raise error from None
        self.protections = ready["ready"]

    def call(
        self,
        file: str,
        function: str,
        *arguments: Any,
        seconds: float,
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        likelihoods: Mapping[tuple[int, ...], float] | None = None,
        watch: bool = False,
    ) -> Returned:
        """Call a student's function and wait for what it returns.

        Args:
            arguments: plain values, arrays (which become tensors), or references to the worker's own: see `worker.py`
            seconds: how long it may take, by the clock
            answer: answers the questions that the worker asks meanwhile
            likelihoods: what `questions.likelihood.log_likelihood` shall return for these token ids; said in the first
                call to a worker, it holds for all
            watch: also find out whether the model was changed

        Raises:
            Lost: it raised something, took too long, broke a limit, or its process died.
        """
        deadline = time.monotonic() + seconds
        request = {
            "file": file, "function": function, "arguments": list(arguments), "watch": watch,
            "seed": self._sandbox.seed + self._calls, "fresh": self.fresh,
            "likelihoods": list(likelihoods.items()) if likelihoods is not None and self.fresh else None,
        }  # fmt: skip
        self._calls += 1
        self.fresh = False
        try:
            self.channel.settimeout(seconds)
            send(self.channel, request)
            while True:
                message = self._receive(deadline)
                if answer is None or "ask" not in message:
                    return self._outcome(message, sum(isinstance(a, np.ndarray) for a in arguments))
                send(self.channel, answer(message))
        except (ProtocolError, EOFError, OSError, _ScratchFull) as error:
            raise self._lost(error) from None

    def _receive(self, deadline: float) -> dict[str, Any]:
        while not select.select([self.channel], [], [], min(0.2, max(0, deadline - time.monotonic())))[0]:
            self._look_at_scratch()
            if time.monotonic() > deadline:
                raise TimeoutError
        self._look_at_scratch()
        return receive(self.channel, deadline)

    def _look_at_scratch(self) -> None:
        if time.monotonic() - self._last_look < 0.2:
            return
        self._last_look = time.monotonic()
        size = count = 0
        folders = [(self._home, 0)]
        while folders:
            folder, depth = folders.pop()
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    count += 1
                    size += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((entry.path, depth + 1))
                    if size > SCRATCH_BYTES or count > SCRATCH_FILES or depth > SCRATCH_DEPTH:
                        raise _ScratchFull

    def _outcome(self, message: dict[str, Any], tensors_given: int) -> Returned:
        match message:
            case {"raised": {"type": str(name), "text": str(text), "part": None | str() as part}}:
                part = part if part in FILES and _PLACE.fullmatch(text) else None
                if self._printed_too_much():
                    raise Lost(_TOO_MUCH_PRINTED)
                raise Lost("the block is not written yet" if part else _raised(name), _printable(text), part)
            case {
                "returned": {"kind": str(kind), "dtype": str(dtype), "value": value, **more},
                "model_changed": bool(changed),
                "tensors": list(tensors),
            } if len(tensors) == tensors_given and all(isinstance(tensor, np.ndarray) for tensor in tensors):
                return Returned(kind, _printable(dtype[:80]), value, bool(more.get("requires_grad")), changed, tensors)
        raise ProtocolError

    def _lost(self, error: Exception) -> Lost:
        """What kept the call from returning, once its process has ended."""
        gone = isinstance(error, (EOFError, OSError)) and not isinstance(error, TimeoutError)
        status = self.end(patience=2.0 if gone else 0.0)
        printed = self.printed()
        if self._printed_too_much():
            return Lost(_TOO_MUCH_PRINTED)
        if isinstance(error, _ScratchFull):
            return Lost("your code wrote more files than it may", printed)
        if isinstance(error, ProtocolError):
            return Lost("your code's process sent something that is no answer", printed)
        if isinstance(error, TimeoutError):
            return Lost("your code took too long and was stopped", printed)
        if status < 0 and -status == getattr(signal, "SIGXCPU", None):
            return Lost(f"your code used more than {self._sandbox.limits.cpu_seconds} s of processor time", printed)
        if status < 0:
            return Lost("your code's process crashed", f"{_signal_name(-status)}\n{printed}")
        return Lost("your code ended its process instead of returning", f"exit code {status}\n{printed}")

    def _printed_too_much(self) -> bool:
        return self._output.stat().st_size >= self._sandbox.limits.file_size

    def printed(self) -> str:
        """The beginning of what the student's code printed."""
        with self._output.open("rb") as file:
            return _printable(file.read(2000).decode("utf-8", "replace"))

    def end(self, patience: float = 0) -> int | None:
        """End the process and all that it started, and remove what it wrote; how it ended by itself, if it did."""
        if self.ended:
            return None
        self.ended = True
        status = self._end(patience)
        self.channel.close()
        _remove(self._home)
        return status


def _printable(text: str) -> str:
    """`text` without what could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text[:5000])


def _raised(name: str) -> str:
    if name == "SystemExit":
        return "your code called exit() instead of returning"
    if name == "MemoryError":
        return "your code used more memory than it may"
    return "your code raised an error"


def _signal_name(number: int) -> str:
    known = {"SIGSEGV": "segmentation fault", "SIGKILL": "killed", "SIGABRT": "aborted"}
    with contextlib.suppress(ValueError):
        name = signal.Signals(number).name
        return known.get(name, name)
    return f"signal {number}"


def _not_started(output: Path) -> SandboxError:
    reason = output.read_text(errors="replace").strip().splitlines()
    return SandboxError(f"the sandbox could not be started: {reason[-1] if reason else 'its process died'}")


def _unused_user() -> int:
    """The number of a user whom nobody is, and no other grader that runs now."""
    number = 1_000_000 + os.getpid()
    with contextlib.suppress(OSError, ValueError):
        spans = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(first <= number < first + length for first, _, length in spans):  # a container with few users
            number = 20_000 + os.getpid() % 40_000
    return number


def _library() -> list[str]:
    """Where Python and its packages lie."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {path for path in sys.path if path and not ROOT.is_relative_to(path) and os.path.isdir(path)}
    places |= {path for path in (sys.prefix, sys.base_prefix) if path not in ("/", "/usr", "/usr/local")}
    return sorted(places - {str(ROOT)})


def _open_to_others(path: str) -> bool:
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
                    _remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove(folder: Path) -> None:
    """Remove `folder`, however deep, whatever modes a student's code gave to what is in it."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and shutil.which("rm"):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
