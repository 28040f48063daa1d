"""Run an implementation in a process of its own, so that the thread pools of several do not compete."""

import contextlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

from torch import Tensor

from staff.bench.implementations import CTranslate2, Ours, Plain, StepTimes, Transformers

QUIET = 0.25  # seconds after which the threads of the implementation that ran before no longer wait actively


class OwnProcess:
    """An implementation that runs in a process of its own."""

    def __init__(self, implementation: type, *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, implementation, arguments), daemon=True)
        self._process.start()
        other_end.close()
        self._pipe.recv()  # it is ready

    def decode(self, prompts: Tensor, tokens: int) -> StepTimes:
        """The result of its `decode`."""
        times: StepTimes = self._call("decode", prompts, tokens)
        return times

    def products(self, batch: int, context: int, tokens: int) -> float:
        """The result of `Ours.products`."""
        seconds: float = self._call("products", batch, context, tokens)
        return seconds

    def _call(self, method: str, *arguments: Any) -> Any:
        time.sleep(QUIET)
        self._pipe.send((method, arguments))
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, implementation: type, arguments: tuple[Any, ...]) -> None:
    instance = implementation(*arguments)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(instance, method)(*arguments))


def start_all(name: str) -> dict[str, OwnProcess]:
    """Label → each implementation of the model `name`; ours comes first."""
    return {
        "ours": OwnProcess(Ours, name),
        "ours, bfloat16": OwnProcess(Ours, name, "bfloat16"),
        "transformers": OwnProcess(Transformers, name),
        "transformers, bfloat16": OwnProcess(Transformers, name, "bfloat16"),
        "CTranslate2": OwnProcess(CTranslate2, name, "float32"),
        "CTranslate2, int8": OwnProcess(CTranslate2, name, "int8"),
        "plain": OwnProcess(Plain, name),
    }
