"""One submission through grader.py, zip in and results.json out, and a look at what it left behind."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from src.config import ROOT
from src.grading.diagnosis import HINTS
from src.grading.sandbox import open_to_others, unused_user
from staff.audit.case import FULL, Case

SETTLE_SECONDS = 5.0  # for processes that were killed to be gone
_PLACES = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


@dataclass(frozen=True)
class Grading:
    """What came of one submission."""

    results: dict
    stdout: str
    stderr: str
    exit_code: int | None  # None: it had to be killed
    seconds: float
    left: list[str] = field(default_factory=list)  # processes and files that are still there

    def points(self) -> dict[str, float]:
        """Part → points."""
        earned = dict.fromkeys(FULL, 0.0)
        for test in self.results.get("tests", []):
            part = ".".join(test["number"].split(".")[:2])
            if part in earned:
                earned[part] = round(earned[part] + test["score"], 2)
        return earned

    def hints(self) -> dict[str, set[str]]:
        """Part → the names of the hints that its tests gave."""
        given: dict[str, set[str]] = {part: set() for part in FULL}
        for test in self.results.get("tests", []):
            part = ".".join(test["number"].split(".")[:2])
            _, _, hint = test.get("output", "").partition("hint: ")
            given.setdefault(part, set()).update(name for name, text in HINTS.items() if text in hint)
        return given

    def said(self) -> str:
        """All that a student can read."""
        outputs = [test.get("output", "") for test in self.results.get("tests", [])]
        return "\n".join([self.results.get("output", ""), *outputs])


def grade(
    submission: Path, folder: Path, *arguments: str, user: int | None = None, seconds: float = 120, root: Path = ROOT,
    python: str = sys.executable,
) -> Grading:  # fmt: skip
    """Grade `submission`; `folder` is this grading's own, and empty.

    Args:
        arguments: of grader.py
        user: the ordinary user who grades; None for whoever runs this
        seconds: after which the grader is killed
        root: where grader.py lies
    """
    scratch, results = folder / "tmp", folder / "results" / "results.json"
    for place in (scratch, results.parent):
        place.mkdir(mode=0o711)
        if user is not None:
            os.chown(place, user, user)
    command = [python, "-B", str(root / "grader.py"), "--submission", str(submission), "--json", str(results)]
    began = time.monotonic()
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*_as_user(user), *command, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
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
    said = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    texts = [(folder / name).read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr")]
    return Grading(said, *texts, exit_code, took, left)


def grade_case(case: Case, folder: Path, seed: int, user: int | None, port: int, *parts: str) -> Grading:
    """Grade the submission of `case` in a folder of its own."""
    folder.mkdir(mode=0o711)
    submission, outside = folder / "submission.zip", folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    results = folder / "results" / "results.json"
    case.write(submission, {"root": ROOT, "results": results, "outside": outside, "port": port})
    submission.chmod(0o644)
    grading = grade(submission, folder, "--seed", str(seed), *parts, user=user, seconds=case.seconds)
    grading.left.extend(f"{path.name} was written outside" for path in outside.iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    return grading


def _as_user(user: int | None) -> list[str]:
    """What makes a command run as `user`: an ordinary one, who can read what the others can."""
    if user is None:
        return []
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
    if not (open_to_others(sys.base_prefix) and open_to_others(sys.prefix) and open_to_others(str(ROOT))):
        # Python or the project lies in a closed home: this user may read them, and everything else, nevertheless.
        command += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return command


def _left_by(users: set[int]) -> list[str]:
    """The processes and the files of `users`, who are this grading's alone."""
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
def _secrets() -> tuple[str, ...]:
    """Pieces of what no student may read: lines of the answers' blocks and of the hidden tests, and the labels."""
    places = [*(ROOT / "staff" / "solution").glob("*.py"), ROOT / "staff" / "hidden_tests.py"]
    lines = {line.strip() for path in places for line in path.read_text(encoding="utf-8").splitlines()}
    public = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "questions").glob("*.py"))
    labels = (ROOT / "staff" / "labels" / "snippets.json").read_text(encoding="utf-8")
    return (*(line for line in lines if len(line) > 30 and line not in public and '"""' not in line), labels[:60])


def complaints(case: Case, grading: Grading, parts: tuple[str, ...] = ()) -> list[str]:
    """In what `grading` isn't what `case` declares; nothing where all is as it should be."""
    found = list(grading.left)
    if grading.exit_code is None:
        found.append(f"it did not end within {case.seconds:g} s")
    if "Traceback" in grading.stderr:
        found.append(f"a traceback: {grading.stderr.strip().splitlines()[-1]}")
    expected = {part: points for part, points in case.expected().items() if not parts or part in parts}
    points = {part: grading.points()[part] for part in expected}
    for part, (least, most) in expected.items():
        if not least <= points[part] <= most:
            found.append(
                f"{part} got {points[part]:g} points, not {least:g}" + (f" to {most:g}" if most > least else "")
            )
    if grading.exit_code not in (None, 0 if points == {part: FULL[part] for part in expected} else 1):
        found.append(f"exit code {grading.exit_code}")
    lost_in = {part for part in expected if points[part] < FULL[part]}
    for part, hints in grading.hints().items():
        if part in expected and hints != (set(case.hint) if part in lost_in and case.kind == "wrong" else set()):
            if case.kind == "hostile":
                continue
            found.append(f"{part} gave the hints {sorted(hints) or 'none'}, not {sorted(case.hint) or 'none'}")
    if case.says and case.says not in grading.said():
        found.append(f"nothing says {case.says!r}")
    if "the grader itself failed" in grading.said():
        found.append("the grader itself failed")
    if "TAKEN" in json.dumps(grading.results):  # at the terminal, staff see the hidden tests' details as well
        found.append("it got hold of what is not meant for it")
    own = "".join(case.texts().values())
    if any(secret in grading.said() and secret not in own for secret in _secrets()):
        found.append("a line of the answers, of the hidden tests or of the labels can be read")
    return found
