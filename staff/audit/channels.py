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
from staff.audit.subject import Channel, Subject


class FaultImpossible(CourseworkError):
    """This machine cannot produce the fault."""


_SIGNAL = """
if {is_hidden}:
{signal}
{right}
"""


def _read(channel: Channel, subject: Subject, folder: Path, signal: str) -> dict[str, Any]:
    """What a student can read of the results of right answers of which one does `signal` at a hidden input."""
    block = _SIGNAL.replace("{is_hidden}", channel.is_hidden)
    block = block.replace("{signal}", textwrap.indent(signal.strip(), "    "))
    submission = folder / "submission.zip"
    Case(subject, "hostile", "channel", "", blocks={channel.part: block}).write(submission, {})
    return run_grader(subject, submission, folder, channel.part, "--seed", "1").results


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


def _differences(about: str, signals: Callable[[Channel], tuple[str, str]]) -> Callable[[Subject, Path], list[str]]:
    """The check that students read the same, whichever of the `signals` their code sends."""

    def check(subject: Subject, folder: Path) -> list[str]:
        channel = subject.facts.channel
        if channel is None:
            raise FaultImpossible("code cannot tell this homework's hidden inputs from others")
        read = []
        for i, signal in enumerate(signals(channel)):
            with small_disk(folder / str(i), "50m") as disk:
                read.append(_read(channel, subject, disk, signal))
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
        lambda channel: channel.wrong,
    ),
    "reason-that-tells": _differences(
        "A hidden input decides which kind of wrong value is returned",
        lambda channel: (channel.other_kind, channel.wrong[1]),
    ),
    "error-that-tells": _differences(
        "A hidden input decides whether an error is raised, or the process ended",
        lambda _: ("raise ValueError", "import os\nos._exit(0)"),
    ),
    "full-disk-that-tells": _differences(
        "A hidden input decides whether the disk is filled", lambda _: ("return 0.0", _FILL)
    ),
    "time-that-tells": _differences(
        "A hidden input decides how long the grading takes", lambda _: (_sleep(0), _sleep(2))
    ),
}
