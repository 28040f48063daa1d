"""Mistakes in `negative_elbo_bound`: in its three values, and in the gradients of the first."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw10.noise import Floats

AT_MOST = 2  # mistakes that are made together
RTOL = 1e-4  # float32 sums of 784 pixels are off by about 1e-6; what a mistake changes is far more


@dataclass(frozen=True)
class ElboCase:
    """Images x (B, D), the Gaussians' means and variances (B, Z), the sample z (B, Z), and its logits (B, D)."""

    x: Floats
    m: Floats
    v: Floats
    z: Floats
    logits: Floats

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.x)


def softplus(values: Floats) -> Floats:
    """log(1 + exp(values))."""
    return np.asarray(np.logaddexp(0, values))


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-values))."""
    return np.asarray(np.exp(-np.logaddexp(0, -values)))


def kl_of(m: Floats, v: Floats, pm: Floats | float = 0.0, pv: Floats | float = 1.0) -> Floats:
    """KL(N(m, v) || N(pm, pv)) of each row, (B,)."""
    return np.asarray(((v + (m - pm) ** 2) / pv - 1 - np.log(v / pv)).sum(axis=1) / 2)


def rec_of(x: Floats, logits: Floats) -> Floats:
    """-log p(x) of each row, (B,), for pixels that are 1 with the probability sigmoid(logits)."""
    return np.asarray((softplus(logits) - x * logits).sum(axis=1))


def _log_normal(z: Floats, m: Floats | float, v: Floats | float) -> Floats:
    return np.asarray(-((z - m) ** 2 / v + np.log(2 * np.pi * v)).sum(axis=1) / 2)


# --- the KL term of each image ---

KL_OF_DEVIATION = Mistake(
    "deviation in the KL",
    "the KL term is computed with standard deviations; kl_normal takes variances",
    (lambda c: kl_of(c.m, np.sqrt(c.v)), lambda c: kl_of(c.m, c.v**2)),
)
KL_SWAPPED = Mistake(
    "KL the other way round",
    "this is KL(p(z) || q(z | x)); the KL divergence is not symmetric, so look at the order of its arguments",
    (lambda c: kl_of(np.zeros_like(c.m), np.ones_like(c.v), c.m, c.v),),
)
OTHER_PRIOR = Mistake(
    "another prior",
    "the KL term is that to another Gaussian; what are the mean and the variance of p(z)?",
    (
        lambda c: kl_of(c.m, c.v, 1.0, 1.0),
        lambda c: kl_of(c.m, c.v, 0.0, 2.0),
        lambda c: kl_of(c.m, c.v, 0.0, 0.5),
        lambda c: kl_of(c.m, c.v, c.z, 1.0),
        lambda c: kl_of(c.m, c.v, c.z, c.v),
        lambda c: kl_of(c.m, c.v, 0.0, c.v),
        lambda c: kl_of(c.m, c.v, c.m, 1.0),
    ),
)
KL_OF_SAMPLE = Mistake(
    "KL of the sample",
    "the KL term depends on z; it is that between two Gaussians, which has a closed form in their means and variances",
    (
        lambda c: kl_of(c.z, c.v),
        lambda c: kl_of(c.z, np.ones_like(c.v)),
        lambda c: _log_normal(c.z, c.m, c.v) - _log_normal(c.z, 0.0, 1.0),
        lambda c: -_log_normal(c.z, 0.0, 1.0),
    ),
)
KL_SIGN = Mistake(
    "KL's sign", "the KL term has the wrong sign; a KL divergence is never negative", (lambda c, kl: -kl,)
)
KL_FACTOR = Mistake(
    "KL off by a factor",
    "the KL term is twice as large as it should be, or half as large",
    (lambda c, kl: 2 * kl, lambda c, kl: kl / 2),
)
KL_OVER_LATENTS = Mistake(
    "KL averaged over latents",
    "the KL term is averaged over the latent variables; they are independent, so their KL divergences add up",
    (lambda c, kl: kl / c.m.shape[1],),
)

# --- the reconstruction loss of each image ---

SIGMOID_TWICE = Mistake(
    "sigmoid twice",
    "the decoder's output goes through a sigmoid before log_bernoulli_with_logits, which applies one by itself",
    (lambda c: rec_of(c.x, sigmoid(c.logits)),),
)
ARGUMENTS_SWAPPED = Mistake(
    "image and logits swapped",
    "the image and the logits have changed places in the reconstruction loss",
    (lambda c: rec_of(c.logits, c.x),),
)
SQUARED_ERROR = Mistake(
    "squared error",
    "this is a squared error; the pixels are coins, so the reconstruction loss is the logarithm of their probability",
    (
        lambda c: ((sigmoid(c.logits) - c.x) ** 2).sum(axis=1),
        lambda c: ((c.logits - c.x) ** 2).sum(axis=1),
        lambda c: ((sigmoid(c.logits) - c.x) ** 2).sum(axis=1) / 2,
    ),
)
REC_SIGN = Mistake(
    "reconstruction's sign",
    "the reconstruction loss has the wrong sign; minus a log-probability is never negative",
    (lambda c, rec: -rec,),
)
OVER_PIXELS = Mistake(
    "averaged over pixels",
    "the reconstruction loss is averaged over the pixels; the log-probability of an image is the sum over its pixels",
    (lambda c, rec: rec / c.x.shape[1],),
)

# --- from two terms to three values ---

SUMMED = Mistake(
    "ELBO summed over images", "these are sums over the images of the batch; average over them instead",
    (lambda c, term: term * c.size,),
)  # fmt: skip
AVERAGED_TWICE = Mistake(
    "ELBO averaged twice", "these are averaged over the batch twice", (lambda c, term: term / c.size,)
)
UPSIDE_DOWN = Mistake(
    "ELBO for its negative",
    "the first value is the ELBO itself, or has a term with the wrong sign; both terms are losses, so they add up",
    (lambda kl, rec: -kl - rec, lambda kl, rec: rec - kl, lambda kl, rec: kl - rec),
)
TERM_MISSING = Mistake(
    "a term is missing",
    "the first value is one of the two terms alone; the negative ELBO is made of both",
    (lambda kl, rec: rec, lambda kl, rec: kl),
)
TERMS_AVERAGED = Mistake(
    "terms averaged", "the first value is the mean of the two terms, not their sum", (lambda kl, rec: (kl + rec) / 2,)
)
ORDER = Mistake(
    "order of the values",
    "the values come in another order; return the negative ELBO, then the KL term, then the reconstruction loss",
    tuple(lambda values, order=order: [values[i] for i in order] for order in itertools.permutations(range(3)))[1:],
)
NOT_REDUCED = Mistake(
    "a value for each image", "there is a number for each image of the batch; each term is one number, their average"
)
NOT_THREE = Mistake(
    "not three values",
    "the function returns three numbers: the negative ELBO, the KL term and the reconstruction loss",
)
VALUES_NOT_FINITE = Mistake(
    "values not finite",
    "NaN or infinity among the values: is p(z)'s variance 0, or was a logarithm taken of a probability of 0?",
)

KL_WRONG = Mistake(
    "only the KL is wrong", "the reconstruction loss is right, but the KL term is something else; what goes into it?"
)
REC_WRONG = Mistake(
    "only the reconstruction is wrong",
    "the KL term is right, but the reconstruction loss is something else; what goes into it?",
)
TOTAL_WRONG = Mistake("only the ELBO is wrong", "both terms are right, but the first value is not their sum")

# --- z ---

SEVERAL_SAMPLES = Mistake(
    "several samples", "the decoder gets several samples for each image; one is enough, and is what is asked for"
)
NEVER_DECODED = Mistake("nothing decoded", "the decoder is never called; log p(x | z) needs its logits")
OTHER_LATENTS = Mistake("other latents", "what the decoder gets is not a sample for each image; look at its shape")

# --- gradients ---

LOSS_WITHOUT_GRADIENT = Mistake(
    "loss without gradient",
    "no gradient flows from the negative ELBO to either network; `.item()`, `float()`, `torch.tensor` and "
    "`torch.no_grad()` cut it off",
)
Z_DETACHED = Mistake(
    "z detached",
    "the reconstruction loss sends no gradient through z to the encoder; the sample must depend on the mean and the "
    "variance",
)
REC_DETACHED = Mistake(
    "reconstruction detached", "the reconstruction loss sends no gradient to the decoder, so it cannot learn"
)
KL_DETACHED = Mistake("KL detached", "the KL term sends no gradient to the encoder")
ENCODER_DETACHED = Mistake("encoder detached", "no gradient reaches the encoder; was it called without gradients?")
SPREAD_DETACHED = Mistake(
    "noise's scale detached",
    "the reconstruction loss sends a gradient to the mean, but none to the variance, which scales the noise",
)

_KLS = (KL_OF_DEVIATION, KL_SWAPPED, OTHER_PRIOR, KL_OF_SAMPLE)
_KL_CHANGES = (KL_SIGN, KL_FACTOR, KL_OVER_LATENTS)
_RECS = (SIGMOID_TWICE, ARGUMENTS_SWAPPED, SQUARED_ERROR)
_REC_CHANGES = (REC_SIGN, OVER_PIXELS)
_REDUCTIONS = (SUMMED, AVERAGED_TWICE)
_SUMS = (UPSIDE_DOWN, TERM_MISSING, TERMS_AVERAGED)

Way = tuple[Mistakes, float]


def right_values(case: ElboCase) -> list[float]:
    """The negative ELBO, the KL term and the reconstruction loss: averages over the batch."""
    kl, rec = float(kl_of(case.m, case.v).mean()), float(rec_of(case.x, case.logits).mean())
    return [kl + rec, kl, rec]


def same_values(got: Sequence[float], right: Sequence[float]) -> bool:
    """Whether these are the same numbers, but for what float32 arithmetic loses."""
    return bool(np.allclose(got, right, rtol=RTOL, atol=RTOL))


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_values(got: Sequence[float], case: ElboCase) -> Mistakes:
    """The mistakes that explain the three values; empty if they are right, or nothing known fits."""
    right = right_values(case)
    if same_values(got, right):
        return ()
    found = [
        mistakes for mistakes, values in _outcomes(case) if same_values(got, values) and not same_values(values, right)
    ]
    if not found:
        return (VALUES_NOT_FINITE,) if not np.isfinite(got).all() else _half_right(got, right)
    return min(found, key=len)


def _half_right(got: Sequence[float], right: Sequence[float]) -> Mistakes:
    """What is wrong where something is right."""
    _, is_kl, is_rec = (same_values([a], [b]) for a, b in zip(got, right, strict=True))
    if is_kl and is_rec:
        return (TOTAL_WRONG,)
    return (KL_WRONG,) if is_rec else (REC_WRONG,) if is_kl else ()


def _outcomes(case: ElboCase) -> Iterator[tuple[Mistakes, list[float]]]:
    """What one or two mistakes lead to."""
    total, right_kl, right_rec = right_values(case)
    yield (REC_SIGN,), [total, right_kl, -right_rec]  # kl - log p is right; only the third value is not
    kls = _terms(case, kl_of(case.m, case.v), _KLS, _KL_CHANGES)
    recs = _terms(case, rec_of(case.x, case.logits), _RECS, _REC_CHANGES)
    sums: list[tuple[Mistakes, Callable[[float, float], float]]] = [((), lambda kl, rec: kl + rec)]
    sums += [((mistake,), variant) for mistake in _SUMS for variant in mistake.variants]
    orders: list[tuple[Mistakes, Callable[[list[float]], list[float]]]] = [((), list)]
    orders += [((ORDER,), variant) for variant in ORDER.variants]
    reductions: list[tuple[Mistakes, Callable[[ElboCase, float], float]]] = [((), lambda case, term: term)]
    reductions += [((mistake,), variant) for mistake in _REDUCTIONS for variant in mistake.variants]
    for (a, kl), (b, rec), (c, reduce), (d, add), (e, order) in itertools.product(kls, recs, reductions, sums, orders):
        mistakes = (*a, *b, *c, *d, *e)
        if 0 < len(mistakes) <= AT_MOST:
            kl_, rec_ = reduce(case, kl), reduce(case, rec)
            yield mistakes, order([add(kl_, rec_), kl_, rec_])


def _terms(case: ElboCase, right: Floats, others: Mistakes, changes: Mistakes) -> list[Way]:
    """The averages to which each way of computing a term leads, the right one first."""
    values: list[tuple[Mistakes, Floats]] = [((), right)]
    values += [((mistake,), variant(case)) for mistake in others for variant in mistake.variants]
    changed = [
        ((*mistakes, mistake), variant(case, value))
        for mistakes, value in values
        for mistake in changes
        for variant in mistake.variants
    ]
    return [(mistakes, float(value.mean())) for mistakes, value in (*values, *changed)]


# --- the gradients ---

WEIGHTS = ("to_mean", "to_log_variance", "to_logits")
Gradients = Mapping[str, Floats]  # of each of WEIGHTS


def gradients(case: ElboCase, to_logits: Floats) -> tuple[Gradients, Gradients]:
    """The gradients of the KL term and of the reconstruction loss by the weights of the harness's networks.

    By hand, with z = m + √v ε, log v = x @ to_log_variance and logits = z @ to_logits.
    """
    by_logits = (sigmoid(case.logits) - case.x) / case.size  # (B, D)
    by_z = by_logits @ to_logits.T  # (B, Z)
    kl = _by_weights(case, case.m / case.size, (1 - 1 / case.v) / 2 / case.size)
    rec = _by_weights(case, by_z, by_z * (case.z - case.m) / (2 * case.v))
    return kl | {"to_logits": np.zeros_like(to_logits)}, rec | {"to_logits": case.z.T @ by_logits}


def _by_weights(case: ElboCase, by_mean: Floats, by_variance: Floats) -> dict[str, Floats]:
    return {"to_mean": case.x.T @ by_mean, "to_log_variance": case.x.T @ (by_variance * case.v)}


def same_gradient(got: Floats, right: Floats) -> bool:
    """Whether two gradients are the same, but for what float32 arithmetic loses: about 1e-6 of the largest entry."""
    return bool(np.abs(got - right).max() <= 1e-3 * max(np.abs(right).max(), 1e-6))


# What arrives at the encoder's mean, at its variance and at the decoder → the mistake.
_CUT: Mapping[tuple[frozenset[str], frozenset[str], frozenset[str]], Mistake] = {
    (frozenset(a), frozenset(b), frozenset(c)): mistake
    for a, b, c, mistake in (
        ((), (), (), LOSS_WITHOUT_GRADIENT),
        (("kl",), ("kl",), ("rec",), Z_DETACHED),
        (("kl",), ("kl",), (), REC_DETACHED),
        (("rec",), ("rec",), ("rec",), KL_DETACHED),
        ((), (), ("rec",), ENCODER_DETACHED),
        (("kl", "rec"), ("kl",), ("rec",), SPREAD_DETACHED),
    )
}


def diagnose_gradients(got: Gradients, kl: Gradients, rec: Gradients) -> Mistakes:
    """The mistake that explains which gradients arrive; empty where nothing known does."""
    arrived = []
    for name in WEIGHTS:
        ways = {(): 0 * kl[name], ("kl",): kl[name], ("rec",): rec[name], ("kl", "rec"): kl[name] + rec[name]}
        arrived.append(next((frozenset(way) for way, value in ways.items() if same_gradient(got[name], value)), None))
    mistake = _CUT.get(tuple(arrived))  # type: ignore[arg-type] # None is in no key
    return () if mistake is None else (mistake,)
