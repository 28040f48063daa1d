"""The tests of 6.7a and of the midterm's question 7: sequences so short that all of them can be listed."""

import itertools
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
from src.grading.mistakes import NOTHING
from src.hw1 import enumeration
from src.hw1.checks.base import GPT2Test
from src.hw1.hints import theory_temperature as hints
from src.hw1.hints.shared import first_that_applies
from src.hw1.hints.theory import through
from src.hw1.oracle import Floats

FILE = "theory.py"
LEAST_DIFFERENCE = 1e-4  # between the two sides of 6.7a; float32 loses 1e-7
LARGEST_TABLE = 1000  # tokens


class TwoTokensTest(GPT2Test):
    """`two_token_model` is a counterexample for 6.7a."""

    part = "6.7a"

    @number("6.7a.1")
    @weight(0)
    def test_counterexample(self) -> None:
        """The two sides differ for this model"""
        check_two_tokens(self)


class PartitionTest(GPT2Test):
    """`partition_at_1` returns Z(1)."""

    part = "7a"

    @number("7a.1")
    @weight(0)
    def test_partition(self) -> None:
        """Z(1), as the sum over all sequences says"""

        def instance(rng: np.random.Generator) -> Instance:
            size = hints.Size(int(rng.integers(2, 5)), int(rng.integers(2, 5)))
            right = math.fsum(enumeration.sequence_table(rng, size.vocabulary, size.n).flat)
            return Instance({"vocabulary": size.vocabulary, "n": size.n}, right, size)

        check_result(self, "partition_at_1", repeated(instance, self.rng), hints.PARTITION_MISTAKES)


class TermsTest(GPT2Test):
    """`partition_terms` returns how many sequences there are."""

    part = "7b"

    @number("7b.1")
    @weight(0)
    def test_terms(self) -> None:
        """As many as there are sequences in the list of all"""
        instances = []
        for vocabulary, n in ((3, int(self.rng.integers(4, 7))), (int(self.rng.integers(5, 8)), 3), (4, 5)):
            listed = sum(1 for _ in itertools.product(range(vocabulary), repeat=n))
            instances.append(Instance({"vocabulary": vocabulary, "n": n}, listed, hints.Size(vocabulary, n)))
        check_result(self, "partition_terms", instances, hints.TERMS_MISTAKES)


class BetterTemperatureTest(GPT2Test):
    """`better_temperature` makes likely sequences likelier."""

    part = "7c"

    @number("7c.1")
    @weight(0)
    def test_direction(self) -> None:
        """At this temperature, samples are likelier under p"""
        check_better(self)


class CanSampleTest(GPT2Test):
    """`can_sample` knows the temperatures at which p^T is easy."""

    part = "7d"

    @number("7d.1")
    @weight(0)
    def test_sampling(self) -> None:
        """True exactly where p^T follows from each token's own distribution"""
        low, high = self.rng.uniform([0.2, 1.5], [0.9, 5.0]).round(2).tolist()
        instances = [
            Instance({"temperature": t}, float(is_local(self.rng, t)), hints.Temperature(t))
            for t in (low, 1.0, high, math.inf)
        ]
        check_result(self, "can_sample", instances, hints.SAMPLING_MISTAKES)


class KLTermsTest(GPT2Test):
    """`kl_terms` has the divergence as its expectation."""

    part = "7e"

    @number("7e.1")
    @weight(0)
    def test_expectation(self) -> None:
        """Over samples of p, their mean is KL(p^T ‖ q)"""
        check_kl_terms(self)


class WeightsTest(GPT2Test):
    """`importance_weights` turns samples of p into samples of p^T."""

    part = "7f"

    @number("7f.1")
    @weight(0)
    def test_weights(self) -> None:
        """Samples of p, weighed so, are distributed as p^T"""
        check_weights(self)


class StarTest(GPT2Test):
    """`star_estimate` is an unbiased estimate of (⋆)."""

    part = "7g"

    @number("7g.1")
    @weight(0)
    def test_unbiased(self) -> None:
        """Over all pairs of samples of p, its mean is (⋆)"""
        check_star(self)


def check_two_tokens(test: GPT2Test) -> None:
    """`two_token_model` is a joint distribution for which scaling token by token gives another one."""
    returned = test.call("`two_token_model`", FILE, "two_token_model")
    table = returned.value
    if not isinstance(table, np.ndarray) or table.ndim != 2 or not 1 < table.size <= LARGEST_TABLE**2:
        nothing = (NOTHING,) if returned.is_nothing else ()
        test.lose("`two_token_model`", "a table (V, V)", returned.description(), nothing, "this is no table")
    table = np.asarray(table, dtype=np.float64)
    sums_up = bool((table >= 0).all()) and math.isclose(table.sum(), 1, rel_tol=1e-4)
    temperatures = (0.5, *test.rng.uniform([0.3, 1.5], [0.7, 3.0]).round(2).tolist())
    differences = [_difference(table, t) for t in temperatures] if sums_up else [0.0]
    if min(differences) < LEAST_DIFFERENCE:
        listed = " and ".join(f"{t:g}" for t in temperatures)
        got = f"{shown(table)}, which sums to {table.sum():.6g}"
        got += f"; the two sides differ by {min(differences):.2g} at most" if sums_up else ""
        mistakes = first_that_applies(hints.TABLE_MISTAKES, hints.TwoTokens(table))
        expected = "a joint distribution for which the two sides differ"
        test.lose(f"`two_token_model`, at the temperatures {listed}", expected, got, mistakes, "no counterexample")


def _difference(table: Floats, temperature: float) -> float:
    """How much the two sides of 6.7a differ."""
    pairs = enumeration.listed(table)
    jointly, alone = enumeration.scaled(pairs, temperature), enumeration.scaled_token_by_token(pairs, temperature)
    return max(abs(jointly[x] - alone[x]) for x in pairs)


def check_better(test: GPT2Test) -> None:
    """At the temperature that `better_temperature` returns, the mean log-likelihood under p grows."""
    temperature = float(value_of(test, "better_temperature", {}, ()))
    for _ in range(3):
        p = enumeration.sequence_table(test.rng, 3, 4)
        before, after = _mean_log_p(p, 1.0), _mean_log_p(p, temperature)
        if not after > before + 1e-9:  # rounding; at T = 0.999 it is 1e-4
            input = f"`better_temperature`, for a model of {p.size} sequences"
            expected = f"a T > 0 at which E log p is above {before:.6g}"
            mistakes = first_that_applies(hints.BETTER_MISTAKES, temperature)
            test.lose(input, expected, f"T = {temperature:g}, with E log p = {after:.6g}", mistakes, "not likelier")


def _mean_log_p(p: Floats, temperature: float) -> float:
    """E log p over samples of p^T; over samples of p, where T is not above 0."""
    log_p = np.log(p)
    weights = np.exp((log_p - log_p.max()) / max(temperature, 1e-9)) if temperature > 0 else p
    return float((weights * log_p).sum() / weights.sum())


def is_local(rng: np.random.Generator, temperature: float) -> bool:
    """Whether p^T of a random model of two tokens is what scaling each token's own distribution leads to."""
    return _difference(enumeration.sequence_table(rng, 3, 2), temperature) < 1e-9


def _sequences(rng: np.random.Generator, vocabulary: int, n: int, temperature: float) -> hints.Sequences:
    """All sequences of a random p, each drawn with its probability, and another model's probabilities."""
    p, q = (enumeration.sequence_table(rng, vocabulary, n) for _ in range(2))
    log_z = math.log(math.fsum(float(each) ** (1 / temperature) for each in p.flat))
    return hints.Sequences(np.log(p).ravel(), np.log(q).ravel(), temperature, log_z, p.ravel())


def _scaled(sequences: hints.Sequences) -> Floats:
    """p^T of each of all sequences."""
    listed = enumeration.listed(np.exp(sequences.log_p))
    return np.array(list(enumeration.scaled(listed, sequences.temperature).values()))


def _models(rng: np.random.Generator, vocabulary: int, n: int) -> list[hints.Sequences]:
    temperatures = rng.uniform([0.4, 0.6, 1.6], [0.6, 0.8, 2.5]).round(2).tolist()
    return [_sequences(rng, vocabulary, n, t) for t in temperatures]


def check_kl_terms(test: GPT2Test) -> None:
    """The expectation of `kl_terms` over all sequences is the divergence."""
    cases = _models(test.rng, 3, 3)
    arguments: list[Arguments] = [
        {"log_p": c.log_p, "log_q": c.log_q, "temperature": c.temperature, "log_z": c.log_z} for c in cases
    ]
    terms = [value_of(test, "kl_terms", each, c.log_p.shape) for each, c in zip(arguments, cases, strict=True)]
    got = [np.array(c.average(each)) for c, each in zip(cases, terms, strict=True)]
    right = [np.array(enumeration.divergence(_scaled(c), np.exp(c.log_q))) for c in cases]
    for i in range(len(cases)):
        if not same_values(got[i], right[i]):
            mistakes = diagnose_values(got, right, cases, hints.KL_MISTAKES)
            input = described("kl_terms", arguments[i])
            expected = f"terms with the mean KL(p^T ‖ q) = {right[i]:.6g} over samples of p"
            test.lose(input, expected, f"the mean {got[i]:.6g}", mistakes, "the expectation is another one")


def check_weights(test: GPT2Test) -> None:
    """p times `importance_weights` is proportional to p^T."""
    cases = _models(test.rng, 3, 3)
    arguments: list[Arguments] = [{"log_p": c.log_p, "temperature": c.temperature} for c in cases]
    weights = [
        value_of(test, "importance_weights", each, c.log_p.shape) for each, c in zip(arguments, cases, strict=True)
    ]

    def normalised(values: Floats) -> Floats:
        return np.asarray(values / values.sum())

    got = [normalised(each) for each in weights]
    right = [normalised(_scaled(c) / c.drawn) for c in cases]
    for i in range(len(cases)):
        if not same_values(got[i], right[i]) or weights[i].min() < 0:
            mistakes = diagnose_values(got, right, cases, through(hints.WEIGHT_MISTAKES, normalised))
            expected = f"multiples of {shown(right[i])}"
            test.lose(
                described("importance_weights", arguments[i]), expected, shown(weights[i]), mistakes, "other weights"
            )


def check_star(test: GPT2Test) -> None:
    """The expectation of `star_estimate` over all pairs of samples is (⋆)."""
    got, right, pairs, inputs = [], [], [], []
    for model in _models(test.rng, 2, 2):
        mean, listed = 0.0, list(itertools.product(range(len(model.log_p)), repeat=2))
        for drawn in listed:
            pair = hints.Sequences(
                model.log_p[list(drawn)], model.log_q[list(drawn)], model.temperature, model.log_z, np.full(2, 0.5)
            )
            arguments: Arguments = {"log_p": pair.log_p, "log_q": pair.log_q, "temperature": pair.temperature}
            value = value_of(test, "star_estimate", arguments, ())
            mean += float(model.drawn[list(drawn)].prod() * value)
            got.append(value)
            pairs.append(pair)
        scaled = _scaled(model)
        right.append((mean, -math.exp(model.log_z) * float((scaled * model.log_q).sum())))
        inputs.append(f"`star_estimate` of all {len(listed)} pairs of samples, at T = {model.temperature:g}")
    for input, (mean, star) in zip(inputs, right, strict=True):
        if not same_values(np.array(mean), np.array(star)):
            nowhere = [np.array(math.nan)] * len(got)
            mistakes = diagnose_values(got, nowhere, pairs, hints.STAR_MISTAKES)
            test.lose(input, f"the mean (⋆) = {star:.6g}", f"the mean {mean:.6g}", mistakes, "the estimate is biased")
