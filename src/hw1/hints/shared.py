"""Mistakes that occur in several questions, and how a diagnosis finds the one that explains a value."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.oracle import AnyFloats, Floats

DOUBLE_SOFTMAX = Mistake(
    "double softmax",
    "it looks as if a softmax was taken twice; which functions expect logits, which expect probabilities?",
)
OVER_THE_BATCH = Mistake(
    "over the batch", "a softmax runs over the wrong axis; for each text, the probabilities of all tokens sum to 1"
)
UNCHANGED = Mistake("unchanged", "the temperature changes nothing here")
MULTIPLIED = Mistake(
    "multiplied",
    "it looks as if the temperature is multiplied; a low temperature should make likely tokens even more likely",
)
SQUARED = Mistake("squared", "it looks as if the temperature is applied twice")
NEGATED = Mistake("negated", "the sign is flipped: the least likely tokens come out as the likeliest")
FLOORED = Mistake("floored", "the numbers are rounded down to whole ones; `//` does that, `/` does not")
CENTRED = Mistake(
    "centred",
    "the differences between likely tokens got lost: the mean of logits some of which are -1e10 is so large that "
    "float32 cannot hold them beside it",
)
RETURNED_PROBABILITIES = Mistake(
    "returned probabilities",
    "these are probabilities; the caller takes the softmax of what you return, so return logits",
)
NOT_A_NUMBER = Mistake(
    "not a number",
    "NaN or infinity: was a logarithm taken of 0, or something divided by 0? Stay with log-probabilities",
)
FILTER_LOST = Mistake("filter lost", "tokens that were filtered out can be drawn again")


def centred(logits: AnyFloats) -> Floats:
    """`logits` (..., V) minus their mean, in float32."""
    values = np.asarray(logits, dtype=np.float32)
    return np.asarray(values - values.mean(axis=-1, keepdims=True), dtype=np.float64)


def first_that_applies(mistakes: Iterable[Mistake], case: Any) -> Mistakes:
    """The first of `mistakes` that has a variant which is true of `case`; empty if there is none."""
    for mistake in mistakes:
        if any(variant(case) for variant in mistake.variants):
            return (mistake,)
    return ()
