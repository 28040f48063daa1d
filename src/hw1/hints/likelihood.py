"""What can go wrong with a log-likelihood, and the value to which each mistake leads, alone or with another one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.compose import Way, agreed, outcomes_of_all, proportional, stage
from src.hw1.hints.shared import DOUBLE_SOFTMAX, NOT_A_NUMBER
from src.hw1.messages import Ids, Logits
from src.hw1.oracle import Floats, close, log_softmax

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)  # where PyTorch cuts off the probabilities of a Categorical


@dataclass(frozen=True)
class LikelihoodCase:
    """A text, its log-likelihood, and the model."""

    ids: Ids  # (T,)
    right: float
    ask: Callable[[Ids], Logits]  # what the model answers to texts (B, T): logits (B, T, V)

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.ids)


@dataclass(frozen=True)
class _Answered:
    """Tokens (n,), and a number for each token of the vocabulary at each of them, (n, V)."""

    tokens: Ids
    table: Floats

    def entries(self, ahead: int) -> Floats:
        """The number that stands at each token for the one `ahead` places after it."""
        pairs = zip(self.table, self.tokens[ahead:], strict=False)
        return np.array([row[token] for row, token in pairs], dtype=np.float64)


def _answered(case: LikelihoodCase, tokens: Ids) -> _Answered:
    return _Answered(tokens, case.ask(tokens[None])[0].astype(np.float64))


def _each_alone(case: LikelihoodCase, _: None) -> _Answered:
    return _Answered(case.ids, case.ask(case.ids[:, None])[:, 0].astype(np.float64))


def _table(change: Callable[[Floats], Floats]) -> Callable[[LikelihoodCase, _Answered], _Answered]:
    """A step that changes the table."""
    return lambda case, answered: _Answered(answered.tokens, change(answered.table))


def _over_time(table: Floats, rows: slice) -> Floats:
    """The softmax over the positions; those that take no part keep what they have."""
    changed = table.copy()
    if len(changed[rows]):
        changed[rows] = log_softmax(table[rows].T).T
    return changed


def _at_row(row: int, first: int) -> Callable[[LikelihoodCase, _Answered], Floats]:
    """A step that takes all tokens from the one `first` from one row of the table."""
    return lambda case, a: a.table[max(row, -len(a.table)), a.tokens[first:]]


def _with_first(row: int) -> Callable[[LikelihoodCase, _Answered], Floats]:
    """A step that counts the first token, too, as if it came after the token in this place."""
    return lambda case, a: np.append(a.entries(1), a.table[row, a.tokens[0]])


def _with_epsilon(digits: int, case: LikelihoodCase, values: Floats) -> Floats:
    return np.log(np.exp(values) + 10.0**-digits)


def _lower_median(values: Floats) -> float:
    """The median as PyTorch takes it, one of the values."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def _deviation(values: Floats) -> float:
    """The standard deviation as PyTorch takes it."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


STATISTICS: tuple[Callable[[Floats], float], ...] = (np.max, np.min, np.prod, np.median, _lower_median, _deviation)


def _statistic(function: Callable[[Floats], float]) -> Callable[[LikelihoodCase, Floats], float]:
    return lambda case, values: function(values) if len(values) else math.nan


MEAN = Mistake(
    "mean",
    "this is the mean, not the sum, of the tokens' log-probabilities",
    (
        lambda case, values: values.sum() / (case.size - 1),
        lambda case, values: values.sum() / case.size,
        lambda case, values: values.sum() / len(values) if len(values) else math.nan,
    ),
)
SIGN = Mistake(
    "sign",
    "the sign is flipped: a log-likelihood is the log of a probability, so it is never positive",
    (lambda case, value: -value,),
)
SHIFTED = Mistake(
    "shifted",
    "off by one: logits[:, i] say what follows token i, not what token i is",
    (
        lambda case, a: a.entries(0),
        lambda case, a: a.entries(0)[:-1],
        lambda case, a: a.entries(0)[1:],
    ),
)

# What the values of several texts have in common, where no other mistake explains them.
PART_MISSING = Mistake("part missing", "only a part of the text is counted, whatever its length")
SCALED = Mistake("scaled", "the values are all multiplied by the same number; where does the factor come from?")
CONSTANT = Mistake("constant", "the result is the same number whatever the text is")
ZERO = Mistake(
    "zero",
    "the result is 0, as if every text were certain: does the softmax run over an axis that has one entry, or is no "
    "token picked at all?",
)
NOT_A_FLOAT = Mistake("not a float", "the value may be right, but it is not a Python float yet")

# Each variant changes one stage; see `STAGES`.
FEEDING_MISTAKES = (
    Mistake(
        "no context",
        "each token is fed to the model alone, so the model knows nothing of the text before it; feed the whole text",
        (_each_alone,),
    ),
    Mistake(
        "reversed",
        "this is the log-likelihood of the text read backwards",
        (lambda case, _: _answered(case, case.ids[::-1].copy()),),
    ),
    Mistake(
        "first not fed",
        "the first token is not counted, but the model has to see it: the second one depends on it",
        (lambda case, _: _answered(case, case.ids[1:]),),
    ),
)
TABLE_MISTAKES = (
    Mistake(
        "raw logits",
        "these logits are not normalised; sum log-probabilities instead",
        (_table(lambda table: table),),
    ),
    Mistake(
        "probabilities",
        "these are probabilities, not their logarithms",
        (_table(lambda table: np.exp(log_softmax(table))),),
    ),
    Mistake(
        "wrong axis",
        "the softmax runs over the wrong axis; at each position, the probabilities of all tokens sum to 1",
        (
            _table(partial(_over_time, rows=slice(None))),
            _table(partial(_over_time, rows=slice(-1))),
        ),
    ),
    DOUBLE_SOFTMAX.with_variants(_table(lambda table: log_softmax(np.exp(log_softmax(table))))),
    Mistake(
        "sigmoid",
        "a sigmoid takes each logit by itself; the probabilities of all tokens must sum to 1",
        (_table(lambda table: -np.logaddexp(0, -table)),),
    ),
)
PICKING_MISTAKES = (
    SHIFTED,
    Mistake(
        "shifted the other way",
        "off by one, the other way: logits[:, i] are compared with the token two places after token i",
        (lambda case, a: a.entries(2),),
    ),
    Mistake(
        "first counted",
        "the first token is counted, too; nothing comes before it, so it is taken as given",
        (
            _with_first(-1),
            _with_first(0),
            lambda case, a: np.append(a.entries(1), -math.log(a.table.shape[1])),
        ),
    ),
    Mistake("last missing", "a token at the end is missing from the sum", (lambda case, a: a.entries(1)[:-1],)),
    Mistake(
        "greedy text",
        "this is the log-likelihood of the model's favourite tokens, not of the tokens in the text",
        (lambda case, a: a.table[:-1].max(axis=-1),),
    ),
    Mistake(
        "one place",
        "one distribution is used for all tokens; each position has its own",
        tuple(_at_row(row, first) for row in (-1, -2, 0) for first in (1, 0)),
    ),
    Mistake(
        "whole vocabulary",
        "this sums over all tokens of the vocabulary; pick the one that really came next at each position",
        (lambda case, a: a.table.sum(axis=1), lambda case, a: a.table[:-1].sum(axis=1)),
    ),
    Mistake(
        "token ids",
        "token ids are added up; they only say which log-probabilities to pick",
        (lambda case, a: a.tokens[1:].astype(np.float64), lambda case, a: a.tokens.astype(np.float64)),
    ),
    Mistake(
        "one token",
        "only one token is looked up; every token after the first has a log-probability",
        (lambda case, a: a.table[0, a.tokens[:1]], lambda case, a: a.table[0, a.tokens[-1:]]),
    ),
)
EACH_MISTAKES = (
    Mistake(
        "epsilon",
        "a constant was added inside the logarithm; `torch.log_softmax` needs none",
        tuple(partial(_with_epsilon, digits) for digits in range(1, 13)),
    ),
    Mistake(
        "clamped",
        "rare tokens count too little: float32 probabilities are cut off at 1e-7; stay with the logits",
        (lambda case, values: np.maximum(values, math.log(FLOAT32_EPSILON)),),
    ),
)
SUM_MISTAKES = (
    MEAN,
    Mistake(
        "log of sum",
        "this is the logarithm of a sum of probabilities; the log of a product is a sum of logs",
        (lambda case, values: np.log(np.exp(values).sum()),),
    ),
    Mistake(
        "not a sum",
        "this is something else than the sum of the tokens' log-probabilities: their product or largest, for example",
        tuple(map(_statistic, STATISTICS)),
    ),
)
UNIT_MISTAKES = (
    Mistake(
        "base 2",
        "this is in bits, from the logarithm to base 2; return nats, from the natural logarithm",
        (lambda case, value: value / math.log(2),),
    ),
    Mistake(
        "base 10",
        "this comes from the logarithm to base 10; return nats, from the natural logarithm",
        (lambda case, value: value / math.log(10),),
    ),
    Mistake(
        "product",
        "this is the probability itself; return its logarithm, which does not vanish for long texts",
        (lambda case, value: math.exp(min(700.0, value)),),
    ),
    Mistake(
        "perplexity",
        "this is the perplexity; return the log-likelihood",
        (lambda case, value: math.exp(min(700.0, -value / (case.size - 1))),),
    ),
)
MISTAKES = (
    *FEEDING_MISTAKES, *TABLE_MISTAKES, *PICKING_MISTAKES, *EACH_MISTAKES, *SUM_MISTAKES, *UNIT_MISTAKES, SIGN
)  # fmt: skip


def _loss(mean: Callable[[LikelihoodCase, Floats], float]) -> Way:
    """PyTorch's losses are means with the opposite sign."""
    return Way((MEAN, SIGN), lambda case, values: -mean(case, values))


# The steps from a text to its log-likelihood: the model's answers, probabilities, those of the text's tokens, a value.
STAGES = (
    stage(lambda case, _: _answered(case, case.ids), *FEEDING_MISTAKES),
    stage(_table(log_softmax), *TABLE_MISTAKES),
    stage(lambda case, a: a.entries(1), *PICKING_MISTAKES),
    stage(lambda case, values: values, *EACH_MISTAKES),
    stage(lambda case, values: values.sum(), *SUM_MISTAKES, *map(_loss, MEAN.variants)),
    stage(lambda case, value: value, *UNIT_MISTAKES),
    stage(lambda case, value: value, SIGN),
)


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_likelihood(got: Sequence[float], cases: Sequence[LikelihoodCase]) -> Mistakes:
    """The mistakes that explain all values `got`, one a case; empty if they are right, or nothing known fits."""
    values, right = np.array(got), np.array([case.right for case in cases])
    if all(map(close, got, right)):
        return ()
    if not np.isfinite(values).any():
        return (NOT_A_NUMBER,)
    if not values.any():
        return (ZERO,)
    exact: list[Mistakes] = []
    multiples: list[Mistakes] = []
    for mistakes, led_to in outcomes_of_all(STAGES, cases):
        if all(map(close, led_to, right)):
            continue  # these mistakes change nothing here: a tiny epsilon, for example
        if np.allclose(values, led_to, rtol=1e-4, atol=1e-5, equal_nan=True):
            exact.append(mistakes)
        elif len(mistakes) == 1 and proportional(values, np.array(led_to)):
            multiples.append((*mistakes, SCALED))
    if exact:
        return agreed(exact)
    return (SCALED,) if proportional(values, right) else _pattern(values, cases) or agreed(multiples)


def _pattern(got: Floats, cases: Sequence[LikelihoodCase]) -> Mistakes:
    """What the values have in common."""
    if len(got) > 1 and np.allclose(got, got[0], rtol=1e-4, atol=1e-4):
        return (CONSTANT,)
    picked = [_answered_rightly(case) for case in cases]
    longest = max(map(len, picked))
    parts = [cut for m in range(1, longest) for cut in (slice(m), slice(m, None), slice(-m, None))]
    return (PART_MISSING,) if any(np.allclose(got, [p[cut].sum() for p in picked], rtol=1e-4) for cut in parts) else ()


def _answered_rightly(case: LikelihoodCase) -> Floats:
    """The log-probability of each token after the first."""
    value: Any = None
    for ways in STAGES[:3]:
        value = ways[0].step(case, value)
    return np.asarray(value)
