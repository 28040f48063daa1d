"""The tests of `sample` see what they are required to see, in simulated draws."""

import pytest

from staff.hw1.power import ALTERNATIVES, Alternative, decisions, false_alarms, right

REQUIRED = {alternative.name: alternative for alternative in ALTERNATIVES if alternative.required}
SEEDS = range(10)  # a power of 0.999 misses one of these in one run in a hundred; the seeds are fixed


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    "name", ["T = 0.96", "T = 1.04", "1.0% uniform", "one token +3%", "one token -3%", "guard 1e-06"]
)
def test_required_alternatives_lose_points(name, alone):
    assert all(decision.lost for decision in decisions(REQUIRED[name], alone, SEEDS))


def test_right_draws_lose_nothing():
    assert false_alarms(range(20)).alarms == 0


def test_right_draws_are_settled_soon():
    """On average far before the last of the 25 rounds of trials, so that a grading is quick."""
    drawn = decisions(Alternative("right", right), True, range(20))
    assert sum(decision.draws for decision in drawn) / len(drawn) < 8_000
