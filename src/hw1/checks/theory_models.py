"""The tests of problems 3 to 5: do the counts, the models and the expectations hold?"""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.derivations import Instance, check_result, described, repeated, shown, value_of
from src.hw1.checks.base import GPT2Test
from src.hw1.checks.theory import by_bayes
from src.hw1.enumeration import average_over_samples, free_parameters, gap_to_a_gaussian, random_table
from src.hw1.hints import theory_models as hints
from src.hw1.hints.shared import first_that_applies
from src.hw1.hints.theory import Weighted
from src.hw1.oracle import Floats

LEAST_GAP = 1e-3  # between characteristic functions; a Gaussian model reaches 1e-7 in float32
GRID, REACH = 2001, 8.0  # values of x_1, and how many standard deviations they span


class JointCountTest(GPT2Test):
    """`parameters_of_joint` counts the parameters of a joint distribution."""

    part = "3.1"

    @number("3.1.1")
    @weight(0)
    def test_count(self) -> None:
        """As many as a table of all outcomes has freely"""

        def instance(rng: np.random.Generator) -> Instance:
            k = tuple(rng.integers(2, 5, int(rng.integers(3, 5))).tolist())
            right = free_parameters(k, [range(i) for i in range(len(k))])
            return Instance({"k": np.array(k)}, right, hints.Network(k, len(k), right))

        check_result(self, "parameters_of_joint", repeated(instance, self.rng), hints.COUNT_MISTAKES)


class FewestParentsTest(GPT2Test):
    """`fewest_parents` returns a network with as few parameters as single variables have."""

    part = "3.2"

    @number("3.2.1")
    @weight(0)
    def test_parents(self) -> None:
        """A network with as many parameters as its variables have alone"""
        check_parents(self)


class NetworkCountTest(GPT2Test):
    """`parameters_of_network` counts the parameters of the network in 3.3."""

    part = "3.3"

    @number("3.3.1")
    @weight(0)
    def test_count(self) -> None:
        """As many as the tables of the network have freely"""
        instances = [_network(self.rng, n, m) for n, m in ((4, 2), (5, 2), (4, 1), (5, 3), (3, 2))]
        check_result(self, "parameters_of_network", instances, hints.NETWORK_MISTAKES)


class ForwardModelTest(GPT2Test):
    """`forward_model` is a counterexample for problem 4."""

    part = "4a"

    @number("4a.1")
    @weight(0)
    def test_counterexample(self) -> None:
        """No reverse model equals this forward model"""
        check_forward(self)


class ReverseConditionalTest(GPT2Test):
    """`reverse_conditional` is Bayes' rule, the other way round."""

    part = "4b"

    @number("4b.1")
    @weight(0)
    def test_bayes(self) -> None:
        """p(x_1 | x_2) from p(x_1) and p(x_2 | x_1)"""

        def instance(rng: np.random.Generator) -> Instance:
            case = Weighted(random_table(rng, 6), rng.uniform(0.1, 3.0, 6))
            return Instance({"prior": case.prior, "likelihood": case.density}, by_bayes(case), case)

        check_result(self, "reverse_conditional", repeated(instance, self.rng), hints.BAYES_MISTAKES)


class MeanEstimateTest(GPT2Test):
    """`mean_estimate` returns the expectation of A."""

    part = "5a"

    @number("5a.1")
    @weight(0)
    def test_mean(self) -> None:
        """E[A], as the list of all samples says"""

        def instance(k: int) -> Instance:
            return _latent(self.rng, k, lambda p_z, likelihood: average_over_samples(p_z, likelihood, k, lambda a: a))

        check_result(self, "mean_estimate", [instance(k) for k in (1, 2, 3)], hints.MEAN_MISTAKES)


class BiasTest(GPT2Test):
    """`bias_of_log` returns the bias of log A."""

    part = "5b"

    @number("5b.1")
    @weight(0)
    def test_bias(self) -> None:
        """E[log A] - log p(x), as the list of all samples says"""
        instances = [_latent(self.rng, k, partial(bias, samples=k)) for k in (1, 2, 2)]
        check_result(self, "bias_of_log", instances, hints.BIAS_MISTAKES)


class IsBiasedTest(GPT2Test):
    """`is_biased` knows when Jensen's inequality is strict."""

    part = "5c"

    @number("5c.1")
    @weight(0)
    def test_strictness(self) -> None:
        """log A is biased exactly where the list of all samples says so"""
        check_result(self, "is_biased", _claims(self.rng), hints.STRICT_MISTAKES)


def _network(rng: np.random.Generator, n: int, m: int) -> Instance:
    """A network with random numbers of outcomes, the first two of which differ."""
    k = (*rng.permutation([2, 3]).tolist(), *rng.integers(2, 4, n - 2).tolist())
    right = free_parameters(k, [range(max(0, i - m), i) for i in range(n)])
    return Instance({"k": np.array(k), "m": m}, right, hints.Network(k, m, right))


def check_parents(test: GPT2Test) -> None:
    """`fewest_parents` is a network, and has as many parameters as all variables have alone."""
    for n in (3, 4):
        arguments = {"n": n}
        matrix = value_of(test, "fewest_parents", arguments, (n, n))
        sizes = test.rng.integers(2, 5, n).tolist()
        parents = [[j for j in range(n) if matrix[i, j]] for i in range(n)]
        is_network = np.isin(matrix, (0, 1)).all() and not np.triu(matrix).any()
        alone = sum(free_parameters([size], [[]]) for size in sizes)
        count = free_parameters(sizes, parents) if is_network else None
        if count != alone:
            with_sizes = f"{described('fewest_parents', arguments)}, for variables with {sizes} outcomes"
            got = f"{count} parameters" if is_network else f"{shown(matrix)}, which is no network of earlier parents"
            mistakes = first_that_applies(hints.PARENTS_MISTAKES, hints.Parents(matrix))
            test.lose(with_sizes, f"a network with {alone} parameters", got, mistakes, "the network needs more")


def check_forward(test: GPT2Test) -> None:
    """`forward_model` is not jointly Gaussian, which is what a reverse model could equal."""
    step = 2 * REACH / (GRID - 1)
    points = np.linspace(-REACH, REACH, GRID) + test.rng.uniform(-step / 2, step / 2)
    value = value_of(test, "forward_model", {"x_1": points}, (GRID, 2))
    model = hints.Forward(points, value[:, 0], value[:, 1])
    gap = gap_to_a_gaussian(points, value)
    if not (gap > LEAST_GAP and (model.sigma > 0).all()):
        input = f"`forward_model` at {GRID} values of x_1, from {points[0]:.3f} to {points[-1]:.3f}"
        expected = "a model for which (x_1, x_2) is not Gaussian, with σ_2 > 0"
        got = f"characteristic functions that differ by {gap:.2g}; the smallest σ_2 is {model.sigma.min():.3g}"
        mistakes = first_that_applies(hints.FORWARD_MISTAKES, model)
        test.lose(input, expected, got, mistakes, "this forward model is no counterexample")


def _latent(rng: np.random.Generator, k: int, right: Callable[[Floats, Floats], float]) -> Instance:
    """A random model, and what `right` says of it."""
    p_z, likelihood = random_table(rng, 4), rng.uniform(0.05, 0.9, 4)
    value = right(p_z, likelihood)
    return Instance({"p_z": p_z, "likelihood": likelihood, "k": k}, value, hints.Latent(p_z, likelihood, k, value))


def bias(p_z: Floats, likelihood: Floats, *, samples: int) -> float:
    """The bias of log A: all samples are listed."""
    mean = average_over_samples(p_z, likelihood, samples, lambda a: a)
    return average_over_samples(p_z, likelihood, samples, math.log) - math.log(mean)


def _claims(rng: np.random.Generator) -> list[Instance]:
    """A model of each kind: with a p(x | z) that varies or not, for all z or only for those that can be drawn."""
    instances = []
    for varies, varies_elsewhere in itertools.product((False, True), repeat=2):
        p_z, likelihood = np.append(random_table(rng, 3), 0.0), np.full(4, rng.uniform(0.2, 0.5))
        likelihood[:2] += np.array([0.2, 0.1]) * varies
        likelihood[3] += 0.3 * varies_elsewhere
        right = abs(bias(p_z, likelihood, samples=2)) > 1e-9
        case = hints.Claim(float(np.ptp(likelihood)) == 0, not varies)
        instances.append(Instance({"p_z": p_z, "likelihood": likelihood}, float(right), case))
    return instances
