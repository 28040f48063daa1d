"""Mistakes in the losses of a GAN, and the value to which each leads, alone or with another one.

A loss is computed in stages: a number for each image, their mean, a sign. A mistake is another way through a stage.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes

Floats = NDArray[np.float64]
AT_MOST = 2  # mistakes that explain a value together


Step = Callable[[Any, Any], Any]  # (a case, what the stage before has led to) → what this one leads to


@dataclass(frozen=True)
class Stage:
    """One stage of a computation: the right step, and mistakes, whose variants are other ones."""

    right: Step
    mistakes: Mistakes

    def ways(self) -> list[tuple[Mistake | None, Step]]:
        """Every step, each with the mistake that it is."""
        return [(None, self.right), *((mistake, step) for mistake in self.mistakes for step in mistake.variants)]


@dataclass(frozen=True)
class LossCase:
    """What the discriminator says of the images of a batch."""

    real: Floats  # (B,), its logits of real images
    fake: Floats  # (B,), of generated ones


@dataclass(frozen=True)
class Terms:
    """A number for each real image, and one for each fake one."""

    real: Floats  # (B,)
    fake: Floats  # (B,)


def surprise(logits: Floats) -> Floats:
    """-log σ of each logit."""
    return np.asarray(np.logaddexp(0, -logits))


def sigmoid(logits: Floats) -> Floats:
    """σ of each logit."""
    return np.asarray(np.exp(-surprise(logits)))


# --- in both losses ---

SUMMED = Mistake(
    "summed over the batch",
    "this is a sum over the images of the batch; an expectation is estimated by their mean",
)
NO_LOG = Mistake(
    "no logarithm",
    "probabilities are averaged here; the loss averages their logarithms",
)
LOG_OF_MEAN = Mistake(
    "log of the mean",
    "the logarithm is taken of a mean; the expectation is that of the logarithms",
)
DOUBLE_SIGMOID = Mistake(
    "double sigmoid",
    "a sigmoid is applied twice: d returns logits, and functions whose names say logits or logsigmoid apply their own",
)
ONE_MINUS_LOG = Mistake(
    "one minus a logarithm",
    "1 - log D stands where log(1 - D) belongs: it is the probability of a fake that the logarithm is taken of",
)
RAW_LOGITS = Mistake(
    "logits as logarithms",
    "the logits themselves are averaged here; log D is the logarithm of the sigmoid of a logit",
)
SIGN = Mistake(
    "loss with the opposite sign",
    "the sign is flipped: a loss is minimised, so what should grow gets a minus",
    (lambda case, value: -value,),
)
CONSTANT = Mistake(
    "constant loss",
    "the loss is the same number whatever the networks are; log 4 and log 2 are right at the optimum only",
)
ORDER = Mistake(
    "losses in the other order", "the two losses are swapped: return the discriminator's first, then the generator's"
)
OWN_NOISE = Mistake(
    "noise of its own",
    "two calls with the same z give different losses; make the images of the noise z that is passed",
)
LOG_OF_ZERO = Mistake(
    "log of zero",
    "float32 cannot hold σ(h) or exp(h) of large logits h, so the loss or its gradient is infinite, NaN or cut off; "
    "take the logarithm and the sigmoid in one step",
)
NOT_TWO = Mistake("not two losses", "return two tensors with one number each: d_loss, then g_loss")
NOT_AVERAGED = Mistake(
    "a loss for each image", "there is a number for each image of the batch; a loss is one number, their mean"
)

# --- the discriminator's loss ---

LABELS_SWAPPED = Mistake(
    "labels swapped",
    "real and fake are swapped: the discriminator should give real images a high D, and generated ones a low D",
    (lambda case, _: Terms(surprise(-case.real), surprise(case.fake)),),
)
FAKE_AS_REAL = Mistake(
    "fake images as real ones",
    "the discriminator's loss treats generated images as it treats real ones; for those it needs log(1 - D)",
    (lambda case, _: Terms(surprise(case.real), surprise(case.fake)),),
)
REAL_AS_FAKE = Mistake(
    "real images as fake ones",
    "the discriminator's loss treats real images as it treats generated ones; for those it needs log D",
    (lambda case, _: Terms(surprise(-case.real), surprise(-case.fake)),),
)
TERM_SIGN = Mistake(
    "one term's sign",
    "one of the two terms has the wrong sign; both log D(x) and log(1 - D(G(z))) have a minus in the loss",
    (
        lambda case, _: Terms(surprise(case.real), -surprise(-case.fake)),
        lambda case, _: Terms(surprise(case.real), -surprise(case.fake)),
    ),
)
HALVED = Mistake(
    "loss halved",
    "this is half of the discriminator's loss: it is the sum of two means, not their mean",
    (lambda case, terms: (terms.real.mean() + terms.fake.mean()) / 2,),
)
ONE_TERM = Mistake(
    "one term only",
    "the discriminator's loss has two terms, one for real images and one for generated ones; one is missing",
    (lambda case, terms: terms.real.mean(), lambda case, terms: terms.fake.mean()),
)


def _of_mean_probabilities(case: LossCase, _: object) -> Terms:
    return Terms(-np.log(sigmoid(case.real).mean(keepdims=True)), -np.log(sigmoid(-case.fake).mean(keepdims=True)))


D_STAGES = (
    Stage(
        lambda case, _: Terms(surprise(case.real), surprise(-case.fake)),
        (
            LABELS_SWAPPED,
            FAKE_AS_REAL,
            REAL_AS_FAKE,
            TERM_SIGN,
            NO_LOG.with_variants(
                lambda case, _: Terms(-sigmoid(case.real), -sigmoid(-case.fake)),
                lambda case, _: Terms(sigmoid(-case.real), sigmoid(case.fake)),
            ),
            LOG_OF_MEAN.with_variants(_of_mean_probabilities),
            DOUBLE_SIGMOID.with_variants(
                lambda case, _: Terms(surprise(sigmoid(case.real)), surprise(-sigmoid(case.fake)))
            ),
            ONE_MINUS_LOG.with_variants(
                lambda case, _: Terms(surprise(case.real), -(1 + surprise(case.fake))),
                lambda case, _: Terms(surprise(case.real), -np.log1p(surprise(case.fake))),
            ),
            RAW_LOGITS.with_variants(lambda case, _: Terms(-case.real, case.fake)),
        ),
    ),
    Stage(
        lambda case, terms: terms.real.mean() + terms.fake.mean(),
        (HALVED, ONE_TERM, SUMMED.with_variants(lambda case, terms: terms.real.sum() + terms.fake.sum())),
    ),
    Stage(lambda case, value: value, (SIGN,)),
)

# --- the generator's losses: terms are (B,) ---

REJECTED = Mistake(
    "generator trained to fail",
    "minimising this makes generated images easier to recognise; the generator should raise D(G(z))",
)
ON_REAL = Mistake(
    "generator's loss of real images",
    "the generator's loss is computed from real images, which do not depend on the generator",
)
REAL_TERM = Mistake(
    "real term in the generator's loss",
    "the generator's loss also holds a term of real images; only generated ones depend on the generator",
)
MINIMAX_HERE = Mistake(
    "minimax for non-saturating",
    "this is the minimax loss of the generator, whose gradient vanishes; the non-saturating one has -log D instead",
    (lambda case, _: -surprise(-case.fake),),
)
NONSATURATING_HERE = Mistake(
    "non-saturating for minimax",
    "this is the non-saturating loss; minimax is the expectation of log(1 - D(G(z))) itself",
    (lambda case, _: surprise(case.fake),),
)
G_HALVED = Mistake(
    "generator's loss halved",
    "this is half of the generator's loss, which is one mean over the batch",
    (lambda case, terms: terms.mean() / 2,),
)
_G_REDUCTION = Stage(
    lambda case, terms: terms.mean(), (SUMMED.with_variants(lambda case, terms: terms.sum()), G_HALVED)
)
_SIGN = Stage(lambda case, value: value, (SIGN,))

NONSATURATING_STAGES = (
    Stage(
        lambda case, _: surprise(case.fake),
        (
            MINIMAX_HERE,
            REJECTED.with_variants(lambda case, _: surprise(-case.fake)),
            ON_REAL.with_variants(lambda case, _: surprise(case.real), lambda case, _: surprise(-case.real)),
            REAL_TERM.with_variants(
                lambda case, _: surprise(case.fake) + surprise(-case.real),
                lambda case, _: surprise(case.fake) + surprise(case.real),
            ),
            NO_LOG.with_variants(lambda case, _: -sigmoid(case.fake), lambda case, _: sigmoid(-case.fake)),
            LOG_OF_MEAN.with_variants(lambda case, _: -np.log(sigmoid(case.fake).mean(keepdims=True))),
            DOUBLE_SIGMOID.with_variants(lambda case, _: surprise(sigmoid(case.fake))),
            RAW_LOGITS.with_variants(lambda case, _: -case.fake),
        ),
    ),
    _G_REDUCTION,
    _SIGN,
)
MINIMAX_STAGES = (
    Stage(
        lambda case, _: -surprise(-case.fake),
        (
            NONSATURATING_HERE,
            REJECTED.with_variants(lambda case, _: -surprise(case.fake)),
            ON_REAL.with_variants(lambda case, _: -surprise(case.real), lambda case, _: -surprise(-case.real)),
            REAL_TERM.with_variants(
                lambda case, _: -surprise(-case.fake) - surprise(case.real),
                lambda case, _: -surprise(-case.fake) - surprise(-case.real),
            ),
            NO_LOG.with_variants(lambda case, _: sigmoid(-case.fake), lambda case, _: -sigmoid(case.fake)),
            LOG_OF_MEAN.with_variants(lambda case, _: np.log(sigmoid(-case.fake).mean(keepdims=True))),
            DOUBLE_SIGMOID.with_variants(lambda case, _: -surprise(-sigmoid(case.fake))),
            ONE_MINUS_LOG.with_variants(
                lambda case, _: 1 + surprise(case.fake), lambda case, _: np.log1p(surprise(case.fake))
            ),
            RAW_LOGITS.with_variants(lambda case, _: -case.fake),
        ),
    ),
    _G_REDUCTION,
    _SIGN,
)

# --- gradients ---

NOT_DETACHED = Mistake(
    "generator in the discriminator's step",
    "gradients of d_loss reach the generator, which they would train to be recognised; detach the generated images",
)
D_UNTRAINED = Mistake(
    "discriminator without gradient",
    "d_loss sends no gradient to the discriminator; is there an `.item()`, `.detach()` or `torch.no_grad()` around d?",
)
LOGITS_DETACHED = Mistake(
    "logits detached",
    "the discriminator learns nothing from generated images: detach the images that go into d, not its logits",
)
G_UNTRAINED = Mistake(
    "generator without gradient",
    "g_loss sends no gradient to the generator: what it looks at must not be detached, nor made under no_grad",
)
BACKWARD = Mistake(
    "backward inside",
    "the function calls backward(); it should return the losses alone; experiment.py takes the gradients",
)
NETWORKS_CHANGED = Mistake(
    "networks changed", "the parameters of g or d have changed after the call; the function should only compute losses"
)
LEFT_FROZEN = Mistake(
    "left frozen", "requires_grad is still False for some parameters after the call, so they would never be trained"
)


def same(got: float, expected: float) -> bool:
    """Whether these are the same number, but for what float32 arithmetic loses."""
    return bool(np.isclose(got, expected, rtol=1e-4, atol=1e-5))


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_loss(
    stages: Sequence[Stage], got: Sequence[float], right: Sequence[float], cases: Sequence[LossCase]
) -> Mistakes:
    """The mistakes that explain all of `got`, one a case; empty if they are right, or nothing known fits."""
    if all(map(same, got, right)):
        return ()
    if not np.isfinite(got).all():
        return (LOG_OF_ZERO,)
    found = [
        mistakes
        for mistakes, led_to in _outcomes(stages, cases)
        if all(map(same, got, led_to)) and not all(map(same, led_to, right))
    ]
    if not found:
        return (CONSTANT,) if len(got) > 1 and np.ptp(got) < 1e-6 else ()
    fewest = min(map(len, found))
    simplest = [mistakes for mistakes in found if len(mistakes) == fewest]
    return simplest[0] if fewest == 1 else [m for m in simplest[0] if all(m in other for other in simplest)]


def _outcomes(stages: Sequence[Stage], cases: Sequence[LossCase]) -> Iterator[tuple[Mistakes, list[float]]]:
    """What every one and every two mistakes in different stages lead to in each of `cases`."""
    for path in itertools.product(*(stage.ways() for stage in stages)):
        mistakes = [mistake for mistake, _ in path if mistake]
        if 0 < len(mistakes) <= AT_MOST:
            yield mistakes, [_value(case, [step for _, step in path]) for case in cases]


def _value(case: LossCase, steps: Sequence[Step]) -> float:
    value = None
    for step in steps:
        value = step(case, value)
    return float(np.asarray(value))
