"""One thread for all work with the model.

PyTorch keeps a team of threads for every thread that calls it, so it is called from one.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """A thread that does one job after the other."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._has_ended = False
        self._thread = Thread(target=self._serve, daemon=True, name="model")
        self._thread.start()

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns, or raises, in that thread."""
        future: Future[T] = Future()
        self._jobs.put((future, work))
        return await asyncio.wrap_future(future)

    def end(self, seconds: float) -> bool:
        """Do no further job; whether the present one ends within some seconds."""
        self._has_ended = True
        self._jobs.put((Future(), lambda: None))
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._has_ended:
            future, work = self._jobs.get()
            if not future.set_running_or_notify_cancel():  # whoever asked has left
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # whichever it is belongs to whoever asked
                future.set_exception(error)
