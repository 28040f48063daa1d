"""The tests of problem 2: a sample of a Gaussian, and the negative ELBO.

Samples are judged by what follows from their distribution; `src/hw10/noise.py` says how often right ones fail. The
ELBO's terms are closed forms of what the encoder said and of the z that the decoder got, in float64.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from numpy.typing import NDArray

from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Returned
from src.hw10.checks.base import HW10Test
from src.hw10.hints import elbo
from src.hw10.hints.elbo import ElboCase, diagnose_gradients, diagnose_values, right_values, same_values
from src.hw10.hints.gaussian import (
    IN_PLACE,
    NO_GRADIENT,
    NO_GRADIENT_BY_MEAN,
    NO_GRADIENT_BY_VARIANCE,
    OTHER_SHAPE,
    SAMPLE_NOT_FINITE,
    SampleCase,
    diagnose_sample,
)
from src.hw10.mnist import PIXELS
from src.hw10.noise import Floats

FILE = "vae.py"
NAMES = ("negative ELBO", "KL term", "reconstruction loss")
GRADIENTS = {  # by the names that `elbo.WEIGHTS` has
    "to_mean": "the gradient of the encoder's weights behind the mean",
    "to_log_variance": "the gradient of the encoder's weights behind the variance",
    "to_logits": "the gradient of the decoder's weights",
}
Float32 = NDArray[np.float32]
EDGES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the bars that show noise, in standard deviations


class SampleTest(HW10Test):
    """`sample_gaussian` draws from N(m, diag(v))."""

    part = "2a"

    @number("2a.1")
    @weight(1)
    def test_distribution(self) -> None:
        """Draws from N(m, diag(v)), each element by itself"""
        check_samples(self, 2000, 10)

    @number("2a.2")
    @weight(1)
    def test_gradient(self) -> None:
        """Lets gradients flow through the sample to m and v"""
        check_sample_gradient(self, 400, 5)


class ElboTest(HW10Test):
    """`negative_elbo_bound` is an average over the batch, estimated with one sample for each image."""

    part = "2b"

    @number("2b.1")
    @weight(1.5)
    def test_values(self) -> None:
        """Is KL + reconstruction loss, averaged over the batch, for a sample of q(z | x)"""
        check_values(self, 400, 16)

    @number("2b.2")
    @weight(1.5)
    def test_gradient(self) -> None:
        """Sends the right gradients to the encoder and to the decoder"""
        check_gradient(self, 200, 6)


# --- 2a ---


def check_samples(test: HW10Test, batch: int, size: int) -> None:
    """`sample_gaussian` draws from N(m, diag(v)), for m and v of shape (batch, size), anew in each call."""
    m, v = _gaussian(test, batch, size)
    input = f"`sample_gaussian` with m and v of shape {m.shape}, called twice"
    samples = []
    for _ in range(2):
        returned = test.call(input, FILE, "sample_gaussian", m, v)
        samples.append(_sample(test, input, returned, m.shape))
        if not all(np.array_equal(*pair) for pair in zip(returned.tensors, (m, v), strict=True)):
            test.lose(input, "m and v as they were", "other values", (IN_PLACE,), "the arguments were changed")
    first, second = (SampleCase(z, m.astype(np.float64), v.astype(np.float64)) for z in samples)
    _judge(test, input, replace(first, other_noise=second.noise))
    _judge(test, input, second)


def _gaussian(test: HW10Test, batch: int, size: int) -> tuple[Float32, Float32]:
    """Means, and variances between 0.05 and 8."""
    m = test.rng.normal(0, 2, (batch, size))
    v = np.exp(test.rng.uniform(math.log(0.05), math.log(8), (batch, size)))
    return m.astype(np.float32), v.astype(np.float32)


def _sample(test: HW10Test, input: str, returned: Returned, shape: tuple[int, ...]) -> Floats:
    """What was returned, which must be a tensor of floats of this shape."""
    value: Any = returned.value
    if (
        returned.kind != "tensor"
        or not isinstance(value, np.ndarray)
        or value.dtype.kind != "f"
        or value.shape != shape
    ):
        mistakes: Mistakes = (NOTHING,) if returned.is_nothing else ()
        mistakes = (OTHER_SHAPE,) if isinstance(value, np.ndarray) and value.shape != shape else mistakes
        expected = f"a tensor of floats of shape {shape}"
        test.lose(input, expected, returned.description(), mistakes, "the result is not a tensor of that shape")
    return np.asarray(value, np.float64)


def _judge(test: HW10Test, input: str, case: SampleCase) -> None:
    """Lose the points where the samples of `case` do not look like those of N(m, diag(v)); else leave a chart."""
    noise = case.noise
    chart = _chart(noise)
    wrong = case.faults_of(noise)
    if wrong:
        expected = "(sample - m) / √v to be independent draws from N(0, 1): mean 0, standard deviation 1"
        got = f"{numbers(noise)}: mean {noise.mean():.3g}, standard deviation {noise.std():.3g}; not right: "
        test.lose(input, expected, got + ", ".join(wrong), diagnose_sample(case), "the distribution is wrong", chart)
    test.chart = chart


def _chart(noise: Floats) -> Chart:
    bounds = (-math.inf, *EDGES, math.inf)
    below = [math.erfc(-edge / math.sqrt(2)) / 2 for edge in bounds]
    got = [float(((noise >= low) & (noise < high)).mean()) for low, high in itertools.pairwise(bounds)]
    labels = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES)]
    title = "How far samples lie from their mean, in standard deviations"
    names = (f"below {EDGES[0]:g}", *labels, f"above {EDGES[-1]:g}")
    return Chart(title, "", names, tuple(np.diff(below).tolist()), tuple(got))


def check_sample_gradient(test: HW10Test, batch: int, size: int) -> None:
    """∂z/∂m is 1 and ∂z/∂v is ε / (2 √v), where z = m + √v ε is the sample: dε = 0 for given noise."""
    m, v = _gaussian(test, batch, size)
    directions = test.rng.choice([-1.0, 1.0], m.shape) * test.rng.uniform(0.5, 1.5, m.shape)
    input = f"the gradient of a weighted sum of `sample_gaussian`'s result, with m and v of shape {m.shape}"
    arguments = (m, v, directions.astype(np.float32))
    returned = test.measure(input, FILE, "sample_gaussian", "vae.sample_gradient", *arguments)
    if len(returned.items) != 3:
        _sample(test, input, returned, m.shape)
    z, by_m, by_v = (_of_shape(item, m.shape) for item in returned.items or [None] * 3)
    by_m, by_v = (None if each is None or not each.any() else each for each in (by_m, by_v))
    if by_m is None or by_v is None:
        both = by_m is None and by_v is None
        which, mistake = ("m", NO_GRADIENT_BY_MEAN) if by_m is None else ("v", NO_GRADIENT_BY_VARIANCE)
        expected, got = "gradients of m and v", f"none of {'m and v' if both else which}"
        test.lose(input, expected, got, (NO_GRADIENT if both else mistake,), "gradients are missing")
    case = SampleCase(np.zeros(m.shape) if z is None else z, m.astype(np.float64), v.astype(np.float64))
    got_m, got_v = by_m / directions, by_v / directions * 2 * np.sqrt(case.v)
    for name, got_, right in (("∂z/∂m", got_m, np.ones_like(got_m)), ("2 √v ∂z/∂v", got_v, case.noise)):
        # The noise is recovered from float32 samples with |z| < 20 and v > 0.05: to about 1e-5.
        if not np.allclose(got_, right, rtol=1e-3, atol=1e-3):
            expected, got = f"{name} = {numbers(right)}", f"{name} = {numbers(got_)}"
            test.lose(input, expected, got, diagnose_sample(case), "the gradients are wrong")


def _of_shape(item: Any, shape: tuple[int, ...]) -> Floats | None:
    """An array of this shape in float64; None where it is anything else, which says that there is none."""
    is_one = isinstance(item, np.ndarray) and item.shape == shape and item.dtype.kind == "f"
    return np.asarray(item, np.float64) if is_one else None


# --- 2b ---


def check_values(test: HW10Test, batch: int, latents: int) -> None:
    """The three values are right for the z that the decoder got, and this z is a sample of q(z | x)."""
    input, case, _, returned = _measured(test, batch, latents)
    values = _values(test, input, returned)
    right = right_values(case)
    chart = Chart("The three values", "nats", NAMES, tuple(right), tuple(values))
    if not same_values(values, right):
        mistakes = diagnose_values(values, case)
        test.lose(input, _listed(right), _listed(values), mistakes, "the values are wrong", chart)
    _judge(test, f"what the decoder gets in {input}", SampleCase(case.z, case.m, case.v))
    test.chart = chart


def check_gradient(test: HW10Test, batch: int, latents: int) -> None:
    """The gradients of the first value by the weights of both networks are right for the z that the decoder got."""
    input, case, to_logits, returned = _measured(test, batch, latents)
    values = _values(test, input, returned)
    kl, rec = elbo.gradients(case, to_logits)
    right = {name: kl[name] + rec[name] for name in elbo.WEIGHTS}
    found = [_of_shape(item, right[name].shape) for name, item in zip(elbo.WEIGHTS, returned.items[4:], strict=True)]
    got = {name: np.zeros_like(right[name]) if g is None else g for name, g in zip(elbo.WEIGHTS, found, strict=True)}
    wrong = [name for name in elbo.WEIGHTS if not elbo.same_gradient(got[name], right[name])]
    if wrong:
        mistakes = diagnose_values(values, case) or diagnose_gradients(got, kl, rec)
        expected, shown = (f"{GRADIENTS[wrong[0]]}: {numbers(each[wrong[0]])}" for each in (right, got))
        mistakes = mistakes or diagnose_sample(SampleCase(case.z, case.m, case.v))
        test.lose(f"gradients through {input}", expected, shown, mistakes, "the gradients are wrong")


def _measured(test: HW10Test, batch: int, latents: int) -> tuple[str, ElboCase, Floats, Returned]:
    """How the call is described, what is known about it, the decoder's weights, and what was returned."""
    rng, shape = test.rng, (batch, latents)
    x = (rng.random((batch, PIXELS)) < 0.3).astype(np.float32)
    to_mean, to_log_variance = rng.normal(0, [[[0.06]], [[0.07]]], (2, PIXELS, latents)).astype(np.float32)
    to_logits = rng.normal(0, 1 / math.sqrt(latents), (latents, PIXELS)).astype(np.float32)
    m, v = x.astype(np.float64) @ to_mean, np.exp(x.astype(np.float64) @ to_log_variance)
    z = (m + np.sqrt(v) * rng.standard_normal(shape)).astype(np.float32)
    slope = ((z - m) / (2 * v)).astype(np.float32)
    input = f"`negative_elbo_bound` of {batch} images, with {latents} latent variables"
    arguments = (x, to_mean, to_log_variance, to_logits, z, slope)
    returned = test.measure(input, FILE, "negative_elbo_bound", "vae.elbo", *arguments)
    got_z = _latents(test, input, returned, shape)
    logits = got_z @ to_logits.astype(np.float64)
    return input, ElboCase(x.astype(np.float64), m, v, got_z, logits), to_logits.astype(np.float64), returned


def _latents(test: HW10Test, input: str, returned: Returned, shape: tuple[int, int]) -> Floats:
    """What the decoder got, once for each image."""
    if len(returned.items) != 7:
        mistakes: Mistakes = (NOTHING,) if returned.is_nothing else (elbo.NOT_THREE,)
        expected = "three numbers: the negative ELBO, the KL term and the reconstruction loss"
        test.lose(input, expected, returned.description(), mistakes, "the result is not three numbers")
    latents: Any = returned.items[3]
    rows = len(latents) if isinstance(latents, np.ndarray) and latents.shape[1:] == shape[1:] else 0
    if rows == 0:
        test.lose(input, "a call of the decoder", "none", (elbo.NEVER_DECODED,), "the decoder is not called")
    if rows % shape[0]:
        expected, got = f"one z for each of {shape[0]} images", f"{rows} of them"
        test.lose(input, expected, got, (elbo.OTHER_LATENTS,), "not one z for each image")
    every = latents.reshape(-1, *shape)
    if not np.isfinite(every).all():
        got = "NaN or infinity"
        test.lose(input, "one sample of z for each image", got, (SAMPLE_NOT_FINITE,), "z is not finite")
    if (every != every[0]).any():
        got = f"{len(every)} for each image"
        test.lose(input, "one sample of z for each image", got, (elbo.SEVERAL_SAMPLES,), "more than one sample")
    return np.asarray(every[0], np.float64)


def _values(test: HW10Test, input: str, returned: Returned) -> list[float]:
    """The three values, each of which must be one number."""
    found = []
    for name, item in zip(NAMES, returned.items[:3], strict=True):
        value: Any = item
        if isinstance(value, np.ndarray) and value.size != 1:
            mistake = elbo.NOT_REDUCED if value.ndim == 1 else elbo.NOT_THREE
            got = f"a tensor of shape {value.shape}"
            test.lose(input, f"one number for the {name}", got, (mistake,), "a value is not one number")
        if not isinstance(value, (int, float, np.ndarray)):
            got = "nothing (None)" if value is None else "something else"
            test.lose(input, f"one number for the {name}", got, (elbo.NOT_THREE,), "a value is not one number")
        found.append(float(np.asarray(value, np.float64).reshape(())))
    return found


def _listed(values: list[float]) -> str:
    """The three values, for a person."""
    return ", ".join(f"{name} {value:.6g}" for name, value in zip(NAMES, values, strict=True))
