"""Mistakes in a sample of N(m, diag(v)): in `sample_gaussian`, or where a sample is drawn without it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw10.noise import Floats, faults

CLOSE = 1e-3  # noise that is recovered from float32 numbers is off by less


@dataclass(frozen=True)
class SampleCase:
    """What should be samples, the means and the variances, (B, Z) each; and the noise of another call."""

    z: Floats
    m: Floats
    v: Floats
    other_noise: Floats | None = None

    @property
    def noise(self) -> Floats:
        """What was added to the means, in standard deviations."""
        return np.asarray((self.z - self.m) / np.sqrt(self.v))

    @property
    def is_repeated(self) -> bool:
        """Whether the other call had the same noise."""
        return self.other_noise is not None and bool(np.abs(self.noise - self.other_noise).max() < CLOSE)

    def faults_of(self, noise: Floats) -> list[str]:
        """How `noise`, of the samples' shape, is wrong: as it is, or where variances are small or large."""
        found = faults(noise, self.other_noise)
        halves = (noise[self.v <= np.median(self.v)], noise[self.v > np.median(self.v)])
        is_uneven = any(each.size and "variance" in faults(each[:, None]) for each in halves)
        return [*found, "scale"] if is_uneven and not found else found


# --- where the noise itself is right, each variant recovers it from a case ---

DEVIATION = Mistake(
    "variance as deviation",
    "the noise is multiplied by the variance; v is the square of the standard deviation",
    (lambda case: (case.z - case.m) / case.v,),
)
UNSCALED = Mistake(
    "noise not scaled", "the noise is the same whatever v is; scale it before it is added", (lambda c: c.z - c.m,)
)
DIVIDED = Mistake(
    "noise divided",
    "the noise is divided by a scale; a larger variance must lead to more noise",
    (
        lambda case: (case.z - case.m) * np.sqrt(case.v),
        lambda case: (case.z - case.m) * case.v,
        lambda case: np.sqrt(case.v) / (case.z - case.m),
    ),
)
ADDED = Mistake(
    "scale added",
    "the scale is added to the noise; noise becomes wider when it is multiplied",
    (lambda case: case.z - case.m - np.sqrt(case.v), lambda case: case.z - case.m - case.v),
)
LOG_VARIANCE = Mistake(
    "log-variance",
    "v is treated as the logarithm of a variance; here it is the variance itself",
    (lambda case: (case.z - case.m) / np.exp(case.v / 2), lambda case: (case.z - case.m) / np.exp(case.v)),
)
ROOT_TWICE = Mistake(
    "root taken twice",
    "the noise is scaled by the root of the standard deviation; the root of the variance is taken twice",
    (lambda case: (case.z - case.m) / case.v**0.25,),
)
SQUARED = Mistake(
    "variance squared",
    "the noise is multiplied by the variance's square; its scale is the standard deviation",
    (lambda case: (case.z - case.m) / case.v**2,),
)
NO_MEAN = Mistake(
    "mean left out",
    "the sample lies around 0; it should lie around m",
    (lambda c: c.z / np.sqrt(c.v), lambda c: c.z / c.v, lambda c: c.z / (1 + np.sqrt(c.v))),
)
MEAN_SIGN = Mistake(
    "mean's sign",
    "the samples lie around -m",
    (lambda case: (case.z + case.m) / np.sqrt(case.v),),
)
MEAN_MULTIPLIED = Mistake(
    "mean multiplied",
    "the mean multiplies the noise; a mean is added",
    (lambda case: case.z / case.m / np.sqrt(case.v), lambda case: case.z / case.m / case.v),
)
PRIOR = Mistake(
    "standard normal",
    "this is standard normal noise, whatever m and v are",
    (lambda case: case.z,),
)
ROLES_SWAPPED = Mistake(
    "mean and variance swapped",
    "the mean and the variance have changed places; which of them shifts the noise, and which one scales it?",
    (
        lambda case: (case.z - case.v) / np.sqrt(case.v),
        lambda case: (case.z - case.v) / case.m,
        lambda case: (case.z - np.sqrt(case.v)) / case.m,
        lambda case: (case.z - case.v) / np.sqrt(np.abs(case.m)),
    ),
)
SCALES = (
    DEVIATION, UNSCALED, DIVIDED, ADDED, LOG_VARIANCE, ROOT_TWICE, SQUARED, NO_MEAN, MEAN_SIGN, MEAN_MULTIPLIED, PRIOR,
    ROLES_SWAPPED,
)  # fmt: skip

# --- where the noise is wrong, each variant says whether this is how ---


def _is_uniform(noise: Floats) -> bool:
    """Whether the noise is even between two ends, as that of torch.rand, shifted and scaled perhaps."""
    low, high = noise.min(), noise.max()
    shares = np.histogram(noise, bins=10)[0] / noise.size
    return bool(low < high and noise.size >= 1000 and high - low < 4 and np.ptp(shares) < 0.05)


NO_NOISE = Mistake(
    "no noise",
    "this is the mean itself; a sample also needs noise",
    (lambda noise: np.abs(noise).max() < CLOSE,),
)
ONE_NUMBER = Mistake(
    "one number for all",
    "one random number serves the whole result; each element needs its own",
    (lambda noise: noise.size > 1 and np.ptp(noise) < CLOSE,),
)
SHARED_BY_BATCH = Mistake(
    "noise shared by the batch",
    "all rows have the same noise; each image of the batch needs its own",
    (lambda noise: len(noise) > 1 and np.ptp(noise, axis=0).max() < CLOSE,),
)
SHARED_BY_ROW = Mistake(
    "noise shared in a row",
    "all elements of a row have the same noise; each needs its own, as the covariance is diagonal",
    (lambda noise: noise.shape[1] > 1 and np.ptp(noise, axis=1).max() < CLOSE,),
)
UNIFORM = Mistake(
    "uniform noise",
    "the noise is uniform; which function of torch draws from a normal distribution?",
    (_is_uniform,),
)
POSITIVE = Mistake(
    "noise without a sign",
    "the noise never lies on one side of the mean; normal noise has both signs",
    (lambda noise: noise.size > 100 and (noise.min() >= -CLOSE or noise.max() <= CLOSE),),
)
FACTOR = Mistake(
    "noise off by a factor",
    "the noise is normal, but too large or too small by the same factor everywhere",
    (lambda noise: noise.size >= 1000 and not faults(noise / noise.std()),),
)
OFFSET = Mistake(
    "noise off centre",
    "the noise is normal, but its mean is not 0",
    (lambda noise: noise.size >= 1000 and not faults(noise - noise.mean()),),
)
SHARP = (NO_NOISE, ONE_NUMBER, SHARED_BY_BATCH, SHARED_BY_ROW, UNIFORM)  # nothing else looks like these
PATTERNS = (*SHARP, POSITIVE, FACTOR, OFFSET)

NOT_NORMAL = Mistake(
    "noise not normal",
    "mean and variance of the noise are right, but its distribution is not normal",
)
OTHER_SHAPE = Mistake(
    "shape of the sample",
    "the sample must have the shape of m: one number for each mean",
)
REPEATED = Mistake(
    "same sample every time",
    "two calls return the same numbers: either nothing in them is random, or the function sets a seed, which is up "
    "to the program that calls it",
)
SAMPLE_NOT_FINITE = Mistake(
    "sample not finite",
    "the sample holds NaN or infinity; is a root taken of a negative number, or an exponential too large?",
)
IN_PLACE = Mistake(
    "arguments overwritten",
    "m or v has another value after the call; operations that end in _ and those like += overwrite a tensor",
)
NO_GRADIENT = Mistake(
    "sample without gradient",
    "no gradient flows to m and v, so an encoder could not learn; draw noise that does not depend on them, then let "
    "them shift and scale it",
)
NO_GRADIENT_BY_MEAN = Mistake("mean without gradient", "no gradient flows to m; what cuts it off?")
NO_GRADIENT_BY_VARIANCE = Mistake("variance without gradient", "no gradient flows to v; what cuts it off?")


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_sample(case: SampleCase) -> Mistakes:
    """The mistakes that explain the samples of a case; empty if nothing known does, or nothing is wrong."""
    if not np.isfinite(case.z).all():
        return (SAMPLE_NOT_FINITE,)
    wrong = case.faults_of(case.noise)
    if case.is_repeated and not NO_NOISE.variants[0](case.noise):
        return (REPEATED,)
    otherwise = (NOT_NORMAL,) if wrong == ["distribution"] else ()
    return next(_explanations(case), otherwise) if wrong else ()


def _explanations(case: SampleCase) -> Iterator[Mistakes]:
    """Single mistakes first. Few numbers look like noise however they are scaled, so they are not judged."""
    scaled = [(mistake, _clean(variant, case)) for mistake in SCALES for variant in mistake.variants]
    if np.allclose(case.z, case.v, rtol=CLOSE):
        yield (ROLES_SWAPPED,)
    if case.z.size >= 1000:
        yield from ((mistake,) for mistake, noise in scaled if not case.faults_of(noise))
    yield from ((pattern,) for pattern in PATTERNS if pattern.variants[0](case.noise))
    for (mistake, noise), pattern in itertools.product(scaled, SHARP):
        if np.isfinite(noise).all() and pattern.variants[0](noise):
            yield mistake, pattern


def _clean(variant: Callable[[SampleCase], Floats], case: SampleCase) -> Floats:
    return np.asarray(variant(case), np.float64)
