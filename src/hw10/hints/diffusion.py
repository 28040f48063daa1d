"""Mistakes in `q_sample` and `posterior`, and the value to which each leads, alone or with another one.

Both computations go in stages: which numbers each image looks up, the factors made of them, and how these meet the
images. A mistake is another way through a stage.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AT_MOST = 2  # mistakes that explain a value together


@dataclass(frozen=True)
class Looked:
    """What each image has looked up, (B,) each."""

    before: Floats  # alpha_bar one step earlier
    now: Floats  # alpha_bar
    beta: Floats


@dataclass(frozen=True)
class Factors:
    """What each image is multiplied by, (B,) each, and the variance; made of what it has looked up."""

    at: Looked
    x_0: Floats
    other: Floats  # of the noise, or of x_t
    variance: Floats


@dataclass(frozen=True)
class Case:
    """The arguments of a call: `other` is the noise of `q_sample`, or the x_t of `posterior`."""

    x_0: Floats  # (B, …)
    other: Floats  # (B, …)
    t: Ints  # (B,)
    beta: Floats  # (T,)

    def looked(self, shift: int = 0, beyond: float | None = 1.0, t: Ints | None = None) -> Looked:
        """What the steps `t`, moved by `shift`, look up; `beyond` is alpha_bar before the first step, None: the last's.

        Past either end, a step is the nearest one.
        """
        bars = np.asarray(np.cumprod(1 - self.beta), dtype=np.float64)
        at = np.clip((self.t if t is None else t) + shift, 0, len(bars) - 1)
        before = np.append(bars[-1] if beyond is None else beyond, bars[:-1])
        return Looked(before[at], bars[at], self.beta[at])

    def mixed(self, factors: Factors, axis: int = 0) -> tuple[Floats, Floats]:
        """x_0 and `other`, multiplied and added, and the variance, (B, 1, …) both where they lie along `axis`."""
        shape = [1] * self.x_0.ndim
        shape[axis] = -1
        mean = factors.x_0.reshape(shape) * self.x_0 + factors.other.reshape(shape) * self.other
        return mean, np.broadcast_to(factors.variance.reshape(shape), self.x_0.shape)


Step = Callable[[Case, Any], Any]  # (a case, what the stage before has led to) → what this one leads to
Ways = Sequence[tuple[Mistakes, Step]]


def stage(right: Step, *wrong: Mistake) -> Ways:
    """The ways through a stage, the right one first; a mistake's variants are steps."""
    return [((), right), *(((mistake,), step) for mistake in wrong for step in mistake.variants)]


def _first(case: Case) -> Ints:
    return np.full_like(case.t, case.t[0])


# --- in both: what an image looks up ---

OFF_BY_ONE = Mistake(
    "step off by one",
    "the numbers are those of a neighbouring step: steps count from 0 here, so alpha_bar[0] belongs to t = 0 already",
    (
        lambda case, _: case.looked(-1),
        lambda case, _: case.looked(1),
        lambda case, _: case.looked(t=np.where(case.t > 0, case.t - 1, len(case.beta) - 1)),
    ),
)
ONE_STEP_FOR_ALL = Mistake(
    "one step for all images",
    "all images get the numbers of one step; each has a t of its own",
    (
        lambda case, _: case.looked(t=_first(case)),
        lambda case, _: case.looked(t=np.full_like(case.t, case.t[-1])),
    ),
)
ONE_FACTOR = Mistake(
    "one factor for the product",
    "this uses 1 - beta of a single step where the product of all steps so far belongs",
    (lambda case, _: _single(case),),
)
BETA = Mistake(
    "beta for alpha_bar",
    "this takes beta for alpha_bar; one is what a step adds, the other what all steps together have left",
    (lambda case, _: replace(case.looked(), now=case.looked().beta),),
)
PRODUCT_TWICE = Mistake(
    "product of products",
    "alpha_bar's entries are multiplied with each other here; each of them is a product of all steps so far already",
    (lambda case, _: replace(case.looked(), now=np.cumprod(np.cumprod(1 - case.beta))[case.t]),),
)
MIXED_UP_IMAGES = Mistake(
    "numbers along the wrong axis",
    "the B numbers meet the last axis, the columns of an image, and not the images: (B,) against (B, C, H, W) is "
    "aligned from the right; which shape puts one number beside each image?",
    (lambda case, factors: case.mixed(factors, axis=-1),),
)


def _single(case: Case) -> Looked:
    """With 1 - β_t for alpha_bar, at t and before it."""
    alone = 1 - case.beta
    before = np.concatenate(([1.0], alone[:-1]))
    return Looked(before[case.t], alone[case.t], case.beta[case.t])


NOT_FINITE = Mistake(
    "root of a negative number",
    "NaN or infinity: was a root taken of a negative number, or something divided by 0?",
)
FOUR_DIMENSIONS = Mistake(
    "four dimensions",
    "the result has more dimensions than x_0; numbers of shape (B, 1, 1, 1) fit (B, C, H, W) alone, and x_0 may have "
    "any shape (B, …)",
)
ARGUMENTS_CHANGED = Mistake(
    "images or schedule changed",
    "the function changes its arguments, which the training still needs; methods whose names end in _ do that, and +=",
)


# --- q_sample ---


def _noised(n: Looked, of_x_0: Floats | float, of_noise: Floats | float) -> Factors:
    zero = np.zeros_like(n.now)
    return Factors(n, of_x_0 + zero, of_noise + zero, zero)


NO_ROOT = Mistake(
    "no square root at the image",
    "x_0 is multiplied by alpha_bar itself; each step multiplies by a square root, and so does their product",
    (lambda _, n: _noised(n, n.now, np.sqrt(1 - n.now)),),
)
VARIANCE_FOR_DEVIATION = Mistake(
    "noise times a variance",
    "the noise is multiplied by a variance; s times standard normal noise has the variance s²",
    (lambda _, n: _noised(n, np.sqrt(n.now), 1 - n.now),),
)
SHARES_SWAPPED = Mistake(
    "shares swapped",
    "the shares of image and noise are swapped: at first there is much image and little noise",
    (lambda _, n: _noised(n, np.sqrt(1 - n.now), np.sqrt(n.now)), lambda _, n: _noised(n, 1 - n.now, n.now)),
)
NOT_SHRUNK = Mistake(
    "image not shrunk",
    "x_0 keeps its size; the image fades while the noise grows, so that their variances sum to 1",
    (lambda _, n: _noised(n, 1, np.sqrt(1 - n.now)), lambda _, n: _noised(n, 1, 1 - n.now)),
)
NOISE_NOT_SCALED = Mistake(
    "noise at full size", "the noise has its full size at every step", (lambda _, n: _noised(n, np.sqrt(n.now), 1),)
)
ONE_MINUS_ROOT = Mistake(
    "one minus the root",
    "the noise is multiplied by 1 - √alpha_bar; it is the two variances, not the two factors, that sum to 1",
    (lambda _, n: _noised(n, np.sqrt(n.now), 1 - np.sqrt(n.now)),),
)
NO_NOISE = Mistake(
    "x_t without noise", "this is the mean of x_t; where is the noise?", (lambda _, n: _noised(n, np.sqrt(n.now), 0),)
)
NOISE_SUBTRACTED = Mistake(
    "noise subtracted",
    "the noise is subtracted; the distribution is the same, but a network that learns `noise` learns its opposite",
    (lambda _, n: _noised(n, np.sqrt(n.now), -np.sqrt(1 - n.now)),),
)
OWN_NOISE = Mistake("own noise", "this draws noise of its own; use `noise`, which the network will have to find in x_t")
SAMPLE_STAGES = (
    stage(lambda case, _: case.looked(), ONE_FACTOR, BETA, PRODUCT_TWICE, OFF_BY_ONE, ONE_STEP_FOR_ALL),
    (
        *stage(
            lambda _, n: _noised(n, np.sqrt(n.now), np.sqrt(1 - n.now)),
            NO_ROOT, VARIANCE_FOR_DEVIATION, SHARES_SWAPPED, NOT_SHRUNK, NOISE_NOT_SCALED, ONE_MINUS_ROOT, NO_NOISE,
            NOISE_SUBTRACTED,
        ),
        ((NO_ROOT, VARIANCE_FOR_DEVIATION), lambda _, n: _noised(n, n.now, 1 - n.now)),
    ),
    stage(lambda case, factors: case.mixed(factors), MIXED_UP_IMAGES),
)  # fmt: skip


# --- the diagnosis ---


def same(got: Floats, expected: Floats) -> bool:
    """Whether these are the same numbers, but for what float32 arithmetic loses: 1e-7 / (1 - alpha_bar) at most."""
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=3e-4, atol=3e-5, equal_nan=True))


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_sample(got: Floats, right: Floats, case: Case) -> Mistakes:
    """The mistakes that explain `got` in the place of `right`, (B, …); empty where nothing known does."""
    if same(got, right):
        return ()
    if not np.isfinite(got).all():
        return (NOT_FINITE,)
    found = [m for m, value in outcomes(SAMPLE_STAGES, case) if same(got, value[0]) and not same(right, value[0])]
    if not found and _has_own_noise(got, case):
        return (OWN_NOISE,)
    return agreed(found)


def _has_own_noise(got: Floats, case: Case) -> bool:
    """Whether what was added to x_0's share is as large as the noise should be, and depends on neither of them.

    Each statistic is a mean of N numbers with variance 1, or 2.
    """
    now, shape = case.looked().now, (-1, *[1] * (got.ndim - 1))
    noise = (got - np.sqrt(now).reshape(shape) * case.x_0) / np.sqrt(1 - now).reshape(shape)
    bound = 5 / np.sqrt(noise.size)
    with_noise = (noise * case.other).mean() / np.sqrt((case.other**2).mean())
    with_x_0 = (noise * case.x_0).mean() / np.sqrt((case.x_0**2).mean())
    return bool(abs(with_noise) < bound and abs(with_x_0) < bound and abs((noise**2).mean() - 1) < 2 * bound)


def outcomes(stages: Sequence[Ways], case: Case) -> Iterator[tuple[Mistakes, tuple[Floats, Floats]]]:
    """What every one and every two mistakes in different stages lead to."""
    for path in itertools.product(*stages):
        mistakes = tuple(itertools.chain(*(found for found, _ in path)))
        if 0 < len(mistakes) <= AT_MOST and (path[-1][0] == () or _is_square(case)):
            value: Any = None
            for _, step in path:
                value = step(case, value)
            yield mistakes, value


def _is_square(case: Case) -> bool:
    """Whether numbers for the images fit the last axis."""
    return case.x_0.ndim > 1 and case.x_0.shape[-1] == len(case.x_0)


def agreed(found: Sequence[Mistakes]) -> Mistakes:
    """The first single mistake; else what all of the explanations with the fewest mistakes have in common."""
    fewest = min(map(len, found), default=0)
    simplest = [mistakes for mistakes in found if len(mistakes) == fewest]
    if fewest < AT_MOST:
        return simplest[0] if simplest else ()
    return tuple(m for m in simplest[0] if all(m in each for each in simplest))
