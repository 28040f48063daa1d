"""Mistakes that are made together.

A computation is a sequence of stages, and a mistake is another way through one of them. So every two mistakes in
different stages give a value, too, without anybody having to write it down.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes

AT_MOST = 2  # ways that are wrong; three of them explain too much


@dataclass(frozen=True)
class Way:
    """One way through a stage: a function of the case and of what the stage before has led to."""

    mistakes: Mistakes  # empty where it is the right way
    step: Callable[[Any, Any], Any]


def stage(right: Callable[[Any, Any], Any], *wrong: Mistake | Way) -> tuple[Way, ...]:
    """The ways through a stage, the right one first. The variants of a mistake are steps."""
    ways = [Way((), right)]
    for entry in wrong:
        ways += [entry] if isinstance(entry, Way) else [Way((entry,), variant) for variant in entry.variants]
    return tuple(ways)


def outcomes(stages: Sequence[Sequence[Way]], case: Any) -> Iterator[tuple[Mistakes, Any]]:
    """What every one and every two wrong ways lead to, always in the same order, with the mistakes in them."""
    for mistakes, wrong, value in _paths(stages, case, (), 0, None):
        if wrong:
            yield mistakes, value


def _paths(
    stages: Sequence[Sequence[Way]], case: Any, mistakes: Mistakes, wrong: int, value: Any
) -> Iterator[tuple[Mistakes, int, Any]]:
    if not stages:
        yield mistakes, wrong, value
        return
    for way in stages[0] if wrong < AT_MOST else stages[0][:1]:
        reached, number = way.step(case, value), wrong + bool(way.mistakes)
        yield from _paths(stages[1:], case, (*mistakes, *way.mistakes), number, reached)


def outcomes_of_all(stages: Sequence[Sequence[Way]], cases: Sequence[Any]) -> Iterator[tuple[Mistakes, list[Any]]]:
    """What every one and every two wrong ways lead to in each of `cases`."""
    for of_cases in zip(*(outcomes(stages, case) for case in cases), strict=True):
        yield of_cases[0][0], [value for _, value in of_cases]


def agreed(explanations: Sequence[Mistakes]) -> Mistakes:
    """What to tell a student whose value all of these `explanations` lead to.

    One mistake is likelier than several, and of single ones the first counts. If only several mistakes together explain
    the value, then those that are in all such explanations.
    """
    for explanation in explanations:
        if len(explanation) == 1:
            return explanation
    fewest = min(map(len, explanations), default=0)
    simplest = [explanation for explanation in explanations if len(explanation) == fewest]
    return tuple(m for m in simplest[0] if all(m in other for other in simplest)) if simplest else ()


def proportional(got: NDArray[Any], values: NDArray[Any]) -> bool:
    """Whether `got` are all the same multiple of `values`: at least three, so that it is no accident."""
    if len(got) < 3 or not np.isfinite([got, values]).all() or not values.all() or np.ptp(values) < 0.1:
        return False
    factors = got / values
    return bool(np.allclose(factors, factors[0], rtol=1e-4, atol=0))
