"""The tests of the derivations in problems 4 and 5: products of Gaussians, sums of parabolas, and a geometric decay.

What is right is found without them: by sums over a grid, by counting steps, by searching a minimum.
"""

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.derivations import Floats, Instance, check_result, repeated
from src.hw10.checks.base import HW10Test
from src.hw10.hints import theory_gaussian as hints
from src.hw10.hints.theory_gaussian import Decay, Pair, Tasks

GRID = 20_001  # values of y


class ProductTest(HW10Test):
    """`product_of_gaussians` is the Gaussian that is proportional to a product of two."""

    part = "4c"

    @number("4c.1")
    @weight(0)
    def test_product(self) -> None:
        """Mean and variance, as sums over a fine grid say"""

        def instance(rng: np.random.Generator) -> Instance:
            case = Pair(*rng.uniform([-2, 0.2, -2, 0.2], [2, 3, 2, 3]).tolist())
            arguments = {"m_1": case.m_1, "v_1": case.v_1, "m_2": case.m_2, "v_2": case.v_2}
            return Instance(arguments, moments(case), case)

        check_result(self, "product_of_gaussians", repeated(instance, self.rng), hints.PRODUCT_MISTAKES)


class StepsTest(HW10Test):
    """`steps_to_noise` is when nothing is left of x_0."""

    part = "4d"

    @number("4d.1")
    @weight(0)
    def test_steps(self) -> None:
        """The number of steps, as counting them says"""

        def instance(rng: np.random.Generator) -> Instance:
            case = decay(rng)
            return Instance({"beta": case.beta, "share": case.share}, counted(case), case)

        check_result(self, "steps_to_noise", repeated(instance, self.rng), hints.STEPS_MISTAKES)


class OptimumTest(HW10Test):
    """`ewc_optimum` lies between the weights of both tasks."""

    part = "5e"

    @number("5e.1")
    @weight(0)
    def test_optimum(self) -> None:
        """The weights of the smallest loss, as a search says"""

        def instance(rng: np.random.Generator) -> Instance:
            theta_a, theta_b = rng.uniform(-2, 2, (2, 4))
            fisher, curvature = rng.uniform(0.2, 3, (2, 4))
            fisher[rng.integers(4)] = 0.0  # a weight that the first task does not need
            case = Tasks(theta_a, fisher, theta_b, curvature, float(rng.uniform(0.3, 4)))
            arguments = {
                "theta_a": theta_a, "fisher": fisher, "theta_b": theta_b, "curvature": curvature, "lam": case.lam,
            }  # fmt: skip
            return Instance(arguments, searched(case), case)

        check_result(self, "ewc_optimum", repeated(instance, self.rng), hints.OPTIMUM_MISTAKES)


def moments(case: Pair) -> Floats:
    """Mean and variance of the normalised product, (2,): sums over a grid, exact up to rounding."""
    y = np.linspace(-20, 20, GRID)
    log_p = -((y - case.m_1) ** 2) / (2 * case.v_1) - (y - case.m_2) ** 2 / (2 * case.v_2)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = float((p * y).sum())
    return np.array([mean, float((p * (y - mean) ** 2).sum())])


def decay(rng: np.random.Generator) -> Decay:
    """A random instance. The factor meets the share between two steps, far from both, so rounding cannot matter."""
    beta, between = rng.uniform([0.01, 0.2], [0.2, 0.8]).tolist()
    return Decay(beta, (1 - beta) ** ((int(rng.integers(4, 60)) + between) / 2))


def counted(case: Decay) -> int:
    """The number of steps after which the factor is below the share."""
    factor, steps = 1.0, 0
    while factor >= case.share:
        factor *= (1 - case.beta) ** 0.5
        steps += 1
    return steps


def searched(case: Tasks) -> Floats:
    """The weights (N,) at which the slope of the sum changes its sign: it rises in each weight."""
    low, high = np.full_like(case.theta_a, -10.0), np.full_like(case.theta_a, 10.0)
    for _ in range(80):
        middle = (low + high) / 2
        step = 1e-3
        rises = case.loss(middle + step) > case.loss(middle - step)  # exact, as the losses are parabolas
        low, high = np.where(rises, low, middle), np.where(rises, middle, high)
    return np.asarray((low + high) / 2)
