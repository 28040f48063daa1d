"""The numbers that the key of homework 10 states, computed in another way than by its formulas."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from src.hw10.parts import HOMEWORK
from staff.handout.source import read_source, written_folder

SOURCE = read_source(written_folder(HOMEWORK))
ANSWERS = {leaf.number: leaf.block("answer").text for leaf in SOURCE.leaves if not leaf.part}
ERRORS = {leaf.number: leaf.block("errors").text for leaf in SOURCE.leaves}
BETAS = (0.1, 0.2, 0.3)
P, Q = np.array([0.5, 0.5]), np.array([0.9, 0.1])


def slope(function, at: float) -> float:
    return (function(at + 1e-5) - function(at - 1e-5)) / 2e-5


def log_sigmoid(h: float) -> float:
    return -math.log1p(math.exp(-h))


def test_the_slopes_of_both_generator_losses_are_as_stated():
    minimax, other = slope(lambda h: log_sigmoid(-h), -5), slope(lambda h: -log_sigmoid(h), -5)
    assert (f"{-minimax:.4f}", f"{other:.4f}", f"{other / minimax:.0f}") == ("0.0067", "-0.9933", "148")
    assert all(stated in ANSWERS["3a"] for stated in ("$D = 0.0067$", "$-0.9933$", "148 times"))


def test_both_slopes_have_the_same_size_for_even_odds():
    h = next(
        h for h in np.linspace(-3, 3, 601) if slope(lambda h: log_sigmoid(-h), h) <= slope(lambda h: -log_sigmoid(h), h)
    )
    assert 1 / (1 + math.exp(-h)) == pytest.approx(0.5, abs=0.003)
    assert r"At $D = \tfrac12$" in ANSWERS["3d.i"]


def best_discriminator(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, float]:
    """The best of 99,999 values for D at each point, and the value of V with them."""
    d = np.arange(1, 100_000) / 100_000
    values = p[:, None] * np.log(d) + q[:, None] * np.log(1 - d)
    return d[values.argmax(axis=1)], float(values.max(axis=1).sum())


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.sum(p * np.log(p / q)))


def test_the_example_of_a_best_discriminator_is_right():
    d, value = best_discriminator(P, Q)
    assert "(" + ", ".join(f"{each:.3f}" for each in d) + ")" == "(0.357, 0.833)"
    middle = (P + Q) / 2
    assert f"{kl(P, middle) / 2 + kl(Q, middle) / 2:.3f}" == "0.102"
    assert f"{value:.3f}" == "-1.183"
    assert all(stated in ANSWERS["3b.ii"] for stated in ("(0.357, 0.833)", "0.102$", "-1.183$"))


def test_the_objective_lies_in_the_range_stated():
    rng = np.random.default_rng(0)
    for p, q in rng.dirichlet(np.ones(5), (20, 2)):
        assert -math.log(4) < best_discriminator(p, q)[1] < 0
    d, value = best_discriminator(P, P)
    assert (d == 0.5).all()
    assert f"{value:.3f}" == "-1.386" == f"{-math.log(4):.3f}"
    assert r"$-\log 4 \approx -1.386$" in ANSWERS["3b.ii"]
    assert best_discriminator(np.array([1.0, 0.0]), np.array([0.0, 1.0]))[1] == pytest.approx(0, abs=1e-4)


def test_an_unnormalised_mixture_may_give_a_negative_divergence():
    assert kl(P, P + Q) < 0


def covariances(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Given x_0: the factors of x_0 in the means of x_1 … x_steps, and their covariances, from step to step."""
    mixing = np.eye(steps)  # x_t as a sum of the noise of all steps, times its size
    factor, factors = 1.0, []
    for t in range(steps):
        keep = math.sqrt(1 - BETAS[t])
        mixing[t] = keep * mixing[t - 1] if t else 0 * mixing[0]
        mixing[t, t] = math.sqrt(BETAS[t])
        factor *= keep
        factors.append(factor)
    return np.array(factors), mixing @ mixing.T


def test_three_steps_of_noise_have_the_moments_stated():
    factors, covariance = covariances(3)
    assert [f"{each**2:.4g}" for each in factors] == ["0.9", "0.72", "0.504"]
    assert f"{covariance[2, 2]:.4g}" == "0.496"
    assert all(stated in ANSWERS["4a.i"] for stated in ("(0.9, 0.72, 0.504)", r"0.7 \cdot 0.28 + 0.3 = 0.496"))


def conditional(t: int) -> tuple[float, float, float]:
    """Of x_{t-1} given x_t and x_0: its variance, and the factors of x_0 and x_t in its mean (Gaussian conditioning)."""
    factors, covariance = covariances(t)
    gain = covariance[t - 2, t - 1] / covariance[t - 1, t - 1]
    variance = covariance[t - 2, t - 2] - gain * covariance[t - 2, t - 1]
    return variance, factors[t - 2] - gain * factors[t - 1], gain


def test_the_step_back_is_as_stated():
    assert [f"{each:.4f}" for each in conditional(3)] == ["0.1694", "0.5132", "0.4723"]
    assert r"\tilde\beta_3 = 0.1694$" in ANSWERS["4b.i"]
    assert r"$0.5132\, \mathbf{x}_0 + 0.4723\, \mathbf{x}_3$" in ANSWERS["4b.i"]


def test_the_formulas_of_the_step_back_hold():
    for t in (2, 3):
        beta, alpha, before = (
            BETAS[t - 1],
            math.prod(1 - b for b in BETAS[:t]),
            math.prod(1 - b for b in BETAS[: t - 1]),
        )
        of_start, of_now = math.sqrt(before) * beta / (1 - alpha), math.sqrt(1 - beta) * (1 - before) / (1 - alpha)
        assert conditional(t) == pytest.approx(((1 - before) / (1 - alpha) * beta, of_start, of_now), rel=1e-12)


def test_the_balance_of_two_parabolas_is_as_stated():
    places = np.linspace(0, 1, 70_001)  # from the new optimum to the old one
    losses = 0.5 * 1 * places**2 + 3 / 2 * 2 * (places - 1) ** 2
    assert places[losses.argmin()] == pytest.approx(6 / 7, abs=1e-5)
    assert "six sevenths of the way" in ANSWERS["5c.ii"]


@pytest.mark.parametrize(("size", "diverges"), [(1.9, False), (2.1, True)])
def test_descent_diverges_where_the_key_says(size, diverges):
    distance = 1.0
    for _ in range(100):
        distance -= size * distance
    assert (abs(distance) > 1) == diverges
    assert r"$\eta\, \lambda F_k > 2$" in ANSWERS["5c.ii"]


@pytest.mark.parametrize(("temperature", "stated"), [(1, "2 at"), (0.5, "4 at $T = 0.5$"), (2, "1.41 at $T = 2$")])
def test_temperatures_give_the_ratios_stated(temperature, stated):
    logits = np.log([0.6, 0.3, 0.1]) / temperature
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert f"{probabilities[0] / probabilities[1]:.3g}" == stated.split()[0]
    assert stated in ANSWERS["1a"]


def test_an_accuracy_has_the_standard_error_stated():
    probabilities = np.array([math.comb(32, k) * 0.7**k * 0.3 ** (32 - k) for k in range(33)])
    accuracies = np.arange(33) / 32
    mean = float(probabilities @ accuracies)
    assert f"{math.sqrt(probabilities @ (accuracies - mean) ** 2):.2f}" == "0.08"
    assert all(stated in ANSWERS["1b.ii"] for stated in ("$n = 32$", "0.08 for $a = 0.7$"))


def test_half_of_two_balanced_labels_survive_shuffling():
    orders = list(itertools.permutations("aabb"))
    kept = [sum(a == b for a, b in zip("aabb", order, strict=True)) / 4 for order in orders]
    assert np.mean(kept) == pytest.approx(0.5)
    assert "half stay right" in ERRORS["1b.ii"]


def test_a_reservoir_keeps_each_example_equally_often():
    size, count = 2, 5
    kept: Counter[int] = Counter()
    for places in itertools.product(*(range(n) for n in range(size + 1, count + 1))):
        memory = list(range(size))
        for example, place in enumerate(places, start=size):
            if place < size:
                memory[place] = example
        kept.update(memory)
    assert len(set(kept.values())) == 1
    assert set(kept) == set(range(count))
