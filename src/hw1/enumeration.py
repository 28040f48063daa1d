"""What the theory's answers are compared with: by counting, listing and integrating, never by the answer's formula."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from src.hw1.oracle import Floats

Sequences = Mapping[tuple[int, ...], float]  # of tokens, with their probabilities

MAX_TABLE = 2_000  # outcomes of a Bayesian network


def random_table(rng: np.random.Generator, *shape: int) -> Floats:
    """Random probabilities that sum to 1 along the last axis, none of them tiny."""
    weights = rng.uniform(0.2, 2.0, shape)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def free_parameters(sizes: Sequence[int], parents: Sequence[Sequence[int]], seed: int = 0) -> int:
    """The number of independent parameters of a Bayesian network: a rank.

    Each conditional probability is given by a logit. The rank of the Jacobian of all joint log-probabilities by all
    logits, at a random point, is the dimension of the set of distributions that the network can represent.

    Args:
        sizes: the number of outcomes of each variable
        parents: of each variable, those before it on which it depends
    """
    rng = np.random.default_rng(seed)
    outcomes = list(itertools.product(*map(range, sizes)))
    assert len(outcomes) <= MAX_TABLE
    columns = []
    for variable, of_variable in enumerate(parents):
        for context in itertools.product(*(range(sizes[parent]) for parent in of_variable)):
            p = random_table(rng, sizes[variable])
            fits = [all(x[j] == c for j, c in zip(of_variable, context, strict=True)) for x in outcomes]
            for value in range(sizes[variable]):
                columns.append(
                    [fit * ((x[variable] == value) - p[value]) for fit, x in zip(fits, outcomes, strict=True)]
                )
    return int(np.linalg.matrix_rank(np.array(columns).T))


def normal_density(x: Floats, mean: Floats, deviation: float) -> float:
    """The density of a vector whose coordinates are drawn one by one, each from a normal distribution."""
    return math.prod(NormalDist(m, deviation).pdf(value) for value, m in zip(x.tolist(), mean.tolist(), strict=True))


def gap_to_a_gaussian(points: Floats, model: Floats) -> float:
    """How far x_1 ~ N(0, 1) and x_2 ~ N(mu(x_1), sigma(x_1)²) are from being jointly Gaussian; 0 if they are.

    It is the largest difference between their characteristic function and that of the Gaussian with the same mean and
    covariance, integrated over x_1.

    Args:
        points: (N,), equally spaced values of x_1
        model: (N, 2), mu and sigma at each of them
    """
    weights = np.exp(-(points**2) / 2)
    weights /= weights.sum()
    mu, variance = model[:, 0], model[:, 1] ** 2
    mean = (weights * mu).sum()
    spread = (weights * ((mu - mean) ** 2 + variance)).sum()
    covariance = (weights * points * (mu - mean)).sum()
    largest = 0.0
    for s, u in itertools.product((0.0, 0.7, -0.7, 1.5), (0.5, 1.0, 2.0, 3.0)):
        t = u / math.sqrt(spread)
        found = (weights * np.exp(1j * (s * points + t * (mu - mean)) - t**2 * variance / 2)).sum()
        gaussian = math.exp(-(s**2 + 2 * s * t * covariance + t**2 * spread) / 2)
        largest = max(largest, abs(found - gaussian))
    return largest


def average_over_samples(p_z: Floats, likelihood: Floats, samples: int, value: Callable[[float], float]) -> float:
    """The expectation of `value` of the mean of `likelihood` over so many samples of `p_z`: all draws are listed."""
    terms = []
    for draws in itertools.product(range(len(p_z)), repeat=samples):
        probability = math.prod(float(p_z[z]) for z in draws)
        if probability:
            terms.append(probability * value(math.fsum(float(likelihood[z]) for z in draws) / samples))
    return math.fsum(terms)


def sequence_table(rng: np.random.Generator, vocabulary: int, n: int) -> Floats:
    """p(x) of a random autoregressive model for all sequences of `n` tokens, (V, …, V)."""
    table = random_table(rng, vocabulary)
    for _ in range(n - 1):
        table = table[..., None] * random_table(rng, *table.shape, vocabulary)
    return table


def listed(table: Floats) -> Sequences:
    """Every sequence with its probability, from p(x) as a table (V, …, V)."""
    return {tuple(map(int, indices)): float(p) for indices, p in np.ndenumerate(table)}


def scaled(sequences: Sequences, temperature: float) -> Sequences:
    """The joint distribution at a temperature, one sequence after the other."""
    weights = {x: p ** (1 / temperature) if p > 0 else 0.0 for x, p in sequences.items()}
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def scaled_token_by_token(pairs: Sequences, temperature: float) -> Sequences:
    """The distribution of two tokens, when that of each token alone is scaled."""
    first: dict[tuple[int, ...], float] = {}
    for (a, _), p in pairs.items():
        first[a,] = first.get((a,), 0.0) + p
    found: dict[tuple[int, ...], float] = {}
    for (a,), p_a in scaled(first, temperature).items():
        after = {x: p / first[a,] if first[a,] else 0.0 for x, p in pairs.items() if x[0] == a}
        found |= {x: p_a * p for x, p in (scaled(after, temperature) if p_a else after).items()}
    return found


def divergence(p: Floats, q: Floats) -> float:
    """KL(p ‖ q) in nats of two tables, entry by entry."""
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p.flat, q.flat, strict=True) if a > 0)
