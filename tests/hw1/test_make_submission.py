"""`make_submission.sh` as a student uses it."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.packing import NO_POINTS
from src.grading.record import RECORD, part_record
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from tests.answers import FULL, IGNORED, SOLUTION
from tests.hw1.conftest import ALL_FILES, ANSWERS, FILES, PLAIN, change

EVERYTHING = {f"submit/{name}" for name in ALL_FILES | {RECORD}} | {f"questions/{name}" for name in HOMEWORK.all_files}


@pytest.fixture
def checkout(full_run, tmp_path) -> Path:
    """A checkout after a full run: what make_submission.sh needs, and the results."""
    for name in ("src", "questions", "staff"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "checkpoints" / BUNDLED).mkdir(parents=True)
    shutil.copy(ROOT / "checkpoints" / BUNDLED / "config.yml", tmp_path / "checkpoints" / BUNDLED)
    for name in ("config.yml", "make_submission.sh"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(SOLUTION, tmp_path / "questions", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(full_run[0], tmp_path / "submit")
    return tmp_path


def make_submission(checkout: Path, shell: str = "bash") -> subprocess.CompletedProcess:
    env = {**PLAIN, "VIRTUAL_ENV": "set", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([shell, "make_submission.sh"], cwd=checkout, env=env, capture_output=True, text=True)


def packed(checkout: Path) -> set[str]:
    """The names in the zip."""
    with zipfile.ZipFile(checkout / HOMEWORK.zip_name) as archive:
        assert archive.testzip() is None
        return set(archive.namelist())


def change_record(checkout: Path, change_it) -> None:
    path = checkout / "submit" / RECORD
    record = json.loads(path.read_text())
    change_it(record)
    path.write_text(json.dumps(record))


def test_a_full_run_is_packed(checkout):
    process = make_submission(checkout)
    assert process.returncode == 0, process.stderr
    assert packed(checkout) == EVERYTHING
    assert "made by the code in staff/hw1/solution" in process.stdout
    assert all(name in process.stdout for name in EVERYTHING)


@pytest.mark.parametrize(
    ("break_it", "message", "left_out"),
    [
        (lambda c: (c / "submit/random.png").unlink(), "submit/random.png: is missing", "submit/random.png"),
        (lambda c: (c / "submit" / FILES["6.7"][0]).unlink(), f"{FILES['6.7'][0]}: is missing", f"submit/{FILES['6.7'][0]}"),
        (lambda c: (c / "submit/classification.pkl").write_bytes(b"x"),
         "    submit/classification.pkl: is damaged\n", "submit/classification.pkl"),
        (lambda c: shutil.copy(c / "submit/random.png", c / "submit/neurips.png"),
         "submit/neurips.png: is not what main.py wrote; packed as it is", None),
        (lambda c: (c / "submit/run.json").unlink(), "submit/run.json: is missing; run: python main.py", "submit/run.json"),
        (lambda c: (c / "submit/run.json").write_text("{"), "submit/run.json: is damaged; delete it", "submit/run.json"),
        (lambda c: (c / "submit/run.json").write_text('{"made_with": {}, "parts": {"6.3": []}}'),
         "submit/run.json: is damaged", "submit/run.json"),
        (lambda c: change(c / "staff/hw1/solution/likelihood.py", "sum()", "mean()"),
         "submit/random_raw.pkl: is older than the code in staff/hw1/solution/; packed as it is", None),
        (lambda c: change(c / "checkpoints" / BUNDLED / "config.yml", "top_k: 40", "top_k: 20"),
         "submit/samples.txt: was made with another config.yml of gpt2-mini than the present one; packed as it is", None),
        (lambda c: (c / "questions/notes.py").write_text("def f(:"), "left out: questions/notes.py, line 1", "questions/notes.py"),
    ],
)  # fmt: skip
def test_what_is_there_is_packed_and_the_rest_named(checkout, break_it, message, left_out):
    break_it(checkout)
    process = make_submission(checkout)
    assert process.returncode == 0, process.stderr
    assert message in process.stdout
    assert "Traceback" not in process.stderr
    assert process.stdout.splitlines()[-1] == f"wrote {HOMEWORK.zip_name}: upload it to Gradescope"
    assert packed(checkout) == EVERYTHING - {left_out}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: (c / "questions/sample.py").unlink(), "questions/sample.py: is missing"),
        (lambda c: (c / "questions/sample.py").write_text("def f(:\n"), "questions/sample.py, line 1: is not valid Python"),
        (lambda c: (c / "questions/sample.py").write_text("#" * 200_000), "questions/sample.py: is larger than 100000 bytes"),
        (lambda c: shutil.move(c / "questions/sample.py", c / "questions/other") and (c / "questions/sample.py").mkdir(),
         "questions/sample.py: cannot be read (Is a directory)"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_graded_stops_it(checkout, break_it, message):
    (checkout / HOMEWORK.zip_name).write_bytes(b"an older one")
    break_it(checkout)
    process = make_submission(checkout)
    assert process.returncode == 1
    assert message in process.stderr
    assert "the one that is there is an older one" in process.stderr
    assert "Traceback" not in process.stderr
    assert (checkout / HOMEWORK.zip_name).read_bytes() == b"an older one"


def test_an_unwritten_part_is_named_with_what_it_costs(checkout):
    change(checkout / "questions/sample.py", "return logits / temperature", 'raise NotImplementedError("6.6")')
    process = make_submission(checkout)
    assert process.returncode == 0, process.stderr
    worth = f"{FULL['6.6']:g}"
    says = rf"^note: 6\.6 .* \({worth} points\) is not written yet and earns nothing: questions/sample\.py, line \d+$"
    assert re.search(says, process.stdout, re.M)
    assert "6.7" not in process.stdout


def test_a_stubs_line_in_a_written_block_is_named(checkout):
    change(
        checkout / "questions/sample.py",
        "return logits / t",
        'raise NotImplementedError("6.6")\n        return logits / t',
    )
    says = r"^note: 6\.6 .* points\): questions/sample\.py, line \d+: your block still has the line raise Not.*; delete it$"
    assert re.search(says, make_submission(checkout).stdout, re.M)


def test_the_starter_says_the_same_points(checkout):
    """The starter has no hidden tests; they are worth as many points as the visible ones."""
    shutil.rmtree(checkout / "staff")
    shutil.copytree(ROOT / "questions", checkout / "questions", ignore=IGNORED, dirs_exist_ok=True)
    process = make_submission(checkout)
    for number, points in FULL.items():
        assert re.search(rf"^note: {re.escape(number)} .*\({points:g} points.*is not written yet", process.stdout, re.M)


def test_a_zip_that_cannot_be_written_is_one_line(checkout):
    (checkout / f"{HOMEWORK.zip_name}.part").mkdir()
    process = make_submission(checkout)
    assert process.returncode == 1
    assert f"{HOMEWORK.zip_name}: cannot be written (Is a directory)" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.skipif(not shutil.which("dash"), reason="dash is not installed")
def test_any_shell_runs_it(checkout):
    assert make_submission(checkout, "dash").returncode == 0


def test_the_button_of_an_editor_says_how_to_run_it(checkout):
    process = subprocess.run([sys.executable, checkout / "src/hw1/make_submission.py"], capture_output=True, text=True)
    assert process.stderr == "run this from the folder of the homework: python -m src.hw1.make_submission\n"


def test_comments_do_not_make_results_stale(checkout):
    with (checkout / "staff/hw1/solution/likelihood.py").open("a", encoding="utf-8") as file:
        file.write("\n# done at last\n")
    assert make_submission(checkout).returncode == 0


def test_a_part_that_was_not_run_is_stale(checkout):
    change_record(checkout, lambda record: record["parts"].pop("6.4"))
    process = make_submission(checkout)
    assert re.search(
        r"^note: 6\.4 .* is out of date in submit/; run: python main\.py --model bundled", process.stdout, re.M
    )
    assert "submit/neurips.png: is stale: main.py did not make it; packed as it is" in process.stdout
    assert packed(checkout) == EVERYTHING


def test_submit_costs_no_points(checkout):
    (checkout / "submit/random.png").unlink()
    process = make_submission(checkout)
    folder = "--questions staff/hw1/solution"
    assert (
        "note: 6.4 Log-likelihood is not complete in submit/; run: python main.py --model bundled "
        f"--question 6.4 {folder}\n    submit/random.png: is missing\n{NO_POINTS}\n"
    ) in process.stdout
    assert "points)" not in process.stdout


def test_results_of_a_model_that_is_gone_name_another(checkout):
    change_record(checkout, lambda record: record["parts"]["6.3"]["made_with"].update(model="mine"))
    process = make_submission(checkout)
    assert re.search(
        r"^note: 6\.3 Sampling is out of date.* python main\.py --model bundled --ques", process.stdout, re.M
    )
    assert (
        "    submit/samples.txt: was made with the model mine, which is not here; packed as it is\n" in process.stdout
    )


def test_different_settings_are_named(checkout):
    change_record(checkout, lambda record: record["parts"]["6.3"]["made_with"].update(seed=3))
    process = make_submission(checkout)
    assert process.returncode == 0
    assert "made with different settings, which is accepted: 6.3 with bundled, seed 3; 6.4, 6.5" in process.stdout
    assert "is older" not in process.stdout


def test_a_record_with_settings_for_all_parts_is_understood(checkout):
    """Starters from before each part had its own settings wrote it."""

    def older(record):
        for entry in record["parts"].values():
            record["made_with"] = entry.pop("made_with")

    change_record(checkout, older)
    process = make_submission(checkout)
    assert process.returncode == 0
    assert "made with bundled, seed 20190929" in process.stdout


def test_the_record_names_a_questions_folder_elsewhere(tmp_path):
    folder = shutil.copytree(ROOT / "questions", tmp_path / "mine", ignore=IGNORED)
    assert part_record(HOMEWORK, HOMEWORK.part("6.3"), {}, folder, {}).questions == folder.resolve().as_posix()
    assert part_record(HOMEWORK, HOMEWORK.part("6.3"), {}, SOLUTION, {}).questions == ANSWERS


def test_the_bonus_may_be_left_out(checkout):
    change_record(checkout, lambda record: record["parts"].pop("6.7"))
    (checkout / "submit" / FILES["6.7"][0]).unlink()
    process = make_submission(checkout)
    assert process.returncode == 0
    assert packed(checkout) == EVERYTHING - {f"submit/{FILES['6.7'][0]}"}
