"""Faults on the grader's side: what goes wrong there must never look like a student's zero or full score."""

import ast
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.files import ROOT
from src.grading.results import GRADER_FAILED, UNFINISHED
from staff.audit.case import Case
from staff.audit.channels import CHANNELS, FaultImpossible, small_disk
from staff.audit.grading import GraderRun, run_grader
from staff.audit.subject import Subject
from staff.release import autograder_files, copy_tree

MOMENTS = (0.5, 0.9, 1.4, 2.0, 2.6, 3.2, 4.0, 5.0)  # seconds after which the grader is killed

Check = Callable[[Subject, Path], list[str]]  # a homework and an empty folder → what is not as it should be


def _answers(subject: Subject, folder: Path) -> Path:
    """The reference answers as a zip."""
    path = folder / "answers.zip"
    Case(subject, "right", "reference", "").write(path, {})
    return path


def _tree(subject: Subject, folder: Path) -> Path:
    """A copy of the grader, as Gradescope has it."""
    tree = folder / "tree"
    copy_tree(subject.homework, autograder_files(subject.homework), tree)
    return tree


def _graded(subject: Subject, folder: Path, submission: Path | None = None, **options: Any) -> GraderRun:
    place = folder / "grading"
    place.mkdir(mode=0o711)
    return run_grader(subject, submission or _answers(subject, folder), place, **options)


def _refused(run: GraderRun, *says: str) -> list[str]:
    """Problems unless the grader ended with one clear line and no points, and told the student why, too."""
    found = []
    if run.exit_code in (0, None):
        found.append(f"exit code {run.exit_code}")
    line = run.stderr.strip()
    if not line.startswith("error: ") or "\n" in line:
        found.append(f"not one line: {line[-300:]!r}")
    found += [f"the line does not say {text!r}: {line}" for text in says if text not in line]
    if run.results.get("score") != 0 or "could not be graded" not in run.results.get("output", ""):
        found.append(f"results.json says {run.results.get('score')}, {run.results.get('output')!r}")
    return found + run.left


def killed(subject: Subject, folder: Path) -> list[str]:
    """The grader is killed at one of eight moments"""
    found, submission = [], _answers(subject, folder)
    for moment in MOMENTS:
        place = folder / f"{moment}"
        place.mkdir()
        results = place / "results.json"
        process = _started(subject, submission, results, place)
        time.sleep(moment)
        over = process.poll() is not None
        process.kill()
        process.wait()
        try:
            content = json.loads(results.read_text(encoding="utf-8"))
        except ValueError:
            found.append(f"after {moment} s, results.json is not JSON")
            continue
        if content["score"] != round(sum(test["score"] for test in content["tests"]), 2):
            found.append(f"after {moment} s, the score is not the sum of the tests' scores")
        if over == (UNFINISHED in content["output"]):
            found.append(f"after {moment} s, results.json says {content['output']!r}")
    return found


def _started(subject: Subject, submission: Path, results: Path, scratch: Path) -> "subprocess.Popen[str]":
    """A grader that has written its first results.json."""
    process = subprocess.Popen(
        [
            sys.executable, str(subject.homework.home / "grader.py"), "--submission", str(submission),
            "--json", str(results),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(scratch)}, text=True,
    )  # fmt: skip
    while not results.exists() and process.poll() is None:
        time.sleep(0.01)
    return process


def ended(subject: Subject, folder: Path) -> list[str]:
    """The grader gets SIGTERM, or SIGHUP twice, at one of eight moments"""
    found, submission = [], _answers(subject, folder)
    for moment in MOMENTS:
        place = folder / f"{moment}"
        scratch, results = place / "tmp", place / "results.json"
        scratch.mkdir(parents=True)
        process = _started(subject, submission, results, scratch)
        time.sleep(moment)
        for number in [signal.SIGTERM] if MOMENTS.index(moment) % 2 else [signal.SIGHUP, signal.SIGHUP]:
            process.send_signal(number)
            time.sleep(0.05)
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            found.append(f"after {moment} s, the signal did not end it")
            continue
        found += [f"after {moment} s, {path.name} was left" for path in [*scratch.iterdir(), *place.glob(".*")]]
        content = json.loads(results.read_text(encoding="utf-8"))
        if (UNFINISHED in content["output"]) != (process.returncode == 130) or "Traceback" in errors:
            found.append(f"after {moment} s, exit code {process.returncode}, {content['output']!r}, {errors[-300:]!r}")
    return found


def forged(subject: Subject, folder: Path) -> list[str]:
    """On Gradescope, code that can write everywhere forges the results, and then the grader is killed"""
    (folder / "source").symlink_to(_tree(subject, folder))
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "venv" / "bin" / "python").chmod(0o755)
    shutil.copytree(subject.solution, folder / "submission" / "questions")
    results = folder / "results" / "results.json"
    with subprocess.Popen(
        ["bash", str(ROOT / "staff" / "gradescope" / "run_autograder")],
        env=os.environ | {"AUTOGRADER_ROOT": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ):  # fmt: skip
        time.sleep(MOMENTS[-3])
        results.write_text(json.dumps({"score": 99, "output": "forged", "tests": []}), encoding="utf-8")
        for process in _running_with(str(folder / "submission")):
            os.kill(process, signal.SIGKILL)
    content = json.loads(results.read_text(encoding="utf-8"))
    left = [path.name for path in folder.iterdir() if path.name.startswith("private")]
    return [f"results.json says {content['output']!r}"] * (content["score"] == 99) + [
        f"{name} was left" for name in left
    ]


def _running_with(argument: str) -> list[int]:
    """The processes of Python that were started with this argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().split(b"\0")
            if argument.encode() in command and b"python" in command[0]:
                found.append(int(path.parent.name))
    return found


def full_disk(subject: Subject, folder: Path) -> list[str]:
    """The disk is full where the results go, or where submissions are unpacked"""
    found = []
    for where in ("results", "tmp"):
        with small_disk(folder / where, "64k") as disk:
            (disk / "filler").write_bytes(b"x" * 61440)  # which leaves 4096 bytes
            grader = str(subject.homework.home / "grader.py")
            command = [sys.executable, grader, "--submission", str(_answers(subject, folder))]
            results = (disk if where == "results" else folder) / "results.json"
            process = subprocess.run(
                [*command, "--json", str(results)], capture_output=True, text=True, check=False,
                env=os.environ | ({"TMPDIR": str(disk)} if where == "tmp" else {}),
            )  # fmt: skip
            content = json.loads(results.read_text(encoding="utf-8"))
            if process.returncode == 0 or content["score"] >= sum(subject.full.values()):
                found.append(f"{where}: exit code {process.returncode}, score {content['score']}")
            if not process.stderr.startswith("error: ") or "No space left" not in process.stderr:
                found.append(f"{where}: {process.stderr.strip()[-300:]!r}")
            if not content["output"]:
                found.append(f"{where}: results.json does not say that anything is wrong")
    return found


def _weights(subject: Subject, tree: Path) -> Path:
    """The weights of the model with which `tree` grades.

    Raises:
        FaultImpossible: the homework has no model.
    """
    for place in subject.model_files:
        for path in (tree / place).rglob("*.safetensors"):
            return path
    raise FaultImpossible("this homework has no model")


def missing_model(subject: Subject, folder: Path) -> list[str]:
    """The model's weights are missing"""
    tree = _tree(subject, folder)
    weights = _weights(subject, tree)
    weights.unlink()
    return _refused(_graded(subject, folder, root=tree), "is missing", weights.name)


def damaged_model(subject: Subject, folder: Path) -> list[str]:
    """The model's weights are cut off"""
    tree = _tree(subject, folder)
    weights = _weights(subject, tree)
    os.truncate(weights, 1_000_000)
    return _refused(_graded(subject, folder, root=tree), weights.name)


def _empty_environment(folder: Path) -> Path:
    """The Python of a new virtual environment without any package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    return folder / "venv" / "bin" / "python"


def other_library(subject: Subject, folder: Path) -> list[str]:
    """Another PyTorch is installed, with which the model does not work"""
    python = _empty_environment(folder)
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    (packages / "real.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "torch").mkdir()
    (packages / "torch" / "__init__.py").write_text(
        "__version__ = '1.4.0'\nraise ImportError('a library of another age')\n"
    )
    (packages / "torch-1.4.0.dist-info").mkdir()
    (packages / "torch-1.4.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.4.0\n")
    return _refused(_graded(subject, folder, python=str(python)), "torch 1.4.0 instead of", "another age")


def missing_library(subject: Subject, folder: Path) -> list[str]:
    """A package is not installed"""
    run = _graded(subject, folder, python=str(_empty_environment(folder)))
    if run.exit_code == 1 and "missing in" in run.stderr and run.stderr.count("\n") == 1:
        return run.left
    return [run.stderr[-300:] or f"exit code {run.exit_code}"]


def _old_kernel(version: int, *says: str) -> Check:
    """The check that right answers get their points where the kernel's Landlock is older, and that this is said."""

    def check(subject: Subject, folder: Path) -> list[str]:
        tree = _tree(subject, folder)
        path = tree / "src" / "grading" / "sandbox" / "landlock.py"
        source = path.read_text(encoding="utf-8")
        path.write_text(source.replace("return max(0, int(found))", f"return min({version}, int(found))"))
        run = _graded(subject, folder, root=tree)
        if version == 0 and "is closed to other users" in run.stderr:
            raise FaultImpossible("this Python lies in a folder that is closed to other users")
        found = [f"nothing says {text!r}" for text in says if text not in run.output()]
        if run.points() != subject.full:
            found.append(f"points {run.points()}; {run.stderr[-300:]!r}")
        return found + run.left

    check.__doc__ = f"The kernel's Landlock has version {version} (0: it has none)"
    return check


def inside_the_environment(subject: Subject, folder: Path) -> list[str]:
    """The project lies in the virtual environment's folder, which student code may read"""
    python = _empty_environment(folder)
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    (packages / "real.pth").write_text(sysconfig.get_path("purelib") + "\n")
    tree = python.parent.parent / "project"
    copy_tree(subject.homework, autograder_files(subject.homework), tree)
    answers = _answers(subject, folder)
    with zipfile.ZipFile(answers) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    spy = (
        f"\nwith open({str(tree / subject.hidden_tests)!r}) as file:\n    raise RuntimeError('TAKEN ' + file.read())\n"
    )
    with zipfile.ZipFile(answers, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text + spy)
    run = _graded(subject, folder, answers, root=tree, python=str(python))
    found = ["it read the hidden tests"] if "TAKEN" in run.output() else []
    if "Permission denied" not in run.output():
        found.append(f"it was not refused: {run.output()[:300]!r}, {run.stderr[-300:]!r}")
    return found + run.left


def broken_test(subject: Subject, folder: Path) -> list[str]:
    """A hidden test itself has a mistake"""
    tree = _tree(subject, folder)
    _break_a_test(tree / subject.hidden_tests)
    run = _graded(subject, folder, root=tree)
    failed = [test for test in run.results.get("tests", []) if GRADER_FAILED in test.get("output", "")]
    found = list(run.left)
    if len(failed) != 1 or run.exit_code != 1:
        found.append(f"of {len(failed)} tests it is said that the grader failed; exit code {run.exit_code}")
    expected = subject.full
    for test in failed:
        expected[subject.part_of_test(test["number"]) or ""] -= test["max_score"]
    if run.points() != expected:
        found.append(f"points {run.points()}")
    return found


def _break_a_test(path: Path) -> None:
    """Let the first test in the file at `path` use a name that does not exist."""
    source = path.read_text(encoding="utf-8")
    tests = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    test = next(node for node in tests if node.name.startswith("test_"))
    statement = test.body[1]  # after the docstring, which is its name
    lines = source.splitlines(keepends=True)
    lines.insert(statement.lineno - 1, " " * statement.col_offset + "no_such_check(self)\n")
    path.write_text("".join(lines), encoding="utf-8")


def missing_data(subject: Subject, folder: Path) -> list[str]:
    """The texts for a test are missing"""
    if subject.facts.data is None:
        raise FaultImpossible("no test of this homework needs a file of data")
    tree = _tree(subject, folder)
    (tree / subject.facts.data).unlink()
    run = _graded(subject, folder, root=tree)
    found = list(run.left)
    if GRADER_FAILED not in run.output() or run.exit_code != 1:
        found.append(f"nothing says that the grader failed: {run.output()[-300:]!r}")
    return found


def _unusable(about: str, write: Callable[[Path], object], *says: str) -> Check:
    """The check that what `write` makes is refused, and that the message contains all of `says`."""

    def check(subject: Subject, folder: Path) -> list[str]:
        submission = folder / "submission.zip"
        write(submission)
        return _refused(_graded(subject, folder, submission), *says)

    check.__doc__ = about
    return check


def _zip_of(names: Sequence[str]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "")

    return write


def empty_files(subject: Subject, folder: Path) -> list[str]:
    """All files of the questions are there, and empty"""
    submission = folder / "submission.zip"
    _zip_of([f"questions/{name}" for name in subject.homework.question_files])(submission)
    run = _graded(subject, folder, submission)
    found = list(run.left)
    if run.points() != dict.fromkeys(subject.full, 0.0) or "has no function" not in run.output():
        found.append(f"{run.points()}, {run.output()[:300]!r}")
    return found


FAULTS: Mapping[str, Check] = {
    "killed": killed,
    "ended": ended,
    "forged": forged,
    "full-disk": full_disk,
    "missing-model": missing_model,
    "damaged-model": damaged_model,
    "other-library": other_library,
    "missing-library": missing_library,
    "kernel-without-landlock": _old_kernel(0, "this kernel has no Landlock"),
    "kernel-with-landlock-2": _old_kernel(2),
    "kernel-with-landlock-5": _old_kernel(5),
    "inside-the-environment": inside_the_environment,
    "broken-test": broken_test,
    "missing-data": missing_data,
    "empty-zip": _unusable("The submission is an empty zip", _zip_of([]), "holds none of"),
    "empty-folders": _unusable("The zip holds only folders", _zip_of(["questions/", "submit/"]), "holds none of"),
    "empty-file": _unusable("The submission is a file of 0 bytes", Path.touch, "is damaged or not a zip"),
    "no-file": _unusable("There is no submission", lambda path: None, "there is no such file"),
    "other-homework": _unusable("The zip holds something else", _zip_of(["README.md", "main.c"]), "holds none of"),
    "empty-files": empty_files,
    **CHANNELS,
}
