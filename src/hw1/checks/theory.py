"""The tests of problems 1 and 2: do the results of the derivations hold, on random numbers?"""

import math

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.derivations import (
    Arguments,
    Instance,
    check_result,
    described,
    diagnose_values,
    repeated,
    same_values,
    shown,
    value_of,
)
from src.hw1.checks.base import GPT2Test
from src.hw1.enumeration import divergence, normal_density, random_table
from src.hw1.hints import theory
from src.hw1.oracle import Floats, log_softmax

POINTS_TRIED = 20  # at which posteriors are compared


class ObjectivesTest(GPT2Test):
    """`objectives` returns both objectives of problem 1."""

    part = "1a"

    @number("1a.1")
    @weight(0)
    def test_objectives(self) -> None:
        """Both objectives, as an expectation over the tables says"""
        check_objectives(self)


class ObjectivesSumTest(GPT2Test):
    """`objectives_sum` returns what the two objectives sum to."""

    part = "1b"

    @number("1b.1")
    @weight(0)
    def test_sum(self) -> None:
        """The sum of both objectives, for any classifier"""

        def instance(rng: np.random.Generator) -> Instance:
            tables = _tables(rng)
            right = sum(both_objectives(tables))
            return Instance({"p_hat": tables.p_hat}, right, tables)

        check_result(self, "objectives_sum", repeated(instance, self.rng), theory.SUM_MISTAKES)


class MinimizerTest(GPT2Test):
    """`kl_minimizer` returns the classifier with the smallest divergence."""

    part = "1c"

    @number("1c.1")
    @weight(0)
    def test_minimizer(self) -> None:
        """The classifier with the smallest expected divergence"""
        check_result(self, "kl_minimizer", repeated(_classifiers, self.rng, 5), theory.MINIMIZER_MISTAKES)


class JointDensityTest(GPT2Test):
    """`log_joint` returns the logarithm of the mixture's joint density."""

    part = "2a"

    @number("2a.1")
    @weight(0)
    def test_joint(self) -> None:
        """log p(x, y) of the mixture, constants included"""

        def instance(rng: np.random.Generator) -> Instance:
            c = _mixture(rng)
            return Instance({"x": c.x, "pi": c.pi, "mu": c.mu, "sigma": c.sigma}, c.right, c)

        check_result(self, "log_joint", repeated(instance, self.rng), theory.JOINT_MISTAKES)


class PosteriorTest(GPT2Test):
    """`posterior` is Bayes' rule."""

    part = "2b"

    @number("2b.1")
    @weight(0)
    def test_posterior(self) -> None:
        """p(y | x) from the weights and the densities"""

        def instance(rng: np.random.Generator) -> Instance:
            case = theory.Weighted(random_table(rng, 4), rng.uniform(0.1, 3.0, 4))
            return Instance({"pi": case.prior, "density": case.density}, by_bayes(case), case)

        check_result(self, "posterior", repeated(instance, self.rng), theory.POSTERIOR_MISTAKES)


class LogisticTest(GPT2Test):
    """`logistic_parameters` turns a mixture into a logistic regression."""

    part = "2c"

    @number("2c.1")
    @weight(0)
    def test_parameters(self) -> None:
        """w and b lead to the mixture's p(y | x), at every x"""
        check_logistic(self)


def _tables(rng: np.random.Generator) -> theory.Tables:
    inputs, outputs = (int(size) for size in rng.integers(3, 5, 2))
    return theory.Tables(
        random_table(rng, inputs * outputs).reshape(inputs, outputs), random_table(rng, inputs, outputs)
    )


def both_objectives(tables: theory.Tables) -> tuple[float, float]:
    """Both objectives of problem 1: all x and y are listed."""
    likelihood, divergences = [], []
    for row, q in zip(tables.p_hat, tables.p_theta, strict=True):
        p_x = math.fsum(row)
        likelihood += [float(p) * math.log(q_y) for p, q_y in zip(row, q, strict=True)]
        divergences.append(p_x * divergence(row / p_x, q))
    return math.fsum(likelihood), math.fsum(divergences)


def check_objectives(test: GPT2Test) -> None:
    """`objectives` is right for random tables."""
    cases = [_tables(test.rng) for _ in range(3)]
    arguments = [{"p_hat": c.p_hat, "p_theta": c.p_theta} for c in cases]
    got = [value_of(test, "objectives", each, (2,)) for each in arguments]
    right = [np.array(both_objectives(c)) for c in cases]
    for i in range(len(cases)):
        if not same_values(got[i], right[i]):
            mistakes = theory.diagnose_objectives(got, right, cases)
            input = described("objectives", arguments[i])
            test.lose(input, shown(right[i]), shown(got[i]), mistakes, "the result does not hold")


def _classifiers(rng: np.random.Generator) -> Instance:
    """Five classifiers for the same data; their divergences are computed one by one."""
    tables = _tables(rng)
    each = [theory.Tables(tables.p_hat, random_table(rng, *tables.p_hat.shape)) for _ in range(5)]
    likelihoods, divergences = zip(*map(both_objectives, each), strict=True)
    case = theory.Classifiers(np.array(likelihoods), likelihoods[0] + divergences[0])
    arguments: Arguments = {"likelihoods": case.likelihoods, "sum_of_both": case.both}
    return Instance(arguments, float(np.argmin(divergences)), case)


def _mixture(rng: np.random.Generator) -> theory.Mixture:
    """A random mixture of three Gaussians in three dimensions, and a point."""
    pi, mu, sigma = random_table(rng, 3), rng.normal(0, 1, (3, 3)), float(rng.uniform(0.6, 0.9))
    x = rng.normal(0, 1, 3)
    return theory.Mixture(x, pi, mu, sigma, log_densities(x, pi, mu, sigma=sigma))


def log_densities(x: Floats, pi: Floats, mu: Floats, *, sigma: float) -> Floats:
    """log p(x, y) of each component, one coordinate after the other."""
    return np.array([math.log(p * normal_density(x, mean, sigma)) for p, mean in zip(pi, mu, strict=True)])


def by_bayes(case: theory.Weighted) -> Floats:
    """The share that each component has in the density of a point."""
    joint = [float(p) * float(f) for p, f in zip(case.prior, case.density, strict=True)]
    return np.array([each / math.fsum(joint) for each in joint])


def check_logistic(test: GPT2Test) -> None:
    """`logistic_parameters` leads to the same posterior as the mixture, at random points."""
    cases = [_mixture(test.rng) for _ in range(3)]
    points = test.rng.normal(0, 1.5, (POINTS_TRIED, 3))
    arguments: list[Arguments] = [{"pi": c.pi, "mu": c.mu, "sigma": c.sigma} for c in cases]
    got = [value_of(test, "logistic_parameters", each, (3, 4)) for each in arguments]

    def posteriors(parameters: Floats) -> Floats:
        return np.exp(log_softmax(points @ parameters[:, :-1].T + parameters[:, -1]))

    right = [
        np.array([np.exp(log_softmax(log_densities(x, c.pi, c.mu, sigma=c.sigma))) for x in points]) for c in cases
    ]
    found = [posteriors(each) for each in got]
    for i, (of_student, of_mixture) in enumerate(zip(found, right, strict=True)):
        if not same_values(of_student, of_mixture):
            mistakes = diagnose_values(found, right, cases, theory.through(theory.LOGISTIC_MISTAKES, posteriors))
            at = int(np.abs(of_student - of_mixture).max(axis=1).argmax())
            input = f"{described('logistic_parameters', arguments[i])}, at x = {shown(points[at])}"
            expected = f"parameters with p(y | x) = {shown(of_mixture[at])}"
            got_text = f"{shown(got[i])}, with p(y | x) = {shown(of_student[at])}"
            test.lose(input, expected, got_text, mistakes, "the result does not hold")
