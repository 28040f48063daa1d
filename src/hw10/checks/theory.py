"""The tests of the derivations: do their results hold, on random numbers?

What is right is found without them: by finite differences, by searching a minimum, by adding up what is defined.
"""

import math
from collections.abc import Callable

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.derivations import Floats, Instance, check_result, repeated
from src.hw10.checks.base import HW10Test
from src.hw10.hints import theory
from src.hw10.hints.theory import TwoDistributions

STEP = 1e-4  # of a finite difference; its error is about STEP² / 6


class GeneratorGradientTest(HW10Test):
    """`generator_gradient` returns the slopes of the generator's two losses."""

    part = "3a"

    @number("3a.1")
    @weight(0)
    def test_derivatives(self) -> None:
        """Both derivatives with respect to the logit, as finite differences say"""

        def instance(rng: np.random.Generator) -> Instance:
            logits = rng.uniform(-5, 5, 4)
            return Instance({"logit": logits}, np.array([slopes(loss, logits) for loss in LOSSES]), logits)

        check_result(self, "generator_gradient", repeated(instance, self.rng), theory.GRADIENT_MISTAKES)


class DiscriminatorTest(HW10Test):
    """`optimal_discriminator` minimises the discriminator's loss."""

    part = "3b"

    @number("3b.1")
    @weight(0)
    def test_discriminator(self) -> None:
        """D* of each image, as a search says"""

        def instance(rng: np.random.Generator) -> Instance:
            case = two_distributions(rng)
            return Instance({"p_data": case.data, "p_model": case.model}, best_discriminator(case), case)

        check_result(self, "optimal_discriminator", repeated(instance, self.rng), theory.DISCRIMINATOR_MISTAKES)


class ValueTest(HW10Test):
    """`value_at_optimum` returns what the generator minimises."""

    part = "3e"

    @number("3e.1")
    @weight(0)
    def test_value(self) -> None:
        """V(G, D*), as adding up both expectations says"""

        def instance(rng: np.random.Generator) -> Instance:
            case = two_distributions(rng)
            d = best_discriminator(case)
            value = math.fsum(case.data * np.log(d)) + math.fsum(case.model * np.log1p(-d))
            return Instance({"p_data": case.data, "p_model": case.model}, value, case)

        check_result(self, "value_at_optimum", repeated(instance, self.rng), theory.VALUE_MISTAKES)


def slopes(loss: Callable[[Floats], Floats], logits: Floats) -> Floats:
    """Those of a loss of the generator at the logits (N,), by finite differences, (N,)."""
    return (loss(logits + STEP) - loss(logits - STEP)) / (2 * STEP)


def _minimax(logits: Floats) -> Floats:
    return np.array([math.log(1 - 1 / (1 + math.exp(-h))) for h in logits])


def _nonsaturating(logits: Floats) -> Floats:
    return np.array([-math.log(1 / (1 + math.exp(-h))) for h in logits])


LOSSES = (_minimax, _nonsaturating)


def two_distributions(rng: np.random.Generator) -> TwoDistributions:
    """Two random distributions over a few images; no probability is tiny."""
    weights = rng.uniform(0.2, 2.0, (2, int(rng.integers(3, 6))))
    data, model = weights / weights.sum(axis=1, keepdims=True)
    return TwoDistributions(data, model)


def best_discriminator(case: TwoDistributions) -> Floats:
    """The D(x) of each image for which the loss is smallest: the slope of the loss changes its sign there. (X,)."""
    low, high = np.zeros_like(case.data), np.ones_like(case.data)
    for _ in range(60):
        middle = (low + high) / 2
        falls = case.model * middle < case.data * (1 - middle)  # the slope at `middle` is negative
        low, high = np.where(falls, middle, low), np.where(falls, high, middle)
    return np.asarray((low + high) / 2)
