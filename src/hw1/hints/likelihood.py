"""What can go wrong with a log-likelihood, and the value to which each mistake leads."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.shared import DOUBLE_SOFTMAX
from src.hw1.messages import Ids
from src.hw1.oracle import AnyFloats, Floats, close, log_softmax

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)  # where PyTorch cuts off the probabilities of a Categorical


@dataclass(frozen=True)
class LikelihoodCase:
    """A text and what the model answers to it."""

    logits: AnyFloats  # (T, V)
    ids: Ids  # (T,)

    @cached_property
    def log_p(self) -> Floats:
        """log p of every token that could come next, at each position, (T, V)."""
        return log_softmax(self.logits)

    @cached_property
    def picked(self) -> Floats:
        """log p of each token after the first, (T - 1,)."""
        return self.pick(self.log_p)

    @property
    def right(self) -> float:
        """The log-likelihood; what `log_likelihood` should return."""
        return self.picked.sum()  # type: ignore[no-any-return] # a float64, which is a float

    @cached_property
    def same_place(self) -> Floats:
        """At each position, log p of the token there instead of the next one, (T,)."""
        return np.asarray(self.log_p[np.arange(len(self.ids)), self.ids])

    def pick(self, table: Floats) -> Floats:
        """The entry of each token after the first in a `table` (T or T - 1, V), (T - 1,)."""
        return np.asarray(table[np.arange(len(self.ids) - 1), self.ids[1:]])


def _softmax_over_time(case: LikelihoodCase, rows: slice) -> float:
    logits = np.asarray(case.logits, dtype=np.float64)[rows]
    return float(case.pick(log_softmax(logits.T).T).sum())


def _two_ahead(case: LikelihoodCase) -> float:
    return float(case.log_p[np.arange(len(case.ids) - 2), case.ids[2:]].sum())


def _with_epsilon(digits: int, case: LikelihoodCase) -> float:
    return float(np.log(np.exp(case.picked) + 10.0**-digits).sum())


def _raw_logits(case: LikelihoodCase) -> float:
    return float(case.pick(np.asarray(case.logits, dtype=np.float64)).sum())


MEAN = Mistake(
    "mean",
    "this is the mean, not the sum, of the tokens' log-probabilities",
    (lambda case: case.right / (len(case.ids) - 1), lambda case: case.right / len(case.ids)),
)
SIGN = Mistake(
    "sign",
    "the sign is flipped: a log-likelihood is the log of a probability, so it is never positive",
    (lambda case: -case.right,),
)
BASE_2 = Mistake(
    "base 2",
    "this is in bits, from the logarithm to base 2; return nats, from the natural logarithm",
    (lambda case: case.right / math.log(2),),
)
SHIFTED = Mistake(
    "shifted",
    "off by one: logits[:, i] say what follows token i, not what token i is",
    (
        lambda case: case.same_place.sum(),
        lambda case: case.same_place[:-1].sum(),
        lambda case: case.same_place[1:].sum(),
    ),
)

# What the values of several texts have in common, where no other mistake explains them.
PART_MISSING = Mistake("part missing", "only a part of the text is counted, whatever its length")
SCALED = Mistake("scaled", "every value is the right one times the same number; where does the factor come from?")
CONSTANT = Mistake("constant", "the result is the same number whatever the text is")
REVERSED = Mistake("reversed", "this is the log-likelihood of the text read backwards")
NOT_A_FLOAT = Mistake("not a float", "the value may be right, but it is not a Python float yet")

# Each variant gives the value of a text.
LIKELIHOOD_MISTAKES = (
    MEAN,
    SIGN,
    BASE_2,
    Mistake(
        "base 10",
        "this comes from the logarithm to base 10; return nats, from the natural logarithm",
        (lambda case: case.right / math.log(10),),
    ),
    SHIFTED,
    Mistake(
        "shifted the other way",
        "off by one, the other way: logits[:, i] are compared with the token two places after token i",
        (_two_ahead,),
    ),
    Mistake(
        "first counted",
        "the first token is counted, too; nothing comes before it, so it is taken as given",
        (
            lambda case: case.right + case.log_p[-1, case.ids[0]],
            lambda case: case.right + case.log_p[0, case.ids[0]],
            lambda case: case.right - math.log(case.log_p.shape[1]),
        ),
    ),
    Mistake("last missing", "a token at the end is missing from the sum", (lambda case: case.picked[:-1].sum(),)),
    Mistake(
        "wrong axis",
        "the softmax runs over the wrong axis; at each position, the probabilities of all tokens sum to 1",
        (
            lambda case: _softmax_over_time(case, slice(None)),
            lambda case: _softmax_over_time(case, slice(-1)),
            lambda case: 0.0,  # over the batch, which has one member
        ),
    ),
    Mistake(
        "probabilities",
        "these are probabilities, not their logarithms",
        (lambda case: np.exp(case.picked).sum(),),
    ),
    Mistake(
        "product",
        "this is the probability itself; return its logarithm, which does not vanish for long texts",
        (lambda case: math.exp(case.right),),
    ),
    Mistake(
        "log of sum",
        "this is the logarithm of a sum of probabilities; the log of a product is a sum of logs",
        (lambda case: math.log(np.exp(case.picked).sum()),),
    ),
    Mistake("raw logits", "these logits are not normalised; sum log-probabilities instead", (_raw_logits,)),
    Mistake(
        "perplexity",
        "this is the perplexity; return the log-likelihood",
        (lambda case: math.exp(min(700.0, -case.right / (len(case.ids) - 1))),),
    ),
    Mistake(
        "greedy text",
        "this is the log-likelihood of the model's favourite tokens, not of the tokens in the text",
        (lambda case: case.log_p[:-1].max(axis=-1).sum(),),
    ),
    Mistake(
        "one place",
        "one distribution, that after the last token, is used for all tokens; each position has its own",
        (lambda case: case.log_p[-1, case.ids[1:]].sum(), lambda case: case.log_p[-2, case.ids[1:]].sum()),
    ),
    Mistake(
        "whole vocabulary",
        "this sums over all tokens of the vocabulary; pick the one that really came next at each position",
        (lambda case: case.log_p.sum(), lambda case: case.log_p[:-1].sum()),
    ),
    Mistake(
        "epsilon",
        "a constant was added inside the logarithm; `torch.log_softmax` needs none",
        tuple(partial(_with_epsilon, digits) for digits in range(1, 13)),
    ),
    Mistake(
        "clamped",
        "rare tokens count too little: float32 probabilities are cut off at 1e-7; stay with the logits",
        (lambda case: np.maximum(case.picked, math.log(FLOAT32_EPSILON)).sum(),),
    ),
    DOUBLE_SOFTMAX.with_variants(lambda case: case.pick(log_softmax(np.exp(case.log_p))).sum()),
)

# Mistakes that are made together, and the value to which they lead.
COMBINATIONS: tuple[tuple[Mistakes, Callable[[LikelihoodCase], float]], ...] = (
    ((MEAN, SIGN), lambda case: -case.right / (len(case.ids) - 1)),
    ((MEAN, SIGN), lambda case: -case.right / len(case.ids)),
    ((SIGN, BASE_2), lambda case: -case.right / math.log(2)),
    ((SHIFTED, MEAN), lambda case: float(case.same_place.mean())),
    ((SHIFTED, MEAN, SIGN), lambda case: -float(case.same_place.mean())),
    ((SHIFTED, SIGN), lambda case: -float(case.same_place.sum())),
)


def diagnose_likelihood(got: Sequence[float], cases: Sequence[LikelihoodCase]) -> Mistakes:
    """The mistakes that explain all values `got`, one a case; empty if they are right, or nothing known fits."""
    right = [case.right for case in cases]
    if all(map(close, got, right)):
        return ()
    for mistakes, value in _explanations():
        values = [value(case) for case in cases]
        if all(map(close, values, right)):
            continue  # this mistake changes nothing here: a tiny epsilon, for example
        if all(math.isclose(g, v, rel_tol=1e-4, abs_tol=1e-4 if v else 0) for g, v in zip(got, values, strict=True)):
            return mistakes
    return _pattern(np.asarray(got), cases)


def _explanations() -> Iterator[tuple[Mistakes, Callable[[LikelihoodCase], float]]]:
    for mistake in LIKELIHOOD_MISTAKES:
        for variant in mistake.variants:
            yield (mistake,), variant
    yield from COMBINATIONS


def _pattern(got: Floats, cases: Sequence[LikelihoodCase]) -> Mistakes:
    """What the values have in common."""

    def same(values: Sequence[float] | Floats) -> bool:
        return np.allclose(got, values, rtol=1e-4, atol=1e-4)

    longest = max(len(case.picked) for case in cases)
    parts = [cut for m in range(1, longest) for cut in (slice(m), slice(m, None), slice(-m, None))]
    if any(same([case.picked[cut].sum() for case in cases]) for cut in parts):
        return (PART_MISSING,)
    right = np.array([case.right for case in cases])
    if np.isfinite(got).all() and same(right * (got[0] / right[0])):
        return (SCALED,)
    return (CONSTANT,) if same(np.full(len(got), got[0])) else ()
