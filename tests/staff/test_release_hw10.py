"""Homework 10 goes out as homework 1 does: its folder is the top of the starter and of Gradescope's package."""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.results import points_of
from src.grading.student_code import load_function
from src.hw10 import counts
from src.hw10.parts import HOMEWORK
from staff import release
from staff.leaks import answers_in, probes_of
from tests.answers import graded
from tests.released import assert_documented_format, extracted, on_gradescope, on_gradescope_after_setup, released

SOLUTION = ROOT / "staff" / "hw10" / "solution"
POINTS = points_of(HOMEWORK)
FULL = sum(POINTS[number].total for number in HOMEWORK.numbers)
VISIBLE = sum(POINTS[number].visible for number in HOMEWORK.numbers)
SECONDS, MEMORY = 60, 768_000_000  # of a grading on half a core; of its largest process, and of all together


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    return released(tmp_path_factory.mktemp("release") / "dist", ROOT, "--homework", "hw10")


@pytest.fixture
def starter(dist, tmp_path) -> Path:
    return extracted(dist / HOMEWORK.starter_name, tmp_path) / HOMEWORK.slug


@pytest.fixture
def gradescope(dist, tmp_path) -> Path:
    return on_gradescope_after_setup(dist / "autograder.zip", tmp_path)


def run(starter: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=starter, capture_output=True, text=True, check=False)


def filled(folder: Path) -> Path:
    """The same folder, with the reference answers in its questions/."""
    shutil.copytree(SOLUTION, folder / "questions", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
def test_the_starter_has_the_homework_at_its_top(starter):
    names = {path.relative_to(starter).as_posix() for path in starter.rglob("*") if path.is_file()}
    top = {
        "experiment.py",
        "grader.py",
        "config.yml",
        "README.md",
        "make_submission.sh",
        "Makefile",
        ".vscode/launch.json",
    }
    questions = {f"questions/{name}" for name in HOMEWORK.question_files}
    assert top | questions | {"data/mnist_5k.npz", "src/hw10/parts.py", "src/model/gpt2.py", "LICENSE"} <= names
    assert not any({"staff", "tests", "homework", "hw1", "main.py", "__pycache__"} & set(Path(n).parts) for n in names)
    for name in ("README.md", "experiment.py", "grader.py", "Makefile", "pyproject.toml", "data/README.md"):
        text = (starter / name).read_text(encoding="utf-8")
        assert "<!-- staff" not in text, name
        assert "sys.path" not in text, name
    for link in re.findall(r"\]\(([^):#]+)\)", (starter / "README.md").read_text(encoding="utf-8")):
        assert (starter / link).exists(), link
    assert os.access(starter / "make_submission.sh", os.X_OK)


@pytest.mark.slow
def test_the_starter_leads_from_an_empty_block_to_the_upload(starter, tmp_path):
    empty = run(starter, "experiment.py", "--model", "vae", "--iterations", "3")
    assert "2b: needs 2a first" in empty.stderr or "2b: not written yet: questions/vae.py" in empty.stderr
    assert "next: write 2" in empty.stdout
    before = graded(starter / "questions", tmp_path / "before.json", root=starter)
    assert before["score"] == 0
    filled(starter)
    after = graded(starter / "questions", tmp_path / "after.json", root=starter)
    assert after["score"] == VISIBLE
    tried = run(starter, "experiment.py", "--model", "vae", "--iterations", "3")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    here = os.environ | {"VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    packed = subprocess.run(["bash", "make_submission.sh"], cwd=starter, env=here, capture_output=True, text=True)
    assert packed.stdout.splitlines()[-1] == f"wrote {HOMEWORK.zip_name}: upload it to Gradescope", packed.stderr
    with zipfile.ZipFile(starter / HOMEWORK.zip_name) as archive:
        assert {"questions/vae.py", "submit/vae.png", "submit/run.json"} <= set(archive.namelist())
    checked = graded(starter / HOMEWORK.zip_name, tmp_path / "zip.json", root=starter)
    (about_submit,) = [test for test in checked["tests"] if test["number"] == "6.1"]
    assert "submit/gan.png: is missing; run: python experiment.py --model gan" in about_submit["output"]
    assert "submit/vae.png" not in about_submit["output"]


@pytest.mark.slow
def test_gradescope_gives_all_points_to_the_answers(gradescope, tmp_path):
    upload = tmp_path / "upload.zip"
    with zipfile.ZipFile(upload, "w") as archive:
        for path in SOLUTION.glob("*.py"):
            archive.write(path, f"questions/{path.name}")
    results = on_gradescope(gradescope, upload)
    assert_documented_format(results)
    assert results["score"] == FULL
    assert not (gradescope / "source" / "checkpoints").exists()


@pytest.mark.slow
def test_gradescope_gives_none_to_the_starter(gradescope, dist):
    results = on_gradescope(gradescope, dist / HOMEWORK.starter_name)
    assert_documented_format(results)
    assert results["score"] == 0
    first = next(test for test in results["tests"] if test["number"] == "2a.1")
    assert "the block is not written yet: questions/vae.py:" in first["output"]


def memory_of(root: int) -> int:
    """What a process and all that descend from it take, in bytes; what several share counts once."""
    parents, taken = {}, 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    for process in parents:
        line, seen = process, set()
        while line in parents and line != root and line not in seen:
            seen.add(line)
            line = parents[line]
        with contextlib.suppress(OSError, AttributeError):
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text() if line == root else ""
            taken += 1024 * int(re.search(r"^Pss: +(\d+)", rollup, re.M)[1]) if rollup else 0
    return taken


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux says what a process takes")
def test_a_grading_takes_little_time_and_memory(tmp_path):
    """Processor time counts: half a core gives as much of it in twice the time."""
    before, most = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    command = [sys.executable, HOMEWORK.home / "grader.py", "--submission", SOLUTION]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as grader:
        while grader.poll() is None:
            most = max(most, memory_of(grader.pid))
            time.sleep(0.05)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert grader.returncode == 0
    assert used < SECONDS / 2
    assert 50_000_000 < most < MEMORY


ANSWER = next(line for line in sorted(release.secret_lines(HOMEWORK)) if "logsigmoid" in line)
HIDDEN = next(line for line in sorted(release.secret_lines(HOMEWORK)) if "diffusion.check_sample" in line)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("src/notes.txt", f"x = 1\n    {ANSWER}\n", "src/notes.txt:2: a line of the answers"),
        ("src/hidden_tests.py", "", "src/hidden_tests.py: must not be in the starter"),
        ("README.md", f"{HIDDEN}\n", "README.md:1: a line of the answers or of the hidden tests"),
    ],
)
def test_a_leak_stops_the_release(tmp_path, name, content, says):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(release.ReleaseError, match=says):
        release.check_leaks(HOMEWORK, tmp_path)


def test_each_answer_is_found_by_what_it_does(monkeypatch):
    """And nothing else is: the functions that students get are tried as answers by `make release`."""
    for number in HOMEWORK.numbers:
        part = HOMEWORK.part(number)
        answer = load_function(SOLUTION, part.file, part.function)
        monkeypatch.setattr(answer, "__module__", counts.__name__)
        monkeypatch.setattr(counts, part.function, answer, raising=False)
    found = answers_in(counts.__name__, probes_of(HOMEWORK))
    assert found == [f"{counts.__name__}.{HOMEWORK.part(n).function}: answers {n}" for n in HOMEWORK.numbers]
