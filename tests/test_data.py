"""The texts of the homework: what is bundled, how it is read, and how it is made from other sources."""

import csv
import json
import os
import pickle
import random
import re
import subprocess
import sys

import numpy as np
import pytest

from src.config import ROOT
from src.dataset import PAPER_COLUMNS, DataError, read_papers, read_pieces, read_snippets
from src.safe_pickle import MAX_BYTES, PickleError, read_float_array, read_plain
from staff.build_data import KINDS, build

DATA = ROOT / "data"
SEED = 20190929


def test_the_bundled_papers_are_at_least_30_abstracts_of_90_to_180_words():
    papers = read_papers(DATA / "papers.csv")
    assert len(papers) >= 30
    assert all(90 <= len(paper["Abstract"].split()) <= 180 for paper in papers)
    assert len({paper["Abstract"] for paper in papers}) == len(papers)
    assert sum(len(paper["PaperText"].split()) > 400 for paper in papers) >= 5


def test_the_bundled_plays_have_at_least_25000_characters():
    assert len((DATA / "plays.txt").read_text(encoding="utf-8")) >= 25_000


def test_the_bundled_pickles_are_what_build_data_makes_of_the_bundled_texts():
    files, kinds = build(DATA / "papers.csv", DATA / "plays.txt", SEED)
    for name, content in files.items():
        assert (DATA / name).read_bytes() == content, f"{name}: run python -m staff.build_data"
    assert json.loads((ROOT / "staff" / "labels" / "snippets.json").read_text()) == kinds


def test_histograms_and_snippets_have_100_of_each_kind_and_share_no_piece():
    histograms = {kind: read_pieces(DATA / f"{kind}.pkl") for kind in KINDS}
    snippets = read_snippets(DATA / "snippets.pkl")
    _, kinds = build(DATA / "papers.csv", DATA / "plays.txt", SEED)
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 100)
    assert not set(snippets) & {piece for pieces in histograms.values() for piece in pieces}
    assert len(set(snippets)) == 300
    plays = (DATA / "plays.txt").read_text(encoding="utf-8")
    assert "".join(histograms["shakespeare"]) in plays  # consecutive pieces of one text
    for snippet, kind in zip(snippets, kinds, strict=True):
        assert (snippet in plays) == (kind == "shakespeare")
        assert bool(re.fullmatch("[a-zA-Z]{100}", snippet)) == (kind == "random")


def test_another_seed_gives_other_pickles_and_the_same_seed_the_same():
    first, second = (build(DATA / "papers.csv", DATA / "plays.txt", seed)[0] for seed in (1, 2))
    assert build(DATA / "papers.csv", DATA / "plays.txt", 1)[0] == first
    assert all(first[name] != second[name] for name in first)


def test_build_data_takes_a_csv_of_papers_with_newlines_and_a_long_text_of_plays(tmp_path):
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
    for kind in KINDS:
        assert len(read_pieces(tmp_path / "data" / f"{kind}.pkl")) == 100
    assert not any("\n" in piece for piece in read_pieces(tmp_path / "data" / "neurips.pkl"))
    assert len(json.loads((tmp_path / "labels.json").read_text())) == 300


def test_a_text_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "plays.txt").write_text("Exit, pursued by a deadline.\n" * 10)
    with pytest.raises(DataError, match=r"plays\.txt: gives \d+ characters, but at least 20000 are needed"):
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
def test_a_papers_file_that_is_not_right_is_one_clear_error(tmp_path, content, message):
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
def test_pieces_of_another_form_are_refused(tmp_path, value, message):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=message):
        read_pieces(tmp_path / "p.pkl")


# Pickles


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("read", [read_plain, read_float_array])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path, protocol, read):
    path, sprung = tmp_path / "trap.pkl", tmp_path / "sprung"
    for trap in (
        Call(os.mkdir, str(sprung)),
        Call(eval, f"open({str(sprung)!r}, 'w')"),
        [Call(np.save, str(sprung), 1)],
    ):
        path.write_bytes(pickle.dumps(trap, protocol))
        with pytest.raises(PickleError, match=r"trap\.pkl: is damaged or holds more than plain data"):
            read(path)
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_data_comes_back(tmp_path, protocol):
    value = {0: "ünï", "list": [1, 2.5, True, False, None, [1, 2], 10**30], "bytes": [] if protocol < 3 else b"x"}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value, protocol))
    assert read_plain(tmp_path / "p.pkl") == value


@pytest.mark.parametrize("protocol", [3, 4])
def test_an_array_of_floats_comes_back(tmp_path, protocol):
    array = np.linspace(-500, -1, 100)
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(read_float_array(tmp_path / "p.pkl"), array)


@pytest.mark.parametrize("value", [np.zeros((2, 2)), np.zeros(3, dtype=np.int64), np.zeros(3, dtype=">f8"), [1.0], 3])
def test_an_array_of_another_kind_is_refused(tmp_path, value):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value, 4))
    with pytest.raises(PickleError, match="does not hold a one-dimensional NumPy array of float64"):
        read_float_array(tmp_path / "p.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04.",
        b"\x80\x04]",
        b"garbage",
        b"\x80\x04r\xff\xff\xff\xffN.",  # a memo with four billion places
        b"\x80\x04B\xff\xff\xff\x7fx.",  # two gigabytes of bytes that aren't there
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0fx.",  # an exabyte of bytearray
        b"(" * 100_000 + b".",
        b"\x80\x04})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"Ns.",  # a key of 2**60 parts
        pickle.dumps(dict.fromkeys(range(100), "x" * 100), 4)[:-50],
    ],
)
def test_a_damaged_or_absurd_pickle_is_one_clear_error(tmp_path, content):
    (tmp_path / "p.pkl").write_bytes(content)
    for read in (read_plain, read_float_array):
        with pytest.raises(PickleError) as caught:
            read(tmp_path / "p.pkl")
        assert "\n" not in str(caught.value)


def test_a_missing_or_huge_pickle_is_one_clear_error(tmp_path):
    with pytest.raises(PickleError, match="cannot be read"):
        read_plain(tmp_path / "none.pkl")
    (tmp_path / "huge.pkl").write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(PickleError, match="cannot be right"):
        read_plain(tmp_path / "huge.pkl")
