"""CONTRIBUTING.md's recipe for a new part, followed to the letter in a copy, from stub to release."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from src.files import ROOT
from tests.answers import FULL, IGNORED, graded, points

STEP = re.compile(
    r"^`(\S+)`, (a new file|at the end|(?:above|below|in place of) the line `([^\n]+)`):\n\n```python\n(.*?)^```$",
    re.M | re.S,
)
STEPS = STEP.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
TOUCHED = sorted({file for file, *_ in STEPS})
HERE = [file for file, where, *_ in STEPS if where == "a new file" and (ROOT / file).exists()]

pytestmark = pytest.mark.skipif(bool(HERE), reason=f"the example was added to this repository: {HERE}")


def carry_out(tree: Path, file: str, where: str, line: str, code: str) -> None:
    path = tree / file
    if where == "a new file":
        assert not path.exists()
        path.write_text(code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if where == "at the end":
        path.write_text(text + code, encoding="utf-8")
        return
    assert text.count(f"\n{line}\n") == 1, f"{file} has no line {line}"
    gap = "\n\n" if line.startswith("def ") else ""
    new = {"above": f"{code}{gap}{line}\n", "below": f"{line}\n{code}"}.get(where.split()[0], code)
    path.write_text(text.replace(f"\n{line}\n", f"\n{new}"), encoding="utf-8")


def copy_with(tree: Path, without: str = "") -> Path:
    """A copy of the repository in which the recipe was followed, but for the file `without`."""
    shutil.copytree(ROOT, tree, ignore=IGNORED)
    for step in STEPS:
        if step[0] != without:
            carry_out(tree, *step)
    return tree


def run(tree: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True, check=False)


def succeed(tree: Path, *command: str) -> str:
    process = run(tree, *command)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_a_new_part_touches_five_files():
    assert TOUCHED == [
        "src/hw1/checks/perplexity.py",
        "src/hw1/hints/perplexity.py",
        "src/hw1/parts.py",
        "staff/hw1/hidden_tests.py",
        "staff/hw1/solution/perplexity.py",
    ]


@pytest.mark.slow
def test_a_new_part_works_from_stub_to_release(tmp_path):
    tree = copy_with(tmp_path / "tree")
    succeed(tree, "-m", "staff.make_stubs")
    succeed(tree, "-m", "staff.tables")
    assert 'raise NotImplementedError("6.8")' in (tree / "questions" / "perplexity.py").read_text()
    assert "| 6.8 Perplexity | 5 (bonus) | `perplexity` in `perplexity.py` | 6.4 |" in (tree / "README.md").read_text()

    answers, stub = tree / "staff" / "hw1" / "solution", tree / "questions"
    right = graded(answers, tmp_path / "right.json", "6.8", "6.4", root=tree)
    assert points(right) == {"6.4": FULL["6.4"], "6.8": 5}, right
    assert points(graded(stub, tmp_path / "stub.json", "6.8", root=tree)) == {"6.8": 0}
    shutil.copytree(answers, tmp_path / "wrong")
    text = (answers / "perplexity.py").read_text().replace("math.exp(-log", "math.exp(log")
    (tmp_path / "wrong" / "perplexity.py").write_text(text)
    wrong = graded(tmp_path / "wrong", tmp_path / "wrong.json", "6.8", root=tree)
    assert "hint: a perplexity is 1 or more" in wrong["tests"][0]["output"]

    succeed(tree, "main.py", "--model", "bundled", "--questions", str(answers), "--question", "6.8")
    assert float((tree / "submit" / "perplexity.txt").read_text()) > 1
    assert "6.8" in json.loads((tree / "submit" / "run.json").read_text())["parts"]

    for command in (["check"], ["format", "--check"]):
        succeed(tree, "-m", "ruff", *command, "src", "staff", "main.py", "grader.py")
    succeed(tree, "-m", "mypy")
    succeed(tree, "-m", "staff.release")
    (starter,) = (tree / "dist").glob("*.starter.zip")
    with zipfile.ZipFile(starter) as archive:
        assert any(name.endswith("questions/perplexity.py") for name in archive.namelist())


@pytest.mark.parametrize(
    ("forgotten", "message"),
    [
        ("staff/hw1/solution/perplexity.py", "part 6.8: staff/hw1/solution/perplexity.py is missing; write the reference"),
        ("src/hw1/parts.py", "src.hw1.checks.perplexity.PerplexityTest: part = '6.8' is not declared in src.hw1.parts"),
        ("src/hw1/hints/perplexity.py", "src.hw1.checks.perplexity: cannot be imported (No module named 'src.hw1.hints.perp"),
        ("src/hw1/checks/perplexity.py", "staff.hw1.hidden_tests: cannot be imported (cannot import name 'perplexity'"),
        ("staff/hw1/hidden_tests.py", "part 6.8: has no hidden test; add a class with `part = \"6.8\"` to staff/hw1/hidden"),
    ],
)  # fmt: skip
def test_a_forgotten_piece_is_named_in_one_line(tmp_path, forgotten, message):
    process = run(copy_with(tmp_path / "tree", without=forgotten), "-m", "staff.tables")
    assert process.returncode == 1
    assert process.stderr.startswith(f"error: {message}")
    assert process.stderr.count("\n") == 1
