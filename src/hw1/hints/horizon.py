"""What can go wrong when the joint distribution of two tokens is scaled, and the logits to which each mistake leads."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.shared import (
    FILTER_LOST,
    MULTIPLIED,
    OVER_THE_BATCH,
    RETURNED_PROBABILITIES,
    SQUARED,
    UNCHANGED,
    first_that_gives,
)
from src.hw1.messages import FILTERED, Ids
from src.hw1.oracle import AnyFloats, Floats, log_softmax, log_sum_exp, marginal, top_k

LIKELIER = 20.0  # a token whose logit is at most so much below the candidates' can be drawn


@dataclass(frozen=True)
class HorizonCase:
    """The K candidates for the next token, and what the model answers after each.

    Attributes:
        candidates: their ids, (K,)
        first: their logits, (K,)
        second: what the model answers after the text and each candidate, (K, V), not filtered yet
        alone: what it would answer to each candidate without the text, (K, V)
        k: of the filter
    """

    candidates: Ids
    first: AnyFloats
    second: AnyFloats
    alone: AnyFloats
    k: int
    temperature: float

    @cached_property
    def log_first(self) -> Floats:
        """log p(a), (K,)."""
        return log_softmax(self.first)

    @cached_property
    def log_second(self) -> Floats:
        """log p(b | a), (K, V)."""
        return log_softmax(top_k(self.second, self.k))

    @property
    def right(self) -> Floats:
        """The right answer: the candidates' log-probabilities, (K,)."""
        return self.with_second(self.log_second)

    @property
    def joint(self) -> Floats:
        """log p(a, b), (K, V)."""
        return np.asarray(self.log_first[:, None] + self.log_second)

    def with_second(self, log_second: Floats) -> Floats:
        """The marginal of the scaled joint, (K,), if log p(b | a) were this."""
        return marginal(self.log_first, log_second, self.temperature)

    def with_temperature(self, temperature: float) -> Floats:
        """The marginal of the joint scaled by this temperature, (K,)."""
        return marginal(self.log_first, self.log_second, temperature)


def _together(logits: Floats | AnyFloats, k: int) -> Floats:
    """`logits` filtered as if all of them were one row, with the small ones at FILTERED, so that no row is empty."""
    kept = top_k(logits.reshape(-1), k).reshape(logits.shape)
    return np.where(np.isfinite(kept), kept, FILTERED)


MISPLACED = Mistake(
    "misplaced",
    "the numbers are right, but they stand at the wrong tokens; in which order are your candidates?",
    (lambda case: marginal(np.sort(case.log_first)[::-1], case.log_second, case.temperature),),
)

# Each variant gives the candidates' logits (K,).
HORIZON_MISTAKES = (
    Mistake(
        "horizon 1",
        "this is what horizon 1 gives: each conditional is scaled by itself; scale the joint, then sum",
        (lambda case: case.log_first / case.temperature,),
    ),
    UNCHANGED.with_variants(lambda case: case.log_first),
    Mistake(
        "maximum",
        "this takes the best second token; the marginal is a sum over all of them",
        (lambda case: case.joint.max(axis=-1) / case.temperature,),
    ),
    Mistake(
        "second unfiltered",
        "the second token is not filtered to the top k; both tokens are, and each is renormalised",
        (lambda case: case.with_second(log_softmax(case.second)),),
    ),
    Mistake(
        "second not normalised",
        "the second token's logits are not normalised; log-probabilities are needed in the joint",
        (
            lambda case: case.with_second(top_k(case.second, case.k)),
            lambda case: case.with_second(case.second),
        ),
    ),
    MULTIPLIED.with_variants(lambda case: case.with_temperature(1 / case.temperature)),
    SQUARED.with_variants(
        lambda case: case.with_temperature(case.temperature**2),
        lambda case: case.right / case.temperature,
    ),
    Mistake(
        "first unscaled",
        "only the second token's log-probability is divided by T; divide that of both tokens together",
        (lambda case: case.log_first + log_sum_exp(case.log_second / case.temperature),),
    ),
    RETURNED_PROBABILITIES.with_variants(lambda case: np.exp(case.right)),
    Mistake(
        "not renormalised",
        "the second token's probabilities do not sum to 1 any more; filter first, then normalise",
        (lambda case: case.with_second(top_k(log_softmax(case.second), case.k)),),
    ),
    Mistake(
        "filtered together",
        "the second tokens are filtered all together; each candidate has a top k of its own",
        (
            lambda case: case.with_second(log_softmax(_together(case.second, case.k))),
            lambda case: case.with_second(_together(log_softmax(case.second), case.k)),
        ),
    ),
    OVER_THE_BATCH.with_variants(
        lambda case: case.with_second(log_softmax(top_k(case.second, case.k).T).T),
        lambda case: case.with_second(top_k(log_softmax(case.second.T).T, case.k)),
    ),
    MISPLACED,
    Mistake(
        "equally likely",
        "all candidates come out equally likely; is something normalised, or summed, that should not be?",
        (lambda case: np.zeros(len(case.log_first)),),
    ),
    Mistake(
        "no past",
        "the second token's logits do not know the text: the candidates must be fed with `new_past`",
        (lambda case: case.with_second(log_softmax(top_k(case.alone, case.k))),),
    ),
)


@np.errstate(invalid="ignore")  # neither what a student got nor what a mistake leads to has to be finite
def diagnose_horizon(got: AnyFloats, case: HorizonCase) -> Mistakes:
    """The mistake that explains the logits `got`, (V,), which are wrong; empty if nothing known fits."""
    of_candidates, others = got[case.candidates], np.delete(got, case.candidates)
    if mistakes := first_that_gives(of_candidates, HORIZON_MISTAKES, case):
        return mistakes
    if np.allclose(np.sort(log_softmax(of_candidates)), np.sort(case.right), atol=2e-3):
        return (MISPLACED,)
    is_filter_lost = others.size and others.max() > of_candidates.max() - LIKELIER
    return (FILTER_LOST,) if is_filter_lost else ()
