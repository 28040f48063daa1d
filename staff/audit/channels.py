"""Channels out of a hidden test: what students read must not depend on what their code does with a hidden input.

Each check grades two submissions that earn the same points, and differ only in what they do when they see a hidden
input. A student must read the same of both.
"""

import contextlib
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from src.errors import CourseworkError
from staff.audit.case import Case
from staff.audit.grading import run_grader
from staff.audit.subject import Subject


class FaultImpossible(CourseworkError):
    """This machine cannot produce the fault."""


# In the visible tests of `log_likelihood`, a text has one of these lengths; any other comes from a hidden test.
_SIGNAL = """
if hasattr(model, "_channel") and text.size(1) not in (4, 9, 30):
{signal}
{right}
"""
_WRONG = """
log_p = torch.log_softmax(model(text)[0], dim=-1)[:, :-1].gather(-1, text[:, 1:, None])
return {value}
"""


def _read(subject: Subject, folder: Path, signal: str) -> dict[str, Any]:
    """What a student can read of the results of right answers whose `log_likelihood` does `signal` at a hidden text."""
    part = next(part.number for part in subject.homework.parts if part.function == "log_likelihood")
    block = _SIGNAL.replace("{signal}", textwrap.indent(signal.strip(), "    "))
    submission = folder / "submission.zip"
    Case(subject, "hostile", "channel", "", blocks={part: block}).write(submission, {})
    return run_grader(subject, submission, folder, part, "--seed", "1").results


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of this size, mounted at the new folder `folder`.

    Raises:
        FaultImpossible: only root can mount one.
    """
    folder.mkdir(mode=0o711)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "tmpfs", str(folder)]
    if subprocess.run(command, check=False).returncode:
        raise FaultImpossible("no small disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _differences(about: str, *signals: str) -> Callable[[Subject, Path], list[str]]:
    """The check that students read the same, whichever of the `signals` their code sends."""

    def check(subject: Subject, folder: Path) -> list[str]:
        read = []
        for i, signal in enumerate(signals):
            with small_disk(folder / str(i), "50m") as disk:
                read.append(_read(subject, disk, signal))
        first, second = read
        keys = [key for key in {*first, *second} if first.get(key) != second.get(key)]
        return [f"{key} tells a hidden input: {first.get(key)!r:.300}, {second.get(key)!r:.300}" for key in keys]

    check.__doc__ = about
    return check


def _sleep(seconds: int) -> str:
    return f"import time\ntime.sleep({seconds})"


_FILL = """
import contextlib
with contextlib.suppress(OSError):
    for i in range(100):
        open(f"filler-{i}", "wb").write(bytes(7_000_000))
return 0.0
"""

CHANNELS: Mapping[str, Callable[[Subject, Path], list[str]]] = {
    "hint-that-tells": _differences(
        "A wrong value is chosen by a hidden input, for the hint that it gets",
        _WRONG.replace("{value}", "log_p.mean().item()"),
        _WRONG.replace("{value}", "-log_p.sum().item()"),
    ),
    "reason-that-tells": _differences(
        "A hidden input decides which kind of wrong value is returned",
        "return torch.zeros(2)",
        _WRONG.replace("{value}", "-log_p.sum().item()"),
    ),
    "error-that-tells": _differences(
        "A hidden input decides whether an error is raised, or the process ended",
        "raise ValueError",
        "import os\nos._exit(0)",
    ),
    "full-disk-that-tells": _differences("A hidden input decides whether the disk is filled", "return 0.0", _FILL),
    "time-that-tells": _differences("A hidden input decides how long the grading takes", _sleep(0), _sleep(4)),
}
