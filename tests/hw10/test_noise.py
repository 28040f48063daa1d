"""Right noise passes, and known kinds of wrong noise do not."""

import math

import numpy as np
import pytest

from src.hw10.noise import LEVEL, chi_square_tail, distance_tail, faults, normal_tail

SHAPE = (800, 8)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (4000, 10), (3, 2), (1, 1)])
def test_right_noise_has_no_faults(rng, shape):
    for _ in range(20):
        assert faults(rng.standard_normal(shape), rng.standard_normal(shape)) == []


WRONG = {
    "shifted": (lambda rng: rng.standard_normal(SHAPE) + 0.1, "mean"),
    "wide": (lambda rng: rng.standard_normal(SHAPE) * 1.2, "variance"),
    "uniform": (lambda rng: rng.uniform(-math.sqrt(3), math.sqrt(3), SHAPE), "distribution"),
    "signs": (lambda rng: rng.choice([-1.0, 1.0], SHAPE), "distribution"),
    "positive": (lambda rng: np.abs(rng.standard_normal(SHAPE)), "distribution"),
    "one row for all": (lambda rng: np.repeat(rng.standard_normal((1, 8)), 800, axis=0), "columns"),
    "one column for all": (lambda rng: np.repeat(rng.standard_normal((800, 1)), 8, axis=1), "rows"),
    "nan": (lambda rng: rng.standard_normal(SHAPE) * math.nan, "not finite"),
    "none": (lambda rng: np.zeros(SHAPE), "variance"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_noise_is_found(rng, name):
    draw, fault = WRONG[name]
    assert fault in faults(draw(rng))


def test_antithetic_rows_are_found(rng):
    half = rng.standard_normal((400, 8))
    assert "columns" in faults(np.concatenate([half, -half]))


def test_noise_that_repeats_is_found(rng):
    noise = rng.standard_normal(SHAPE)
    assert faults(noise, noise) == ["repeated"]


def test_tails_are_those_of_a_million_draws(rng):
    """The share of draws beyond a value never exceeds the bound by more than five standard deviations."""
    draws = rng.chisquare(7, 10**6)
    for value in (0.5, 1.0, 20.0, 30.0):
        share = (draws <= value).mean() if value < 7 else (draws >= value).mean()
        assert share <= chi_square_tail(value, 7) + 5e-3 * math.sqrt(share)
    assert normal_tail(2.0) == pytest.approx(0.0455, abs=1e-4)
    assert normal_tail(-6.2) < LEVEL


def test_the_distance_is_the_largest_between_the_distributions(rng):
    """Of one draw at 0, F_1 jumps from 0 to 1 where F is 1/2."""
    assert distance_tail(np.zeros((1, 1))) == pytest.approx(min(1, 2 * math.exp(-2 / 4)))
    assert distance_tail(np.zeros((40, 1))) == pytest.approx(2 * math.exp(-80 / 4))
