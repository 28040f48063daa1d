"""The derivations of problems 4 and 5: each known mistake is recognised, and nothing else is taken for one."""

import numpy as np
import pytest

from src.grading.derivations import diagnose_values
from src.hw10.checks.theory_gaussian import counted, decay, moments, searched
from src.hw10.hints import theory_gaussian as hints


def pairs(rng):
    return hints.Pair(*rng.uniform([-2, 0.2, -2, 0.2], [2, 3, 2, 3]).tolist())


def tasks(rng):
    return hints.Tasks(
        rng.uniform(-2, 2, 4), rng.uniform(0.2, 3, 4), rng.uniform(-2, 2, 4), rng.uniform(0.2, 3, 4), 0.7
    )


PROBLEMS = {
    "4c": (pairs, moments, hints.PRODUCT_MISTAKES),
    "4d": (decay, counted, hints.STEPS_MISTAKES),
    "5e": (tasks, searched, hints.OPTIMUM_MISTAKES),
}
VARIANTS = [
    pytest.param(number, mistake, variant, id=f"{number} {mistake.name} {i}")
    for number, (_, _, mistakes) in PROBLEMS.items()
    for mistake in mistakes
    for i, variant in enumerate(mistake.variants)
]


def instances(number, count=6):
    make, right, _ = PROBLEMS[number]
    rng = np.random.default_rng(7)
    cases = [make(rng) for _ in range(count)]
    return cases, [np.asarray(right(case), np.float64) for case in cases]


@pytest.mark.parametrize(("number", "mistake", "variant"), VARIANTS)
def test_mistakes_are_recognised(number, mistake, variant):
    cases, right = instances(number)
    got = [np.asarray(variant(case), np.float64) for case in cases]
    found = diagnose_values(got, right, cases, PROBLEMS[number][2])
    assert [m.name for m in found] == [mistake.name]


@pytest.mark.parametrize("number", PROBLEMS)
def test_right_and_random_values_are_no_mistakes(number):
    cases, right = instances(number)
    rng = np.random.default_rng(8)
    assert not diagnose_values(right, right, cases, PROBLEMS[number][2])
    random = [each + rng.uniform(5, 9, each.shape) for each in right]
    assert not diagnose_values(random, right, cases, PROBLEMS[number][2])
