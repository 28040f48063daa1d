"""The derivations on GANs: what the tests compare with, and the mistakes that are known."""

import math

import numpy as np
import pytest

from src.grading.derivations import diagnose_values
from src.hw10.checks.theory import LOSSES, best_discriminator, slopes, two_distributions
from src.hw10.hints import theory as hints


def gradient(logits):
    return np.array([-1 / (1 + np.exp(-logits)), -1 / (1 + np.exp(logits))])


def value(case):
    return case.relative_entropies(0.5) - math.log(4)


def logits(seed):
    return np.random.default_rng(seed).uniform(-5, 5, 4)


def distributions(seed):
    return two_distributions(np.random.default_rng(seed))


PROBLEMS = {
    "3a": (hints.GRADIENT_MISTAKES, logits, gradient),
    "3b": (hints.DISCRIMINATOR_MISTAKES, distributions, lambda case: case.data / (case.data + case.model)),
    "3e": (hints.VALUE_MISTAKES, distributions, value),
}


@pytest.mark.parametrize("part", PROBLEMS)
def test_each_mistake_in_a_derivation_is_recognised(part):
    mistakes, draw, right = PROBLEMS[part]
    cases = [draw(seed) for seed in range(3)]
    values = [np.asarray(right(case)) for case in cases]
    assert diagnose_values(values, values, cases, mistakes) == ()
    for mistake in mistakes:
        for variant in mistake.variants:
            led_to = [np.asarray(variant(case), dtype=np.float64) for case in cases]
            assert diagnose_values(led_to, values, cases, mistakes) == (mistake,)


def test_the_search_finds_the_best_discriminator():
    case = distributions(5)
    assert best_discriminator(case) == pytest.approx(case.data / (case.data + case.model), abs=1e-12)


def test_finite_differences_are_close_enough():
    """Their error is STEP² / 6 times the third derivative, and what float64 loses of a logarithm, divided by STEP."""
    assert np.array([slopes(loss, logits(1)) for loss in LOSSES]) == pytest.approx(gradient(logits(1)), abs=1e-8)
