"""Question 7 on models so small that all texts are listed: the horizons, the training, and Metropolis-Hastings."""

import itertools
import math

import numpy as np
import pytest
import torch

from src.files import ROOT
from src.grading.student_code import load_function
from src.hw1 import evidence, oracle
from src.hw1.long_horizon import fine_tune, metropolis, study, training
from src.hw1.long_horizon.fine_tune import Measured
from src.hw1.long_horizon.joint import LENGTH, START, TOKENS, Joint, entropy, kl
from src.hw1.oracle import TableModel

SOLUTION = ROOT / "staff" / "hw1" / "solution"
T = study.TEMPERATURE
EVERY_TEXT = list(itertools.product(range(TOKENS), repeat=LENGTH))


def answer(name: str):
    return load_function(SOLUTION, study.FILE, name)


@pytest.fixture(scope="module")
def p() -> Joint:
    return study.small_model()


@pytest.fixture(scope="module", params=range(3))
def other(request) -> tuple[TableModel, Joint]:
    model = TableModel(TOKENS, request.param)
    return model, Joint.of(model)


# --- the small model ---


def test_the_joint_agrees_with_log_likelihood(other):
    model, p = other
    for text in EVERY_TEXT[::97]:
        expected = oracle.log_likelihood(model, np.array([START, *text]))
        assert p.log_p[text] == pytest.approx(expected, abs=1e-9)


def test_the_joint_and_its_scaled_forms_sum_to_one(other):
    _, p = other
    for log_p in (p.log_p, p.scaled(0.5), p.scaled(2.0), p.scaled_ahead(0.5, 3).log_p):
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)


def test_z_is_one_at_temperature_one(other):
    assert other[1].log_z(1.0) == pytest.approx(0, abs=1e-12)


def test_horizon_1_is_6_6(other):
    model, p = other
    q = p.scaled_ahead(0.7, 1)
    for i in range(LENGTH):
        for text in itertools.islice(itertools.product(range(TOKENS), repeat=i), 20):
            logits = model.logits(np.array([[START, *text]]))[0, -1].astype(np.float64)
            assert q.conditionals[i][text] == pytest.approx(oracle.log_softmax(logits / 0.7), abs=1e-12)


def test_horizon_2_is_6_7(other):
    model, p = other
    q = p.scaled_ahead(0.7, 2)
    for i in range(LENGTH - 1):  # after the last token but one, there is no second token
        for text in itertools.islice(itertools.product(range(TOKENS), repeat=i), 20):
            expected = oracle.scaled_marginal(oracle.pairs_after(model, np.array([START, *text]), 0), 0.7)
            got = np.exp(q.conditionals[i][text])
            assert got == pytest.approx([expected[a] for a in range(TOKENS)], abs=1e-12)


def test_horizon_n_is_the_scaled_joint(other):
    _, p = other
    for temperature in (0.5, 0.9, 2.0):
        assert np.abs(p.scaled_ahead(temperature, LENGTH).log_p - p.scaled(temperature)).max() < 1e-12


def test_kl_falls_with_the_horizon_to_zero(p):
    of_horizon = [kl(p.scaled(T), p.scaled_ahead(T, h).log_p) for h in range(1, LENGTH + 1)]
    assert of_horizon == sorted(of_horizon, reverse=True)
    assert of_horizon[0] > 0.1
    assert of_horizon[-2] > 1e-4
    assert abs(of_horizon[-1]) < 1e-12


def test_a_further_horizon_may_be_worse():
    """Of the random models, some have a larger KL at h = 2 than at h = 1, so the study says which one it takes."""
    joints = [Joint.of(TableModel(TOKENS, seed)) for seed in range(5)]
    first, second = ([kl(p.scaled(T), p.scaled_ahead(T, h).log_p) for p in joints] for h in (1, 2))
    assert any(b > a for a, b in zip(first, second, strict=True))


# --- the student's functions, with all texts in the place of samples ---


def exact_loss(p: Joint, q: Joint, temperature: float) -> float:
    """(⋆): the answer's loss, text by text, weighted by p(x)."""
    loss = answer("lhts_loss")
    log_p, log_q = (torch.from_numpy(each.log_p.reshape(-1, 1)) for each in (p, q))
    values = [loss(a, b, temperature).item() for a, b in zip(log_p, log_q, strict=True)]
    return math.fsum(value * math.exp(a) for value, a in zip(values, log_p.flatten().tolist(), strict=True))


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.0, 2.0])
def test_the_loss_is_z_times_kl_plus_entropy(p, temperature):
    q, scaled = p.scaled_ahead(0.6, 2), p.scaled(temperature)
    expected = math.exp(p.log_z(temperature)) * (kl(scaled, q.log_p) + entropy(scaled))
    assert exact_loss(p, q, temperature) == pytest.approx(expected, abs=1e-10, rel=1e-10)


@pytest.mark.parametrize("horizon", [1, 2, 4, LENGTH])
def test_the_weights_lead_to_their_horizon(p, horizon):
    """Where x is drawn from p, the weighted share of each next token is its probability under q_h."""
    texts = np.array(EVERY_TEXT)
    log_p = np.stack([each[*texts[:, : i + 1].T] for i, each in enumerate(p.conditionals)], axis=1)
    weights = answer("horizon_weights")(torch.from_numpy(log_p), T, horizon).numpy()
    q = p.scaled_ahead(T, horizon)
    for i in range(LENGTH):
        weighted = (np.exp(p.log_p.reshape(-1)) * weights[:, i]).reshape((TOKENS,) * (i + 1) + (-1,)).sum(axis=-1)
        assert np.exp(q.conditionals[i]) == pytest.approx(weighted / weighted.sum(axis=-1, keepdims=True), abs=1e-12)


def test_the_trained_model_is_nearer_than_horizon_2(p):
    q = training.train(p, answer("lhts_loss"), T, range(training.STEPS), seed=1)
    assert kl(p.scaled(T), q.log_p) < 0.01 * kl(p.scaled(T), p.scaled_ahead(T, 2).log_p)


def test_training_without_weights_does_not_get_there(p):
    q = training.train(p, lambda log_p, log_q, _: -log_q.mean(), T, range(50), seed=1)
    assert kl(p.scaled(T), q.log_p) > kl(p.scaled(T), p.scaled_ahead(T, 1).log_p)


def test_metropolis_hastings_leaves_the_scaled_joint_as_it_is(p):
    log_p = torch.from_numpy(p.log_p.reshape(-1))
    moves = metropolis._moves(log_p, answer("metropolis_accept"), T)
    flow = torch.from_numpy(p.scaled(T).reshape(-1)).exp()[:, None] * moves
    assert (flow - flow.T).abs().max() < 1e-15  # detailed balance


def test_a_chain_converges_to_the_scaled_joint(p):
    of_step = [kl(p.scaled(T), each) for each in metropolis.distributions(p, answer("metropolis_accept"), T, 40)]
    assert of_step == sorted(of_step, reverse=True)
    assert of_step[-1] < 1e-9


def test_chains_end_at_texts_of_the_scaled_joint(p):
    """By the chi-square test of the grader, whose level is below one in a million."""
    counts = metropolis.run_chains(p, answer("metropolis_accept"), T, 40_000, range(40), seed=5)
    assert evidence.fits(counts.reshape(-1), np.exp(p.scaled(T)).reshape(-1))
    assert not evidence.fits(counts.reshape(-1), np.exp(p.scaled(0.55)).reshape(-1))


def test_the_chi_square_test_sees_a_wrong_acceptance(p):
    def symmetric(new, old, temperature):
        return ((new - old) / temperature).exp().clamp(max=1)

    counts = metropolis.run_chains(p, symmetric, T, 40_000, range(40), seed=5)
    assert not evidence.fits(counts.reshape(-1), np.exp(p.scaled(T)).reshape(-1))


# --- the comparison of ways to sample ---


def measured(temperature: float, distinct: float) -> Measured:
    return Measured(temperature, 1, -2.0, 0.1, (distinct, distinct))


def test_the_temperature_of_the_same_diversity_is_interpolated():
    found = [measured(1.0, 0.9), measured(0.9, 0.8), measured(0.8, 0.6)]
    assert fine_tune.temperature_at(found, 0.7) == pytest.approx(0.85)
    assert fine_tune.temperature_at(found, 0.9) == pytest.approx(1.0)


def test_no_temperature_has_more_diversity_than_all():
    assert fine_tune.temperature_at([measured(1.0, 0.9), measured(0.9, 0.8)], 0.95) is None


def test_distinct_counts_different_runs():
    texts = np.array([[1, 2, 1, 2], [1, 2, 3, 4]])
    assert fine_tune._distinct(texts, 2) == pytest.approx(4 / 6)  # 12, 21, 23, 34
