"""Mistakes in `posterior`, and the value to which each leads, alone or with another one; see `diffusion`."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw10.hints.diffusion import (
    MIXED_UP_IMAGES,
    NOT_FINITE,
    OFF_BY_ONE,
    ONE_FACTOR,
    ONE_STEP_FOR_ALL,
    Case,
    Factors,
    Floats,
    Looked,
    agreed,
    outcomes,
    same,
    stage,
)


def _back(n: Looked) -> Factors:
    """What stands in front of x_0 and of x_t, and the variance; a wrong number in `n` has the effect it has here."""
    fraction, keep = (1 - n.before) / (1 - n.now), np.sqrt(1 - n.beta)
    return Factors(n, np.sqrt(n.before) * n.beta / (1 - n.now), keep * fraction, n.beta * fraction)


NOT_BEFORE = Mistake(
    "alpha_bar not one step earlier",
    "this has alpha_bar of step t where that of the step before belongs",
    (lambda case, _: replace(case.looked(), before=case.looked().now),),
)
WRAPS = Mistake(
    "index -1",
    "at t = 0, the index t - 1 is -1, which is the end of the array; before the first step, alpha_bar is 1",
    (lambda case, _: case.looked(beyond=None),),
)
BEFORE_THE_FIRST = Mistake(
    "before the first step",
    "alpha_bar before the first step is an empty product; how much of the image is left when no noise was added?",
    (lambda case, _: case.looked(beyond=float(1 - case.beta[0])), lambda case, _: case.looked(beyond=0.0)),
)
COEFFICIENTS_SWAPPED = Mistake(
    "coefficients swapped",
    "the factors of x_0 and x_t are swapped: at t = 0, the mean must be x_0",
    (lambda _, f: replace(f, x_0=f.other, other=f.x_0),),
)
SHRINKING_LEFT_OUT = Mistake(
    "shrinking left out",
    "a step also shrinks x_{t-1}, by √(1 - β_t); in front of x_t, this is missing or without its root",
    (
        lambda _, f: replace(f, other=f.other / np.sqrt(1 - f.at.beta)),
        lambda _, f: replace(f, other=f.other * np.sqrt(1 - f.at.beta)),
    ),
)
OTHER_ROOT_AT_X_T = Mistake(
    "alpha_bar at x_t",
    "in front of x_t stands the root of alpha_bar, which shrinks over all steps; only one step lies between x_{t-1} "
    "and x_t",
    (
        lambda _, f: replace(f, other=f.other / np.sqrt(1 - f.at.beta) * np.sqrt(f.at.now)),
        lambda _, f: replace(f, other=f.other / np.sqrt(1 - f.at.beta) * np.sqrt(f.at.before)),
    ),
)
MEAN_WITHOUT_ROOT = Mistake(
    "root at x_0",
    "in front of x_0, the root of alpha_bar is missing, or there is alpha_bar without a root",
    (
        lambda _, f: replace(f, x_0=f.x_0 * np.sqrt(f.at.before)),
        lambda _, f: replace(f, x_0=f.x_0 / np.sqrt(f.at.before)),
    ),
)
LATER_ROOT_AT_X_0 = Mistake(
    "later root at x_0",
    "in front of x_0 stands the root of alpha_bar at t; the mean of x_{t-1} given x_0 has the one a step earlier",
    (lambda _, f: replace(f, x_0=f.x_0 / np.sqrt(f.at.before) * np.sqrt(f.at.now)),),
)
NOT_DIVIDED = Mistake(
    "not divided",
    "this lacks the division by 1 - alpha_bar[t], by which the two factors fit together",
    (lambda _, f: replace(f, x_0=f.x_0 * (1 - f.at.now), other=f.other * (1 - f.at.now)),),
)
ONE_ALONE = Mistake(
    "one of two terms",
    "the mean has two terms, one of x_0 and one of x_t; one of them is missing",
    (lambda _, f: replace(f, x_0=0 * f.x_0), lambda _, f: replace(f, other=0 * f.other)),
)
WITHOUT_X_T = Mistake(
    "x_t unused",
    "this is q(x_{t-1} | x_0), which does not know x_t",
    (lambda _, f: replace(f, x_0=np.sqrt(f.at.before), other=0 * f.other),),
)
FORWARD_MEAN = Mistake(
    "step forward",
    "this mean is one of a step forward from x_t; the step back is Bayes' rule with two Gaussians",
    (
        lambda _, f: replace(f, x_0=0 * f.x_0, other=np.sqrt(1 - f.at.beta)),
        lambda _, f: replace(f, x_0=0 * f.x_0, other=1 / np.sqrt(1 - f.at.beta)),
    ),
)
FORWARD_VARIANCE = Mistake(
    "variance of the step forward",
    "the variance is β_t, that of a step forward; some samplers use it, but knowing x_0 makes the posterior's smaller",
    (lambda _, f: replace(f, variance=f.at.beta),),
)
DEVIATION = Mistake(
    "deviation for variance",
    "this is the standard deviation; the variance is asked for",
    (lambda _, f: replace(f, variance=np.sqrt(f.variance)),),
)
LOG_VARIANCE = Mistake(
    "logarithm of the variance",
    "this is the logarithm of the variance; it is of no use at t = 0",
    (lambda _, f: replace(f, variance=np.log(f.variance)),),
)
PRECISION = Mistake(
    "precision for variance",
    "this is the precision, what stands in front of the square; the variance is 1 over it",
    (lambda _, f: replace(f, variance=1 / f.variance),),
)
VARIANCE_FACTOR = Mistake(
    "factor of the variance",
    "a factor of the variance is missing or upside down; it is β_t times a fraction that is at most 1",
    (
        lambda _, f: replace(f, variance=f.variance / f.at.beta),
        lambda _, f: replace(f, variance=f.variance * (1 - f.at.now)),
        lambda _, f: replace(f, variance=f.at.beta**2 / f.variance),
        lambda _, f: replace(f, variance=f.variance * (1 - f.at.beta)),
    ),
)
VARIANCE_OF_Q = Mistake(
    "variance given x_0 alone",
    "this is the variance of x_{t-1} or x_t given x_0; the posterior knows both neighbours",
    (lambda _, f: replace(f, variance=1 - f.at.before), lambda _, f: replace(f, variance=1 - f.at.now)),
)
OUTPUTS_SWAPPED = Mistake("posterior's outputs swapped", "mean and variance are returned in the opposite order")
NAN_AT_FIRST = Mistake(
    "NaN at the first step",
    "at t = 0 this divides by 0 or takes its logarithm: 1 - alpha_bar is 0 before the first step; a form of the result "
    "without such a fraction holds there, too",
)

POSTERIOR_STAGES = (
    stage(
        lambda case, _: case.looked(),
        WRAPS, BEFORE_THE_FIRST, NOT_BEFORE, ONE_FACTOR, OFF_BY_ONE, ONE_STEP_FOR_ALL,
    ),
    stage(lambda _, n: _back(n)),
    stage(
        lambda _, factors: factors,
        COEFFICIENTS_SWAPPED, SHRINKING_LEFT_OUT, OTHER_ROOT_AT_X_T, MEAN_WITHOUT_ROOT, LATER_ROOT_AT_X_0, NOT_DIVIDED,
        ONE_ALONE, WITHOUT_X_T, FORWARD_MEAN,
    ),
    stage(
        lambda _, factors: factors,
        FORWARD_VARIANCE, DEVIATION, LOG_VARIANCE, PRECISION, VARIANCE_FACTOR, VARIANCE_OF_Q,
    ),
    stage(lambda case, factors: case.mixed(factors), MIXED_UP_IMAGES),
)  # fmt: skip


@np.errstate(all="ignore")
def diagnose_posterior(got: Sequence[Floats], right: Sequence[Floats], case: Case) -> Mistakes:
    """The mistakes that explain mean and variance `got` in the place of the `right` ones, (B, …) each.

    Where nothing explains both, then what explains each alone.
    """
    wrong = [i for i in (0, 1) if not same(got[i], right[i])]
    if not wrong:
        return ()
    if same(got[0], right[1]) and same(got[1], right[0]):
        return (OUTPUTS_SWAPPED,)
    if not all(np.isfinite(value).all() for value in got):
        later = case.t > 0
        return (NAN_AT_FIRST,) if all(np.isfinite(value[later]).all() for value in got) else (NOT_FINITE,)
    led_to = list(outcomes(POSTERIOR_STAGES, case))
    both = [m for m, value in led_to if all(map(same, got, value))]
    if both:
        return agreed(both)
    alone = [agreed([m for m, v in led_to if same(got[i], v[i]) and not same(right[i], v[i])]) for i in wrong]
    return tuple(dict.fromkeys(itertools.chain(*alone)))
