"""One worker, seen from the grader: what it is asked, its limits, and what became of a call."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from src.errors import CallFailed, ProtocolError, SandboxError, printable
from src.grading import dependencies, student_code
from src.grading.homework import Homework
from src.grading.sandbox.memory import MemoryLimit
from src.grading.sandbox.messages import (
    BREAKPOINT,
    DISK_FULL,
    INPUT,
    Argument,
    Call,
    Raised,
    Reference,
    Returned,
    WorkerReady,
)
from src.grading.sandbox.output import KEPT, Output
from src.grading.sandbox.protocol import Message, receive, send
from src.grading.sandbox.watch import Watch, is_too_full, threads_of

START_SECONDS = 180  # to import PyTorch and load the model, on the slowest of machines
_SHOWN_LINES, _SHOWN_CHARACTERS = 20, 2000  # of what a student's code printed
_PRINTED_TOO_MUCH = "your code printed far too much"
_WROTE_TOO_MUCH = "your code wrote more files than it may"
NOT_WRITTEN = "the block is not written yet"
_MEMORY = "your code used more memory than it may"
_THREADS = "your code started more threads than it may"
_PLACE = re.compile(r"questions/\w{1,40}\.py:\d{1,6}")


class Answerer(Protocol):
    """What answers the questions that a worker asks during a call: a model that lives in the grader."""

    question: type[Message]

    def answer(self, question: Any) -> Message:
        """The answer to such a question; a ProtocolError ends the call."""


@dataclass(frozen=True)
class Place:
    """Where a worker's process and its files are."""

    home: Path  # the only folder in which it may write
    output: Output  # what it prints
    process: int | None = None  # which is watched; None: it runs no student code
    memory: MemoryLimit | None = None  # on what it may use beyond what it has at first
    is_unchanged: Callable[[], bool] = lambda: True  # the model that it uses, as far as can be seen from outside


class WorkerClient:
    """One worker. After a call that raised no error and returned no value, its process has ended: start another."""

    def __init__(
        self, homework: Homework, seed: int, channel: socket.socket, end: Callable[[float, bool], int], place: Place
    ):
        self.channel = channel
        self.fresh = True  # whether the next call imports the student's files anew
        self.protections = WorkerReady(landlock=0, seccomp=False, own_disk=False, reads=None)
        self._homework = homework
        self._seed = seed
        self._end = end
        self._place = place
        self._status: int | None = None  # how the process ended
        self._calls = 0
        self._printed_before = 0  # how many characters
        self._watch: Watch | None = None
        self._broken: str | None = None  # the limit for which the process was ended

    def __enter__(self) -> "WorkerClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def await_ready(self) -> None:
        """Wait until the process has given up its rights; no student code has run in it by then.

        Raises:
            SandboxError: it could not.
        """
        try:
            self.protections = receive(self.channel, WorkerReady, deadline=time.monotonic() + START_SECONDS)
        except (EOFError, OSError, ProtocolError):
            self.end(patience=5)  # it may be about to print why
            raise start_error(self._place.output.text()) from None
        if self.protections.reads is not None:
            self.end()
            raise SandboxError(
                f"student code could read {self.protections.reads} here; grade as root, on a kernel with Landlock "
                "(Linux 5.13 or newer), or with the project in another folder"
            )
        if self._place.process is not None:
            self._watch = Watch(self._place.process, self._excess)

    def run(
        self,
        file: str,
        function: str,
        *arguments: Argument,
        seconds: float,
        answerer: Answerer | None = None,
        stand_in: Reference | None = None,
        watch: bool = False,
        through: Reference | None = None,
    ) -> Returned:
        """Call a student's function and wait for what it returns.

        Args:
            arguments: plain values, arrays (which become tensors), and references to objects of the worker
            seconds: of wall-clock time
            answerer: answers the questions that the worker asks meanwhile
            stand_in: replaces another part's function in this call; give one to all calls of a worker, or to none
            watch: also find out whether the model was changed; the worker must have been started for that
            through: calls the function with the arguments instead, and returns what it has measured

        Raises:
            CallFailed: it raised something, took too long, broke a limit, or its process died.
        """
        deadline = time.monotonic() + seconds
        seed, fresh = self._seed + self._calls, self.fresh
        call = Call(file, function, arguments, seed, fresh, watch, stand_in, through)
        self._printed_before = len(self._printed()) if fresh else self._printed_before
        self._calls, self.fresh = self._calls + 1, False
        try:
            self.channel.settimeout(seconds)
            send(self.channel, call)
            returned = self._outcome(answerer, sum(isinstance(a, np.ndarray) for a in arguments), deadline)
            return replace(returned, model_changed=True) if watch and not self._place.is_unchanged() else returned
        except CallFailed:
            if self._printed_too_much():
                raise CallFailed(_PRINTED_TOO_MUCH) from None
            raise
        except (ProtocolError, EOFError, OSError) as error:
            raise self._failure(error) from None

    def _outcome(self, answerer: Answerer | None, tensors: int, deadline: float) -> Returned:
        """What the call returned, which was given so many tensors; until then, questions are answered."""
        questions = (answerer.question,) if answerer else ()
        while True:
            message = receive(self.channel, Returned, Raised, *questions, deadline=deadline)
            if isinstance(message, Returned):
                if len(message.tensors) != tensors:
                    raise ProtocolError(f"{len(message.tensors)} tensors came back, not {tensors}")
                return message
            if isinstance(message, Raised):
                raise call_failed(self._homework, message)
            assert answerer is not None
            send(self.channel, answerer.answer(message))

    def _excess(self) -> str | None:
        """The limit that the process has broken, if any."""
        process, limits = self._place.process, self._homework.limits
        if self._place.memory is not None and self._place.memory.exceeded():
            return _MEMORY
        if process is not None and threads_of(process) > limits.threads:
            return _THREADS
        if not self.protections.own_disk and is_too_full(self._place.home, limits):
            return _WROTE_TOO_MUCH
        return None

    def _failure(self, error: Exception) -> CallFailed:
        """Why the call did not return, once its process has ended."""
        timed_out = isinstance(error, TimeoutError)
        died = isinstance(error, (EOFError, OSError)) and not timed_out
        status = self.end(patience=2.0 if died else 0.0)
        printed = self.printed()
        if self._printed_too_much():
            return CallFailed(_PRINTED_TOO_MUCH)
        if self._broken is not None:
            return CallFailed(self._broken, printed)
        if timed_out:
            return CallFailed("your code took too long and was stopped", printed, timed_out=True)
        if isinstance(error, ProtocolError):
            return CallFailed("your code's process sent a malformed message", printed)
        if status < 0 and -status == getattr(signal, "SIGXCPU", None):
            seconds = self._homework.limits.cpu_seconds
            return CallFailed(f"your code used more than {seconds} s of processor time", printed)
        if status < 0:
            return CallFailed("your code's process crashed", f"{_signal_name(-status)}\n{printed}")
        return CallFailed("your code ended its process instead of returning", f"exit code {status}\n{printed}")

    def _printed_too_much(self) -> bool:
        return self._place.output.is_too_much

    def printed(self) -> str:
        """The first lines that the student's code printed since it was last imported."""
        return _first_lines(self._printed()[self._printed_before :])

    def _printed(self) -> str:
        """The beginning of what the student's code printed."""
        return self._place.output.text(KEPT)

    def end(self, patience: float = 0) -> int:
        """End the process and all that it started, and remove what it wrote.

        Returns:
            how it ended by itself, if it did within `patience` seconds; negative for a signal
        """
        if self._status is None:
            self._status = self._end(patience, not self.protections.seccomp)  # else it could start no processes
            self._broken = self._watch.stop() if self._watch is not None else None
            self.channel.close()
            self._place.output.wait()
            if self._place.memory is not None:
                self._place.memory.close()
            remove(self._place.home)
        return self._status

    @property
    def limits_memory(self) -> bool:
        """Whether the process's memory can be limited from outside."""
        return self._place.memory is not None and self._place.memory.works

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._status is not None


def _first_lines(text: str) -> str:
    """The first lines of what a student's code printed."""
    text = text.rstrip()
    shown = printable("\n".join(text[:_SHOWN_CHARACTERS].split("\n")[:_SHOWN_LINES]))
    return shown if len(shown) == len(text) else f"{shown}\n… (and more)"


def call_failed(homework: Homework, message: Raised) -> CallFailed:
    """What came of a call that raised an error, which `message` describes."""
    known = message.part in homework.all_numbers and _PLACE.fullmatch(message.text)
    if known and message.is_begun:
        problem = student_code.left_line(str(message.part))
        details = f"{student_code.spelled(message.text)}: {problem}"
        return CallFailed(f"{message.part}: {problem}", details, message.part)
    if known:
        reason = f"{message.part}: {NOT_WRITTEN}"
        return CallFailed(reason, f"{reason}: {message.text}", message.part)
    if message.type_name in (BREAKPOINT, INPUT):
        return CallFailed(f"{message.type_name} does not work in the grader's sandbox", needs_terminal=True)
    reasons = {
        "SystemExit": "your code called exit() instead of returning",
        "MemoryError": _MEMORY,
        DISK_FULL: _WROTE_TOO_MUCH,
    }
    reason = reasons.get(message.type_name, "your code raised an error")
    return CallFailed(reason, printable(message.text), error=message.error[:1000], line=message.line[:1000])


def _signal_name(number: int) -> str:
    known = {"SIGSEGV": "segmentation fault", "SIGKILL": "killed", "SIGABRT": "aborted"}
    with contextlib.suppress(ValueError):
        name = signal.Signals(number).name
        return known.get(name, name)
    return f"signal {number}"


def start_error(printed: str) -> SandboxError:
    """The error of a process that did not start, and printed why."""
    reason = printed.strip().splitlines()
    others = dependencies.differing()
    remedy = f" (installed is {', '.join(others)}; {dependencies.REMEDY})" if others else ""
    return SandboxError(f"the sandbox could not be started: {reason[-1] if reason else 'its process died'}{remedy}")


def remove(folder: Path) -> None:
    """Remove `folder`, however deep, whatever modes a student's code gave to what is in it."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and shutil.which("rm"):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
