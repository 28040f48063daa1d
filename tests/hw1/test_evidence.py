"""Decisions on draws: right ones pass, and each required kind of wrong ones does not."""

import numpy as np
import pytest

from src.hw1.evidence import Answer, Draws, Evidence, fits, improbability
from src.hw1.oracle import log_softmax

P = np.array([0.5, 0.3, 0.15, 0.05, 0.0])


def test_right_counts_are_hardly_ever_rejected():
    """200 sets of right draws: one below 1e-4 would have a probability of 2e-2, so the seed is fixed."""
    rng = np.random.default_rng(0)
    assert min(improbability(rng.multinomial(10_000, P), P) for _ in range(200)) > 1e-4


@pytest.mark.parametrize(
    "wrong", [[0.45, 0.35, 0.15, 0.05, 0.0], [0.5, 0.3, 0.15, 0.0499, 0.0001], [0.25, 0.25, 0.25, 0.25, 0.0]]
)
def test_slightly_wrong_counts_are_rejected(wrong):
    assert not fits(np.round(np.array(wrong) * 10_000), P)


def a_draw(rng: np.random.Generator, log_q: np.ndarray, answer: Answer, n: int) -> Draws:
    """`n` draws from `log_q` (K,), in the one shape of `answer`, with the tokens in random order."""
    drawn = rng.choice(len(log_q), n, p=np.exp(log_q))
    ranks = rng.permuted(np.tile(np.arange(len(log_q)), (n, 1)), axis=1)
    return Draws(answer, np.zeros(n, np.int64), drawn, ranks)


def factor(log_q: np.ndarray, n: int) -> float:
    evidence, answer = Evidence(), Answer(np.log(P[None, :4]), vocab_size=5)
    evidence.add(a_draw(np.random.default_rng(1), log_q, answer, n))
    return evidence.log_factor


def test_alternatives_explain_right_draws_worse():
    assert factor(np.log(P[:4]), 20_000) < 0


@pytest.mark.parametrize("temperature", [0.8, 1.25])
def test_another_temperature_is_found(temperature):
    assert factor(log_softmax(np.log(P[:4]) / temperature), 20_000) > 20


def test_the_mean_factor_of_right_draws_is_one():
    """Ville's inequality needs it: an unbiased mean of 4,000 factors whose own standard deviation is about 1."""
    rng, answer, factors = np.random.default_rng(2), Answer(np.log(P[None, :4]), vocab_size=5), []
    for _ in range(4000):
        evidence = Evidence()
        evidence.add(a_draw(rng, np.log(P[:4]), answer, 20))
        factors.append(np.exp(evidence.log_factor) if np.isfinite(evidence.log_factor) else 0.0)
    assert np.mean(factors) < 1 + 4 * np.std(factors) / np.sqrt(len(factors))


def test_a_draw_of_what_is_impossible_decides_at_once():
    evidence, log_p = Evidence(), np.array([[0.0, -np.inf]])
    evidence.add(Draws(Answer(log_p, 2), np.zeros(1, np.int64), np.ones(1, np.int64)))
    assert evidence.is_too_much
