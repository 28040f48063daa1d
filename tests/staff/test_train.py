"""`staff/train_mini.py`: it learns, continues after an interruption, and writes a checkpoint that loads."""

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.model.checkpoint import load, locate
from src.model.config import load_config
from staff.train_mini import HELD_OUT_EVERY, Corpus, read_corpus

STEPS = 60


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """A folder with two small corpora."""
    folder = tmp_path_factory.mktemp("corpora")
    rng = random.Random(0)
    words = ["the", "bound", "of", "a", "regret", "is", "tight", "and", "every", "kernel", "has", "its", "norm"]
    rows = [json.dumps({"title": "t", "abstract": " ".join(rng.choices(words, k=60))}) for _ in range(60)]
    (folder / "abstracts.jsonl").write_text("\n".join(rows))
    speech = "CLOWN:\nAy, sir, {} and {}, and I thank thee.\n"
    (folder / "plays.txt").write_text("\n".join(speech.format(*rng.choices(words, k=2)) for _ in range(1500)))
    return folder


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory) -> Path:
    """The folder of a training that ran to the end."""
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run(command(corpora, folder), cwd=ROOT, check=True, capture_output=True)
    return folder


def command(corpora: Path, folder: Path, *program: str) -> list:
    """The command that trains a toy model into `folder`."""
    return [sys.executable, *(program or ("-m", "staff.train_mini")), "--abstracts", corpora / "abstracts.jsonl", "--plays", corpora / "plays.txt",
            "--out", folder / "checkpoints" / "toy", "--work", folder / "work", "--vocab-size", "300", "--n-embd", "32", "--n-layer", "1",
            "--n-head", "2", "--n-ctx", "32", "--batch", "4", "--steps", str(STEPS), "--warmup", "5", "--save-every", "0"]  # fmt: skip


def last_row(folder: Path) -> dict:
    """The last row of the log."""
    return json.loads((folder / "work" / "log.jsonl").read_text().splitlines()[-1])


DIES = """
import itertools, os, signal
from staff import train_mini

replace, saves = os.replace, itertools.count(1)

def save(source, target):
    if str(target).endswith("state.pt") and next(saves) == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = save
train_mini.main()
"""


def test_an_interrupted_run_ends_with_the_same_weights(corpora, trained, tmp_path):
    """It is killed while it saves its state for the 30th time."""
    process = subprocess.run(command(corpora, tmp_path, "-c", DIES), cwd=ROOT, check=False, capture_output=True)
    weights = Path("checkpoints", "toy", "model.safetensors")
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / weights).exists()
    subprocess.run(command(corpora, tmp_path), cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / weights).read_bytes() == (trained / weights).read_bytes()


def test_training_lowers_the_loss(trained):
    assert last_row(trained)["step"] == STEPS
    assert last_row(trained)["abstracts"] < 3.0  # an untrained model has about ln 300 / 1.2 characters a token = 4.8


def test_the_checkpoint_loads(trained):
    config = load_config(trained / "checkpoints" / "toy" / "config.yml", "toy")
    model, codec = load(config, locate(config, trained))
    assert model(codec.encode("the bound"))[0].shape[-1] == 300


def test_the_card_states_the_loss_of_the_files(trained):
    card = (trained / "checkpoints" / "toy" / "README.md").read_text()
    stated = float(re.search(r"\| abstracts \|.*\| ([\d.]+) \|$", card, re.M).group(1))
    assert stated == pytest.approx(last_row(trained)["abstracts"], abs=0.01)  # float16 weights against float32 ones


@pytest.fixture
def abstracts(corpora) -> Corpus:
    return read_corpus(corpora / "abstracts.jsonl")


@pytest.fixture
def plays(corpora) -> Corpus:
    return read_corpus(corpora / "plays.txt")


def test_every_20th_document_is_held_out(abstracts):
    assert (len(abstracts.train), len(abstracts.held_out)) == (57, 3)
    assert not {text for _, text in abstracts.held_out} & set(abstracts.train)


def test_a_held_out_document_has_no_context(abstracts):
    assert [context for context, _ in abstracts.held_out] == [""] * 3


def test_a_held_out_passage_has_the_text_before_it_as_context(plays):
    whole = plays.path.read_text() + "\n\n"
    assert plays.held_out
    assert all(context and context + text in whole for context, text in plays.held_out)


def test_a_held_out_passage_is_not_trained_on(plays):
    assert not [text for _, text in plays.held_out if any(text in train for train in plays.train)]


def test_about_every_20th_passage_is_held_out(plays):
    share = sum(len(text) for _, text in plays.held_out) / len(plays.path.read_text())
    assert 0.03 < share < 1 / HELD_OUT_EVERY + 0.01  # the last passages may be fewer than 20
