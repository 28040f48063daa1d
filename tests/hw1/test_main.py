"""`main.py` as a student uses it: as a command, on the bundled model."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.record import RECORD
from src.grading.safe_pickle import read_float_array, read_plain
from src.hw1.parts import CLASSIFICATION, LONG_HORIZON, SAMPLES, SAMPLES_HORIZON2, SAMPLES_TEMPERATURE
from src.model.config import BUNDLED
from tests.hw1.conftest import ALL_FILES, ANSWERS, FILES, change, run_main
from tests.processes import wait_for


def test_a_full_run_leaves_every_artifact(full_run):
    out, process = full_run
    assert (process.returncode, process.stderr) == (0, "")
    assert {path.name for path in out.iterdir()} == ALL_FILES | {RECORD}
    for part, names in FILES.items():
        assert re.search(rf"^{re.escape(part)} +\d+\.\d  done +{re.escape(', '.join(names))}$", process.stdout, re.M)
    record = json.loads((out / RECORD).read_text())
    assert set(record["parts"]) == set(FILES)
    for entry in record["parts"].values():
        assert entry["made_with"]["model"] == BUNDLED
        assert entry["made_with"]["seed"] == 20190929
        assert len(entry["made_with"]["checkpoint_sha256"]) == 64


def test_the_bundled_model_separates_random_letters(full_run):
    out, _ = full_run
    assert read_float_array(out / "random_raw.pkl").max() < -420
    assert read_float_array(out / "shakespeare_raw.pkl").min() > -230
    assert read_float_array(out / "neurips_raw.pkl").min() > -230


def test_the_reference_classifier_is_right_on_all_snippets(full_run):
    kinds = json.loads((ROOT / "staff" / "hw1" / "labels" / "snippets.json").read_text())
    assert read_plain(full_run[0] / CLASSIFICATION.name) == [kind == "random" for kind in kinds]


def test_samples_continue_abstracts_and_differ_by_temperature(full_run):
    out, _ = full_run
    files = (SAMPLES, SAMPLES_TEMPERATURE, SAMPLES_HORIZON2)
    texts = [(out / file.name).read_text(encoding="utf-8") for file in files]
    assert [text.count("== sample") for text in texts] == [5, 5, 1]
    beginning = "Variational inference provides a scalable alternative to Markov chain Monte Carlo"
    assert all(text.splitlines()[1].startswith(beginning) for text in texts)
    assert len(set(texts)) == 3


def test_a_seed_gives_the_same_bytes_whichever_parts_run(full_run, tmp_path):
    out, _ = full_run
    again = run_main("--questions", ANSWERS, "--out", tmp_path / "a", "--question", "6.7", "6.5", "6.4")
    assert again.returncode == 0
    for part in ("6.4", "6.5", "6.7"):
        for name in FILES[part]:
            assert (tmp_path / "a" / name).read_bytes() == (out / name).read_bytes(), name
    first, second = (json.loads((folder / RECORD).read_text()) for folder in (out, tmp_path / "a"))
    assert second["parts"] == {part: first["parts"][part] for part in ("6.4", "6.5", "6.7")}


def test_an_experiment_keeps_the_other_parts(full_run, tmp_path):
    out = shutil.copytree(full_run[0], tmp_path / "submit")
    process = run_main("--questions", ANSWERS, "--out", out, "--question", "6.7", "--seed", "1")
    assert process.returncode == 0
    assert f"note: 6.7 in {out.as_posix()}/ was made with bundled, seed 20190929; this run" in process.stdout
    name = FILES["6.7"][0]
    assert (out / name).read_bytes() != (full_run[0] / name).read_bytes()
    before, after = (json.loads((folder / RECORD).read_text())["parts"] for folder in (full_run[0], out))
    assert {number for number in FILES if after[number] != before[number]} == {"6.7"}
    assert after["6.7"]["made_with"] == {**before["6.7"]["made_with"], "seed": 1}


def test_the_note_on_other_settings_promises_nothing(full_run, tmp_path):
    """It comes before the run, which may fail."""
    out = shutil.copytree(full_run[0], tmp_path / "submit")
    process = run_main("--out", out, "--question", "6.3", "6.4", "--seed", "1")
    assert process.stdout.splitlines()[0] == (
        f"note: 6.3, 6.4 in {out.as_posix()}/ were made with bundled, seed 20190929; this run replaces them, where it "
        f"succeeds, by what it makes with bundled, seed 1 (--out FOLDER would keep both)"
    )
    assert (out / SAMPLES.name).read_bytes() == (full_run[0] / SAMPLES.name).read_bytes()


def test_a_part_that_fails_keeps_its_record(full_run, questions, tmp_path):
    out = shutil.copytree(full_run[0], tmp_path / "submit")
    change(questions / "sample.py", "def sample(", "def simple(")
    assert run_main("--questions", questions, "--out", out, "--question", "6.7").returncode == 1
    assert (out / RECORD).read_bytes() == (full_run[0] / RECORD).read_bytes()


def test_parts_may_be_separated_by_commas(tmp_path):
    process = run_main("--out", tmp_path / "submit", "--question", "6.3,6.7", "6.4")
    assert process.returncode == 0
    assert re.findall(r"^(6\.\d) +\d", process.stdout, re.M) == ["6.3", "6.4", "6.7"]


def test_parts_may_be_named_without_an_option(tmp_path):
    """As for grader.py."""
    process = run_main("6.3", "6.7,6.4", "--out", tmp_path / "submit")
    assert process.returncode == 0
    assert re.findall(r"^(6\.\d) +\d", process.stdout, re.M) == ["6.3", "6.4", "6.7"]


def test_question_7_runs_where_it_is_asked_for(tmp_path):
    out = tmp_path / "submit"
    process = run_main("--questions", ANSWERS, "--out", out, "--question", "7")
    assert (process.returncode, process.stderr) == (0, "")
    assert {path.name for path in out.iterdir()} == {LONG_HORIZON.name, RECORD}
    assert LONG_HORIZON.problem(out / LONG_HORIZON.name) is None
    assert "of q trained with your loss: 0.000" in process.stdout
    assert "20,000 such chains end fit p_T" in process.stdout
    assert set(json.loads((out / RECORD).read_text())["parts"]["7.1"]["code"]) == {"long_horizon.py"}


def test_stubs_are_named_with_file_and_line(tmp_path):
    process = run_main("--out", tmp_path / "submit")
    assert process.returncode == 0
    stub = (ROOT / "questions" / "sample.py").read_text(encoding="utf-8").splitlines()
    line = stub.index(next(text for text in stub if text.endswith('NotImplementedError("6.3")'))) + 1
    command = "python main.py --model bundled --question 6.3"
    last = process.stdout.splitlines()[-1]
    assert last == f"next: write 6.3 in questions/sample.py, line {line}, then: {command}"
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
    assert process.returncode == 0
    assert "6.5: needs 6.4 first: " in process.stderr
    assert "next: write 6.4 in " in process.stdout


def test_a_stubs_line_that_was_left_in_a_block_is_named(questions, tmp_path):
    change(questions / "likelihood.py", "return token", 'raise NotImplementedError("6.4")\n        return token')
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", "6.4", "6.5")
    place = f"{(questions / 'likelihood.py').as_posix()}, line 26"
    says = f'{place}: your block still has the line raise NotImplementedError("6.4"); delete it'
    assert process.stderr.split("\n\n") == [f"6.5: {says}", f"6.4: {says}", ""]
    assert re.search(r"^6\.4 .* wrong +nothing\n6\.5 .* needs 6\.4 first +nothing$", process.stdout, re.M)
    assert "next:" not in process.stdout
    assert process.returncode == 1


def test_quitting_the_debugger_ends_the_run(questions, tmp_path):
    change(questions / "sample.py", "past = None", "past = None; breakpoint()")
    process = run_main("--questions", questions, "--out", tmp_path / "submit", stdin="p length\nq\n")
    assert "(Pdb) 256\n" in process.stdout
    assert process.stderr == "6.3: stopped in the debugger\n"
    assert process.returncode == 1


def test_an_error_shows_the_own_traceback_and_the_rest_runs(questions, tmp_path):
    change(questions / "likelihood.py", "return token_log_probs.sum().item()", "return token_log_probs[0, 99999, 7]")
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", "6.4", "6.7")
    assert process.returncode == 1
    assert "Traceback" in process.stderr
    assert "likelihood.py" in process.stderr
    assert "return token_log_probs[0, 99999, 7]" in process.stderr
    assert "IndexError" in process.stderr
    assert "run.py" not in process.stderr
    assert re.search(r"^6\.4 .* raised an error +nothing$", process.stdout, re.M)
    assert {path.name for path in (tmp_path / "submit").iterdir()} == {*FILES["6.7"], RECORD}


@pytest.mark.parametrize(
    ("file", "old", "new", "part", "message"),
    [
        ("likelihood.py", ".sum().item()", ".sum()", "6.4", "log_likelihood returned a tensor of shape () and type float32"),
        ("likelihood.py", ".sum().item()", ".sum()", "6.4", "a finite Python float; .item() turns a tensor with one"),
        ("likelihood.py", ".sum().item()", ".sum().item() * float('nan')", "6.4", "log_likelihood returned nan"),
        ("likelihood.py", "return token", "token", "6.4", "log_likelihood returned nothing (None)"),
        ("classifier.py", "return log_likelihood(model, text) < -320", "return 1", "6.5", "must return True or False"),
        ("sample.py", "return torch.cat(output, dim=1)", "return torch.cat(output[1:], dim=1)", "6.7", "of shape (1, 124)"),
        ("sample.py", "def sample(", "def simple(", "6.7", "has no function sample"),
        ("sample.py", "import torch\n", "import torch\nimport nonsense\n", "6.7", "No module named 'nonsense'"),
        ("sample.py", "import torch\n", "import torch\nif True\n", "6.7", "SyntaxError: expected ':'"),
        ("likelihood.py", "return token_log_probs", "import sys; sys.exit('bye')", "6.4", "SystemExit: bye"),
        ("likelihood.py", "import torch\n", "import torch\nfrom src.hw1 import parts\n", "6.4", "cannot be imported by your answers"),
        ("long_horizon.py", "log_q).mean()", "log_q)", "7", "lhts_loss returned a tensor of shape (8192,)"),
        ("long_horizon.py", "log_q).mean()", "log_q.detach()).mean()", "7", "that requires a gradient"),
        ("long_horizon.py", ".clamp(max=1)", "", "7", "must return probabilities, from 0 to 1"),
        ("likelihood.py", "model(text)  #", "model(text.repeat(1, 99))  #", "6.4", "give it a shorter text"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_one_line(questions, tmp_path, file, old, new, part, message):
    change(questions / file, old, new)
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", part)
    assert process.returncode == 1
    assert message in process.stderr
    assert f"{file}" in process.stderr
    assert "src/" not in process.stderr


@pytest.mark.parametrize("limit", ["-1e9", "1e9"])
def test_a_classifier_that_never_decides_is_told(questions, tmp_path, limit):
    change(questions / "classifier.py", "< -320", f"< {limit}")
    process = run_main("--questions", questions, "--out", tmp_path / "submit", "--question", "6.5")
    assert process.returncode == 0
    assert f"6.5: classification returned {limit == '1e9'} for all 300 texts" in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert re.search(r"^6\.5 .* done, but see above +classification\.pkl$", process.stdout, re.M)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "gpt5"), "error: --model gpt5: there is no such model; known are gpt2, gpt2-mini"),
        (("--questions", "nowhere"), "--questions nowhere: there is no such folder"),
        (("--out", "README.md/submit"), "cannot be written (Not a directory)"),
        (("--device", "cuda"), "error: --device cuda: PyTorch finds no such device here; use --device auto"),
        (("--question", "6.3,6.9"), "error: there is no part 6.9 to run; known are 6.3, 6.4, 6.5, 6.6, 6.7, 7.1"),
        (("--fine-tune",), "error: --fine-tune belongs to question 7; add --question 7"),
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


def test_interrupting_leaves_nothing_half_written(questions, tmp_path):
    change(questions / "likelihood.py", "return token", "while True: pass\n        return token")
    out = tmp_path / "submit"
    command = [sys.executable, "main.py", "--model", "bundled", "--questions", questions, "--out", out]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in the background
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or set(parts_of(out)) == {"6.3", "6.6", "6.7"})  # now 6.5 is under way
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    made = {name for entry in parts_of(out).values() for name in entry["files"]}
    assert {path.name for path in out.iterdir()} == made | {RECORD}
    assert made


def parts_of(out: Path) -> dict[str, dict]:
    """What run.json says of the parts that have been run."""
    return json.loads((out / RECORD).read_text())["parts"] if (out / RECORD).exists() else {}


def test_help_and_mistyped_options_do_not_wait_for_pytorch():
    code = "import sys, main; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_cache_fetches_only(tmp_path):
    process = run_main("--cache", "--out", tmp_path / "submit")
    assert process.returncode == 0
    assert f"{BUNDLED}: all files are in" in process.stdout
    assert not (tmp_path / "submit").exists()
