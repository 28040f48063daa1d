"""What the playground's server answers: the library's numbers, and those of the student's functions beside them."""

import json
import math

import numpy as np
import pytest
import torch

from src.files import ROOT
from src.hw1 import oracle
from src.hw1.dataset import DATASETS, read_pieces
from src.model.checkpoint import load, locate
from src.model.config import BUNDLED, model_config

TEXTS = [
    *(read_pieces(ROOT / "data" / dataset.file)[i] for dataset in DATASETS for i in range(5)),
    "O, my lord 😀", "שלום עולם", "a", "\n\n", "naïve <b>bold</b> & \t tabs",
]  # fmt: skip
TEMPERATURES = (0.1, 0.95, 1.0, 3.0)


class Model:
    """The bundled model, as the oracle asks it."""

    def __init__(self):
        config = model_config(BUNDLED)
        self.model, self.codec = load(config, locate(config), fast=True)

    def logits(self, ids):
        with torch.inference_mode():
            return self.model(torch.from_numpy(ids))[0].numpy()

    def last_logits(self, ids):
        return self.logits(ids)[:, -1]

    def ids(self, text):
        return self.codec.encode(text)[0].numpy()


@pytest.fixture(scope="module")
def model():
    return Model()


def test_totals_are_the_librarys(solved, model):
    for text in TEXTS:
        total = solved.json("read", text=text)["total"]
        assert total == pytest.approx(oracle.log_likelihood(model, model.ids(text)), abs=1e-6), text


def test_log_probabilities_and_ranks_are_the_librarys(solved, model):
    for text in TEXTS:
        tokens, ids = solved.json("read", text=text)["tokens"], model.ids(text)
        assert [token["piece"]["id"] for token in tokens] == ids.tolist()
        assert tokens[0]["log_p"] is None
        rows = oracle.log_softmax(model.logits(ids[None])[0])
        for row, token in zip(rows, tokens[1:], strict=False):
            assert token["log_p"] == pytest.approx(row[token["piece"]["id"]], abs=1e-6)
            assert token["rank"] == 1 + (row > row[token["piece"]["id"]]).sum()
            assert token["instead"][0][1] == pytest.approx(math.exp(row.max()), abs=1e-6)


def test_shares_at_horizon_1_are_the_librarys(solved, model):
    for text, temperature, k in [(text, T, k) for text in TEXTS[::3] for T in TEMPERATURES for k in (0, 40)]:
        answer = solved.json("next", text=text, temperature=temperature, top_k=k)
        right = np.exp(oracle.log_softmax(oracle.top_k(model.logits(model.ids(text)[None])[0, -1], k) / temperature))
        shown = [piece["id"] for piece in answer["tokens"]]
        first = answer["horizons"][0]
        assert first["p"] == pytest.approx(right[shown].tolist(), abs=1e-6)
        assert first["tail"] == pytest.approx(1 - right[shown].sum(), abs=1e-6)
        positive = right[right > 0]
        assert first["entropy"] == pytest.approx(-(positive * np.log(positive)).sum(), abs=1e-6)
        assert first["choices"] == pytest.approx(math.exp(first["entropy"]))


def test_shares_at_horizon_2_are_the_librarys(solved, model):
    for text, temperature in ((TEXTS[6], 0.7), (TEXTS[12], 1.5)):
        answer = solved.json("next", text=text, temperature=temperature, top_k=10)
        pairs = oracle.pairs_after(model, model.ids(text), 10)
        right = oracle.scaled_marginal(pairs, temperature)
        got = {piece["id"]: p for piece, p in zip(answer["tokens"], answer["horizons"][1]["p"], strict=True) if p}
        # The oracle looks at whole texts, the server at one token after what it remembers: float32 rounds differently.
        assert got == pytest.approx(right, abs=1e-5)


def test_the_reference_answers_differ_by_nothing(solved):
    for text in TEXTS:
        value = solved.json("read/yours", text=text)["log_likelihood"]
        assert value["is_same"]
        assert abs(value["difference"]) < 1e-3, text  # what float32 loses in a sum of hundreds
        for horizon in solved.json("next/yours", text=text, temperature=0.8)["horizons"]:
            assert horizon["is_same"]
            assert horizon["difference"] < 1e-6


def test_a_path_goes_on_from_its_tokens(solved, model):
    ids = model.ids("O, my lord, what is")
    whole = solved.json("next", text="O, my lord, what is", temperature=0.9)
    parts = solved.json("next", text="O", ids=ids[1:].tolist(), temperature=0.9)
    assert parts["length"] == whole["length"] == len(ids)
    assert parts["horizons"][0]["p"] == pytest.approx(whole["horizons"][0]["p"], abs=1e-5)
    assert [step["piece"]["id"] for step in parts["path"]] == ids[1:].tolist()
    log_p = [token["log_p"] for token in solved.json("read", text="O, my lord, what is")["tokens"][1:]]
    assert [step["log_p"] for step in parts["path"]] == pytest.approx(log_p, abs=1e-5)


def test_parts_of_a_character_are_bytes(solved):
    pieces = [token["piece"] for token in solved.json("read", text="a😀")["tokens"]]
    assert bytes.fromhex("".join(piece["bytes"] for piece in pieces)) == "😀".encode()
    assert [piece["text"] for piece in pieces] == ["a", "", "", "", ""]


@pytest.mark.parametrize("code", ["yours", "library"])
def test_a_seed_draws_the_same_again(solved, code):
    body = {"text": "We propose", "temperature": 1.5, "code": code, "horizon": 2}
    drawn = {seed: [solved.json("draw", seed=seed, **body)["id"] for _ in range(2)] for seed in range(12)}
    assert all(first == second for first, second in drawn.values())
    assert len({first for first, _ in drawn.values()}) > 3


def test_the_library_draws_what_the_bars_say(solved):
    answer = solved.json("next", text="O, my", temperature=0.7)
    share = answer["horizons"][0]["p"][0]
    draws = [solved.json("draw", text="O, my", temperature=0.7, code="library", seed=seed)["id"] for seed in range(200)]
    first = draws.count(answer["tokens"][0]["id"])
    assert abs(first / 200 - share) < 5 * math.sqrt(share * (1 - share) / 200)  # five standard deviations


def test_a_continuation_is_what_single_draws_give(solved):
    body = {"text": "We propose", "temperature": 0.9, "seed": 5}
    status, text = solved.post("continue", body | {"count": 4})
    lines = [json.loads(line) for line in text.splitlines()]
    assert status == 200
    assert lines[-1] == {"end": True}
    ids = [line["piece"]["id"] for line in lines[:-1]]
    for i, token in enumerate(ids):
        assert solved.json("draw", ids=ids[:i], **body)["id"] == token


def test_a_continuation_ends_where_the_context_does(solved):
    status, text = solved.post("continue", {"text": " a" * 509, "count": 50, "code": "library"})
    assert status == 200
    assert len(text.splitlines()) == 4  # three tokens, and the end


def test_histograms_are_the_pieces_log_likelihoods(solved, model):
    for _ in range(2):  # computed, then read
        lines = [json.loads(line) for line in solved.post("histograms")[1].splitlines()]
        for dataset, got in zip(DATASETS, lines[-1]["values"], strict=True):
            pieces = read_pieces(ROOT / "data" / dataset.file)
            assert got["label"] == dataset.label
            assert len(got["values"]) == len(pieces)
            right = oracle.log_likelihood(model, model.ids(pieces[7]))
            assert got["values"][7] == pytest.approx(right, abs=1e-2)  # the cache may be of another processor
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"text": ""}, "there is no text yet"),
        ({"text": " a" * 600}, "the text has 600 tokens, but bundled reads at most 511; shorten it"),
        ({"text": "a" * 100_001}, "the text has 100,001 characters; at most 100,000 are read"),
        ({"text": 5}, "text must be a string"),
        ({"text": "\ud800"}, "lone surrogate"),
        ({"text": "a", "model": "../.."}, "there is no such model"),
        ({"text": "a", "ids": [1, 6144]}, "a token is not in the vocabulary of bundled"),
        ({"text": "a", "ids": "1"}, "ids must be a list of whole numbers"),
        ({"text": "a", "temperature": 0}, "temperature is 0, but must lie between 0.05 and 10"),
        ({"text": "a", "temperature": "1"}, "temperature is"),
        ({"text": "a", "top_k": 1.5}, "top_k is 1.5, but must be a whole number"),
        ({"text": "a", "seed": -1}, "seed is -1"),
        ({"text": "a", "horizon": 3}, "horizon is 3"),
    ],
)
def test_what_cannot_be_answered_is_said(solved, body, says):
    status, text = solved.post("next", body)
    assert status == 422
    assert says in json.loads(text)["error"]


def test_a_request_that_is_no_json_is_answered(solved):
    assert solved.post("next", b"[[[")[0] == 422
    assert solved.post("next", b"[" * 100_000)[0] == 422
