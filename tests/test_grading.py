"""The parts of src/grading/: messages, oracle, diagnosis, and the sandbox without Unix."""

import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from src.config import ROOT
from src.grading import diagnosis, oracle
from src.grading.oracle import TableModel
from src.grading.protocol import Foreign, ProtocolError, receive, send
from tests.answers import SOLUTION, graded, points

# --- messages ---


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_plain_values_and_arrays_cross(pair):
    message = {
        "plain": [None, True, 3, -2.5, "ψ", ("a", (1,)), {"k": []}],
        "arrays": [np.arange(6).reshape(2, 3), np.zeros((0, 4), np.float32), np.array(True)],
        "foreign": Foreign("Thing"),
    }
    send(pair[0], message)
    got = receive(pair[1], time.monotonic() + 5)
    assert got["plain"] == message["plain"]
    assert got["foreign"] == Foreign("Thing")
    for a, b in zip(got["arrays"], message["arrays"], strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert (a == b).all()


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff" * 8,
        b"\0\0\0\2\0\0\0\0[]",
        b"\0\0\0\3\0\0\0\0{{{",
        b"\0\0\0\x02\0\0\0\0\xff\xfe",
        *(
            len(text).to_bytes(4, "big") + b"\0\0\0\4" + text + b"abcd"
            for text in (
                b'{"dict": {"x": {"array": ["float64", [1]]}}}',
                b'{"dict": {"x": {"array": ["object", [1]]}}}',
                b'{"dict": {"x": {"array": ["uint8", [-1]]}}}',
                b'{"dict": {"x": {"array": ["uint8", ["4"]]}}}',
                b'{"dict": {"x": {"array": ["uint8", [99999999999, 99999999999]]}}}',
                b'{"dict": {"x": {"class": "os.system"}}}',
                b'{"dict": {"x": {"array": 1, "tuple": []}}}',
                b'{"dict": ' + b"[" * 900 + b"]" * 900 + b"}",
                b'{"dict": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
                b'{"dict": {"x": ' + b"9" * 5000 + b"}}",
            )
        ),
    ],
)
def test_what_is_no_message_is_refused(pair, frame):
    threading.Thread(target=pair[0].sendall, args=(frame,), daemon=True).start()
    with pytest.raises(ProtocolError):
        receive(pair[1], time.monotonic() + 5)


def test_half_a_message_ends_at_the_deadline_and_a_closed_channel_at_once(pair):
    pair[0].sendall(b"\0\0\1\0")
    with pytest.raises(TimeoutError):
        receive(pair[1], time.monotonic() + 0.2)
    pair[0].close()
    with pytest.raises(EOFError):
        receive(pair[1], time.monotonic() + 5)


# --- oracle ---


def test_the_oracle_agrees_with_enumeration_in_python():
    model, ids, k = TableModel(6, seed=1), [2, 5, 1], 3
    logits = model.logits(np.array([ids]))[0].tolist()

    def top(row):
        smallest = sorted(row)[-k]
        weights = [math.exp(x) if x >= smallest else 0.0 for x in row]
        return [w / sum(weights) for w in weights]

    expected = sum(
        math.log(math.exp(row[i]) / sum(map(math.exp, row))) for row, i in zip(logits, ids[1:], strict=False)
    )
    assert oracle.log_likelihood(np.array(logits), ids) == pytest.approx(expected, abs=1e-9)

    pairs = oracle.pair_probabilities(model, np.array(ids), k)
    first = top(logits[-1])
    for a, b in itertools.product(range(6), repeat=2):
        second = top(model.logits(np.array([[*ids, a]]))[0, -1].tolist())
        assert pairs[a, b] == pytest.approx(first[a] * second[b], abs=1e-9)
    assert pairs.sum() == pytest.approx(1)

    kept = np.flatnonzero(first)
    with np.errstate(divide="ignore"):
        log_second = np.log(pairs[kept] / np.array(first)[kept, None])
    scaled = [sum(pairs[a, b] ** (1 / 0.7) for b in range(6)) for a in kept]
    got = oracle.marginal(np.log(np.array(first)[kept]), log_second, 0.7)
    assert np.exp(got) == pytest.approx(np.array(scaled) / sum(scaled), abs=1e-9)


def test_the_table_model_goes_on_from_a_past_as_from_the_whole_text():
    model, ids = TableModel(7, seed=2), np.array([[1, 2, 3, 4, 5], [0, 6, 0, 6, 0]])
    whole = model.answer({"ids": ids, "past": None})
    start = model.answer({"ids": ids[:, :2], "past": None})
    rest = model.answer({"ids": ids[:, 2:], "past": start["past"]})
    assert np.array_equal(whole["logits"][:, 2:], rest["logits"])
    assert np.array_equal(whole["past"], rest["past"])
    candidates = model.answer({"ids": np.array([[3], [4]]), "past": ids[:1, :2]})
    assert candidates["past"].tolist() == [[1, 2, 3], [1, 2, 4]]


@pytest.mark.parametrize(
    ("ids", "past", "says"),
    [
        (np.array([[7]]), None, "outside of the vocabulary"),
        (np.array([[1.0]]), None, "int64"),
        (np.array([1]), None, "two dimensions"),
        (np.zeros((2, 1), int), np.zeros((3, 1), int), "batch size 3"),
        (np.zeros((1, 0), int), None, "no tokens"),
        (np.zeros((1, 65), int), None, "longer"),
        ("ids", None, "int64"),
    ],
)
def test_the_table_model_refuses_what_gpt2_refuses(ids, past, says):
    assert says in TableModel(7, seed=2).answer({"ids": ids, "past": past})["error"]


def test_right_draws_are_hardly_ever_rejected_and_slightly_wrong_ones_always():
    """200 sets of right draws: a rejection would have a chance of 200 times FALSE_ALARM, 2e-5."""
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    bounds = [oracle.improbability(rng.multinomial(10_000, p), p) for _ in range(200)]
    assert min(bounds) > 1e-4
    for wrong in ([0.45, 0.35, 0.15, 0.05, 0.0], [0.5, 0.3, 0.15, 0.0499, 0.0001], [0.25, 0.25, 0.25, 0.25, 0.0]):
        counts = np.round(np.array(wrong) * 10_000)
        assert not oracle.fits(counts, p), wrong


# --- diagnosis ---


def test_each_mistake_has_a_hint_and_no_hint_is_a_line_of_the_answers():
    from staff.release import secret_lines

    secrets = secret_lines()
    for hint in diagnosis.HINTS.values():
        assert not any(line in hint for line in secrets)


def test_right_values_are_not_taken_for_mistakes():
    model = TableModel(12, seed=5)
    texts = [np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8, 9, 10])]
    logits = [model.logits(text[None])[0] for text in texts]
    right = [oracle.log_likelihood(answer, text) for answer, text in zip(logits, texts, strict=True)]
    assert diagnosis.likelihood(right, logits, texts) == ()
    assert diagnosis.likelihood([-r / (len(t) - 1) for r, t in zip(right, texts, strict=True)], logits, texts) == (
        "mean",
        "sign",
    )


def test_a_value_that_is_hardly_wrong_is_not_called_an_epsilon():
    text = np.arange(60) % 12
    logits = TableModel(12, seed=5).logits(text[None])[0]
    value = 1.00005 * oracle.log_likelihood(logits, text)
    assert diagnosis.likelihood([value], [logits], [text]) == ("scaled",)


def test_cross_entropy_as_pytorch_gives_it_is_recognised():
    model, text = TableModel(12, seed=5), np.array([1, 2, 3, 4, 5])
    logits = model.logits(text[None])[0]
    value = torch.nn.functional.cross_entropy(torch.tensor(logits[:-1]), torch.tensor(text[1:])).item()
    assert diagnosis.likelihood([value], [logits], [text]) == ("mean", "sign")


# --- the sandbox ---


def test_it_runs_without_fork_resource_and_user_ids(tmp_path):
    """As on Windows: those modules and functions are taken away before anything is imported."""
    code = (
        "import os, sys, runpy\n"
        "sys.modules['resource'] = None\n"
        "for name in ('fork', 'geteuid', 'setresuid', 'setresgid', 'setgroups', 'setsid', 'killpg', 'chown'):\n"
        "    delattr(os, name)\n"
        f"sys.argv = ['grader.py', '6.4', '6.6', '--submission', {str(SOLUTION)!r}, '--json', {str(tmp_path / 'r.json')!r}]\n"
        f"runpy.run_path({str(ROOT / 'grader.py')!r}, run_name='__main__')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    results = json.loads((tmp_path / "r.json").read_text())
    assert points(results) == {"6.4": 8, "6.6": 7}, process.stderr
    assert "with all of your rights" in results["output"]


def test_a_dead_nursery_is_replaced(tmp_path):
    from src.grading.sandbox import Sandbox

    with Sandbox(SOLUTION, "gpt2-mini") as sandbox:
        with sandbox.start() as worker:
            assert worker.call("sample.py", "top_k_logits", np.array([[1.0, 2.0]]), 1, seconds=20).value.tolist() == [
                [-1e10, 2]
            ]
        sandbox._nursery.kill()
        sandbox._nursery.wait()
        with sandbox.start() as worker:
            assert worker.call("sample.py", "top_k_logits", np.array([[1.0, 2.0]]), 1, seconds=20).value.tolist() == [
                [-1e10, 2]
            ]


def test_many_threads_may_use_pytorch_at_once(tmp_path):
    """In a process that was just forked, PyTorch fails 9 times of 10 if its first users are 32 threads at once."""
    from src.grading.sandbox import Sandbox

    (tmp_path / "sample.py").write_text(
        "import threading, torch\n"
        "def together(x):\n"
        "    barrier, done = threading.Barrier(32), []\n"
        "    def use():\n"
        "        barrier.wait()\n"
        "        done.append(x.softmax(-1))\n"
        "    threads = [threading.Thread(target=use) for _ in range(32)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
        "    return len(done)\n"
    )
    with Sandbox(tmp_path, "gpt2-mini") as sandbox:
        for _ in range(4):
            with sandbox.start() as worker:
                assert worker.call("sample.py", "together", np.ones(4), seconds=20).value == 32


def test_results_are_on_disk_at_every_moment(tmp_path, open_folder):
    path = tmp_path / "results.json"
    process = subprocess.Popen(
        [sys.executable, ROOT / "grader.py", "--submission", SOLUTION, "--json", path],
        stdout=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(open_folder)},
    )  # fmt: skip
    seen = set()
    try:
        while process.poll() is None and len(seen) < 4:
            if path.exists():
                results = json.loads(path.read_text())
                seen.add(len(results["tests"]))
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    results = json.loads(path.read_text())
    assert results["score"] == sum(test["score"] for test in results["tests"])
    assert "did not come to its end" in results["output"]
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["6.9"], "there is no part 6.9; known are 6.3, 6.4, 6.5, 6.6, 6.7"),
        (["--submission", "nowhere.zip"], "nowhere.zip: there is no such file or folder"),
        (["--model", "gpt3"], "--model gpt3: there is no such model"),
        (["--json", "/proc/x/results.json"], "cannot be written"),
        (["--seed", "-1"], "--seed -1: must not be negative"),
    ],
)
def test_arguments_that_cannot_work_are_one_line(arguments, says):
    process = subprocess.run(
        [sys.executable, ROOT / "grader.py", *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode != 0
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_a_missing_model_is_said_and_is_no_silent_zero(tmp_path):
    import shutil

    for name in ("src", "grader.py", "data", "config.yml", "questions"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "checkpoints" / "gpt2-mini").mkdir(parents=True)
    shutil.copy(ROOT / "checkpoints" / "gpt2-mini" / "config.yml", tmp_path / "checkpoints" / "gpt2-mini")
    found = graded(SOLUTION, tmp_path / "results.json", root=tmp_path)
    assert found["exit"] != 0
    assert "is missing" in found["stderr"]
    assert "could not be graded" in found["output"]


# --- what a worker sends is not to be trusted ---


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"returned": 1},
        {"returned": {"kind": "plain", "dtype": "float", "value": 1.0}, "model_changed": False, "tensors": [1]},
        {"returned": {"kind": "plain", "dtype": "float", "value": 1.0}, "model_changed": False, "tensors": []},
        {"raised": {"type": 3, "text": "x", "part": None}},
        {"ask": "table"},
        {"ask": "table", "ids": np.zeros((200_000, 1), np.int64), "past": np.zeros((1, 63), np.int64)},
    ],
)
def test_a_forged_reply_costs_the_call_and_nothing_else(reply):
    from src.grading.call import Lost, Worker
    from src.grading.sandbox import Sandbox

    model = TableModel(7, seed=1)
    ours, theirs = socket.socketpair()
    with Sandbox(SOLUTION, "gpt2-mini") as sandbox, theirs:
        real = sandbox.start()
        worker = Worker(0, sandbox.limits, ours, lambda patience: 0, real._home, real._output)

        def answer() -> None:
            send(theirs, reply)
            theirs.shutdown(socket.SHUT_WR)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Lost):
            worker.call("sample.py", "top_k_logits", np.zeros((1, 2), np.float32), 1, seconds=5, answer=model.answer)
        real.end()


def test_hidden_tests_run_last_and_show_a_hint_but_no_number(tmp_path):
    from tests.answers import varied

    folder = varied(tmp_path / "questions", "likelihood.py", (".sum().item()", ".mean().item()"))
    results = graded(folder, tmp_path / "results.json", "6.4")
    numbers = [test["number"] for test in results["tests"]]
    assert numbers == ["6.4.1", "6.4.2", "6.4.3", "6.4.4"]
    visible, hidden = results["tests"][0]["output"], results["tests"][2]["output"]
    assert "this is the mean" in visible
    assert "this is the mean" in hidden
    assert "expected: -" in visible
    assert not any(character.isdigit() for character in hidden)
    assert "expected: -" in results["stdout"].split("6.4.3")[1]  # at the terminal, for staff, all is shown


def test_a_missing_file_costs_its_own_part_alone(tmp_path):
    from tests.answers import varied

    folder = varied(tmp_path / "questions", "likelihood.py")
    (folder / "likelihood.py").unlink()
    results = graded(folder, tmp_path / "results.json")
    assert points(results) == {"6.3": 8, "6.4": 0, "6.5": 7, "6.6": 7, "6.7": 5, "7.1": 0}
    assert "note: questions/likelihood.py is missing" in results["output"]


def test_a_sample_that_ignores_the_temperature_loses_in_the_parts_about_temperature(tmp_path):
    from tests.answers import varied

    old = "logits = temperature_scale(logits, model, new_past, config, temperature, temperature_horizon)"
    results = graded(
        varied(tmp_path / "questions", "sample.py", (old, "pass")), tmp_path / "results.json", "6.3", "6.6", "6.7"
    )
    assert points(results) == {"6.3": 8, "6.6": 3.5, "6.7": 2.5}
