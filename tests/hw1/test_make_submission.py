"""`make_submission.sh` as a student uses it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.record import RECORD, part_record
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from tests.answers import SOLUTION
from tests.hw1.conftest import ALL_FILES, ANSWERS, FILES, PLAIN, change


@pytest.fixture
def checkout(full_run, tmp_path) -> Path:
    """A checkout after a full run: what make_submission.sh needs, and the results."""
    for name in ("src", "questions", "staff"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "checkpoints" / BUNDLED).mkdir(parents=True)
    shutil.copy(ROOT / "checkpoints" / BUNDLED / "config.yml", tmp_path / "checkpoints" / BUNDLED)
    for name in ("config.yml", "make_submission.sh"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(full_run[0], tmp_path / "submit")
    return tmp_path


def make_submission(checkout: Path) -> subprocess.CompletedProcess:
    env = {**PLAIN, "VIRTUAL_ENV": "set", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["bash", "make_submission.sh"], cwd=checkout, env=env, capture_output=True, text=True)


def test_a_full_run_is_packed(checkout):
    process = make_submission(checkout)
    assert process.returncode == 0, process.stderr
    with zipfile.ZipFile(checkout / HOMEWORK.zip_name) as archive:
        expected = {f"submit/{name}" for name in ALL_FILES | {RECORD}}
        expected |= {f"questions/{name}" for name in HOMEWORK.question_files}
        assert set(archive.namelist()) == expected
        assert archive.testzip() is None
    assert "made by the code in staff/hw1/solution" in process.stdout
    assert all(name in process.stdout for name in expected)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: (c / "submit/random.png").unlink(),
         "submit/random.png: is missing; run: python main.py --model gpt2-mini --questions staff/hw1/solution --question 6.4"),
        (lambda c: (c / "submit" / FILES["6.7"][0]).unlink(), "samples_temperature0-95_horizon2.txt: is missing; run:"),
        (lambda c: (c / "submit/classification.pkl").write_bytes(b"x"), "submit/classification.pkl: is not what main.py wrote"),
        (lambda c: shutil.rmtree(c / "submit"), "submit/run.json: is missing; run: python main.py"),
        (lambda c: (c / "submit/run.json").write_text("{"), "run.json: is damaged; delete it and run the program again"),
        (lambda c: (c / "submit/run.json").write_text('{"made_with": {}, "parts": {"6.3": []}}'), "run.json: is damaged"),
        (lambda c: (c / "questions/sample.py").unlink(), "questions/sample.py: is missing"),
        (lambda c: (c / "questions/sample.py").write_text("def f(:\n"), "questions/sample.py, line 1: is not valid Python"),
        (lambda c: change(c / "staff/hw1/solution/likelihood.py", "sum()", "mean()"),
         "submit/random_raw.pkl: is older than the code in staff/hw1/solution/"),
        (lambda c: change(c / "checkpoints" / BUNDLED / "config.yml", "top_k: 40", "top_k: 20"),
         "was made with another config.yml of gpt2-mini"),
    ],
)  # fmt: skip
def test_a_missing_or_stale_file_is_named_and_no_zip_is_left(checkout, break_it, message):
    (checkout / HOMEWORK.zip_name).write_bytes(b"an older one")
    break_it(checkout)
    process = make_submission(checkout)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not (checkout / HOMEWORK.zip_name).exists()


def test_comments_do_not_make_results_stale(checkout):
    with (checkout / "staff/hw1/solution/likelihood.py").open("a", encoding="utf-8") as file:
        file.write("\n# done at last\n")
    assert make_submission(checkout).returncode == 0


def test_results_of_another_run_are_stale(checkout, tmp_path):
    """After a run of one part with another seed, the other parts' files are there, but not of that run."""
    record = json.loads((checkout / "submit/run.json").read_text())
    record["parts"] = {"6.3": record["parts"]["6.3"]}
    (checkout / "submit/run.json").write_text(json.dumps(record))
    process = make_submission(checkout)
    assert process.returncode == 1
    assert "submit/neurips.png: is stale" in process.stderr


def test_the_record_names_a_questions_folder_elsewhere(tmp_path):
    folder = shutil.copytree(ROOT / "questions", tmp_path / "mine")
    assert part_record(HOMEWORK, HOMEWORK.part("6.3"), folder, {}).questions == folder.resolve().as_posix()
    assert part_record(HOMEWORK, HOMEWORK.part("6.3"), SOLUTION, {}).questions == ANSWERS


def test_the_bonus_may_be_left_out(checkout):
    record = json.loads((checkout / "submit/run.json").read_text())
    del record["parts"]["6.7"]
    (checkout / "submit/run.json").write_text(json.dumps(record))
    (checkout / "submit" / FILES["6.7"][0]).unlink()
    process = make_submission(checkout)
    assert process.returncode == 0
    assert "the bonus, 6.7, is not in it" in process.stdout
