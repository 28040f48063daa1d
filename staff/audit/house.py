"""Faults of the house: what goes wrong on the grader's side must never look like a student's zero or full score."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from src.config import ROOT
from staff.audit.case import FULL, Case
from staff.audit.grading import Grading, grade
from staff.release import AUTOGRADER, copy_tree

MOMENTS = (0.5, 0.9, 1.4, 2.0, 2.6, 3.2, 4.0, 5.0)  # seconds after which the grader is killed
WEIGHTS = Path("checkpoints", "gpt2-mini", "model.safetensors")


class NotHere(Exception):
    """This machine can't produce the fault."""


def _answers(folder: Path) -> Path:
    """The reference answers as a zip."""
    path = folder / "answers.zip"
    Case("right", "reference", "").write(path, {})
    return path


def _tree(folder: Path) -> Path:
    """A copy of the grader, as Gradescope has it."""
    tree = folder / "tree"
    copy_tree(AUTOGRADER, tree)
    return tree


def _graded(folder: Path, submission: Path | None = None, **options: object) -> Grading:
    place = folder / "grading"
    place.mkdir(mode=0o711)
    return grade(submission or _answers(folder), place, **options)


def _refused(grading: Grading, *says: str) -> list[str]:
    """Complaints unless the grading ended with one clear line and no points, and said why to the student, too."""
    found = []
    if grading.exit_code in (0, None):
        found.append(f"exit code {grading.exit_code}")
    if not grading.stderr.startswith("error: ") or grading.stderr.strip().count("\n"):
        found.append(f"not one line: {grading.stderr.strip()[-300:]!r}")
    found += [
        f"the line does not say {text!r}: {grading.stderr.strip()}" for text in says if text not in grading.stderr
    ]
    if grading.results.get("score") != 0 or "could not be graded" not in grading.results.get("output", ""):
        found.append(f"results.json says {grading.results.get('score')}, {grading.results.get('output')!r}")
    return found + grading.left


def killed(folder: Path) -> list[str]:
    """The grader is killed at one of eight moments"""
    found, submission = [], _answers(folder)
    for moment in MOMENTS:
        place = folder / f"{moment}"
        place.mkdir()
        results = place / "results.json"
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "grader.py"), "--submission", str(submission), "--json", str(results)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(place)},
        )  # fmt: skip
        while not results.exists() and process.poll() is None:  # the moments count from the first results.json on
            time.sleep(0.01)
        time.sleep(moment)
        over = process.poll() is not None
        process.kill()
        process.wait()
        try:
            said = json.loads(results.read_text(encoding="utf-8"))
        except ValueError:
            found.append(f"after {moment} s, results.json is no JSON")
            continue
        if said["score"] != round(sum(test["score"] for test in said["tests"]), 2):
            found.append(f"after {moment} s, the score isn't the sum of the tests'")
        if over == ("did not come to its end" in said["output"]):
            found.append(f"after {moment} s, results.json says {said['output']!r}")
    return found


def full_disk(folder: Path) -> list[str]:
    """The disk is full where the results go, or where submissions are unpacked"""
    found = []
    for where in ("results", "tmp"):
        disk = folder / where
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode:
            raise NotHere("no small disk can be mounted here")
        try:
            (disk / "filler").write_bytes(b"x" * 61440)  # which leaves 4096 bytes
            command = [sys.executable, str(ROOT / "grader.py"), "--submission", str(_answers(folder))]
            results = (disk if where == "results" else folder) / "results.json"
            process = subprocess.run(
                [*command, "--json", str(results)], capture_output=True, text=True, check=False,
                env=os.environ | ({"TMPDIR": str(disk)} if where == "tmp" else {}),
            )  # fmt: skip
            said = json.loads(results.read_text(encoding="utf-8"))
            if process.returncode == 0 or said["score"] >= sum(FULL.values()):
                found.append(f"{where}: exit code {process.returncode}, score {said['score']}")
            if not process.stderr.startswith("error: ") or "No space left" not in process.stderr:
                found.append(f"{where}: {process.stderr.strip()[-300:]!r}")
            if not said["output"]:
                found.append(f"{where}: results.json doesn't say that anything is wrong")
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    return found


def missing_model(folder: Path) -> list[str]:
    """The model's weights are missing"""
    tree = _tree(folder)
    (tree / WEIGHTS).unlink()
    return _refused(_graded(folder, root=tree), "is missing", WEIGHTS.name)


def damaged_model(folder: Path) -> list[str]:
    """The model's weights are cut off"""
    tree = _tree(folder)
    os.truncate(tree / WEIGHTS, 1_000_000)
    return _refused(_graded(folder, root=tree), WEIGHTS.name)


def other_library(folder: Path) -> list[str]:
    """Another PyTorch is installed, with which the model doesn't work"""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    (packages / "real.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "torch").mkdir()
    (packages / "torch" / "__init__.py").write_text(
        "__version__ = '1.4.0'\nraise ImportError('a library of another age')\n"
    )
    (packages / "torch-1.4.0.dist-info").mkdir()
    (packages / "torch-1.4.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.4.0\n")
    return _refused(_graded(folder, python=str(python)), "torch 1.4.0 instead of", "another age")


def missing_library(folder: Path) -> list[str]:
    """A package is not installed"""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    grading = _graded(folder, python=str(folder / "venv" / "bin" / "python"))
    if grading.exit_code == 1 and "missing in" in grading.stderr and grading.stderr.count("\n") == 1:
        return grading.left
    return [grading.stderr[-300:] or f"exit code {grading.exit_code}"]


def broken_test(folder: Path) -> list[str]:
    """A hidden test itself has a mistake"""
    tree = _tree(folder)
    tests = tree / "staff" / "hidden_tests.py"
    text = tests.read_text(encoding="utf-8")
    tests.write_text(text.replace("checks.likelihoods(self, None,", "checks.no_such_check(self,"), encoding="utf-8")
    grading = _graded(folder, root=tree)
    found = list(grading.left)
    if "the grader itself failed here, which is not your fault" not in grading.said() or grading.exit_code != 1:
        found.append("the broken test is not said to be the grader's fault")
    if grading.points() != FULL | {"6.4": 6.0}:
        found.append(f"points {grading.points()}")
    return found


def missing_data(folder: Path) -> list[str]:
    """The texts for the classifier are missing"""
    tree = _tree(folder)
    (tree / "data" / "random.pkl").unlink()
    grading = _graded(folder, root=tree)
    found = list(grading.left)
    if "the grader itself failed here, which is not your fault" not in grading.said() or grading.exit_code != 1:
        found.append(f"nothing says that the grader failed: {grading.said()[-300:]!r}")
    return found


def _empty(name: str, write: Callable[[Path], object], *says: str) -> Callable[[Path], list[str]]:
    def check(folder: Path) -> list[str]:
        submission = folder / "submission.zip"
        write(submission)
        return _refused(_graded(folder, submission), *says)

    check.__doc__ = name
    return check


def _zip_of(names: Sequence[str]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "")

    return write


def empty_files(folder: Path) -> list[str]:
    """The three files are there, and empty"""
    submission = folder / "submission.zip"
    _zip_of([f"questions/{name}.py" for name in ("sample", "likelihood", "classifier")])(submission)
    grading = _graded(folder, submission)
    found = list(grading.left)
    if grading.points() != dict.fromkeys(FULL, 0.0) or "has no function" not in grading.said():
        found.append(f"{grading.points()}, {grading.said()[:300]!r}")
    return found


FAULTS = {
    "killed": killed,
    "full-disk": full_disk,
    "missing-model": missing_model,
    "damaged-model": damaged_model,
    "other-library": other_library,
    "missing-library": missing_library,
    "broken-test": broken_test,
    "missing-data": missing_data,
    "empty-zip": _empty("The submission is an empty zip", _zip_of([]), "holds none of"),
    "empty-folders": _empty("The zip holds folders alone", _zip_of(["questions/", "submit/"]), "holds none of"),
    "empty-file": _empty("The submission is a file of 0 bytes", Path.touch, "is damaged or no zip"),
    "no-file": _empty("There is no submission", lambda path: None, "there is no such file"),
    "other-homework": _empty("The zip holds something else", _zip_of(["README.md", "main.c"]), "holds none of"),
    "empty-files": empty_files,
}
