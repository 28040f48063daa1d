"""What the tests of homework 1's commands share: one full run, and reference answers to change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.hw1.parts import HOMEWORK
from tests.answers import IGNORED, SOLUTION

FILES = {
    part.number: tuple(artifact.name for artifact in part.artifacts) for part in HOMEWORK.parts if not part.optional
}
ALL_FILES = {name for names in FILES.values() for name in names}
ANSWERS = "staff/hw1/solution"
PLAIN = {**os.environ, "PYTHONIOENCODING": "utf-8"}


def run_main(*arguments, cwd=ROOT, model="bundled", stdin="") -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "main.py", *(("--model", model) if model else ()), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=PLAIN, input=stdin, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session", autouse=True)
def fonts() -> None:
    """Matplotlib's list of fonts: main.py would say on stderr that it makes one, if that takes more than five seconds."""
    import matplotlib.font_manager  # noqa: F401


@pytest.fixture(scope="session")
def full_run(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """All parts with the reference answers, once for all tests."""
    out = tmp_path_factory.mktemp("full") / "submit"
    return out, run_main("--questions", ANSWERS, "--out", out)


@pytest.fixture
def questions(tmp_path) -> Path:
    """A copy of the reference answers, to be changed."""
    return Path(shutil.copytree(SOLUTION, tmp_path / "questions", ignore=IGNORED))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
