"""What can go wrong when the next token's distribution is scaled, and the logits to which each mistake leads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.compose import agreed, outcomes_of_all, stage
from src.hw1.hints.shared import (
    CENTRED,
    DOUBLE_SOFTMAX,
    FILTER_LOST,
    FLOORED,
    MULTIPLIED,
    NEGATED,
    NOT_A_NUMBER,
    OVER_THE_BATCH,
    RETURNED_PROBABILITIES,
    SQUARED,
    UNCHANGED,
    centred,
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


AFTER_SOFTMAX = Mistake(
    "after softmax",
    "the temperature is applied to probabilities; where does it stand in exp(log p / T)?",
    (lambda case, _: case.p,),
)
MISTAKES = (
    AFTER_SOFTMAX, CENTRED, DOUBLE_SOFTMAX, FLOORED, MULTIPLIED, NEGATED, OVER_THE_BATCH, RETURNED_PROBABILITIES,
    SQUARED, UNCHANGED,
)  # fmt: skip

# The steps from the filtered logits (B, V) to the scaled ones: what is scaled, how, and what is returned.
STAGES = (
    stage(
        lambda case, _: np.asarray(case.filtered, dtype=np.float64),
        AFTER_SOFTMAX,
        OVER_THE_BATCH.with_variants(lambda case, _: log_softmax(case.filtered.T).T),
        CENTRED.with_variants(lambda case, _: centred(case.filtered)),
    ),
    stage(
        lambda case, values: values / case.temperature,
        UNCHANGED.with_variants(lambda case, values: values),
        MULTIPLIED.with_variants(lambda case, values: values * case.temperature),
        SQUARED.with_variants(lambda case, values: values / case.temperature**2),
        FLOORED.with_variants(lambda case, values: np.floor(values / case.temperature)),
    ),
    stage(
        lambda case, values: values,
        RETURNED_PROBABILITIES.with_variants(
            lambda case, values: np.exp(log_softmax(values)),
            lambda case, _: case.p ** (1 / case.temperature),  # not normalised
        ),
        DOUBLE_SOFTMAX.with_variants(lambda case, _: case.p),
        OVER_THE_BATCH.with_variants(
            lambda case, values: log_softmax(values.T).T,
            lambda case, values: np.exp(log_softmax(values.T).T),
        ),
        NEGATED.with_variants(lambda case, values: -values),
    ),
)


@np.errstate(all="ignore")  # neither what a student got nor what a mistake leads to has to be finite
def diagnose_scaling(got: Sequence[AnyFloats], cases: Sequence[TemperatureCase]) -> Mistakes:
    """The mistakes that explain all logits `got`, (B, V) each, some of which are wrong; empty if nothing known fits."""
    if np.isnan(np.stack(got)).any():
        return (NOT_A_NUMBER,)
    explanations = []
    for mistakes, led_to in outcomes_of_all(STAGES, cases):
        if all(map(same_distribution, got, led_to)):
            explanations.append(mistakes)
    if explanations:
        return agreed(explanations)
    if all(map(_is_multiple, got, cases)):
        return (OTHER_DIVISOR,)
    lost = [np.exp(log_softmax(g))[case.filtered <= FILTERED].sum() for g, case in zip(got, cases, strict=True)]
    return (FILTER_LOST,) if max(lost) > 1e-4 else ()


def _is_multiple(got: AnyFloats, case: TemperatureCase) -> bool:
    """Whether the logits are divided by one number."""
    first, second = np.argsort(case.filtered[0])[::-1][:2]
    factor = (got[0, first] - got[0, second]) / (case.filtered[0, first] - case.filtered[0, second])
    return bool(factor > 0 and same_distribution(got, case.filtered * factor))
