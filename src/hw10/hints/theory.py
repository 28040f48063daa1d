"""What can go wrong in the derivations of problems 3 to 5, and the value to which each mistake leads."""

import math
from dataclasses import dataclass

import numpy as np

from src.grading.derivations import Floats
from src.grading.part_test import Mistake

# --- 3a: the variants get the logits (N,), and lead to both derivatives, (2, N) ---


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _slope(logits: Floats) -> Floats:
    """σ'."""
    return np.asarray(_sigmoid(logits) * _sigmoid(-logits))


GRADIENT_MISTAKES = (
    Mistake(
        "derivatives swapped",
        "the two derivatives are swapped: the one of log(1 - σ(h)) comes first",
        (lambda h: (-_sigmoid(-h), -_sigmoid(h)),),
    ),
    Mistake(
        "sign of a derivative",
        "a derivative has the wrong sign: both losses fall as h grows",
        (
            lambda h: (_sigmoid(h), -_sigmoid(-h)),
            lambda h: (-_sigmoid(h), _sigmoid(-h)),
            lambda h: (_sigmoid(h), _sigmoid(-h)),
        ),
    ),
    Mistake(
        "derivative of the sigmoid alone",
        "this has σ'(h) where the derivative of a logarithm belongs, which also divides by what is inside of it",
        (
            lambda h: (-_slope(h), -_sigmoid(-h)),
            lambda h: (-_sigmoid(h), -_slope(h)),
            lambda h: (-_slope(h), -_slope(h)),
        ),
    ),
    Mistake(
        "one derivative twice",
        "both derivatives are the same here; one loss has log(1 - σ), the other one log σ",
        (lambda h: (-_sigmoid(h), -_sigmoid(h)), lambda h: (-_sigmoid(-h), -_sigmoid(-h))),
    ),
    Mistake(
        "outer derivative alone",
        "the inner derivative, the one of σ, is missing",
        (lambda h: (-1 / _sigmoid(-h), -1 / _sigmoid(h)), lambda h: (1 / _sigmoid(-h), -1 / _sigmoid(h))),
    ),
)

# --- 3b and 3e ---


@dataclass(frozen=True)
class TwoDistributions:
    """Of the data, and of the generator."""

    data: Floats  # (X,)
    model: Floats  # (X,)

    def relative_entropies(self, factor: float) -> float:
        """Σ p log(p / m) + Σ q log(q / m), where m = factor · (p + q)."""
        m = factor * (self.data + self.model)
        return float((self.data * np.log(self.data / m)).sum() + (self.model * np.log(self.model / m)).sum())


DISCRIMINATOR_MISTAKES = (
    Mistake(
        "probability of fake",
        "this is 1 - D*, the probability that an image is generated; D is the probability that it is real",
        (lambda c: c.model / (c.data + c.model),),
    ),
    Mistake(
        "ratio of densities",
        "this is the ratio of the two probabilities, or its logarithm, which is the logit; D lies between 0 and 1",
        (lambda c: c.data / c.model, lambda c: np.log(c.data / c.model), lambda c: c.model / c.data),
    ),
    Mistake(
        "divided by the mixture",
        "this divides by half of the sum, the mixture; as D, it could be as large as 2",
        (lambda c: 2 * c.data / (c.data + c.model),),
    ),
    Mistake(
        "always one half",
        "D* is ½ only where both distributions are equal",
        (lambda c: np.full_like(c.data, 0.5),),
    ),
    Mistake(
        "the data's probability itself",
        "this leaves the generator out: the same image is more surely real if the generator hardly ever makes it",
        (lambda c: c.data,),
    ),
)
VALUE_MISTAKES = (
    Mistake(
        "value with the opposite sign",
        "this is the discriminator's loss; V is what the discriminator maximises, minus that loss",
        (lambda c: math.log(4) - c.relative_entropies(0.5),),
    ),
    Mistake(
        "log 4 missing",
        "this is the divergence alone; putting m = (p + q) / 2 into D* leaves a constant",
        (lambda c: c.relative_entropies(0.5), lambda c: c.relative_entropies(0.5) / 2),
    ),
    Mistake(
        "log 2 for log 4",
        "the constant is log 2 here; two terms bring one log 2 each",
        (lambda c: c.relative_entropies(0.5) - math.log(2), lambda c: c.relative_entropies(0.5) / 2 - math.log(2)),
    ),
    Mistake(
        "one divergence of two",
        "the Jensen-Shannon divergence counts once here; it already holds factors of ½, so it counts twice",
        (lambda c: c.relative_entropies(0.5) / 2 - math.log(4),),
    ),
    Mistake(
        "sum for the mixture",
        "p + q is no distribution, as it sums to 2; with it instead of the mixture, log 4 is subtracted twice",
        (lambda c: c.relative_entropies(1) - math.log(4), lambda c: c.relative_entropies(1) / 2 - math.log(4)),
    ),
    Mistake(
        "another divergence",
        "this has a Kullback-Leibler divergence between p and q; the mixture of both belongs into the second place",
        tuple(
            lambda c, factor=factor, swap=swap: factor * _divergence(c, swap) - math.log(4)
            for factor in (1, 2)
            for swap in (False, True)
        ),
    ),
    Mistake(
        "value of a perfect generator",
        "-log 4 is the value for p_model = p_data alone",
        (lambda c: -math.log(4),),
    ),
)


def _divergence(c: TwoDistributions, swap: bool) -> float:
    p, q = (c.model, c.data) if swap else (c.data, c.model)
    return float((p * np.log(p / q)).sum())
