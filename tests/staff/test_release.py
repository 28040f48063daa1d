"""What goes out: the starter holds no answers, and Gradescope's package grades."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from src.files import ROOT
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from staff import release
from tests.answers import FULL, IGNORED, POINTS, SOLUTION, graded, points
from tests.released import assert_documented_format, extracted, on_gradescope, on_gradescope_after_setup, released

VISIBLE = {number: POINTS[number].visible for number in HOMEWORK.numbers}
HIDDEN_TESTS = ROOT / "staff" / "hw1" / "hidden_tests.py"
STARTER_ZIP = HOMEWORK.starter_name
HIDDEN_LINE = next(line for line in HIDDEN_TESTS.read_text(encoding="utf-8").splitlines() if "TableModel(13" in line)


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    return released(tmp_path_factory.mktemp("release") / "dist", ROOT)


def test_the_starter_is_the_tree_without_staff(dist, tmp_path):
    starter = extracted(dist / STARTER_ZIP, tmp_path) / HOMEWORK.slug
    names = {path.relative_to(starter).as_posix() for path in starter.rglob("*") if path.is_file()}
    assert {
        "main.py",
        "grader.py",
        "make_submission.sh",
        "questions/sample.py",
        "data/snippets.pkl",
        "README.md",
        ".vscode/launch.json",
        "docs/hw1.pdf",
        "docs/hw1.md",
        "docs/hw1-architecture.svg",
        "docs/template/hw1-answers.typ",
    } <= names
    assert f"checkpoints/{BUNDLED}/model.safetensors" in names
    forbidden = {"staff", "tests", "labels", "hidden_tests.py", "__pycache__"}
    assert not any(forbidden & set(Path(name).parts) for name in names)
    readme = (starter / "README.md").read_text()
    assert "staff" not in readme.lower()
    assert "<!--" not in readme
    assert f"writes `{HOMEWORK.zip_name}`. Upload" in " ".join(readme.split())
    assert "\n\n| part | points | block |" in readme
    for name in ("Makefile", "pyproject.toml", "data/README.md"):
        assert "staff" not in (starter / name).read_text()
    assert os.access(starter / "make_submission.sh", os.X_OK)
    assert {p.relative_to(dist / "starter").as_posix() for p in (dist / "starter").rglob("*") if p.is_file()} == names


def test_the_starter_leads_from_a_run_to_the_upload(dist, tmp_path):
    starter = extracted(dist / STARTER_ZIP, tmp_path) / HOMEWORK.slug
    shutil.copytree(SOLUTION, starter / "questions", ignore=IGNORED, dirs_exist_ok=True)
    steps = (
        (["grader.py"], "next: what 7.1 says above, then bash make_submission.sh"),
        (["main.py", "--model", "bundled"], "next: python grader.py, then bash make_submission.sh"),
        (["grader.py"], "next: bash make_submission.sh"),
        (["-m", "src.hw1.make_submission"], f"wrote {HOMEWORK.zip_name}: upload it to Gradescope"),
    )
    for command, says in steps:
        run = subprocess.run([sys.executable, *command], cwd=starter, capture_output=True, text=True, check=False)
        assert run.stdout.splitlines()[-1] == says, run.stdout + run.stderr


def test_the_starter_works_and_says_what_to_do(dist, tmp_path):
    starter = extracted(dist / STARTER_ZIP, tmp_path) / HOMEWORK.slug
    run = subprocess.run(
        [sys.executable, "main.py", "--model", "bundled"], cwd=starter, capture_output=True, text=True, check=False
    )
    assert "6.4: not written yet: questions/likelihood.py" in run.stderr
    before = graded(starter / "questions", tmp_path / "before.json", root=starter)
    assert set(points(before).values()) == {0}
    for path in SOLUTION.glob("*.py"):
        shutil.copy(path, starter / "questions")
    after = graded(starter / "questions", tmp_path / "after.json", root=starter)
    assert {part: earned for part, earned in points(after).items() if part in VISIBLE} == VISIBLE


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("src/notes.txt", "x = 1\nreturn logits / temperature  # aha\n", "src/notes.txt:2: a line of the answers"),
        ("data/l.json", (ROOT / "staff/hw1/labels/snippets.json").read_text(), "data/l.json: the snippets' labels"),
        ("src/hidden_tests.py", "", "src/hidden_tests.py: must not be in the starter"),
        ("README.md", HIDDEN_LINE, "README.md:1: a line"),
    ],
)
def test_a_leak_stops_the_release(tmp_path, name, content, says):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(release.ReleaseError, match=says):
        release.check_leaks(HOMEWORK, tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("questions/sample.py", "TODO 6.3", "TODO 6.4", "questions/sample.py: is not the stub of the reference answer"),
        ("staff/hw1/solution/likelihood.py", "sum()", "mean()", "staff/hw1/solution: gets 0 of 3 in 6.4.1"),
        (
            "src/hw1/checks/likelihood.py",
            "@weight(3)",
            "@weight(4)",
            "README.md: its tables are stale; run: make tables",
        ),
    ],
)
def test_stale_or_wrong_pieces_stop_the_release(tmp_path, file, old, new, says):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=IGNORED)
    (tree / file).write_text((tree / file).read_text().replace(old, new))
    process = subprocess.run(
        [sys.executable, "-m", "staff.release"], cwd=tree, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert f"error: nothing was released: {says}" in process.stderr
    assert not (tree / "dist").exists()


# --- Gradescope ---


@pytest.fixture
def gradescope(dist, tmp_path) -> Path:
    return on_gradescope_after_setup(dist / "autograder.zip", tmp_path)


def test_gradescope_gives_all_points_to_a_packed_submission(gradescope, tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=IGNORED)
    for path in SOLUTION.glob("*.py"):
        shutil.copy(path, checkout / "questions")
    subprocess.run([sys.executable, "main.py", "--model", "bundled"], cwd=checkout, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "src.hw1.make_submission"], cwd=checkout, check=True, capture_output=True)
    results = on_gradescope(gradescope, checkout / HOMEWORK.zip_name)
    assert_documented_format(results)
    assert results["score"] == sum(FULL.values())
    assert all(test["status"] == "passed" for test in results["tests"]), results["tests"]


def test_gradescope_gives_none_to_the_starter_and_says_why(gradescope, dist):
    results = on_gradescope(gradescope, dist / STARTER_ZIP)
    assert_documented_format(results)
    assert results["score"] == 0
    assert {test["number"] for test in results["tests"]} >= {"6.3.1", "6.4.4", "6.5.3", "6.6.2", "6.7.2"}
    assert "the block is not written yet: questions/sample.py:" in results["tests"][0]["output"]


def test_gradescope_says_why_it_refuses(gradescope, tmp_path):
    (tmp_path / "other.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("essay.txt", "words")
    results = on_gradescope(gradescope, tmp_path / "other.zip")
    assert_documented_format(results)
    assert results["score"] == 0
    assert "holds none of sample.py, likelihood.py, classifier.py" in results["output"]


def test_a_grader_that_cannot_start_leaves_a_clear_result(gradescope, dist):
    (gradescope / "source" / "grader.py").write_text("raise SystemExit(3)\n")
    results = on_gradescope(gradescope, dist / STARTER_ZIP)
    assert results["score"] == 0
    assert "not your fault" in results["output"]


def test_the_starters_makefile_has_no_target_of_the_staff(dist, tmp_path):
    starter = extracted(dist / STARTER_ZIP, tmp_path) / HOMEWORK.slug
    for target in ("test", "release", "stubs", "audit", "tables"):
        command = ["env", "LC_ALL=C", "make", "-n", target]
        process = subprocess.run(command, cwd=starter, capture_output=True, text=True, check=False)
        assert process.returncode != 0
        assert "No rule to make target" in process.stderr


@pytest.mark.slow
def test_the_homeworks_name_and_year_are_in_one_place(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=IGNORED)
    declaration = tree / "src" / "hw1" / "parts.py"
    text = declaration.read_text(encoding="utf-8")
    assert text.count(HOMEWORK.slug) == 1
    declaration.write_text(text.replace(HOMEWORK.slug, "cs999.hw1.2099"), encoding="utf-8")
    for module in ("staff.tables", "staff.handout", "staff.release"):
        subprocess.run([sys.executable, "-m", module], cwd=tree, check=True, capture_output=True)
    with zipfile.ZipFile(tree / "dist" / "cs999.hw1.2099.starter.zip") as archive:
        names = archive.namelist()
        assert all(name.startswith("cs999.hw1.2099/") for name in names)
        for name in names:
            assert HOMEWORK.slug.encode() not in archive.read(name), name
        assert b"cs999.hw1.2099.zip" in archive.read("cs999.hw1.2099/README.md")
