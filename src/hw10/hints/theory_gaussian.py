"""What can go wrong in the derivations of problems 4 and 5, and the value to which each mistake leads."""

import math
from dataclasses import dataclass

import numpy as np

from src.grading.derivations import Floats
from src.grading.part_test import Mistake

# --- 4c ---


@dataclass(frozen=True)
class Pair:
    """Means and variances of two Gaussians."""

    m_1: float
    v_1: float
    m_2: float
    v_2: float

    def with_weights(self, w_1: float, w_2: float, variance: float | None = None) -> tuple[float, float]:
        """The weighted mean, and a variance: that of two precisions unless another is given."""
        mean = (w_1 * self.m_1 + w_2 * self.m_2) / (w_1 + w_2)
        return mean, self.variance if variance is None else variance

    @property
    def variance(self) -> float:
        """That of two precisions together."""
        return self.v_1 * self.v_2 / (self.v_1 + self.v_2)


PRODUCT_MISTAKES = (
    Mistake(
        "variances added",
        "the variances are added, as for a sum of two independent variables; a product of densities adds what stands "
        "in front of y²",
        (lambda c: c.with_weights(c.v_2, c.v_1, c.v_1 + c.v_2), lambda c: (c.m_1 + c.m_2, c.v_1 + c.v_2)),
    ),
    Mistake(
        "precision not inverted",
        "the second number is the precision, what stands in front of y²; turn it upside down",
        (lambda c: c.with_weights(c.v_2, c.v_1, 1 / c.variance),),
    ),
    Mistake(
        "weights of the means swapped",
        "each mean has the weight of the other one: the more certain of the two should count more",
        (lambda c: c.with_weights(c.v_1, c.v_2),),
    ),
    Mistake(
        "means not weighted",
        "this is the middle of both means, wherever the variances differ; which one should the product be nearer to?",
        (lambda c: c.with_weights(1, 1), lambda c: c.with_weights(1, 1, c.v_1 + c.v_2)),
    ),
    Mistake(
        "square not completed",
        "the first number is what stands in front of 2y; completing the square divides it by what stands before y²",
        (lambda c: (c.m_1 / c.v_1 + c.m_2 / c.v_2, c.variance),),
    ),
    Mistake(
        "deviation of the product",
        "the second number is a standard deviation; return the variance of the product",
        (lambda c: c.with_weights(c.v_2, c.v_1, math.sqrt(c.variance)),),
    ),
    Mistake(
        "variance by a factor of 2",
        "the variance is off by 2: an exponent is the square divided by 2v, in both factors and in the product",
        (
            lambda c: c.with_weights(c.v_2, c.v_1, 2 * c.variance),
            lambda c: c.with_weights(c.v_2, c.v_1, c.variance / 2),
        ),
    ),
)


# --- 4d ---


@dataclass(frozen=True)
class Decay:
    """The variance of each step's noise, and the share below which the factor of x_0 is to fall."""

    beta: float
    share: float

    def steps(self, factor: float = 2.0, rate: float | None = None) -> float:
        """`factor` times log(share) / log(1 - β), or over another rate."""
        return factor * math.log(self.share) / (math.log(1 - self.beta) if rate is None else rate)


STEPS_MISTAKES = (
    Mistake(
        "one step too few",
        "after this many steps, the factor is still above the share",
        (lambda c: math.floor(c.steps()), lambda c: math.ceil(c.steps()) - 1),
    ),
    Mistake("one step too many", "one step less is enough", (lambda c: math.ceil(c.steps()) + 1,)),
    Mistake("steps not rounded", "a number of steps is a whole number", (lambda c: c.steps(),)),
    Mistake(
        "root of the product forgotten",
        "this is where alpha itself falls below the share; its root takes longer",
        (lambda c: math.ceil(c.steps(1.0)), lambda c: math.floor(c.steps(1.0))),
    ),
    Mistake(
        "root taken the wrong way",
        "this has ½ where 2 belongs: solve for t what is below the share",
        (lambda c: math.ceil(c.steps(0.5)), lambda c: math.ceil(c.steps(4.0))),
    ),
    Mistake(
        "noise for image",
        "this counts until the noise reaches the share; the question is about what is left of x_0",
        (
            lambda c: math.ceil(math.log(1 - c.share) / math.log(1 - c.beta)),
            lambda c: math.ceil(math.log(1 - c.share**2) / math.log(1 - c.beta)),
        ),
    ),
    Mistake(
        "beta for 1 - beta",
        "this takes powers of β; each step multiplies alpha by 1 - β",
        (lambda c: math.ceil(c.steps(2.0, math.log(c.beta))), lambda c: math.ceil(c.steps(1.0, math.log(c.beta)))),
    ),
    Mistake(
        "logarithm approximated",
        "log(1 - β) is replaced by -β here, which is close for a small β, and not the same number",
        (lambda c: math.ceil(c.steps(2.0, -c.beta)), lambda c: math.floor(c.steps(2.0, -c.beta))),
    ),
)


# --- 5e ---


@dataclass(frozen=True)
class Tasks:
    """Two tasks' best weights (N,), what the first one's are worth, how steep the second one's loss is, and λ."""

    theta_a: Floats
    fisher: Floats
    theta_b: Floats
    curvature: Floats
    lam: float

    def loss(self, theta: Floats) -> Floats:
        """What each weight adds to the loss and the penalty, (N,)."""
        penalty = self.lam * self.fisher * (theta - self.theta_a) ** 2 / 2
        return np.asarray(self.curvature * (theta - self.theta_b) ** 2 / 2 + penalty)

    def between(self, of_a: Floats | float, of_b: Floats | float) -> Floats:
        """The mean of both weights with these weights."""
        return np.asarray((of_a * self.theta_a + of_b * self.theta_b) / (of_a + of_b))


OPTIMUM_MISTAKES = (
    Mistake(
        "tasks swapped",
        "the two tasks are swapped: the larger λ is, the nearer θ must be to the first task's weights",
        (lambda c: c.between(c.curvature, c.lam * c.fisher),),
    ),
    Mistake(
        "λ left out",
        "λ plays no part in this; what must hold for λ → 0?",
        (lambda c: c.between(c.fisher, c.curvature),),
    ),
    Mistake(
        "Fisher information left out",
        "all weights are pulled back alike; where F is 0, nothing should hold a weight",
        (lambda c: c.between(c.lam, c.curvature),),
    ),
    Mistake(
        "curvature left out",
        "the new loss is as steep in all weights here; its slope has a factor h",
        (lambda c: c.between(c.lam * c.fisher, 1.0),),
    ),
    Mistake(
        "one half on one side",
        "the factors ½ stand in both terms, and cancel when the slope is set to 0; here one of them is left",
        (
            lambda c: c.between(c.lam * c.fisher / 2, c.curvature),
            lambda c: c.between(2 * c.lam * c.fisher, c.curvature),
        ),
    ),
    Mistake(
        "one end alone",
        "this is the best for one of the two tasks; the sum of both losses has its minimum between them",
        (lambda c: c.theta_a, lambda c: c.theta_b),
    ),
    Mistake(
        "λ as a share",
        "λ is no share between 0 and 1, but a factor of one of the two losses",
        (
            lambda c: c.between(c.lam * c.fisher, (1 - c.lam) * c.curvature),
            lambda c: c.lam * c.theta_a + (1 - c.lam) * c.theta_b,
        ),
    ),
    Mistake(
        "weighted sum not divided",
        "this is a weighted sum; where the slope is 0, it must still be divided by the sum of the weights",
        (lambda c: c.lam * c.fisher * c.theta_a + c.curvature * c.theta_b,),
    ),
)
