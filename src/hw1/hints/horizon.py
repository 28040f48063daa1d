"""What can go wrong when the joint distribution of two tokens is scaled, and the logits to which each mistake leads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.compose import agreed, outcomes_of_all, stage
from src.hw1.hints.shared import (
    FILTER_LOST,
    FLOORED,
    MULTIPLIED,
    NEGATED,
    NOT_A_NUMBER,
    OVER_THE_BATCH,
    RETURNED_PROBABILITIES,
    SQUARED,
    UNCHANGED,
)
from src.hw1.messages import FILTERED, Ids
from src.hw1.oracle import AnyFloats, Floats, log_softmax, log_sum_exp, same_distribution, top_k

LIKELIER = 20.0  # a token whose logit is at most so much below the candidates' can be drawn


@dataclass(frozen=True)
class HorizonCase:
    """The K candidates for the next token, and what the model answers after each.

    Attributes:
        candidates: their ids, (K,)
        first: their logits, (K,)
        second: what the model answers after the text and each candidate, (K, V), not filtered yet
        alone: what it would answer to each candidate without the text, (K, V)
        right: the candidates' right logits, (K,)
        k: of the filter
    """

    candidates: Ids
    first: AnyFloats
    second: AnyFloats
    alone: AnyFloats
    right: Floats
    k: int
    temperature: float


@dataclass(frozen=True)
class _Pair:
    """What stands for log p(a), (K,), for log p(b | a), (K, V), and for the two together."""

    first: Floats
    second: Floats
    joint: Floats


def _kept(values: AnyFloats, k: int) -> Floats:
    """`values` (..., V), those outside of the top k at FILTERED, as a student's code has them."""
    kept = top_k(values, k)
    return np.where(np.isfinite(kept), kept, FILTERED)


def _together(values: AnyFloats, k: int) -> Floats:
    """The same, but all rows are filtered as if they were one."""
    return _kept(values.reshape(-1), k).reshape(values.shape)


def _of_candidates(case: HorizonCase, values: AnyFloats) -> Floats:
    """`values` (K, V), those of other tokens than the candidates at FILTERED."""
    is_candidate = np.isin(np.arange(values.shape[1]), case.candidates)
    return np.where(is_candidate, values, FILTERED)


def _second(table: Callable[[HorizonCase], Floats]) -> Callable[[HorizonCase, Floats], tuple[Floats, Floats]]:
    """A step that takes `table` for log p(b | a)."""
    return lambda case, first: (first, table(case))


def _pair(joint: Callable[[HorizonCase, Floats, Floats], Floats]) -> Callable[[HorizonCase, Any], _Pair]:
    """A step that puts the two together."""
    return lambda case, both: _Pair(both[0], both[1], joint(case, both[0], both[1]))


def _along_second(case: HorizonCase, first: Floats, second: Floats) -> Floats:
    everywhere = np.full(second.shape[1], FILTERED)
    everywhere[case.candidates] = first
    return everywhere[None] + second


HORIZON_1 = Mistake(
    "horizon 1",
    "this is what horizon 1 gives, as if the second token made no difference; it has another distribution after each "
    "candidate, and the joint is scaled before the sum",
    (lambda case, _: log_softmax(case.first) / case.temperature,),
)
MISPLACED = Mistake(
    "misplaced",
    "the numbers are right, but they stand at the wrong tokens; in which order are your candidates?",
)
EQUALLY_LIKELY = Mistake(
    "equally likely",
    "all candidates come out equally likely; after which step are their numbers the same?",
    (lambda case, _: np.zeros(len(case.first)),),
)
OTHER_TEMPERATURE = Mistake("other temperature", "the joint is scaled with something other than the temperature")

FIRST_MISTAKES = (
    Mistake(
        "probability for logarithm",
        "a probability stands where its logarithm belongs: log p(a, b) = log p(a) + log p(b | a)",
        (lambda case, _: np.exp(log_softmax(case.first)),),
    ),
    MISPLACED.with_variants(lambda case, _: np.sort(log_softmax(case.first))[::-1]),
)
SECOND_MISTAKES = (
    Mistake(
        "second unfiltered",
        "the second token is not filtered to the top k; both tokens are, and each is renormalised",
        (_second(lambda case: log_softmax(case.second)),),
    ),
    Mistake(
        "second not normalised",
        "the second token's logits are not normalised; log-probabilities are needed in the joint",
        (_second(lambda case: _kept(case.second, case.k)), _second(lambda case: case.second.astype(np.float64))),
    ),
    Mistake(
        "not renormalised",
        "the second token's probabilities do not sum to 1 any more; filter first, then normalise",
        (_second(lambda case: _kept(log_softmax(case.second), case.k)),),
    ),
    Mistake(
        "filtered together",
        "the second tokens are filtered all together; each candidate has a top k of its own",
        (
            _second(lambda case: log_softmax(_together(case.second, case.k))),
            _second(lambda case: _together(log_softmax(case.second), case.k)),
        ),
    ),
    OVER_THE_BATCH.with_variants(
        _second(lambda case: log_softmax(_kept(case.second, case.k).T).T),
        _second(lambda case: _kept(log_softmax(case.second.T).T, case.k)),
    ),
    Mistake(
        "no past",
        "the second token's logits do not know the text: the candidates must be fed with `new_past`",
        (_second(lambda case: log_softmax(_kept(case.alone, case.k))),),
    ),
    Mistake(
        "other k",
        "the second token is filtered with another k than the first",
        tuple(
            _second(lambda case, change=change: log_softmax(_kept(case.second, max(1, case.k + change))))  # type: ignore[misc]
            for change in (-1, 1)
        ),
    ),
    Mistake(
        "among the candidates",
        "the second token is looked up among the candidates for the first; after each, it has a top k of its own",
        (
            _second(lambda case: _of_candidates(case, log_softmax(_kept(case.second, case.k)))),
            _second(lambda case: _of_candidates(case, log_softmax(case.second))),
            _second(lambda case: log_softmax(_of_candidates(case, case.second))),
        ),
    ),
    FIRST_MISTAKES[0].with_variants(_second(lambda case: np.exp(log_softmax(_kept(case.second, case.k))))),
)
JOINT_MISTAKES = (
    Mistake(
        "first missing",
        "the first token's probability is missing: the joint is p(a) p(b | a)",
        (_pair(lambda case, first, second: second),),
    ),
    Mistake(
        "logarithms multiplied",
        "two log-probabilities are multiplied; the logarithm of a product is a sum",
        (_pair(lambda case, first, second: first[:, None] * second),),
    ),
    Mistake(
        "wrong rows",
        "log p(a) is added along the second token; it belongs to all of row a, whatever b is",
        (_pair(_along_second),),
    ),
    Mistake(
        "joint filtered",
        "the joint is filtered to its own top k; filter each of the two tokens, not the pairs",
        (
            _pair(lambda case, first, second: _together(first[:, None] + second, case.k)),
            lambda case, both: _Pair(both[0], both[1], _together(both[0][:, None] + log_softmax(case.second), case.k)),
        ),
    ),
)
SCALING_MISTAKES = (
    UNCHANGED.with_variants(lambda case, pair: pair.joint),
    MULTIPLIED.with_variants(lambda case, pair: pair.joint * case.temperature),
    SQUARED.with_variants(lambda case, pair: pair.joint / case.temperature**2),
    FLOORED.with_variants(lambda case, pair: np.floor(pair.joint / case.temperature)),
    Mistake(
        "first unscaled",
        "only the second token's log-probability is divided by T; divide that of both tokens together",
        (lambda case, pair: pair.first[:, None] + pair.second / case.temperature,),
    ),
    Mistake(
        "second unscaled",
        "only the first token's log-probability is divided by T; divide that of both tokens together",
        (lambda case, pair: pair.first[:, None] / case.temperature + pair.second,),
    ),
)
SUM_MISTAKES = (
    Mistake(
        "maximum",
        "this takes the best second token; the marginal is a sum over all of them",
        (lambda case, scaled: scaled.max(axis=-1),),
    ),
    Mistake(
        "logarithms added",
        "this adds logarithms, which multiplies the probabilities; the marginal adds the probabilities",
        (lambda case, scaled: np.where(scaled > FILTERED / 100, scaled, 0).sum(axis=-1),),
    ),
)
RESULT_MISTAKES = (
    HORIZON_1,
    UNCHANGED.with_variants(lambda case, _: log_softmax(case.first)),
    SQUARED.with_variants(lambda case, values: values / case.temperature),
    RETURNED_PROBABILITIES.with_variants(
        lambda case, values: np.exp(log_softmax(values)), lambda case, values: np.exp(values)
    ),
    NEGATED.with_variants(lambda case, values: -values),
    MISPLACED.with_variants(lambda case, values: np.sort(values)[::-1]),
    EQUALLY_LIKELY,
)
MISTAKES = (
    *FIRST_MISTAKES, *SECOND_MISTAKES, *JOINT_MISTAKES, *SCALING_MISTAKES, *SUM_MISTAKES, *RESULT_MISTAKES,
    OTHER_TEMPERATURE,
)  # fmt: skip

# The steps to the candidates' logits (K,): the first token, the second, the joint, its scale, its sum, the result.
STAGES = (
    stage(lambda case, _: log_softmax(case.first), *FIRST_MISTAKES),
    stage(_second(lambda case: log_softmax(_kept(case.second, case.k))), *SECOND_MISTAKES),
    stage(_pair(lambda case, first, second: first[:, None] + second), *JOINT_MISTAKES),
    stage(lambda case, pair: pair.joint / case.temperature, *SCALING_MISTAKES),
    stage(lambda case, scaled: log_sum_exp(scaled), *SUM_MISTAKES),
    stage(lambda case, values: values, *RESULT_MISTAKES),
)


@np.errstate(all="ignore")  # neither what a student got nor what a mistake leads to has to be finite
def diagnose_horizon(got: Sequence[AnyFloats], cases: Sequence[HorizonCase]) -> Mistakes:
    """The mistakes that explain all logits `got`, (V,) each, some of which are wrong; empty if nothing known fits."""
    of_candidates = [logits[case.candidates] for logits, case in zip(got, cases, strict=True)]
    if np.isnan(np.concatenate(of_candidates)).any():
        return (NOT_A_NUMBER,)
    explanations = []
    for mistakes, led_to in outcomes_of_all(STAGES, cases):
        if all(map(same_distribution, of_candidates, led_to)):
            explanations.append(mistakes)
    if explanations:
        return agreed(explanations)
    right = [case.right for case in cases]
    if all(
        np.allclose(np.sort(log_softmax(g)), np.sort(r), atol=2e-3) for g, r in zip(of_candidates, right, strict=True)
    ):
        return (MISPLACED,)
    if all(map(_has_other_temperature, of_candidates, cases)):
        return (OTHER_TEMPERATURE,)
    others = [np.delete(logits, case.candidates) for logits, case in zip(got, cases, strict=True)]
    is_lost = [o.size and o.max() > c.max() - LIKELIER for o, c in zip(others, of_candidates, strict=True)]
    return (FILTER_LOST,) if any(is_lost) else ()


def _has_other_temperature(got: AnyFloats, case: HorizonCase) -> bool:
    """Whether the logits `got` (K,) are right for some temperature."""

    def at(log_t: float) -> Floats:
        value: Any = None
        for ways in STAGES:
            value = ways[0].step(replace(case, temperature=float(np.exp(log_t))), value)
        return np.asarray(value)

    def distance(log_t: float) -> float:
        return float(np.abs(log_softmax(at(log_t)) - log_softmax(got)).max())

    step, best = 0.1, min(np.arange(-3, 3, 0.1), key=distance)
    while step > 1e-6:  # finer and finer around the best
        best, step = min(np.linspace(best - step, best + step, 11), key=distance), step / 5
    return same_distribution(got, at(best))
