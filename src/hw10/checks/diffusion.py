"""The tests of the diffusion model's two functions: noise of many steps at once, and one step back.

What is right comes from the definition of the process: noise is added step by step, or Bayes' rule applied on a grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from numpy.typing import NDArray

from src.grading.chart import AnyChart, Chart, Histogram, Series
from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Argument, Returned
from src.hw10.checks.base import HW10Test, arrays
from src.hw10.hints import diffusion as hints
from src.hw10.hints.diffusion import Case, Floats, Ints, same
from src.hw10.hints.posterior import OUTPUTS_SWAPPED, diagnose_posterior

Float32 = NDArray[np.float32]

FILE = "diffusion.py"
GRID = 1501  # values of x_{t-1} at which Bayes' rule is applied: far more than one a standard deviation
REACH = 9.0  # standard deviations to either side that the grid holds; beyond is 1e-18 of the probability
DRAWS = 4000  # of each step, in the simulation: pixels
IMAGES = 40  # of each step, which hold these pixels; B × B numbers, as a diagonal matrix has, still fit into memory
TOLERANCE = 7.0  # standard deviations: a right answer is that far off with a probability of 3e-12 a number
SHOWN = 6


class DiffusionTest(HW10Test):
    """A test of one of the two functions."""

    def explain(self, error: str, line: str) -> Mistakes:
        """Shapes that do not fit are a common error here, with a cause of its own."""
        is_of_shapes = "must match the size of tensor" in error or "must match the existing size" in error
        return (hints.MIXED_UP_IMAGES,) if is_of_shapes else super().explain(error, line)


class SampleTest(DiffusionTest):
    """`q_sample` is a draw from q(x_t | x_0)."""

    part = "4a"

    @number("4a.1")
    @weight(1)
    def test_value(self) -> None:
        """Is what t steps make of an image, for a given noise and a step for each image"""
        for shape in ((5, 1, 4, 5), (4, 6)):
            check_sample(self, shape, steps=8)

    @number("4a.2")
    @weight(1)
    def test_simulation(self) -> None:
        """Has the distribution to which noise leads that is added step by step"""
        check_simulation(self, steps=5)


class PosteriorTest(DiffusionTest):
    """`posterior` is q(x_{t-1} | x_t, x_0)."""

    part = "4b"

    @number("4b.1")
    @weight(2)
    def test_value(self) -> None:
        """Has the mean and the variance of Bayes' rule"""
        for shape in ((5, 1, 4, 5), (4, 6)):
            check_posterior(self, shape, steps=8)

    @number("4b.2")
    @weight(1)
    def test_first_step(self) -> None:
        """At the first step, x_0 itself, with variance 0"""
        check_posterior(self, (4, 1, 3, 3), steps=6, firsts=2)
        check_posterior(self, (4, 1, 3, 3), steps=6, firsts=4)


@dataclass(frozen=True)
class Process:
    """A process whose steps add noise of the variances `beta`, (T,)."""

    beta: Float32

    @classmethod
    def random(cls, rng: np.random.Generator, steps: int) -> "Process":
        """One whose steps differ much from each other, so that no two of them can be taken for one."""
        return cls(rng.uniform(0.05, 0.45, steps).astype(np.float32))

    @property
    def alpha_bar(self) -> Float32:
        """What a student's function gets, (T,) float32."""
        return np.cumprod(1 - self.beta.astype(np.float64)).astype(np.float32)

    def walked(self, x: Floats, t: int) -> tuple[Floats, float]:
        """Mean and variance of what the steps 0, …, t make of `x`: of one after the other, as each is defined."""
        mean, variance = x, 0.0
        for b in self.beta[: t + 1].astype(np.float64):
            mean = np.sqrt(1 - b) * mean
            variance = (1 - b) * variance + b
        return mean, variance

    def simulated(self, rng: np.random.Generator, x: Floats, t: int) -> Floats:
        """A draw of what the steps 0, …, t make of `x`: of one after the other."""
        for b in self.beta[: t + 1].astype(np.float64):
            x = np.sqrt(1 - b) * x + np.sqrt(b) * rng.standard_normal(x.shape)
        return x

    def bayes(self, x_0: Floats, x_t: Floats, t: int) -> tuple[Floats, Floats]:
        """Mean and variance of x_{t-1} given x_0 and x_t, for each pixel, (N,): sums over a grid of values.

        p(x_{t-1} | x_t, x_0) is proportional to p(x_{t-1} | x_0) p(x_t | x_{t-1}). Sums over an even grid of a Gaussian
        are exact up to rounding where the grid is finer than its standard deviation.
        """
        if t == 0:
            return x_0, np.zeros_like(x_0)  # x_{t-1} is x_0
        (before, variance), b = self.walked(x_0, t - 1), float(self.beta[t])
        reach = REACH * np.sqrt(variance)
        y = before[:, None] + np.linspace(-reach, reach, GRID)  # (N, GRID)
        log_p = -((y - before[:, None]) ** 2) / (2 * variance) - (x_t[:, None] - np.sqrt(1 - b) * y) ** 2 / (2 * b)
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * y).sum(axis=1)
        return mean, (p * (y - mean[:, None]) ** 2).sum(axis=1)


def check_sample(test: HW10Test, shape: tuple[int, ...], steps: int, t: Ints | None = None) -> None:
    """`q_sample` of images of this shape, (B, …), is right for a noise that is given, at the steps `t` (B,).

    Where B is the number of columns, a t that is spread over the columns gives a value, and no error.
    """
    process, rng = Process.random(test.rng, steps), test.rng
    t = some_steps(rng, shape[0], steps) if t is None else t
    x_0, noise = rng.standard_normal((2, *shape)).astype(np.float32)
    input = f"`q_sample` of x_0 of shape {shape}, t = {numbers(t)}, {steps} steps"
    arguments = (x_0, t, process.alpha_bar, noise)
    returned = test.call(input, FILE, "q_sample", *arguments)
    got = _image(test, input, returned, shape)
    _check_arguments(test, input, arguments, returned)
    right = np.stack([_given(process, *each) for each in zip(x_0, noise, t.tolist(), strict=True)])
    if not same(got, right):
        case = Case(_float64(x_0), _float64(noise), t, _float64(process.beta))
        mistakes = hints.diagnose_sample(got, right, case)
        i = _first_wrong(got, right)
        chart = _chart(f"The first pixels at t = {t[i]}", right[i], got[i])
        expected, came = (f"x_t[{i}] = {numbers(image)}" for image in (right[i], got[i]))
        test.lose(input, expected, came, mistakes, "the values are wrong", chart)


def check_simulation(test: HW10Test, steps: int) -> None:
    """`q_sample` with random noise has the moments of a chain that is simulated step by step, at each of its steps.

    Half of the pixels are -1 and half are 1, as most of a digit's are. The difference of two means of N normal draws
    with variance v is N(0, 2v/N), and the logarithm of the ratio of two such sample variances almost N(0, 4/N).
    """
    process, rng = Process.random(test.rng, steps), test.rng
    t = np.repeat(np.arange(steps), IMAGES)
    x_0 = np.tile([[-1.0], [1.0]], (len(t), 1, DRAWS // IMAGES)).astype(np.float32)
    noise = rng.standard_normal(x_0.shape).astype(np.float32)
    input = f"`q_sample` of x_0 of shape {x_0.shape}, {IMAGES} images for each of {steps} steps"
    arguments = (x_0, t, process.alpha_bar, noise)
    returned = test.call(input, FILE, "q_sample", *arguments)
    values = _image(test, input, returned, x_0.shape)
    got = values.reshape(steps, IMAGES, 2, -1).swapaxes(2, 3).reshape(steps, DRAWS, 2)
    _check_arguments(test, input, arguments, returned)
    drawn = np.stack([process.simulated(rng, np.tile([-1.0, 1.0], (DRAWS, 1)), step) for step in range(steps)])
    chart = _histogram(drawn, got)
    for what, step, expected, came in _other_moments(drawn, got):
        right = np.concatenate([_given(process, x_0[t == i], noise[t == i], i) for i in range(steps)])
        case = Case(_float64(x_0), _float64(noise), t, _float64(process.beta))
        mistakes = hints.diagnose_sample(values, right, case)
        reason = f"the {what} is another one than that of noise that was added step by step"
        expecting = f"{what}s {numbers(expected)} of the pixels -1 and 1"
        test.lose(f"{input}; t = {step}", expecting, numbers(came), mistakes, reason, chart)
    test.chart = chart


def _other_moments(drawn: Floats, got: Floats) -> Iterator[tuple[str, int, Floats, Floats]]:
    """Where the moments of both, (steps, N, 2), differ: which moment, at which step, and its values (2,) in both."""
    (mean, spread), (of_got, spread_of_got) = ((x.mean(axis=1), x.std(axis=1)) for x in (drawn, got))
    shift = np.abs(of_got - mean) / spread / np.sqrt(2 / DRAWS)  # (steps, 2), in standard deviations
    ratio = np.abs(2 * np.log(spread_of_got / spread)) / np.sqrt(4 / DRAWS)
    for step in np.flatnonzero(~(shift < TOLERANCE).all(axis=1)).tolist():
        yield "mean", step, mean[step], of_got[step]
    for step in np.flatnonzero(~(ratio < TOLERANCE).all(axis=1)).tolist():
        yield "standard deviation", step, spread[step], spread_of_got[step]


def _given(process: Process, x_0: Float32, noise: Float32, t: int) -> Floats:
    """x_t of images (B, …) for a noise that is given: the moments of t steps."""
    mean, variance = process.walked(_float64(x_0), t)
    return np.asarray(mean + np.sqrt(variance) * noise)


def check_posterior(test: HW10Test, shape: tuple[int, ...], steps: int, firsts: int = 0) -> None:
    """`posterior` of images of this shape, (B, …), has the mean and variance of Bayes' rule.

    So many images, the last ones, are at the first step.
    """
    process, rng = Process.random(test.rng, steps), test.rng
    t = some_steps(rng, shape[0], steps, least=1)
    t[len(t) - firsts :] = 0
    x_0 = rng.standard_normal(shape).astype(np.float32)
    reached = [process.simulated(rng, _float64(x), step) for x, step in zip(x_0, t.tolist(), strict=True)]
    x_t = np.stack(reached).astype(np.float32)
    input = f"`posterior` of x_0 and x_t of shape {shape}, t = {numbers(t)}, {steps} steps"
    arguments = (x_0, x_t, t, process.beta, process.alpha_bar)
    returned = test.call(input, FILE, "posterior", *arguments)
    got = _mean_and_variance(test, input, returned, shape)
    _check_arguments(test, input, arguments, returned)
    right = _by_bayes(process, _float64(x_0), _float64(x_t), t)
    wrong = [i for i in (0, 1) if not same(got[i], right[i])]
    if wrong:
        case = Case(_float64(x_0), _float64(x_t), t, _float64(process.beta))
        mistakes = diagnose_posterior(got, right, case)
        _lose_posterior(test, input, t, wrong[0], right[wrong[0]], got[wrong[0]], mistakes)
    test.chart = _variances(t, right[1], got[1])


def _by_bayes(process: Process, x_0: Floats, x_t: Floats, t: Ints) -> tuple[Floats, Floats]:
    """The mean and the variance of each pixel, (B, …) both."""
    each = [process.bayes(x.reshape(-1), y.reshape(-1), s) for x, y, s in zip(x_0, x_t, t.tolist(), strict=True)]
    mean, variance = (np.stack(values).reshape(x_0.shape) for values in zip(*each, strict=True))
    return mean, variance


def _lose_posterior(
    test: HW10Test, input: str, t: Ints, which: int, right: Floats, got: Floats, mistakes: Mistakes
) -> NoReturn:
    """Say what is wrong with the mean (0) or the variance (1)."""
    if which == 1:
        right, got = (values.reshape(len(t), -1)[:, 0] for values in (right, got))
        chart = _variances(t, right, got)
        test.lose(input, f"variances {numbers(right)}", numbers(got), mistakes, "the variance is wrong", chart)
    i = _first_wrong(got, right)
    chart = _chart(f"The mean at the first pixels, t = {t[i]}", right[i], got[i])
    expected, came = (f"mean[{i}] = {numbers(image)}" for image in (right[i], got[i]))
    test.lose(input, expected, came, mistakes, "the mean is wrong", chart)


def _first_wrong(got: Floats, right: Floats) -> int:
    """The first image that is not right: the others would show the same numbers twice."""
    return next(i for i in range(len(right)) if not same(got[i], right[i]))


def some_steps(rng: np.random.Generator, count: int, steps: int, least: int = 0) -> Ints:
    """A step for each of `count` images, as different as possible."""
    return np.resize(rng.permutation(np.arange(least, steps)), count)


def _image(test: HW10Test, input: str, returned: Returned, shape: tuple[int, ...]) -> Floats:
    """The tensor of this shape that the function returned."""
    found = arrays(returned, shape) if returned.kind == "tensor" else None
    if found is None:
        has_more = isinstance(returned.value, np.ndarray) and returned.value.ndim > len(shape)
        mistakes = (hints.FOUR_DIMENSIONS,) if has_more else ()
        test.lose(input, f"a tensor of shape {shape}", returned.description(), mistakes, "wrong shape or type")
    return found[0]


def _mean_and_variance(test: HW10Test, input: str, returned: Returned, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Both that the function returned; a variance may be one number an image, or as many as there are pixels."""
    items, size = returned.items, shape[0]
    each = [item.shape if isinstance(item, np.ndarray) else None for item in items]
    fitting = {(size,), (size, *[1] * (len(shape) - 1)), shape}
    expected = f"a tuple of tensors: the mean {shape} and the variance {(size, *[1] * (len(shape) - 1))}"
    if len(each) != 2 or each[0] != shape or each[1] not in fitting:
        swapped = len(each) == 2 and each[1] == shape and each[0] in fitting
        has_more = any(each_shape is not None and len(each_shape) > len(shape) for each_shape in each)
        mistakes = (OUTPUTS_SWAPPED,) if swapped else (hints.FOUR_DIMENSIONS,) if has_more else ()
        came = f"a tuple of shapes {each}" if len(each) == 2 else returned.description()
        test.lose(input, expected, came, mistakes, "wrong shape or type")
    mean, variance = (np.asarray(item, dtype=np.float64) for item in items)
    if variance.shape == (size,):
        variance = variance.reshape(size, *[1] * (len(shape) - 1))
    return mean, np.broadcast_to(variance, shape)


def _check_arguments(test: HW10Test, input: str, before: tuple[Argument, ...], returned: Returned) -> None:
    """The tensors among the arguments are what they were."""
    given = [argument for argument in before if isinstance(argument, np.ndarray)]
    if not all(map(np.array_equal, given, returned.tensors)):
        reason = "the function changes its arguments"
        test.lose(input, "arguments that stay as they are", reason, (hints.ARGUMENTS_CHANGED,), reason)


def _float64(values: Float32) -> Floats:
    return values.astype(np.float64)


def _chart(title: str, right: Floats, got: Floats) -> Chart:
    first = [tuple(values.reshape(-1)[:SHOWN].tolist()) for values in (right, got)]
    return Chart(title, "", tuple(f"pixel {i + 1}" for i in range(len(first[0]))), *first)


def _variances(t: Ints, right: Floats, got: Floats) -> AnyChart:
    each = [tuple(values.reshape(len(t), -1)[:SHOWN, 0].tolist()) for values in (right, got)]
    return Chart("The variance of the step back", "", tuple(f"t = {step}" for step in t[:SHOWN]), *each)


def _histogram(drawn: Floats, got: Floats) -> Histogram:
    """x_t of both pixels after the second step, (steps, N, 2) all of them."""
    of_each = {"step by step": drawn, "q_sample": got}
    series = tuple(Series(label, tuple(x[1, :1000].reshape(-1).tolist())) for label, x in of_each.items())
    return Histogram("x_t of pixels that were -1 and 1, at t = 1", "", series)
