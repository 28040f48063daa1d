"""What can go wrong when the next token's distribution is scaled, and the logits to which each mistake leads."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.shared import (
    DOUBLE_SOFTMAX,
    FILTER_LOST,
    MULTIPLIED,
    OVER_THE_BATCH,
    RETURNED_PROBABILITIES,
    SQUARED,
    UNCHANGED,
    first_that_gives,
)
from src.hw1.messages import FILTERED
from src.hw1.oracle import AnyFloats, Floats, log_softmax, same_distribution

WRONG_SHAPE = Mistake("wrong shape", "the result must have the shape of the logits, (B, V)")
IN_PLACE = Mistake("in place", "the caller's logits were changed; compute new ones")
OTHER_DIVISOR = Mistake("other divisor", "the logits are divided by something other than the temperature")


@dataclass(frozen=True)
class TemperatureCase:
    """Filtered logits (B, V) that were to be scaled by a temperature."""

    filtered: AnyFloats
    temperature: float

    @cached_property
    def p(self) -> Floats:
        """Their probabilities, (B, V)."""
        return np.exp(log_softmax(self.filtered))

    @property
    def scaled(self) -> AnyFloats:
        """The right answer, (B, V)."""
        return np.asarray(self.filtered / self.temperature)


# Each variant gives logits (B, V).
SCALING_MISTAKES = (
    UNCHANGED.with_variants(lambda case: case.filtered),
    MULTIPLIED.with_variants(lambda case: case.filtered * case.temperature),
    SQUARED.with_variants(lambda case: case.filtered / case.temperature**2),
    RETURNED_PROBABILITIES.with_variants(lambda case: np.exp(log_softmax(case.scaled))),
    Mistake(
        "after softmax",
        "the temperature is applied to probabilities; where does it stand in exp(log p / T)?",
        (lambda case: case.p / case.temperature, lambda case: case.p * case.temperature),
    ),
    RETURNED_PROBABILITIES.with_variants(lambda case: case.p ** (1 / case.temperature)),  # not normalised
    DOUBLE_SOFTMAX.with_variants(lambda case: case.p),
    OVER_THE_BATCH.with_variants(
        lambda case: log_softmax(case.filtered.T).T / case.temperature,
        lambda case: log_softmax(case.scaled.T).T,
        lambda case: np.exp(log_softmax(case.scaled.T).T),
    ),
)


@np.errstate(invalid="ignore")  # neither what a student got nor what a mistake leads to has to be finite
def diagnose_scaling(got: AnyFloats, case: TemperatureCase) -> Mistakes:
    """The mistake that explains the logits `got`, (B, V), which are wrong; empty if nothing known fits."""
    if mistakes := first_that_gives(got, SCALING_MISTAKES, case):
        return mistakes
    first, second = np.argsort(case.filtered[0])[::-1][:2]
    factor = (got[0, first] - got[0, second]) / (case.filtered[0, first] - case.filtered[0, second])
    if same_distribution(got, case.filtered * factor):
        return (OTHER_DIVISOR,)
    is_filter_lost = np.exp(log_softmax(got))[case.filtered <= FILTERED].sum() > 1e-4
    return (FILTER_LOST,) if is_filter_lost else ()
