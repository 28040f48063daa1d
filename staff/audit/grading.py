"""Run grader.py on one submission, zip in and results.json out, and look at what it left behind."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.files import ROOT
from src.grading.results import GRADER_FAILED
from src.grading.sandbox.confine import is_open_to_others, unused_user
from staff.audit.case import Case
from staff.audit.subject import Subject, load_subject
from staff.make_stubs import stubs

SETTLE_SECONDS = 5.0  # until killed processes have ended
_PLACES = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


@dataclass(frozen=True)
class GraderRun:
    """What the grader made of one submission."""

    subject: Subject
    results: dict[str, Any]  # results.json
    stdout: str
    stderr: str
    exit_code: int | None  # None: it had to be killed
    seconds: float
    left: list[str] = field(default_factory=list)  # processes and files that are still there
    raised: list[str] = field(default_factory=list)  # numbers of tests in which a call did not return; see `many.py`

    def points(self) -> dict[str, float]:
        """Part → points; of an optional part, if it was graded, how many tests pass."""
        earned = dict.fromkeys(self.subject.homework.numbers, 0.0)
        for test in self._tests():
            part = self.subject.part_of_test(test["number"])
            if part is not None:
                worth = test["score"] if test["max_score"] else float(test["status"] == "passed")
                earned[part] = round(earned.get(part, 0.0) + worth, 2)
        return earned

    def hints(self) -> dict[str, set[str]]:
        """Part → the names of the hints that its tests gave.

        They are read from the terminal, which tells the staff the hints of hidden tests, too; students read a hidden
        test's hint only where a visible test has given it.
        """
        given: dict[str, set[str]] = {part: set() for part in self.subject.points}
        part = None
        for line in self.stdout.splitlines():
            if not line.startswith(" "):  # "6.4.1 What the test is about: 0 of 3"
                part = self.subject.part_of_test(line.split(" ")[0])
            elif part is not None and line.strip().startswith("hint: "):
                given[part].update(name for name, text in self.subject.hints.items() if text in line)
        return given

    def wrong_values(self) -> list[str]:
        """The numbers of the tests that lost points because of a wrong value, not because a call did not return."""
        failed = [test["number"] for test in self._tests() if test["status"] == "failed"]
        lost = [number for number in failed if self.subject.part_of_test(number)]
        return [number for number in lost if number not in self.raised]

    def output(self) -> str:
        """Everything that a student can read."""
        return "\n".join([self.results.get("output", ""), *(test.get("output", "") for test in self._tests())])

    def _tests(self) -> list[dict[str, Any]]:
        tests: list[dict[str, Any]] = self.results.get("tests", [])
        return tests


def run_grader(
    subject: Subject,
    submission: Path,
    folder: Path,
    *arguments: str,
    user: int | None = None,
    seconds: float = 120,
    root: Path | None = None,
    python: str = sys.executable,
) -> GraderRun:
    """Grade `submission`; `folder` is for this run alone, and empty.

    Args:
        arguments: of grader.py
        user: the ordinary user who grades; None for whoever runs this
        seconds: after which the grader is killed
        root: the folder of grader.py; the homework's own by default
    """
    scratch, results = folder / "tmp", folder / "results" / "results.json"
    for place in (scratch, results.parent):
        place.mkdir(mode=0o711)
        if user is not None:
            os.chown(place, user, user)
    command = [
        python,
        "-B",
        str((root or subject.homework.home) / "grader.py"),
        "--submission",
        str(submission),
        "--json",
        str(results),
    ]
    began = time.monotonic()
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*as_user(user), *command, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env=os.environ | {"TMPDIR": str(scratch), "HOME": str(scratch), "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )  # fmt: skip
        try:
            exit_code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            exit_code = None
    took = time.monotonic() - began
    users = {user} if user is not None else {unused_user(process.pid)} - {os.geteuid()}
    left = [f"{path.relative_to(folder)} was left" for path in scratch.iterdir()] + _left_by(users)
    content = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    stdout, stderr = ((folder / name).read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr"))
    return GraderRun(subject, content, stdout, stderr, exit_code, took, left)


def grade_case(case: Case, folder: Path, seed: int, user: int | None, port: int, *parts: str) -> GraderRun:
    """Grade the submission of `case` with grader.py, in a folder of its own."""

    def grade(submission: Path) -> GraderRun:
        arguments = ("--seed", str(seed), *parts)
        return run_grader(case.subject, submission, folder, *arguments, user=user, seconds=case.seconds)

    return grade_written(case, folder, port, grade)


def grade_written(case: Case, folder: Path, port: int, grade: Callable[[Path], GraderRun]) -> GraderRun:
    """Write the submission of `case` to a folder of its own, and grade it there with `grade`."""
    folder.mkdir(mode=0o711)
    submission, outside = folder / "submission.zip", folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    results = folder / "results" / "results.json"
    case.write(submission, {"root": ROOT, "results": results, "outside": outside, "port": port})
    submission.chmod(0o644)
    run = grade(submission)
    run.left.extend(f"{path.name} was written outside" for path in outside.iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    return run


def as_user(user: int | None) -> list[str]:
    """The command that runs another as `user`: an ordinary one, who can read what all others can read."""
    if user is None:
        return []
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    if not all(map(is_open_to_others, (sys.base_prefix, sys.prefix, str(ROOT)))):
        # Python or the project is in a home that is closed to others: let this user read every file.
        command += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return command


def _left_by(users: set[int]) -> list[str]:
    """The processes and the files of `users`, whom only this run has."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while processes := _processes(users):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    left = [f"process {name} was left" for name in processes]
    for place in _PLACES:
        for path in place.iterdir() if place.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.lstat().st_uid in users:
                    left.append(f"{path} was left")
    return left


def _processes(users: set[int]) -> list[str]:
    found = []
    for path in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and path.stat().st_uid in users and "Z" not in _state(path):
                found.append(path.name)
    return found


def _state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


@functools.cache
def _secrets(name: str) -> tuple[str, ...]:
    """Pieces of what no student may read: lines of the answers' blocks and of the hidden tests, and the labels."""
    subject = load_subject(name)
    places = [*subject.solution.glob("*.py"), ROOT / subject.hidden_tests]
    lines = {line.strip() for path in places for line in path.read_text(encoding="utf-8").splitlines()}
    public = "".join(stubs(subject.solution).values())
    labels = (path.read_text(encoding="utf-8")[:60] for path in subject.labels)
    return (*(line for line in lines if len(line) > 30 and line not in public and '"""' not in line), *labels)


def problems(case: Case, run: GraderRun, parts: tuple[str, ...] = ()) -> list[str]:
    """How `run` differs from what `case` declares, a line each; empty where it does not."""
    found, parts = list(run.left), parts or case.subject.homework.numbers
    if run.exit_code is None:
        found.append(f"it did not end within {case.seconds:g} s")
    if "Traceback" in run.stderr:
        found.append(f"a traceback: {run.stderr.strip().splitlines()[-1]}")
    expected = {part: points for part, points in case.expected().items() if part in parts}
    points = {part: run.points().get(part, 0.0) for part in expected}
    full = {part: case.subject.points[part] for part in expected}
    for part, (least, most) in expected.items():
        if not least <= points[part] <= most:
            span = f"{least:g} to {most:g}" if most > least else f"{least:g}"
            found.append(f"{part} got {points[part]:g} points, not {span}")
    if run.exit_code not in (None, 0 if points == full else 1):
        found.append(f"exit code {run.exit_code}")
    if case.kind != "hostile":
        found += _wrong_hints(case, run, {part for part in full if points[part] < full[part]}, set(full))
    if case.says and case.says not in run.output():
        found.append(f"nothing says {case.says!r}")
    return found + _broken_rules(case, run)


def _wrong_hints(case: Case, run: GraderRun, lost_in: set[str], parts: set[str]) -> list[str]:
    """The parts whose hints are not those that the case declares: its own where points are lost, none elsewhere."""
    found = []
    for part, hints in run.hints().items():
        expected = set(case.hint) if part in lost_in and case.kind == "wrong" else set()
        if part in parts and hints != expected:
            found.append(f"{part} gave the hints {sorted(hints) or 'none'}, not {sorted(expected) or 'none'}")
    return found


def _broken_rules(case: Case, run: GraderRun) -> list[str]:
    """What must not happen whatever the case is."""
    found = []
    if GRADER_FAILED in run.output():
        found.append("the grader itself failed")
    if "TAKEN" in json.dumps(run.results):  # at the terminal, staff read the hidden tests' details as well
        found.append("it reached what it must not reach")
    own = "".join(case.texts().values())
    if any(secret in run.output() and secret not in own for secret in _secrets(case.subject.homework.name)):
        found.append("a line of the answers, of the hidden tests or of the labels can be read")
    return found
