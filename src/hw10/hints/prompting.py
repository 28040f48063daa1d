"""Mistakes in problem 1: the log-likelihood of a label, and what is trained. The forward pass: soft_prompt.py."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw10.small_lm import Floats, Ids, SmallLM, log_softmax

AT_MOST = 2  # mistakes that are made together

# --- 1b: the log-likelihood of a label ---


@dataclass(frozen=True)
class LabelCase:
    """A prompt (P,) and a label (L,)."""

    model: SmallLM
    prompt: Ids
    label: Ids

    def rows(self, *texts: Ids) -> Floats:
        """What the model says after each token of the texts, one after the other, (n, V)."""
        return self.model.rows(self.model.embedding[np.concatenate(texts)])


@dataclass(frozen=True)
class _Table:
    """Numbers (n, V) after each token that was fed, and which row is for which token of the label."""

    rows: Floats
    first: int  # the row for the first of the label's tokens that count
    skipped: int = 0  # how many of them do not count


def _fed(case: LabelCase, _: None) -> _Table:
    return _Table(case.rows(case.prompt, case.label), len(case.prompt) - 1)


def _prompt_alone(case: LabelCase, _: None) -> _Table:
    last = case.rows(case.prompt)[-1]
    return _Table(np.tile(last, (len(case.prompt) + len(case.label), 1)), len(case.prompt) - 1)


def _at(case: LabelCase, table: _Table, offset: int = 0) -> Floats:
    """The number of each of the label's tokens, `offset` rows too late."""
    tokens = case.label[table.skipped :]
    places = np.clip(table.first + offset + np.arange(len(tokens)), 0, len(table.rows) - 1)
    return np.asarray(table.rows[places, tokens])


def _changed(function: Callable[[Floats], Floats]) -> Callable[[LabelCase, _Table], _Table]:
    """A step that changes the numbers."""
    return lambda case, table: replace(table, rows=function(table.rows))


def _favourites(case: LabelCase, table: _Table) -> Floats:
    return np.asarray(table.rows[table.first : table.first + len(case.label)].max(axis=1))


def _with_prompt(case: LabelCase, table: _Table) -> Floats:
    """The numbers of all tokens after the first."""
    text = np.concatenate((case.prompt, case.label))
    count = min(len(text) - 1, len(table.rows))
    return np.asarray(table.rows[np.arange(count), text[1 : count + 1]])


def _lower_median(values: Floats) -> float:
    """The median as PyTorch takes it, one of the values."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def _deviation(values: Floats) -> float:
    """The standard deviation as PyTorch takes it."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


STATISTICS: tuple[Callable[[Floats], float], ...] = (np.prod, np.max, np.min, _lower_median, _deviation)


def _statistic(function: Callable[[Floats], float]) -> Callable[[LabelCase, Floats], float]:
    return lambda case, values: function(values) if len(values) else math.nan


FEEDING = (
    Mistake(
        "label alone",
        "the model never sees the prompt; the label's probability is the one after it",
        (
            lambda case, _: _Table(case.rows(case.label), 0, 1),
            lambda case, _: _Table(case.rows(case.label), 0),
        ),
    ),
    Mistake(
        "label first",
        "the label stands before the prompt; the model reads from left to right, so the prompt has to come first",
        (lambda case, _: _Table(case.rows(case.label, case.prompt), len(case.prompt) - 1),),
    ),
    Mistake(
        "label not fed",
        "every token of the label is looked up right after the prompt; the second one also depends on the first",
        (_prompt_alone,),
    ),
)
TABLES = (
    Mistake(
        "raw logits",
        "these logits are not normalised; sum log-probabilities instead",
        (_changed(lambda rows: rows),),
    ),
    Mistake(
        "not the logarithms",
        "probabilities are added up; it is their logarithms that have to be",
        (_changed(lambda rows: np.exp(log_softmax(rows))),),
    ),
    Mistake(
        "softmax over places",
        "the softmax runs over the positions; at each position, the probabilities of all tokens must sum to 1",
        (_changed(lambda rows: log_softmax(rows.T).T),),
    ),
    Mistake(
        "softmax twice",
        "it looks as if a softmax was taken twice; which functions expect logits, which expect probabilities?",
        (_changed(lambda rows: log_softmax(np.exp(log_softmax(rows)))),),
    ),
    Mistake(
        "sigmoid for softmax",
        "a sigmoid takes each logit by itself; the probabilities of all tokens must sum to 1",
        (_changed(lambda rows: -np.logaddexp(0, -rows)),),
    ),
)
PICKS = (
    Mistake(
        "place too late",
        "off by one: logits[:, i] say what follows token i, so those at a token's own place say nothing of it",
        (lambda case, table: _at(case, table, 1),),
    ),
    Mistake(
        "place too early",
        "off by one, the other way: each token is looked up where the model has not seen the one before it",
        (lambda case, table: _at(case, table, -1),),
    ),
    Mistake(
        "prompt counted",
        "the prompt's tokens are counted, too; it is given, so only the label's tokens belong into the sum",
        (_with_prompt,),
    ),
    Mistake(
        "first token only",
        "only the label's first token is counted; a label may have several",
        (lambda case, table: _at(case, table, 0)[:1],),
    ),
    Mistake(
        "last token only",
        "only the label's last token is counted; a label may have several",
        (lambda case, table: _at(case, table, 0)[-1:],),
    ),
    Mistake(
        "label cut",
        "a token of the label is missing from the sum",
        (lambda case, table: _at(case, table, 0)[:-1], lambda case, table: _at(case, table, 0)[1:]),
    ),
    Mistake(
        "looked up in the prompt",
        "the tokens of the label are looked up where the prompt begins; it is after the prompt that they are predicted",
        (
            lambda case, table: _at(case, replace(table, first=0)),
            lambda case, table: _at(case, replace(table, first=1)),
        ),
    ),
    Mistake(
        "all of the vocabulary",
        "this sums over all tokens of the vocabulary; pick the label's token at each place",
        (
            lambda case, table: table.rows[table.first : table.first + len(case.label)].ravel(),
            lambda case, table: table.rows.ravel(),
        ),
    ),
    Mistake(
        "sum of ids",
        "token ids are added up; they only say which log-probabilities to pick",
        (
            lambda case, table: case.label.astype(np.float64),
            lambda case, table: case.prompt.astype(np.float64),
            lambda case, table: np.concatenate((case.prompt, case.label)).astype(np.float64),
        ),
    ),
    Mistake(
        "favourite tokens",
        "these are the model's favourite tokens, not those of the label",
        (_favourites,),
    ),
)
ANOTHER_STATISTIC = Mistake(
    "another statistic",
    "this is the product, largest, smallest or the like of the log-probabilities; what is asked is their sum",
    tuple(map(_statistic, STATISTICS)),
)
SUMS = (
    Mistake(
        "mean over tokens",
        "this is the mean over the tokens; the probability of a label is a product, so its logarithm is a sum",
        (
            lambda case, values: values.mean() if len(values) else math.nan,
            lambda case, values: values.sum() / (len(case.prompt) + len(case.label)),
            lambda case, values: values.sum() / (len(case.prompt) + len(case.label) - 1),
        ),
    ),
    Mistake(
        "logarithm of a sum",
        "this is the logarithm of a sum of probabilities; the log of a product is a sum of logs",
        (lambda case, values: np.log(np.exp(values).sum()),),
    ),
    ANOTHER_STATISTIC,
)
UNITS = (
    Mistake(
        "bits",
        "this is in bits, from the logarithm to base 2; return nats, from the natural logarithm",
        (lambda case, value: value / math.log(2),),
    ),
    Mistake(
        "base 10",
        "this comes from the logarithm to base 10; return nats, from the natural logarithm",
        (lambda case, value: value / math.log(10),),
    ),
    Mistake(
        "probability",
        "this is the probability itself; return its logarithm, which does not vanish for long labels",
        (lambda case, value: math.exp(min(700.0, value)),),
    ),
    Mistake(
        "minus",
        "the sign is flipped: the log of a probability is never positive; a loss is what has the minus",
        (lambda case, value: -value,),
    ),
)
NOT_A_FLOAT = Mistake("not a float", "the value may be right, but it is not a Python float yet")
NUMBERS = Mistake(
    "several numbers", "a tensor of several numbers is returned; a label has one log-probability, their sum"
)
NOT_FINITE = Mistake(
    "not finite",
    "NaN or infinity: was a logarithm taken of 0? torch.log_softmax stays finite where log(softmax) does not",
)
ZERO = Mistake(
    "zero for all",
    "the result is 0, as if every label were certain: does the softmax run over an axis that has one entry?",
)
SAME_FOR_ALL = Mistake("same for all", "the result is the same number whatever the prompt and the label are")


_Step = Callable[[Any, Any], Any]
# The steps from a label to its log-likelihood: the right way through each, and the wrong ones.
STAGES: tuple[tuple[_Step, tuple[Mistake, ...]], ...] = (
    (_fed, FEEDING),
    (_changed(log_softmax), TABLES),
    (_at, PICKS),
    (lambda case, values: values.sum(), SUMS),
    (lambda case, value: value, UNITS),
)


def _ways() -> Iterator[tuple[Mistakes, tuple[_Step, ...]]]:
    """Every way from a label to a value with one or two mistakes, those with one first.

    The first token's number often is the largest by chance, so other explanations come before a statistic.
    """
    stages = [[(None, right), *((m, step) for m in wrong for step in m.variants)] for right, wrong in STAGES]
    found = []
    for way in itertools.product(*stages):
        mistakes = tuple(mistake for mistake, _ in way if mistake is not None)
        if 0 < len(mistakes) <= AT_MOST:
            found.append((mistakes, tuple(step for _, step in way)))
    yield from sorted(found, key=lambda each: (len(each[0]), ANOTHER_STATISTIC in each[0]))


def is_close(got: Any, right: Any) -> bool:
    """Whether numbers are equal but for rounding.

    float32 is off by about 1e-6 here, as the model's values are of order 1; what a mistake changes is of order 0.1.
    """
    return np.shape(got) == np.shape(right) and np.allclose(got, right, rtol=1e-4, atol=1e-4, equal_nan=True)


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_label(got: Sequence[float], right: Sequence[float], cases: Sequence[LabelCase]) -> Mistakes:
    """The mistakes that explain all values `got`, one a case; empty if they are right, or nothing known fits."""
    if is_close(got, right):
        return ()
    if not np.any(got):
        return (ZERO,)
    for mistakes, steps in _ways():
        if is_close(got, led_to := [_value(case, steps) for case in cases]) and not is_close(led_to, right):
            return mistakes
    if not np.isfinite(got).all():
        return (NOT_FINITE,)
    return (SAME_FOR_ALL,) if len(got) > 1 and is_close(got, [got[0]] * len(got)) else ()


def _value(case: LabelCase, steps: Sequence[_Step]) -> float:
    value: Any = None
    for step in steps:
        value = step(case, value)
    return float(value)


# --- 1c: what is trained ---

NOT_FROZEN = Mistake(
    "not frozen",
    "parameters of the model still require a gradient; `requires_grad` is what freezes them, for each of them",
)
MODEL_TRAINED = Mistake(
    "model trained",
    "parameters of the model are returned, so the optimiser would change them; only the soft prompt is to be trained",
)
PROMPT_FROZEN = Mistake(
    "prompt frozen", "the soft prompt requires no gradient any more, so it cannot learn; freeze the model alone"
)
PROMPT_COPIED = Mistake(
    "prompt copied",
    "something else than the soft prompt itself is returned, such as a copy; training it changes nothing for the model",
)
PROMPT_MISSING = Mistake("prompt missing", "the soft prompt is not among what is returned, so nothing would learn")
PROMPT_TWICE = Mistake("prompt twice", "the soft prompt is returned more than once; one optimiser takes it only once")
NOT_A_LIST = Mistake("not a list", "the soft prompt itself is returned; an optimiser takes a list of parameters")
WEIGHTS_CHANGED = Mistake(
    "weights changed", "the model's weights were changed; freezing leaves their values as they are"
)
