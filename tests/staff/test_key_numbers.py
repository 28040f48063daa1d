"""The numbers that the key of homework 1 states, computed in another way than by its formulas."""

import itertools
import math

import numpy as np
import pytest

from src.hw1.parts import HOMEWORK
from staff.handout.source import read_source, written_folder

ANSWERS = {
    leaf.number: leaf.block("answer").text for leaf in read_source(written_folder(HOMEWORK)).leaves if not leaf.part
}
ERRORS = {
    leaf.number: leaf.block("errors").text for leaf in read_source(written_folder(HOMEWORK)).leaves if not leaf.part
}
OLD, NEW, WIDTH = 50257, 60000, 768


def free_parameters(sizes: tuple[int, ...], memory: int) -> int:
    """How many directions the joint table can move in, when all conditional tables are changed: the rank of its Jacobian.

    A table is given by the logits of its rows, of which each has one too many; the rank counts the free ones.
    """
    rng = np.random.default_rng(0)
    parents = [tuple(range(max(0, i - memory), i)) for i in range(len(sizes))]
    shapes = [(*(sizes[j] for j in of), sizes[i]) for i, of in enumerate(parents)]
    logits = rng.normal(size=sum(map(math.prod, shapes)))

    def joint(values: np.ndarray) -> np.ndarray:
        tables, start = [], 0
        for shape in shapes:
            table = np.exp(values[start : start + math.prod(shape)].reshape(shape))
            tables.append(table / table.sum(-1, keepdims=True))
            start += math.prod(shape)
        return np.array([
            math.prod(tables[i][(*(x[j] for j in of), x[i])] for i, of in enumerate(parents))
            for x in itertools.product(*map(range, sizes))
        ])  # fmt: skip

    step = 1e-5
    steps = step * np.eye(len(logits))
    jacobian = np.array([(joint(logits + each) - joint(logits - each)) / (2 * step) for each in steps])
    return int(np.linalg.matrix_rank(jacobian, tol=1e-7))  # differences are right to 1e-10, and entries are about 0.01


@pytest.mark.parametrize(("memory", "stated"), [(2, "= 29$"), (3, "has $47$")])
def test_parameters_of_a_memory_are_counted_right(memory, stated):
    assert str(free_parameters((2, 3, 2, 4), memory)) in stated
    assert stated in ANSWERS["3.3"]


def test_independent_variables_have_the_parameters_asked_for():
    assert free_parameters((2, 3, 2, 4), 0) == 1 + 2 + 1 + 3


def test_coins_with_a_memory_have_the_parameters_stated():
    n, m = 5, 2
    assert free_parameters((2,) * n, m) == 2**m - 1 + (n - m) * 2**m
    assert r"$2^m - 1 + (n - m)\, 2^m$" in ANSWERS["3.3"]


def test_the_exclusive_or_is_pairwise_independent_only():
    joint = np.zeros((2, 2, 2))
    for a, b in itertools.product(range(2), repeat=2):
        joint[a, b, a ^ b] = 0.25
    for axis in range(3):
        np.testing.assert_array_equal(joint.sum(axis), np.full((2, 2), 0.25))
    assert joint.max() == 0.25 != 1 / 8


def gaussian(x: np.ndarray | float, mean: np.ndarray | float, deviation: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def marginal(x2: float, mean_of: np.ufunc, deviation: float) -> float:
    """p_f(x_2), by numerical integration over x_1 ~ N(0, 1)."""
    x1 = (np.arange(-80_000, 80_000) + 0.5) / 8000  # midpoints, so that the jump at 0 falls between two of them
    return float(np.sum(gaussian(x1, 0, 1) * gaussian(x2, mean_of(x1), deviation)) / 8000)


def modes(deviation: float) -> int:
    density = np.array([marginal(x, np.sign, deviation) for x in np.linspace(-2, 2, 41)])
    return int(np.sum((density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])))


def test_the_counterexample_has_two_modes():
    for x, stated in ((0, "0.108"), (1, "0.399")):
        assert f"{marginal(x, np.sign, 0.5):.3f}" == stated
        assert stated in ANSWERS["4"]
    assert (modes(0.5), modes(0.9), modes(1.05)) == (2, 2, 1)
    assert r"only for $\sigma_2 < 1$" in ERRORS["4"]


def test_a_linear_mean_gives_a_gaussian_after_all():
    a, b, deviation = 0.7, -0.2, 0.5
    for x in (-1.0, 0.0, 1.3):
        expected = gaussian(x, b, math.sqrt(a**2 + deviation**2))
        assert marginal(x, lambda x1: a * x1 + b, deviation) == pytest.approx(expected, rel=1e-6)


def test_the_logarithm_of_the_estimate_is_low_as_stated():
    for k, stated in ((1, "-1.204"), (2, "-0.949")):
        draws = list(itertools.product((0.9, 0.1), repeat=k))
        assert f"{np.mean([math.log(sum(each) / k) for each in draws]):.3f}" == stated
        assert stated in ANSWERS["5.2"]
    assert f"{math.log(0.5):.3f}" in ANSWERS["5.2"]


def test_16_bits_are_the_fewest():
    assert OLD.bit_length() == (OLD - 1).bit_length() == 16
    assert f"${OLD - 2**15}$ tokens without a string" in ERRORS["6.1"]
    assert f"approx {math.log2(OLD):.1f}$" in ERRORS["6.1"]


@pytest.mark.parametrize(("tied", "bias"), list(itertools.product((True, False), repeat=2)))
def test_each_reading_of_the_larger_vocabulary_is_stated(tied, bias):
    import torch

    def parameters(tokens: int) -> int:
        embedding = torch.nn.Embedding(tokens, WIDTH, device="meta")
        readout = torch.nn.Linear(WIDTH, tokens, bias=bias, device="meta")
        readout.weight = embedding.weight if tied else readout.weight
        return sum(each.numel() for each in torch.nn.ModuleList((embedding, readout)).parameters())  # shared ones once

    assert f"{parameters(NEW) - parameters(OLD):,}" in ANSWERS["6.2"]


def scaled(p0: np.ndarray, p1: np.ndarray, temperature: float) -> tuple[float, float]:
    """p(x_0 = 0) by scaling each token, and by scaling the joint distribution."""
    token = p0 ** (1 / temperature)
    joint = (p0[:, None] * p1) ** (1 / temperature)
    return token[0] / token.sum(), joint[0].sum() / joint.sum()


def test_the_chain_rule_and_the_joint_differ_as_stated():
    p0 = np.array([0.6, 0.4])
    for value, stated in zip(scaled(p0, np.array([[0.5, 0.5], [0.9, 0.1]]), 0.5), ("0.692", "0.578"), strict=True):
        assert f"{value:.3f}" == stated
        assert stated in ANSWERS["6.7a"]
    for rows, temperature in (([[0.7, 0.3], [0.3, 0.7]], 0.5), ([[0.5, 0.5], [0.9, 0.1]], 1), ([[0.8, 0.2]] * 2, 0.5)):
        token, joint = scaled(p0, np.array(rows), temperature)
        assert token == pytest.approx(joint)  # the examples in which they agree


def test_the_statements_on_a_scaled_model_hold():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(30))
    temperature = 0.7
    z = np.sum(p ** (1 / temperature))
    p_t = p ** (1 / temperature) / z
    star = -np.sum(p * np.exp((1 - temperature) / temperature * np.log(p)) * np.log(q))
    kl, entropy = np.sum(p_t * np.log(p_t / q)), -np.sum(p_t * np.log(p_t))
    assert star == pytest.approx(z * (kl + entropy), rel=1e-12)
    assert np.sum(p_t * np.log(p)) > np.sum(p * np.log(p))  # T < 1 makes samples likelier
    assert round(math.log10(OLD**10)) == 47
    assert "10^{47}" in ANSWERS["7b"]


def test_the_mean_log_likelihood_rises_by_its_variance():
    p = np.random.default_rng(2).dirichlet(np.ones(30))

    def mean(beta: float) -> float:
        return float(np.sum(p**beta * np.log(p)) / np.sum(p**beta))

    beta, step = 1.3, 1e-5
    p_t = p**beta / np.sum(p**beta)
    variance = np.sum(p_t * np.log(p) ** 2) - mean(beta) ** 2
    assert (mean(beta + step) - mean(beta - step)) / (2 * step) == pytest.approx(variance, rel=1e-6)
