"""Run an implementation in a process of its own, so that the thread pools of several do not compete.

It decodes block by block: after each block, it waits in the middle of its work until the next block is wanted, so that
others can have their turn.
"""

import math
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

PATIENCE = 300  # seconds until an implementation that does not answer is given up
_starting = threading.Lock()  # a process inherits the environment of the moment in which it starts


class ContenderFailed(Exception):
    """An implementation cannot do what was asked, or its process has ended."""


@dataclass(frozen=True)
class Block:
    """Mean seconds of the tokens of a block, for the whole batch."""

    seconds: float
    model: float  # the model's part of it; nan if it is not known


class Ticks:
    """Called by an implementation after each token: takes the time, and waits at the end of each block.

    A block has one token more than are timed: its first begins in a cold cache, with sleeping threads.
    """

    def __init__(self, pipe: Connection, block: int, blocks: int):
        self.block = block
        self._pipe, self._left = pipe, blocks
        self._times: list[float] = []
        self._model: list[float] = []

    def __call__(self, model: float = math.nan) -> None:
        """A token is complete; `model` is the number of seconds that the model took for it."""
        self._times.append(time.perf_counter())
        self._model.append(model)
        if len(self._times) == self.block + 1:
            self.report((self._times[-1] - self._times[0]) / self.block, statistics.fmean(self._model[1:]))
            self._times, self._model = [], []

    def report(self, seconds: float, model: float = math.nan) -> None:
        """A block is complete, with these seconds a token. Wait for the next one to be wanted, if there is any."""
        self._pipe.send(Block(seconds, model))
        self._left -= 1
        if self._left:
            self._pipe.recv()


class OwnProcess:
    """An implementation that runs in a process of its own.

    Raises:
        ContenderFailed: it cannot be made; the same is raised by each method if the implementation fails.
    """

    def __init__(self, implementation: type, *arguments: Any, environment: Mapping[str, str] | None = None):
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, implementation, arguments), daemon=True)
        self._session: tuple[Tensor, int, int] | None = None
        with _starting:
            before = dict(os.environ)
            os.environ.update(environment or {})
            self._process.start()
            for name in environment or {}:
                del os.environ[name]
            os.environ.update(before)
        other_end.close()
        self._answer()  # it is ready

    def start(self, prompts: Tensor, block: int, blocks: int) -> None:
        """From the next call of `block` on, continue `prompts` (B, T), by `blocks` blocks of `block` tokens each."""
        self._session = prompts, block, blocks

    def block(self) -> Block:
        """Decode the next block of tokens."""
        self._send(("decode", *self._session) if self._session else ("go on",))
        self._session = None
        block: Block = self._answer()
        return block

    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Logits (B, V) of the token after `prompts` (B, T), except for a constant."""
        self._send(("logits", prompts))
        logits: NDArray[np.float32] = self._answer()
        return logits

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise ContenderFailed("its process has ended") from None

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(PATIENCE):
                self._process.kill()
                raise ContenderFailed(f"no answer within {PATIENCE} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ContenderFailed(f"its process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, ContenderFailed):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe: Connection, implementation: type, arguments: tuple[Any, ...]) -> None:
    try:
        instance = implementation(*arguments)
        pipe.send("ready")
        while True:
            method, *details = pipe.recv()
            if method == "decode":
                prompts, block, blocks = details
                instance.decode(prompts, blocks * (block + 1), Ticks(pipe, block, blocks))
            else:
                pipe.send(instance.logits(*details))
    except EOFError:
        pass  # it is no longer needed
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        pipe.send(ContenderFailed(f"{type(error).__name__}: {first_line}"[:200]))
