"""The texts of homework 1: those in data/, how they are read, and how staff/build_data.py makes the pickles."""

import csv
import json
import pickle
import random
import re
import subprocess
import sys

import pytest

from src.errors import DataError
from src.files import ROOT
from src.hw1.dataset import DATASETS, PAPER_COLUMNS, read_papers, read_pieces, read_snippets
from staff.build_data import build

DATA = ROOT / "data"
SEED = 20190929
LABELS = ROOT / "staff" / "hw1" / "labels" / "snippets.json"


def test_the_papers_are_at_least_30_abstracts_of_90_to_180_words():
    papers = read_papers(DATA / "papers.csv")
    assert len(papers) >= 30
    assert all(90 <= len(paper["Abstract"].split()) <= 180 for paper in papers)
    assert len({paper["Abstract"] for paper in papers}) == len(papers)


def test_at_least_5_papers_have_a_text_of_over_400_words():
    assert sum(len(paper["PaperText"].split()) > 400 for paper in read_papers(DATA / "papers.csv")) >= 5


def test_the_plays_have_at_least_25000_characters():
    assert len((DATA / "plays.txt").read_text(encoding="utf-8")) >= 25_000


def test_build_data_makes_the_pickles_of_data():
    files, labels = build(DATA / "papers.csv", DATA / "plays.txt", SEED)
    for name, content in files.items():
        assert (DATA / name).read_bytes() == content, f"{name}: run python -m staff.build_data"
    assert json.loads(LABELS.read_text()) == labels


def test_the_snippets_have_100_texts_of_each_dataset():
    labels = json.loads(LABELS.read_text())
    assert {dataset.name: labels.count(dataset.name) for dataset in DATASETS} == {
        "random": 100, "shakespeare": 100, "neurips": 100,
    }  # fmt: skip


def test_no_piece_is_used_twice():
    pieces = [piece for dataset in DATASETS for piece in read_pieces(DATA / dataset.file)]
    snippets = read_snippets(DATA / "snippets.pkl")
    assert len(set(snippets)) == 300
    assert not set(snippets) & set(pieces)


def test_the_pieces_of_the_plays_are_consecutive():
    pieces = read_pieces(DATA / "shakespeare.pkl")
    assert "".join(pieces) in (DATA / "plays.txt").read_text(encoding="utf-8")


def test_each_snippet_has_the_label_of_its_dataset():
    plays = (DATA / "plays.txt").read_text(encoding="utf-8")
    for snippet, label in zip(read_snippets(DATA / "snippets.pkl"), json.loads(LABELS.read_text()), strict=True):
        assert (snippet in plays) == (label == "shakespeare")
        assert bool(re.fullmatch("[a-zA-Z]{100}", snippet)) == (label == "random")


def test_another_seed_gives_other_pickles():
    first, second = (build(DATA / "papers.csv", DATA / "plays.txt", seed)[0] for seed in (1, 2))
    assert all(first[name] != second[name] for name in first)


def test_build_data_takes_other_papers_and_plays(tmp_path):
    rng = random.Random(0)
    words = ["naïve", "regret,", 'a "bound"', "kernels", "the", "of\nthe", "and"]
    with (tmp_path / "Papers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PAPER_COLUMNS)
        for i in range(60):
            writer.writerow([i, f"Title {i}", "Poster", f"{i}.pdf", " ".join(rng.choices(words, k=120)), "x" * 300_000])
    (tmp_path / "plays.txt").write_text(" ".join(rng.choices(["thou", "art", "a\n", "knave"], k=50_000)))
    command = [sys.executable, "-m", "staff.build_data", "--papers", tmp_path / "Papers.csv", "--plays",
               tmp_path / "plays.txt", "--out", tmp_path / "data", "--labels", tmp_path / "labels.json"]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for dataset in DATASETS:
        assert len(read_pieces(tmp_path / "data" / dataset.file)) == 100
    assert not any("\n" in piece for piece in read_pieces(tmp_path / "data" / "neurips.pkl"))
    assert len(json.loads((tmp_path / "labels.json").read_text())) == 300


def test_a_text_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "plays.txt").write_text("Exit, pursued by a deadline.\n" * 10)
    with pytest.raises(DataError, match=r"plays\.txt: has 289 characters, but needs at least 20000"):
        build(DATA / "papers.csv", tmp_path / "plays.txt", SEED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Id,Title\n1,x\n", "lacks the column Abstract"),
        (",".join(PAPER_COLUMNS) + "\n1,T,Poster,p.pdf,  ,text\n", "row 1 .* has an empty abstract"),
        (",".join(PAPER_COLUMNS) + "\n1,T,Poster\n", "row 1 has not as many fields"),
        (",".join(PAPER_COLUMNS) + '\n1,T,Poster,p.pdf,"open', "is not a CSV file"),
        ("", "lacks the column"),
    ],
)
def test_a_malformed_papers_file_is_refused(tmp_path, content, message):
    path = tmp_path / "papers.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_papers(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (dict.fromkeys(range(99), "x" * 100), "must be a dict with the keys 0 to 99"),
        (dict.fromkeys(range(100), "x" * 100) | {7: "short"}, "text 7 has 5 characters"),
        (dict.fromkeys(range(100), "x" * 100) | {7: 100}, "text 7 is of type int"),
        (["x" * 100] * 100, "must be a dict"),
    ],
)
def test_malformed_pieces_are_refused(tmp_path, value, message):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=message):
        read_pieces(tmp_path / "p.pkl")


def test_snippets_of_another_number_are_refused(tmp_path):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(["x" * 100] * 299))
    with pytest.raises(DataError, match=r"p\.pkl: must be a list of 300 texts"):
        read_snippets(tmp_path / "p.pkl")
