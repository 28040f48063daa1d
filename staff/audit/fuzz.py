"""Fuzz what reads untrusted bytes: the intake, the pickle reader, the protocol's receiving end, the config reader.

    python -m staff.audit.fuzz HOMEWORK TARGET SECONDS

The inputs are described in `grammar.py`. A reader may refuse an input with its own kind of error. Any other error
breaks it, and so does too much time or memory, or a file that it leaves behind. An input that broke a reader is kept in
`inputs/TARGET/`, and every later run repeats it.
"""

import contextlib
import hashlib
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from src.errors import ConfigError, CourseworkError, IntakeError, PickleError, ProtocolError
from src.files import ROOT, write_file
from src.grading.intake import MAX_TOTAL, unpack
from src.grading.safe_pickle import read_float_array, read_plain
from src.grading.sandbox.messages import Raised, Returned
from src.grading.sandbox.protocol import receive
from src.grading.submission import artifact_problems
from src.model.config import load_config
from staff.audit.grammar import inputs
from staff.audit.subject import Subject, load_subject

INPUTS = Path(__file__).parent / "inputs"
SECONDS_EACH = 5.0  # of processor time for one input
MEMORY = 4_000_000_000  # bytes of address space for all of a fuzzing process
ROUND = 300  # inputs between two looks at the clock

Reader = Callable[[bytes, Subject, Path], None]  # an input, the homework, an empty folder


class ReaderBroken(CourseworkError):
    """A reader did what it must not do."""


# --- the readers, each with what it may raise ---


def submission(content: bytes, subject: Subject, folder: Path) -> None:
    """The intake, from a zip, and the check of the submit/ in it"""
    (folder / "beside").mkdir()
    source, into = folder / "beside" / "s.zip", folder / "into" / "deep"
    into.mkdir(parents=True)
    source.write_bytes(content)
    with contextlib.suppress(IntakeError):
        unpack(subject.homework, source, into)
        artifact_problems(subject.homework, into, ROOT, "questions")
    outside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_relative_to(into)}
    if outside != {"beside", "beside/s.zip", "into"}:
        raise ReaderBroken(f"wrote {sorted(outside)}")
    files = [path for path in into.rglob("*") if not path.is_dir()]
    if any(path.is_symlink() for path in files) or sum(path.stat().st_size for path in files) > MAX_TOTAL:
        raise ReaderBroken("unpacked a link, or too much")


def pickled(content: bytes, subject: Subject, folder: Path) -> None:
    """The readers of pickles"""
    path = folder / "p.pkl"
    path.write_bytes(content)
    for read in (read_plain, read_float_array):
        try:
            value = read(path)
        except PickleError:
            continue
        if type(value) not in (dict, list, str, bytes, int, float, bool, type(None), np.ndarray):
            raise ReaderBroken(f"read a {type(value).__name__}")


def message(content: bytes, subject: Subject, folder: Path) -> None:
    """The receiving end of the protocol, and what the grader does with a worker's message"""
    answerer = subject.facts.answerer() if subject.facts.answerer else None
    expected = (Returned, Raised, answerer.question) if answerer else (Returned, Raised)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        theirs.setblocking(False)
        try:
            theirs.sendall(content)
        except BlockingIOError:
            return  # longer than what is tested here
        theirs.close()
        deadline = time.monotonic() + 60  # of a machine that does something else: all has been sent
        with contextlib.suppress(EOFError, ProtocolError):
            received = receive(ours, *expected, deadline=deadline)
            if isinstance(received, Returned):
                received.number()
                received.description()
            elif answerer and not isinstance(received, Raised):
                answerer.answer(received)


def config(content: bytes, subject: Subject, folder: Path) -> None:
    """The reader of config.yml"""
    path = folder / "config.yml"
    path.write_bytes(content)
    try:
        load_config(path, "fuzzed")
    except ConfigError as error:
        if len(str(error)) > 2000:
            raise ReaderBroken(f"an error of {len(str(error))} characters") from None


READERS: Mapping[str, Reader] = {"submission": submission, "pickle": pickled, "protocol": message, "config": config}


def readers(subject: Subject) -> Mapping[str, Reader]:
    """Those that a homework has: without a model, it reads no configuration of one."""
    return {name: reader for name, reader in READERS.items() if name != "config" or subject.model_files}


# --- running them ---


def attempt(target: str, subject: Subject, content: bytes) -> None:
    """Give `content` to the reader `target`.

    Raises:
        Exception: the reader broke.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        began = time.process_time()
        READERS[target](content, subject, Path(folder))
        took = time.process_time() - began
    if took > SECONDS_EACH:
        raise ReaderBroken(f"took {took:.0f} s")


def fuzz(target: str, subject: Subject, seconds: float, seeds: random.Random | None = None) -> int:
    """Give inputs to the reader `target` for so long, but ROUND at least; returns how many there were.

    Args:
        seeds: where the seed of each round comes from; by default, it is another one every time

    Raises:
        Exception: the reader broke; the input is kept in `inputs/`.
    """
    count, end, latest = 0, time.monotonic() + seconds, b""

    def attempt_one(content: bytes) -> None:
        nonlocal count, latest
        count, latest = count + 1, content
        attempt(target, subject, content)

    quiet = settings(
        max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], print_blob=False,
    )  # fmt: skip
    seeds = seeds or random.SystemRandom()
    while not count or time.monotonic() < end:
        try:
            seed(seeds.getrandbits(60))(quiet(given(inputs(target, subject))(attempt_one)))()
        except BaseException:
            name = hashlib.sha256(latest).hexdigest()[:12]
            write_file(INPUTS / target / f"{name}.bin", latest)
            raise
    return count


def replay(target: str, subject: Subject) -> list[str]:
    """Give all kept inputs to the reader `target` again; returns what broke."""
    found = []
    for path in sorted((INPUTS / target).glob("*.bin")):
        try:
            attempt(target, subject, path.read_bytes())
        except Exception as error:
            found.append(f"inputs/{target}/{path.name}: {type(error).__name__}: {str(error)[:200]}")
    return found


def check(homework: str, target: str, seconds: float, folder: Path) -> list[str]:
    """Fuzz the reader `target` in a process of its own, with a limit on its memory; returns what broke."""
    command = [sys.executable, "-m", "staff.audit.fuzz", homework, target, str(seconds)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if process.returncode == 0:
        return []
    return (process.stdout + process.stderr).strip().splitlines()[-3:] or ["the process died"]


def main() -> int:
    subject, target, seconds = load_subject(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.gettempdir()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    broken = replay(target, subject)
    if not broken:
        try:
            print(f"{target}: {fuzz(target, subject, seconds):,} inputs, none broke it")
            return 0
        except BaseException as error:
            broken = [f"{target}: {type(error).__name__}: {str(error)[:300]}; kept in staff/audit/inputs/{target}"]
    print("\n".join(broken))
    return 1


if __name__ == "__main__":
    sys.exit(main())
