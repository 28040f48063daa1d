"""Mistakes that are made together, and what is said where several explanations fit."""

import numpy as np

from src.grading.part_test import Mistake
from src.hw1.hints.compose import Way, agreed, outcomes, proportional, stage

A, B, C = (Mistake(name, name, (step,)) for name, step in (("a", lambda case, x: 2 * x), ("b", lambda case, x: x + 1),
                                                         ("c", lambda case, x: -x)))  # fmt: skip
STAGES = (stage(lambda case, _: case, A.with_variants(lambda case, _: 2 * case)), stage(lambda case, x: x, B, C))


def test_every_one_and_every_two_are_tried():
    found = {tuple(m.name for m in mistakes): value for mistakes, value in outcomes(STAGES, 5)}
    assert found == {("a",): 10, ("b",): 6, ("c",): -5, ("a", "b"): 11, ("a", "c"): -10}


def test_a_way_may_be_several_mistakes():
    stages = (*STAGES, stage(lambda case, x: x, Way((B, C), lambda case, x: -x - 1)))
    assert ("b", "c") in {tuple(m.name for m in mistakes) for mistakes, _ in outcomes(stages, 5)}
    assert all(len(mistakes) <= 3 for mistakes, _ in outcomes(stages, 5))


def test_one_mistake_is_preferred_to_two():
    assert [m.name for m in agreed([(A, B), (C,)])] == ["c"]


def test_of_several_pairs_only_what_they_share_is_said():
    assert [m.name for m in agreed([(A, B), (C, B)])] == ["b"]
    assert agreed([(A, B), (C, Mistake("d", "d"))]) == ()
    assert agreed([]) == ()


def test_a_factor_must_be_that_of_at_least_three_values():
    values = np.array([-3.0, -20.0, -71.0])
    assert proportional(0.5 * values, values)
    assert not proportional(0.5 * values[:2], values[:2])
    assert not proportional(0.5 * values + 0.1, values)
    assert not proportional(np.array([np.nan, 1, 2]), values)
