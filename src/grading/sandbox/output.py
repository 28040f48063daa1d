"""What a process prints, read from a pipe by a thread of the grader. Only the beginning is kept."""

import os
import threading

from src.errors import printable

KEPT = 20_000  # bytes
_PIECE = 65_536


class Output:
    """Reads until `limit` bytes were printed, then closes the pipe."""

    def __init__(self, limit: int):
        self._source, self.descriptor = os.pipe()  # a process that prints to `descriptor` must get it
        self._limit = limit
        self._kept = b""
        self._size = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def given(self) -> None:
        """The process has its copy of `descriptor`; this process needs it no longer."""
        os.close(self.descriptor)

    def _read(self) -> None:
        with open(self._source, "rb", buffering=0) as source:
            while self._size < self._limit and (piece := source.read(_PIECE)):
                self._size += len(piece)
                self._kept += piece[: KEPT - len(self._kept)]

    @property
    def is_too_much(self) -> bool:
        """Whether the process printed more than it may."""
        return self._size >= self._limit

    def text(self, length: int = 2000) -> str:
        """The first `length` bytes that were printed so far."""
        return printable(self._kept[:length].decode("utf-8", "replace"))

    def wait(self) -> None:
        """Wait until everything is read that an ended process has printed."""
        self._thread.join(1.0)
