"""One process that runs student code, seen from the grader: what is asked of it, its limits, what came of a call."""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src import installed
from src.artifacts import FILES
from src.errors import UserError, printable
from src.grading.confine import Limits
from src.grading.protocol import ProtocolError, receive, send

START_SECONDS = 180  # to import PyTorch and load the model, on the slowest of machines
SCRATCH_BYTES, SCRATCH_FILES, SCRATCH_DEPTH = 64_000_000, 1000, 20
_TOO_MUCH_PRINTED = "your code printed far too much"
_PLACE = re.compile(r"questions/\w{1,40}\.py:\d{1,6}")


class SandboxError(UserError):
    """The sandbox itself doesn't work: not the student's fault."""


class Lost(Exception):
    """A call of the student's function gave no value. `reason` never depends on what the function was given."""

    def __init__(self, reason: str, shown: str = "", part: str | None = None, in_time: bool = True):
        super().__init__(reason)
        self.reason = reason
        self.shown = shown  # the student's own traceback or prints: not for hidden tests
        self.part = part  # the part whose block isn't written, where that is the reason
        self.in_time = in_time  # False where it had to be stopped


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
        """The value as a float if it is one number or bool of any kind, or says one, else None."""
        if isinstance(self.value, np.ndarray) and self.value.size == 1:
            return float(self.value.reshape(()))
        if type(self.value) in (int, float, bool):
            with contextlib.suppress(OverflowError):
                return float(self.value)
        if type(self.value) is str:
            with contextlib.suppress(ValueError):
                return float({"True": "1", "False": "0"}.get(self.value, self.value))
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
            return f"{printable(str(self.value)[:60])} ({self.dtype})"
        return f"a value of type {self.dtype}"


class Worker:
    """One process that runs student code. After a call that was lost it is gone; start another."""

    def __init__(
        self, seed: int, limits: Limits, channel: socket.socket, end: Callable[[float], int], home: Path, output: Path
    ):
        self.channel = channel
        self._seed = seed
        self._limits = limits
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
            self.end(patience=5)  # it may be about to say why
            raise not_started(self._output) from None
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
            "seed": self._seed + self._calls, "fresh": self.fresh,
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
                    return outcome(message, sum(isinstance(a, np.ndarray) for a in arguments))
                send(self.channel, answer(message))
        except Lost:
            if self._printed_too_much():
                raise Lost(_TOO_MUCH_PRINTED) from None
            raise
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
            return Lost("your code took too long and was stopped", printed, in_time=False)
        if status < 0 and -status == getattr(signal, "SIGXCPU", None):
            return Lost(f"your code used more than {self._limits.cpu_seconds} s of processor time", printed)
        if status < 0:
            return Lost("your code's process crashed", f"{_signal_name(-status)}\n{printed}")
        return Lost("your code ended its process instead of returning", f"exit code {status}\n{printed}")

    def _printed_too_much(self) -> bool:
        return self._output.stat().st_size >= self._limits.file_size

    def printed(self) -> str:
        """The beginning of what the student's code printed."""
        with self._output.open("rb") as file:
            return printable(file.read(2000).decode("utf-8", "replace"))

    def end(self, patience: float = 0) -> int | None:
        """End the process and all that it started, and remove what it wrote; how it ended by itself, if it did."""
        if self.ended:
            return None
        self.ended = True
        status = self._end(patience)
        self.channel.close()
        remove(self._home)
        return status


def outcome(message: dict[str, Any], tensors_given: int) -> Returned:
    """What a worker's last `message` about a call says that the function returned; it was given so many tensors.

    Raises:
        Lost: the function raised something.
        ProtocolError: it is no such message.
    """
    match message:
        case {"raised": {"type": str(name), "text": str(text), "part": None | str() as part}}:
            part = part if part in FILES and _PLACE.fullmatch(text) else None
            raise Lost("the block is not written yet" if part else _raised(name), printable(text), part)
        case {
            "returned": {"kind": str(kind), "dtype": str(dtype), "value": value, **more},
            "model_changed": bool(changed),
            "tensors": list(tensors),
        } if len(tensors) == tensors_given and all(isinstance(tensor, np.ndarray) for tensor in tensors):
            return Returned(kind, printable(dtype[:80]), value, bool(more.get("requires_grad")), changed, tensors)
    raise ProtocolError


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


def not_started(output: Path) -> SandboxError:
    """The error of a process that wrote its last words to `output`."""
    reason = output.read_text(errors="replace").strip().splitlines()
    others = installed.differing()
    remedy = f" (installed is {', '.join(others)}; {installed.REMEDY})" if others else ""
    return SandboxError(f"the sandbox could not be started: {reason[-1] if reason else 'its process died'}{remedy}")


def remove(folder: Path) -> None:
    """Remove `folder`, however deep, whatever modes a student's code gave to what is in it."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and shutil.which("rm"):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
