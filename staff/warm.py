"""Processes that have loaded everything already, and grade many submissions, one after the other.

PyTorch is imported and the model is loaded once for each such process, not once for each submission: its fork server
serves all of them. What is done with a submission is a function `graded(homework, server, **order)` of the module that
is named to the process; orders and replies are JSON, one a line.
"""

import contextlib
import importlib
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.errors import CourseworkError
from src.files import ROOT
from src.grading.sandbox.client import START_SECONDS
from src.grading.sandbox.confine import die_with_parent
from src.grading.sandbox.forking import ForkServer
from staff.declaration import load_homework


class GraderDied(CourseworkError):
    """One of these processes ended, or had to be killed; its submission has no results."""


class Graders:
    """Such processes, started when they are needed. Use it as a context manager; threads may share it."""

    def __init__(self, module: str, homework: str, folder: Path):
        """Args:
        module: whose `graded` grades a submission
        folder: for their temporary files; every user must be able to reach it
        """
        self._module = module
        self._homework = homework
        self._folder = folder
        self._idle: dict[tuple[str, ...], queue.SimpleQueue[_Grader]] = {}  # by the command that starts them
        self._all: list[_Grader] = []
        self._is_stopped = False

    def __enter__(self) -> "Graders":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let these processes end, and wait for them; no more are started."""
        self._is_stopped = True
        for grader in self._all:
            grader.close()

    def ask(
        self, order: Mapping[str, Any], seconds: float, starter: tuple[str, ...] = (), owner: int | None = None
    ) -> dict[str, Any]:
        """The reply to `order` of the next process that is free.

        Args:
            seconds: after which the process is killed
            starter: the command that starts it as another user, who is the `owner` of its files

        Raises:
            GraderDied: it ended without a reply, or had to be killed.
        """
        if self._is_stopped:
            raise GraderDied("no more submissions are graded")
        with self._free(starter, owner) as grader:
            return grader.ask(order, seconds)

    def stop(self) -> None:
        """Kill all of these processes; no more are started."""
        self._is_stopped = True
        for grader in self._all:
            grader.process.kill()  # and with it dies its fork server, and all workers of that

    @contextlib.contextmanager
    def _free(self, starter: tuple[str, ...], owner: int | None) -> Iterator["_Grader"]:
        idle = self._idle.setdefault(starter, queue.SimpleQueue())
        try:
            grader = idle.get_nowait()
        except queue.Empty:
            grader = _Grader(
                [*starter, sys.executable, "-B", "-m", __name__, self._module, self._homework], self._folder, owner
            )
            self._all.append(grader)
        yield grader
        if grader.process.poll() is None:
            idle.put(grader)


class _Grader:
    """One process."""

    def __init__(self, command: list[str], folder: Path, owner: int | None):
        scratch = Path(tempfile.mkdtemp(prefix="warm-", dir=folder))
        scratch.chmod(0o711)
        if owner is not None:
            os.chown(scratch, owner, owner)
        self._log = scratch.with_suffix(".txt")
        self._start_seconds = START_SECONDS
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env=os.environ | {"TMPDIR": str(scratch), "HOME": str(scratch)},
            )  # fmt: skip

    def ask(self, order: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to an order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], seconds + self._start_seconds)[0]:
                raise GraderDied(f"it did not end within {seconds:g} s")
            self._start_seconds = 0
            return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]
        except (OSError, ValueError, GraderDied) as error:
            self.close()
            said = self._log.read_text(errors="replace").strip() if self._log.exists() else ""
            raise GraderDied(said or str(error)) from None

    def close(self) -> None:
        """End it, and with it its fork server."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()  # which is how it learns that nothing more comes
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Carry out the orders of standard input with `graded` of the module, for the homework, that argv names."""
    die_with_parent()
    graded, homework = importlib.import_module(sys.argv[1]).graded, load_homework(sys.argv[2])
    with (
        tempfile.TemporaryDirectory(prefix="fork-server-") as folder,
        ForkServer(homework, homework.find_model("bundled"), Path(folder)) as server,
    ):
        for line in sys.stdin:
            process = server.process
            reply = graded(homework, server, **json.loads(line))
            if server.process is not process or process.poll() is not None:
                sys.exit("the process that forks workers died")  # and a worker with it: no student may pay for that
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
