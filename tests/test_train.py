"""`staff/train_mini.py`: that it learns, goes on after an interruption, and leaves a checkpoint that loads."""

import json
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from src.checkpoint import load, locate
from src.config import ROOT, load_config
from staff.train_mini import HELD_OUT_EVERY, read_corpus


@pytest.fixture
def corpora(tmp_path):
    rng = random.Random(0)
    words = ["the", "bound", "of", "a", "regret", "is", "tight", "and", "every", "kernel", "has", "its", "norm"]
    rows = [json.dumps({"title": "t", "abstract": " ".join(rng.choices(words, k=60))}) for _ in range(60)]
    (tmp_path / "abstracts.jsonl").write_text("\n".join(rows))
    speech = "CLOWN:\nAy, sir, {} and {}, and I thank thee.\n"
    (tmp_path / "plays.txt").write_text("\n".join(speech.format(*rng.choices(words, k=2)) for _ in range(1500)))
    return tmp_path


def command(folder, steps: int, *more) -> list:
    return [sys.executable, "-m", "staff.train_mini", "--abstracts", folder / "abstracts.jsonl", "--plays", folder / "plays.txt",
            "--out", folder / "checkpoints" / "toy", "--work", folder / "work", "--vocab-size", "300", "--n-embd", "32", "--n-layer", "1",
            "--n-head", "2", "--n-ctx", "32", "--batch", "4", "--steps", str(steps), "--warmup", "5", "--save-every", "0", *more]  # fmt: skip


def test_it_goes_on_after_an_interruption_to_where_it_would_have_come_without_one(corpora, tmp_path):
    straight = tmp_path / "straight"
    straight.mkdir()
    for name in ("abstracts.jsonl", "plays.txt"):
        (straight / name).write_bytes((corpora / name).read_bytes())
    subprocess.run(command(straight, 60), cwd=ROOT, check=True, capture_output=True)

    process = subprocess.Popen(command(corpora, 60), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (corpora / "work" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (corpora / "checkpoints" / "toy" / "model.safetensors").exists()
    subprocess.run(command(corpora, 60), cwd=ROOT, check=True, capture_output=True)

    weights = [folder / "checkpoints" / "toy" / "model.safetensors" for folder in (straight, corpora)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    log = [json.loads(line) for line in (corpora / "work" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 60
    assert log[-1]["abstracts"] < 3.0  # of about ln 256 / 1.2 characters a token = 4.6 at the start
    config = load_config(weights[1].with_name("config.yml"), "toy")
    model, codec = load(config, locate(config, corpora))
    assert model(codec.encode("the bound"))[0].shape[-1] == 300
    stated = re.search(r"\| abstracts \|.*\| ([\d.]+) \|$", weights[1].with_name("README.md").read_text(), re.M).group(
        1
    )
    assert float(stated) == pytest.approx(log[-1]["abstracts"], abs=0.01)  # float16 weights against float32 ones


def test_every_20th_text_is_held_out_and_none_is_both(corpora):
    abstracts, plays = (read_corpus(corpora / name) for name in ("abstracts.jsonl", "plays.txt"))
    assert (len(abstracts.train), len(abstracts.held_out)) == (57, 3)
    assert all(context == "" for context, _ in abstracts.held_out)
    whole = (corpora / "plays.txt").read_text()
    for context, text in plays.held_out:
        assert context + text in whole + "\n\n"
        assert not any(text in train for train in plays.train)
    share = sum(len(text) for _, text in plays.held_out) / len(whole)
    assert 0.03 < share < 1 / HELD_OUT_EVERY + 0.01
