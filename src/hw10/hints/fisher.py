"""Mistakes in the Fisher information, 5b."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes
from src.hw10.small_classifier import Floats, SmallClassifier, softmax

Tensors = list[Floats]  # one for each of the parameters


def is_close(got: Sequence[Floats], right: Sequence[Floats]) -> bool:
    """Whether the numbers in all tensors are equal but for rounding.

    Both are of order 1 or below and come of less than 100 float32 operations, which are off by 1e-6 of the largest
    entry of their tensor, at most. What a mistake changes is of order 0.1.
    """
    return len(got) == len(right) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=3e-4, atol=3e-5 * np.abs(b).max(initial=0), equal_nan=True)
        for a, b in zip(got, right, strict=True)
    )


@dataclass(frozen=True)
class FisherCase:
    """A classifier, and examples for it."""

    model: SmallClassifier
    images: Floats  # (N, D), flattened
    labels: NDArray[np.int64]  # (N,)

    @cached_property
    def probabilities(self) -> Floats:
        """What the model says, (N, C)."""
        return softmax(self.model.layers(self.images)[-1])

    def chosen(self, classes: NDArray[np.int64]) -> Floats:
        """1 at these classes (N,), else 0: (N, C)."""
        return np.asarray(np.eye(self.probabilities.shape[1])[classes])

    def gradients(self, at_logits: Floats) -> Tensors:
        """See `SmallClassifier.gradients`."""
        return self.model.gradients(self.images, at_logits)


def _of_log_p(case: FisherCase, _: None = None) -> Tensors:
    return case.gradients(case.chosen(case.labels) - case.probabilities)


def _of_p(case: FisherCase, _: None) -> Tensors:
    chosen = case.chosen(case.labels)
    of_label = (chosen * case.probabilities).sum(axis=1, keepdims=True)
    return case.gradients(of_label * (chosen - case.probabilities))


def _of_softmax_twice(case: FisherCase, _: None) -> Tensors:
    p = case.probabilities
    at_p = case.chosen(case.labels) - softmax(p)
    return case.gradients(p * (at_p - (p * at_p).sum(axis=1, keepdims=True)))


def _of_favourites(case: FisherCase, _: None) -> Tensors:
    return case.gradients(case.chosen(case.probabilities.argmax(axis=1)) - case.probabilities)


def _each(function: Callable[[Floats], Floats]) -> Callable[[FisherCase, Tensors], Tensors]:
    """A step that does the same with each tensor; the examples are its first axis."""
    return lambda case, tensors: [function(each) for each in tensors]


def _mean_of_squares(gradients: Floats) -> Floats:
    return np.asarray((gradients**2).mean(axis=0))


OTHER_FUNCTIONS = (
    Mistake("gradient of p", "these are gradients of p itself; the formula has those of log p", (_of_p,)),
    Mistake(
        "gradient of a logit",
        "these are gradients of the label's logit; log p also depends on the logits of all other classes",
        (lambda case, _: case.gradients(case.chosen(case.labels)),),
    ),
    Mistake(
        "softmax of probabilities",
        "two softmaxes follow each other here; the model returns logits, and `cross_entropy` takes logits",
        (_of_softmax_twice,),
    ),
    Mistake(
        "parameters for gradients",
        "these are made of the parameters themselves, not of gradients",
        (lambda case, _: [np.broadcast_to(each, (len(case.images), *each.shape)) for each in case.model.weights],),
    ),
    Mistake(
        "favourite classes",
        "the labels are not used: these are gradients for the model's favourite class of each image",
        (_of_favourites,),
    ),
)
COMBINATIONS = (
    Mistake(
        "batch's gradient",
        "the gradients are added up or averaged before they are squared, so those of different signs cancel; square "
        "the gradient of each example by itself",
        (
            _each(lambda g: g.sum(axis=0) ** 2),
            _each(lambda g: g.mean(axis=0) ** 2),
            _each(lambda g: g.sum(axis=0) ** 2 / len(g)),
        ),
    ),
    Mistake(
        "sum over examples",
        "this is the sum over the examples, which grows with their number; F is their mean",
        (_each(lambda g: (g**2).sum(axis=0)),),
    ),
    Mistake(
        "divided twice",
        "this is divided by the number of examples twice",
        (_each(lambda g: _mean_of_squares(g) / len(g)), _each(lambda g: _mean_of_squares(g) / len(g) ** 2)),
    ),
    Mistake(
        "not squared",
        "the gradients are not squared",
        (
            _each(lambda g: g.mean(axis=0)),
            _each(lambda g: -g.mean(axis=0)),
            _each(lambda g: g.sum(axis=0)),
            _each(lambda g: -g.sum(axis=0)),
            _each(lambda g: np.abs(g).mean(axis=0)),
        ),
    ),
    Mistake(
        "other power of gradients",
        "the gradients are taken to another power than 2",
        (
            _each(lambda g: (g**3).mean(axis=0)),
            _each(lambda g: (g**4).mean(axis=0)),
            _each(lambda g: (g**-2).mean(axis=0)),
        ),
    ),
    Mistake(
        "square root",
        "this is the square root of F; leave the squares as they are",
        (_each(lambda g: np.sqrt(_mean_of_squares(g))), _each(lambda g: np.sqrt((g**2).sum(axis=0)))),
    ),
    Mistake(
        "variance of gradients",
        "this is the variance of the gradients: their mean is taken off before they are squared",
        (_each(lambda g: g.var(axis=0)), _each(lambda g: g.var(axis=0, ddof=1) if len(g) > 1 else g[0])),
    ),
    Mistake(
        "one example",
        "only one example counts; do later ones replace the earlier ones, or does the loop end too soon?",
        (
            _each(lambda g: g[-1] ** 2),
            _each(lambda g: g[-1] ** 2 / len(g)),
            _each(lambda g: g[0] ** 2),
            _each(lambda g: g[0] ** 2 / len(g)),
        ),
    ),
    Mistake(
        "gradients pile up",
        "each example's gradient is added to those of the examples before it: `backward` adds to what is stored there",
        (
            _each(lambda g: _mean_of_squares(g.cumsum(axis=0))),
            _each(lambda g: (g.cumsum(axis=0) ** 2).sum(axis=0)),
        ),
    ),
)
# What the numbers have in common, where no other mistake explains them.
NO_NUMBERS = Mistake("no numbers", "there are NaN or infinity among these; is something divided by 0?")
ALL_EQUAL = Mistake("all equal", "all entries are the same number; no gradient can be seen in them")
OFFSET = Mistake("offset", "the same number is added to all entries; where does it come from?")
WHOLE = Mistake("whole numbers", "these are whole numbers: `//` rounds down, `/` does not")
NEGATIVE = Mistake("negative entries", "some entries are negative; a mean of squares never is")

STALE_GRADIENTS = Mistake(
    "stale gradients",
    "gradients that training has stored in the model are added to those of the examples; clear them before you begin",
)
MODEL_SPOILED = Mistake(
    "model spoiled",
    "the model must stay as it was: its weights have changed, or do not require a gradient any more",
)
KEEPS_A_GRAPH = Mistake(
    "keeps a graph",
    "the result still requires a gradient; it is a constant in the penalty, so cut it off with `.detach()`",
)
ALL_ZERO = Mistake(
    "all zero", "everything is 0: has the softmax's axis one entry, is nothing added up, or does `//` round it down?"
)
NOT_AVERAGED = Mistake(
    "not averaged", "there is a value for each example, along the first axis; their mean is what is wanted"
)
NOT_ALL_TENSORS = Mistake(
    "not all tensors", "there must be one tensor for each of model.parameters(), weights and biases, in their order"
)
NUMBER_PER_TENSOR = Mistake(
    "one number a tensor", "a tensor is reduced to one number; each entry of a parameter has a value of its own in F"
)
ONE_FACTOR = Mistake(
    "one factor",
    "all entries are multiplied by the same number; where does it come from?",
)


def right_fisher(case: FisherCase) -> Tensors:
    """F, by its definition."""
    return [_mean_of_squares(each) for each in _of_log_p(case)]


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_fisher(got: Sequence[Floats], case: FisherCase) -> Mistakes:
    """The mistakes that explain the tensors `got`; empty if they are right, or nothing known fits."""
    right = right_fisher(case)
    if is_close(got, right):
        return ()
    if not any(each.any() for each in got):
        return (ALL_ZERO,)
    functions = [((), _of_log_p), *(((m,), step) for m in OTHER_FUNCTIONS for step in m.variants)]
    combinations = [((), _each(_mean_of_squares)), *(((m,), step) for m in COMBINATIONS for step in m.variants)]
    ways = [((*a, *b), first, second) for a, first in functions for b, second in combinations]
    multiples: list[Mistakes] = [(ONE_FACTOR,)] if _are_multiples(got, right) else []
    for mistakes, first, second in sorted(ways[1:], key=lambda way: len(way[0])):
        led_to = second(case, first(case, None))
        if is_close(got, led_to) and not is_close(led_to, right):
            return mistakes
        if len(mistakes) == 1 and _are_multiples(got, led_to):
            multiples.append((*mistakes, ONE_FACTOR))
    return multiples[0] if multiples else _in_common(got, right)


def _in_common(got: Sequence[Floats], right: Sequence[Floats]) -> Mistakes:
    of_got, of_right = _flat(got), _flat(right)
    patterns = (
        (not np.isfinite(of_got).all(), NO_NUMBERS),
        (np.ptp(of_got) == 0, ALL_EQUAL),
        (np.ptp(of_got - of_right) < 1e-5 * np.abs(of_got).max(), OFFSET),
        ((of_got == of_got.round()).all(), WHOLE),
        ((of_got < 0).any(), NEGATIVE),
    )
    return tuple(mistake for applies, mistake in patterns if applies)[:1]


def _flat(tensors: Sequence[Floats]) -> Floats:
    return np.concatenate([each.reshape(-1) for each in tensors])


def diagnose_shapes(shapes: Sequence[tuple[int, ...]], case: FisherCase) -> Mistakes:
    """Why a list has tensors of these shapes, which are the wrong ones."""
    right = [each.shape for each in case.model.weights]
    if list(shapes) == [(len(case.images), *shape) for shape in right]:
        return (NOT_AVERAGED,)
    if len(shapes) != len(right):
        return (NOT_ALL_TENSORS,)
    return (NUMBER_PER_TENSOR,) if all(shape in ((), (1,)) for shape in shapes) else ()


def _are_multiples(got: Sequence[Floats], values: Sequence[Floats]) -> bool:
    """Whether all entries are the same multiple of `values`."""
    of_got, of_values = _flat(got), _flat(values)
    largest = np.argmax(np.abs(of_values))
    factor = of_got[largest] / of_values[largest]
    return bool(factor and np.isfinite(factor)) and is_close([of_got / factor], [of_values])
