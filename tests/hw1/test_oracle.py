"""Table models, and the right answers about them."""

import itertools
import math

import numpy as np
import pytest

from src.errors import ProtocolError
from src.hw1 import oracle
from src.hw1.messages import TableAnswer, TableQuestion, TableRefusal
from src.hw1.oracle import TableModel

IDS, K = [2, 5, 1], 3


@pytest.fixture
def model() -> TableModel:
    return TableModel(6, seed=1)


def top_k_probabilities(row: list[float]) -> list[float]:
    """In plain Python: the probabilities of the K largest logits, and 0 for the others."""
    smallest = sorted(row)[-K]
    weights = [math.exp(x) if x >= smallest else 0.0 for x in row]
    return [weight / sum(weights) for weight in weights]


def test_log_likelihood_sums_each_tokens_log_probability(model):
    rows = model.logits(np.array([IDS]))[0].tolist()
    expected = sum(math.log(math.exp(row[i]) / sum(map(math.exp, row))) for row, i in zip(rows, IDS[1:], strict=False))
    assert oracle.log_likelihood(model, np.array(IDS)) == pytest.approx(expected, abs=1e-9)


def test_pair_probabilities_agree_with_enumeration(model):
    pairs = oracle.pair_probabilities(model, np.array(IDS), K)
    first = top_k_probabilities(model.logits(np.array([IDS]))[0, -1].tolist())
    for a, b in itertools.product(range(6), repeat=2):
        second = top_k_probabilities(model.logits(np.array([[*IDS, a]]))[0, -1].tolist())
        assert pairs[a, b] == pytest.approx(first[a] * second[b], abs=1e-9)
    assert pairs.sum() == pytest.approx(1)


def test_the_scaled_marginal_agrees_with_arrays(model):
    pairs = oracle.pair_probabilities(model, np.array(IDS), K)
    scaled = (pairs ** (1 / 0.7)).sum(axis=1)
    got = oracle.scaled_marginal(oracle.pairs_after(model, np.array(IDS), K), 0.7)
    assert [got.get(a, 0.0) for a in range(6)] == pytest.approx((scaled / scaled.sum()).tolist(), abs=1e-9)


def answer(model: TableModel, ids: np.ndarray, past: np.ndarray | None = None) -> TableAnswer:
    given = model.answer(TableQuestion(ids, past))
    assert isinstance(given, TableAnswer)
    return given


def test_a_table_model_continues_a_past_like_the_whole_text():
    model, ids = TableModel(7, seed=2), np.array([[1, 2, 3, 4, 5], [0, 6, 0, 6, 0]])
    whole, start = answer(model, ids), answer(model, ids[:, :2])
    rest = answer(model, ids[:, 2:], start.past)
    assert np.array_equal(whole.logits[:, 2:], rest.logits)
    assert np.array_equal(whole.past, rest.past)


def test_one_past_serves_several_candidates():
    candidates = answer(TableModel(7, seed=2), np.array([[3], [4]]), np.array([[1, 2]]))
    assert candidates.past.tolist() == [[1, 2, 3], [1, 2, 4]]


def test_a_table_model_remembers_what_it_was_asked():
    model, ids = TableModel(7, seed=2), np.array([[1, 2]])
    answer(model, ids)
    answer(model, ids[:, :1], ids)
    assert [(asked.ids.tolist(), asked.past is None) for asked in model.asked] == [([[1, 2]], True), ([[1]], False)]


def test_a_table_model_keeps_no_message_alive():
    model = TableModel(7, seed=2)
    message = np.zeros(1_000_000, np.int64)
    answer(model, message[:2].reshape(1, 2))
    assert model.asked[0].ids.base is None
    assert model.asked[0].ids.nbytes == 4


@pytest.mark.parametrize(
    ("ids", "past", "says"),
    [
        (np.zeros((20_000, 60), np.int64), None, "more than this model answers at once"),
        (np.array([[7]]), None, "outside of the vocabulary"),
        (np.array([[1.0]]), None, "int64"),
        (np.array([1]), None, "two dimensions"),
        (np.zeros((2, 1), int), np.zeros((3, 1), int), "batch size 3"),
        (np.zeros((1, 0), int), None, "no tokens"),
        (np.zeros((1, 65), int), None, "longer"),
        (np.zeros((1, 1), int), np.zeros((1, 1)), "past must hold token ids"),
        (np.zeros((20_001, 1), int), None, "at most 20000"),
    ],
)
def test_a_table_model_refuses_what_gpt2_refuses(ids, past, says):
    refusal = TableModel(7, seed=2).answer(TableQuestion(ids, past))
    assert isinstance(refusal, TableRefusal)
    assert says in refusal.text


def test_asking_far_too_much_ends_the_call():
    model = TableModel(7, seed=2)
    question = TableQuestion(np.zeros((5_000, 1), int), np.zeros((5_000, 60), int))
    for _ in range(65):
        model.answer(question)
    with pytest.raises(ProtocolError, match="far too much"):
        model.answer(question)


def test_logits_plus_a_constant_are_the_same_distribution():
    logits = np.array([[1.0, 2.0, -np.inf], [0.0, -3.0, 5.0]])
    assert oracle.same_distribution(logits + 7.5, logits)


@pytest.mark.parametrize("wrong", [[1.01, 2.0, -np.inf], [1.0, 2.0, -5.0], [np.nan, 2.0, 0.0], [-np.inf] * 3])
def test_logits_of_other_probabilities_are_another_distribution(wrong):
    assert not oracle.same_distribution(np.array([wrong]), np.array([[1.0, 2.0, -np.inf]]))
