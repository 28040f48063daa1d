"""Variations of the reference answers, and what grader.py says of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from src.files import ROOT
from src.grading.results import points_of
from src.hw1.parts import HOMEWORK

SOLUTION = ROOT / "staff" / "hw1" / "solution"
# For `copytree`: what tests that run meanwhile may be writing to the project's folders.
CHANGING = ".venv .git dist submit __pycache__ .*_cache .hypothesis .experiments .playground *.zip node_modules"
IGNORED = shutil.ignore_patterns(*CHANGING.split())
POINTS = points_of(HOMEWORK)  # by part, as the decorators at the tests say
FULL = {number: points.total for number, points in POINTS.items() if number in HOMEWORK.numbers}


def varied(folder: Path, file: str, *replacements: tuple[str, str]) -> Path:
    """A copy of the reference answers in `folder`, with `replacements` (old, new) made in `file`."""
    shutil.copytree(SOLUTION, folder, ignore=IGNORED)
    source = (folder / file).read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in source, f"{old!r} isn't in {file}"
        source = source.replace(old, new)
    (folder / file).write_text(source, encoding="utf-8")
    return folder


def graded(
    submission: Path, results: Path, *arguments: str, root: Path = ROOT, seed: int | None = 1, **options
) -> dict:
    """The content of results.json for `submission`, with `stdout`, `stderr` and `exit`. `seed` None: as the grader draws it."""
    arguments = (*arguments, *(() if seed is None else ("--seed", str(seed))))
    command = [sys.executable, root / "grader.py", "--submission", submission, "--json", results, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    said = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    return said | {"stdout": process.stdout, "stderr": process.stderr, "exit": process.returncode}


def points(results: dict) -> dict[str, float]:
    """Part → points earned."""
    earned: dict[str, float] = {}
    for test in results["tests"]:
        part = ".".join(test["number"].split(".")[:2])
        earned[part] = earned.get(part, 0) + test["score"]
    return earned
