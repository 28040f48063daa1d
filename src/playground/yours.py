"""Homework 1's functions of the student, called on what the page shows. A failure becomes text: the page lives on."""

import ctypes
import dataclasses
import importlib
import linecache
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from src.errors import StudentCodeError
from src.grading import student_code
from src.grading.part_test import hint_of
from src.grading.program import described_value
from src.hw1 import oracle
from src.hw1.hints.exceptions import diagnose_exception
from src.hw1.messages import FILTERED
from src.playground import numbers
from src.playground.mind import Ids, Mind
from src.playground.numbers import Setting
from src.playground.problem import Problem

T = TypeVar("T")

SECONDS = 20.0  # that a function may take


@dataclass(frozen=True)
class Likelihood:
    """What `log_likelihood` returned, beside the library's value."""

    value: float
    difference: float  # to the library's
    is_same: bool  # but for rounding in float32


@dataclass(frozen=True)
class Scaled:
    """What `temperature_scale` returned, as probabilities."""

    p: tuple[float, ...]  # of the tokens with a bar
    difference: float  # the largest to the library's, of any token
    is_same: bool  # but for rounding in float32


@dataclass
class Yours:
    """The functions in a folder, which is read again when a file in it has changed. Not for several threads at once."""

    folder: Path
    seconds: float = SECONDS
    _stamp: str = field(default="", repr=False)

    def stamp(self) -> str:
        """A text that changes when a file of the folder does."""
        files = sorted(self.folder.glob("*.py"))
        return ";".join(f"{path.name} {_time(path)}" for path in files)

    def log_likelihood(self, mind: Mind, ids: Ids, total: float) -> Likelihood | Problem:
        """The student's value for a text, beside the library's `total`."""

        def work() -> Likelihood:
            value = self._function("likelihood.py", "log_likelihood")(mind.model, mind.tensor(ids))
            if type(value) is not float or not math.isfinite(value):
                raise self._wrong_value("likelihood.py", "log_likelihood", value, "a finite Python float")
            return Likelihood(value, value - total, oracle.close(value, total))

        return self._tried(work)

    def scaled(self, mind: Mind, ids: Ids, setting: Setting, horizon: int) -> Scaled | Problem:
        """The distribution that the student's `temperature_scale` makes of the next token's."""
        k = setting.top_k if horizon == 1 else setting.candidates
        state = mind.after(ids)
        right = mind.distribution(ids, setting, horizon)
        shown = [piece.id for piece in mind.next(ids, setting).tokens]
        row = np.where(numbers.kept(state.row, k) > 0, state.row, FILTERED).astype(np.float32)
        config = dataclasses.replace(mind.config, top_k=k)

        def work() -> Scaled:
            function = self._function("sample.py", "temperature_scale")
            logits = torch.from_numpy(row)[None].to(mind.device)
            value = function(logits, mind.model, state.past, config, setting.temperature, horizon)
            if not isinstance(value, Tensor) or value.shape != logits.shape or not value.is_floating_point():
                raise self._wrong_value(
                    "sample.py", "temperature_scale", value, f"logits of shape {tuple(logits.shape)}"
                )
            log_p = oracle.log_softmax(value[0].float().cpu().numpy())
            p = np.exp(log_p)
            if not np.isfinite(p).all():
                raise StudentCodeError(f"{self.folder / 'sample.py'}: temperature_scale returned NaN or only -inf")
            with np.errstate(divide="ignore"):
                is_same = oracle.same_distribution(log_p, np.log(right))
            return Scaled(tuple(p[shown].tolist()), float(np.abs(p - right).max()), is_same)

        return self._tried(work)

    def draw(self, mind: Mind, ids: Ids, setting: Setting, horizon: int, seed: int) -> int | Problem:
        """One token that the student's `sample` draws after `ids`. At T = 1, nothing has to be scaled."""
        temperature = None if setting.temperature == 1 and horizon == 1 else setting.temperature
        top_k = setting.top_k if horizon == 1 else setting.candidates
        config = dataclasses.replace(mind.config, top_k=top_k)

        def work() -> int:
            torch.manual_seed(seed)
            text = mind.tensor(ids)
            value = self._function("sample.py", "sample")(mind.model, text, config, 1, temperature, horizon)
            expected = (1, len(ids) + 1)
            if not isinstance(value, Tensor) or value.dtype != torch.long or value.shape != expected:
                raise self._wrong_value("sample.py", "sample", value, f"a LongTensor of shape {expected}")
            token = int(value[0, -1])
            if not 0 <= token < mind.config.vocab_size:
                raise StudentCodeError(f"{self.folder / 'sample.py'}: sample returned {token}, which is no token")
            return token

        return self._tried(work)

    def _wrong_value(self, file: str, function: str, value: object, expected: str) -> StudentCodeError:
        what = described_value(value)
        return StudentCodeError(f"{self.folder / file}: {function} returned {what}, but must return {expected}")

    def _function(self, file: str, name: str) -> Callable[..., Any]:
        if (stamp := self.stamp()) != self._stamp:
            student_code.forget()
            importlib.invalidate_caches()
            linecache.clearcache()
            self._stamp = stamp
        return student_code.load_function(self.folder, file, name)

    def _tried(self, work: Callable[[], T]) -> T | Problem:
        try:
            with torch.inference_mode(), _limited(self.seconds):
                return work()
        except StudentCodeError as error:
            return Problem("wrong", str(error))
        except BaseException as error:  # Ctrl-C never comes to this thread: whatever it is, it is theirs
            problem = self._problem(error)
            if problem is None:
                raise
            return problem

    def _problem(self, error: BaseException) -> Problem | None:
        failure = student_code.failure(error, self.folder)
        if failure is None:
            return None
        if failure.part is not None and failure.is_begun:
            return Problem("error", f"{student_code.spelled(failure.place)}: {student_code.left_line(failure.part)}")
        if failure.part is not None:
            return Problem("unwritten", f"{failure.part} is not written yet", failure.place)
        if isinstance(error, TimeoutError) and not str(error):
            text = f"your code was stopped after {self.seconds:g} seconds, at {student_code.spelled(failure.place)}"
            return Problem("error", text, failure.text)
        hint = hint_of(diagnose_exception(failure.error, failure.line))
        return Problem("error", f"your code raised {failure.error}", failure.text + (f"\nhint: {hint}" if hint else ""))


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in this thread after some seconds: between two instructions of Python, never within one."""
    lock, running, thread = threading.Lock(), [True], threading.get_ident()

    def stop() -> None:
        with lock:
            if running[0]:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeoutError))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            running[0] = False
        timer.cancel()


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it was deleted meanwhile
        return 0
