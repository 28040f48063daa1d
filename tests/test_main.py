"""`main.py` and `make_submission.sh` as a student uses them: as commands, on the bundled model."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from src.artifacts import CLASSIFICATION, FILES, RECORD, record_entry
from src.config import ROOT
from src.safe_pickle import read_float_array, read_plain

ALL_FILES = {name for names in FILES.values() for name in names}
PLAIN = {**os.environ, "PYTHONIOENCODING": "utf-8"}


def run_main(*arguments, cwd=ROOT, model="gpt2-mini") -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "main.py", *(("--model", model) if model else ()), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=PLAIN, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """All parts with the reference answers, once for all tests."""
    out = tmp_path_factory.mktemp("full") / "submit"
    return out, run_main("--questions", "staff/solution", "--out", out)


@pytest.fixture
def questions(tmp_path) -> Path:
    """A copy of the reference answers, to be changed."""
    return Path(shutil.copytree(ROOT / "staff" / "solution", tmp_path / "questions"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_full_run_leaves_every_artifact_and_says_so_in_a_table(full_run):
    out, process = full_run
    assert process.returncode == 0, process.stderr
    assert {path.name for path in out.iterdir()} == ALL_FILES | {RECORD}
    for part, names in FILES.items():
        assert re.search(rf"^{re.escape(part)} +\d+\.\d  done +{re.escape(', '.join(names))}$", process.stdout, re.M)
    record = json.loads((out / RECORD).read_text())
    assert record["made_with"]["model"] == "gpt2-mini"
    assert record["made_with"]["seed"] == 20190929
    assert len(record["made_with"]["checkpoint_sha256"]) == 64
    assert set(record["parts"]) == set(FILES)


def test_the_bundled_model_separates_random_text_as_gpt2_small_does(full_run):
    out, _ = full_run
    assert read_float_array(out / "random_raw.pkl").max() < -420
    assert read_float_array(out / "shakespeare_raw.pkl").min() > -230
    assert read_float_array(out / "neurips_raw.pkl").min() > -230


def test_the_reference_classifier_is_right_on_all_300_snippets(full_run):
    kinds = json.loads((ROOT / "staff" / "labels" / "snippets.json").read_text())
    assert read_plain(full_run[0] / CLASSIFICATION) == [kind == "random" for kind in kinds]


def test_the_samples_continue_the_first_abstracts_and_differ_with_temperature(full_run):
    out, _ = full_run
    texts = {name: (out / name).read_text(encoding="utf-8") for name in ALL_FILES if name.endswith(".txt")}
    assert [text.count("== sample") for _, text in sorted(texts.items())] == [5, 5, 1]
    beginning = "Variational inference provides a scalable alternative to Markov chain Monte Carlo"
    assert all(text.splitlines()[1].startswith(beginning) for text in texts.values())
    assert len(set(texts.values())) == 3


def test_the_same_seed_gives_the_same_bytes_whichever_parts_run_and_another_seed_others(full_run, tmp_path):
    out, _ = full_run
    again = run_main("--questions", "staff/solution", "--out", tmp_path / "a", "--question", "6.7", "6.5", "6.4")
    assert again.returncode == 0
    for part in ("6.4", "6.5", "6.7"):
        for name in FILES[part]:
            assert (tmp_path / "a" / name).read_bytes() == (out / name).read_bytes(), name
    first, second = (json.loads((folder / RECORD).read_text()) for folder in (out, tmp_path / "a"))
    assert second["made_with"] == first["made_with"]
    assert second["parts"] == {part: first["parts"][part] for part in ("6.4", "6.5", "6.7")}

    other = run_main("--questions", "staff/solution", "--out", tmp_path / "b", "--question", "6.7", "--seed", "1")
    assert other.returncode == 0
    name = FILES["6.7"][0]
    assert (tmp_path / "b" / name).read_bytes() != (out / name).read_bytes()


def test_the_stubs_are_named_with_file_and_line_and_leave_nothing(tmp_path):
    process = run_main("--out", tmp_path / "submit")
    assert process.returncode == 1
    for part, file in (("6.3", "sample"), ("6.4", "likelihood"), ("6.5", "classifier"), ("6.6", "sample")):
        found = re.search(rf"^{part}: not written yet: questions/{file}\.py:(\d+)$", process.stderr, re.M)
        line = (ROOT / "questions" / f"{file}.py").read_text(encoding="utf-8").splitlines()[int(found.group(1)) - 1]
        assert line.strip() == f'raise NotImplementedError("{part}")'
    assert re.search(r"^6\.7: not written yet \(bonus\): questions/sample\.py:\d+$", process.stderr, re.M)
    assert "Traceback" not in process.stderr
    assert {path.name for path in (tmp_path / "submit").iterdir()} <= {RECORD}


def test_a_part_that_needs_another_one_says_which(questions, tmp_path):
    shutil.copy(ROOT / "questions" / "likelihood.py", questions)
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", "6.5")
    assert process.returncode == 1
    assert "6.5: needs 6.4 first: " in process.stderr


def test_code_that_raises_shows_the_students_own_traceback_and_the_rest_goes_on(questions, tmp_path):
    change(questions / "likelihood.py", "return token_log_probs.sum().item()", "return token_log_probs[0, 99999, 7]")
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", "6.4", "6.7")
    assert process.returncode == 1
    assert "Traceback" in process.stderr
    assert "likelihood.py" in process.stderr
    assert "return token_log_probs[0, 99999, 7]" in process.stderr
    assert "IndexError" in process.stderr
    assert "homework.py" not in process.stderr
    assert re.search(r"^6\.4 .* raised an error +nothing$", process.stdout, re.M)
    assert {path.name for path in (tmp_path / "submit").iterdir()} == {*FILES["6.7"], RECORD}


@pytest.mark.parametrize(
    ("file", "old", "new", "part", "message"),
    [
        ("likelihood.py", ".sum().item()", ".sum()", "6.4", "log_likelihood returned a tensor of shape () and type float32"),
        ("likelihood.py", ".sum().item()", ".sum().item() * float('nan')", "6.4", "log_likelihood returned nan"),
        ("likelihood.py", "return token", "token", "6.4", "log_likelihood returned nothing (None)"),
        ("classifier.py", "return log_likelihood(model, text) < -320", "return 1", "6.5", "must return True or False"),
        ("sample.py", "return torch.cat(output, dim=1)", "return torch.cat(output[1:], dim=1)", "6.7", "of shape (1, 124)"),
        ("sample.py", "def sample(", "def simple(", "6.7", "has no function sample"),
        ("sample.py", "import torch\n", "import torch\nimport nonsense\n", "6.7", "No module named 'nonsense'"),
        ("sample.py", "import torch\n", "import torch\nif True\n", "6.7", "SyntaxError: expected ':'"),
        ("likelihood.py", "return token_log_probs", "import sys; sys.exit('bye')", "6.4", "SystemExit: bye"),
        ("likelihood.py", "model(text)  #", "model(text.repeat(1, 99))  #", "6.4", "give it a shorter text"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_answer_is_said_in_a_line(questions, tmp_path, file, old, new, part, message):
    change(questions / file, old, new)
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", part)
    assert process.returncode == 1
    assert message in process.stderr
    assert f"{file}" in process.stderr
    assert "src/" not in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "gpt5"), "error: --model gpt5: there is no such model; known are gpt2, gpt2-mini"),
        (("--questions", "nowhere"), "--questions nowhere: there is no such folder"),
        (("--out", "README.md/submit"), "cannot be written (Not a directory)"),
        (("--device", "cuda"), "error: --device cuda: PyTorch finds no such device here; use --device auto"),
        (("--seed", "-1"), "error: --seed -1: must lie between 0 and 2**63 - 1"),
    ],
)
def test_arguments_that_cannot_work_are_one_line(arguments, message):
    if "cuda" in arguments:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device here")
    process = run_main(*arguments)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def test_interrupting_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "main.py", "--model", "gpt2-mini", "--questions", "staff/solution", "--out", tmp_path]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in the background
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / RECORD).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)  # until the first part is done and the second is under way
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    record = json.loads((tmp_path / RECORD).read_text())
    made = {name for entry in record["parts"].values() for name in entry["files"]}
    assert {path.name for path in tmp_path.iterdir()} == made | {RECORD}


def test_help_and_mistyped_options_do_not_wait_for_pytorch():
    code = "import sys, main; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_cache_fetches_only(tmp_path):
    process = run_main("--cache", "--out", tmp_path / "submit")
    assert process.returncode == 0
    assert "gpt2-mini: all files are in" in process.stdout
    assert not (tmp_path / "submit").exists()


# make_submission.sh


@pytest.fixture
def checkout(full_run, tmp_path) -> Path:
    """A checkout after a full run: what make_submission.sh needs, and the results."""
    for name in ("src", "questions", "staff"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "checkpoints" / "gpt2-mini").mkdir(parents=True)
    shutil.copy(ROOT / "checkpoints" / "gpt2-mini" / "config.yml", tmp_path / "checkpoints" / "gpt2-mini")
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
    with zipfile.ZipFile(checkout / "cs236.hw1.2023.zip") as archive:
        expected = {f"submit/{name}" for name in ALL_FILES | {RECORD}}
        expected |= {f"questions/{name}.py" for name in ("sample", "likelihood", "classifier")}
        assert set(archive.namelist()) == expected
        assert archive.testzip() is None
    assert "made by the code in staff/solution" in process.stdout
    assert all(name in process.stdout for name in expected)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: (c / "submit/random.png").unlink(),
         "submit/random.png: is missing; run: python main.py --model gpt2-mini --questions staff/solution --question 6.4"),
        (lambda c: (c / "submit" / FILES["6.7"][0]).unlink(), "samples_temperature0-95_horizon2.txt: is missing; run:"),
        (lambda c: (c / "submit/classification.pkl").write_bytes(b"x"), "submit/classification.pkl: is not what main.py wrote"),
        (lambda c: shutil.rmtree(c / "submit"), "submit/run.json: is missing; run: python main.py"),
        (lambda c: (c / "submit/run.json").write_text("{"), "run.json: is damaged; delete it and run main.py again"),
        (lambda c: (c / "submit/run.json").write_text('{"made_with": {}, "parts": {"6.3": []}}'), "run.json: is damaged"),
        (lambda c: (c / "questions/sample.py").unlink(), "questions/sample.py: is missing"),
        (lambda c: (c / "questions/sample.py").write_text("def f(:\n"), "questions/sample.py, line 1: is not valid Python"),
        (lambda c: change(c / "staff/solution/likelihood.py", "sum()", "mean()"),
         "submit/random_raw.pkl: is older than the code in staff/solution/"),
        (lambda c: change(c / "checkpoints/gpt2-mini/config.yml", "top_k: 40", "top_k: 20"),
         "was made with another config.yml of gpt2-mini"),
    ],
)  # fmt: skip
def test_what_is_missing_or_stale_is_named_and_no_zip_is_left(checkout, break_it, message):
    (checkout / "cs236.hw1.2023.zip").write_bytes(b"an older one")
    break_it(checkout)
    process = make_submission(checkout)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not (checkout / "cs236.hw1.2023.zip").exists()


def test_comments_do_not_make_results_stale(checkout):
    with (checkout / "staff/solution/likelihood.py").open("a", encoding="utf-8") as file:
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


def test_the_record_says_where_a_questions_folder_outside_the_checkout_is(tmp_path):
    folder = shutil.copytree(ROOT / "questions", tmp_path / "mine")
    assert record_entry("6.3", folder, {})["questions"] == folder.resolve().as_posix()
    assert record_entry("6.3", ROOT / "staff" / "solution", {})["questions"] == "staff/solution"


def test_the_bonus_may_be_left_out(checkout):
    record = json.loads((checkout / "submit/run.json").read_text())
    del record["parts"]["6.7"]
    (checkout / "submit/run.json").write_text(json.dumps(record))
    (checkout / "submit" / FILES["6.7"][0]).unlink()
    process = make_submission(checkout)
    assert process.returncode == 0
    assert "the bonus, 6.7, is not in it" in process.stdout
