"""Question 5: the gradients by hand, the known mistakes, the memory's probabilities, and what the experiments measure."""

import csv
import io
import itertools
import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from src.errors import StudentCodeError
from src.files import ROOT
from src.grading.student_code import load_function
from src.hw10.checks.continual import has_returned
from src.hw10.counts import log_tail
from src.hw10.experiments import continual, continual_training
from src.hw10.experiments.continual_training import Ewc, Naive, Rehearsal, Task, accuracy, learn, make_tasks
from src.hw10.harness import continual as harness
from src.hw10.hints import fisher, penalty, reservoir
from src.hw10.hints.fisher import FisherCase, diagnose_fisher, is_close, right_fisher
from src.hw10.hints.penalty import PenaltyCase, diagnose_penalty, right_gradients, right_penalty
from src.hw10.hints.reservoir import Rule, diagnose_kept
from src.hw10.mnist import load
from src.hw10.networks.continual import NETWORKS
from src.hw10.parts import HOMEWORK
from src.hw10.run import Run
from src.hw10.settings import Training, read_config
from src.hw10.small_classifier import SmallClassifier

SOLUTION = ROOT / "staff" / "hw10" / "solution"
SEEDS = range(4)


def answer(name):
    return load_function(SOLUTION, "continual.py", name)


def fisher_case(seed, sizes=(5, 3), count=7):
    rng = np.random.default_rng(seed)
    model = SmallClassifier.drawn(rng, (6, *sizes))
    case = FisherCase(model, rng.normal(size=(count, 6)), rng.integers(0, sizes[-1], count))
    case.labels[0] = case.probabilities[0].argmin()
    return case


def penalty_case(seed):
    rng = np.random.default_rng(seed)
    shapes = ((3, 2), (3,), (1, 4))
    anchors = [rng.normal(size=shape) for shape in shapes]
    parameters = [each + rng.normal(size=each.shape) for each in anchors]
    return PenaltyCase(parameters, anchors, [rng.uniform(0.2, 3, shape) for shape in shapes])


# --- 5b and 5c ---


@pytest.mark.parametrize("sizes", [(4,), (5, 3), (4, 6, 3)])
def test_gradients_by_hand_are_those_of_autograd(sizes):
    case = fisher_case(1, sizes)
    network = harness.SmallNetwork([torch.from_numpy(each) for each in case.model.weights])
    images, labels = torch.from_numpy(case.images).reshape(-1, 1, 2, 3), torch.from_numpy(case.labels)
    by_hand = case.gradients(case.chosen(case.labels) - case.probabilities)
    for n in range(len(images)):
        log_p = network(images[n : n + 1]).log_softmax(dim=1)[0, labels[n]]
        for own, each in zip(torch.autograd.grad(log_p, list(network.parameters())), by_hand, strict=True):
            assert own.numpy() == pytest.approx(each[n], abs=1e-12)
    assert is_close(
        [each.numpy() for each in answer("fisher_information")(network, images, labels)], right_fisher(case)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_each_mistake_in_the_fisher_is_recognised(seed):
    case = fisher_case(seed)
    assert diagnose_fisher(right_fisher(case), case) == ()
    for mistake, variant in ((m, v) for m in fisher.OTHER_FUNCTIONS for v in m.variants):
        values = [(each**2).mean(axis=0) for each in variant(case, None)]
        assert diagnose_fisher(values, case) == (mistake,)
    gradients = case.gradients(case.chosen(case.labels) - case.probabilities)
    for mistake, variant in ((m, v) for m in fisher.COMBINATIONS for v in m.variants):
        assert diagnose_fisher(variant(case, gradients), case) == (mistake,)


@pytest.mark.parametrize("seed", SEEDS)
@np.errstate(all="ignore")
def test_two_mistakes_in_the_fisher_explain_it(seed):
    """Whatever is said of two mistakes together, it leads to the value that they led to."""
    case = fisher_case(seed)
    steps = {m.name: m.variants for m in (*fisher.OTHER_FUNCTIONS, *fisher.COMBINATIONS)}
    for first, second in itertools.product(fisher.OTHER_FUNCTIONS, fisher.COMBINATIONS):
        values = second.variants[0](case, first.variants[0](case, None))
        found = [mistake.name for mistake in diagnose_fisher(values, case)]
        assert len(found) in (1, 2)
        if len(found) == 2:
            led_to = [b(case, a(case, None)) for a in steps[found[0]] for b in steps.get(found[1], [])]
            assert found[1] == "one factor" or any(is_close(values, each) for each in led_to)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_said_of_arbitrary_numbers(seed):
    rng, case = np.random.default_rng(seed), fisher_case(seed)
    assert diagnose_fisher([rng.uniform(size=each.shape) for each in case.model.weights], case) == ()
    assert diagnose_penalty(rng.uniform(1, 9, 2).tolist(), [penalty_case(seed), penalty_case(seed + 9)]) == ()


def test_other_faults_of_the_fisher():
    case = fisher_case(2)
    right = right_fisher(case)
    assert diagnose_fisher([each / 3 for each in right], case) == (fisher.ONE_FACTOR,)
    assert diagnose_fisher([0 * each for each in right], case) == (fisher.ALL_ZERO,)
    assert diagnose_fisher([np.full_like(each, np.nan) for each in right], case) == (fisher.NO_NUMBERS,)
    assert diagnose_fisher([np.full_like(each, 3) for each in right], case) == (fisher.ALL_EQUAL,)
    assert diagnose_fisher([each + 3 for each in right], case) == (fisher.OFFSET,)
    assert diagnose_fisher([(9 * each).round() for each in right], case) == (fisher.WHOLE,)
    assert diagnose_fisher([0.01 - each for each in right], case) == (fisher.NEGATIVE,)
    shapes = [each.shape for each in right]
    assert fisher.diagnose_shapes([(7, *shape) for shape in shapes], case) == (fisher.NOT_AVERAGED,)
    assert fisher.diagnose_shapes(shapes[:-1], case) == (fisher.NOT_ALL_TENSORS,)
    assert fisher.diagnose_shapes([()] * len(shapes), case) == (fisher.NUMBER_PER_TENSOR,)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_mistake_in_the_penalty_is_recognised(seed):
    cases = [penalty_case(seed), penalty_case(seed + 100)]
    right = [right_penalty(case) for case in cases]
    assert diagnose_penalty(right, cases) == ()
    assert diagnose_penalty([2 * each for each in right], cases) == (penalty.HALF,)
    for mistake, variant in ((m, v) for m in penalty.PENALTIES for v in m.variants):
        values = [float(variant(case)) for case in cases]
        assert diagnose_penalty([value / 2 for value in values], cases) == (mistake,)
        assert diagnose_penalty(values, cases) == (mistake, penalty.HALF)


def test_other_faults_of_the_penalty():
    cases = [penalty_case(1), penalty_case(2), penalty_case(3)]
    right = np.array([right_penalty(case) for case in cases])
    assert diagnose_penalty(3 * right, cases) == (penalty.SCALED_PENALTY,)
    fourth = [case.sum(lambda p, a, f: f * (p - a) ** 4) for case in cases]
    assert [m.name for m in diagnose_penalty(3 * np.array(fourth), cases)] == ["distance not squared", "penalty scaled"]
    assert diagnose_penalty(right - 2, cases) == (penalty.SHIFTED_PENALTY,)
    assert diagnose_penalty(2 / right, cases) == (penalty.INVERTED,)
    assert diagnose_penalty(0 * right, cases) == (penalty.NO_PENALTY,)
    assert diagnose_penalty(right + np.inf, cases) == (penalty.INFINITE_PENALTY,)


def test_the_penalty_and_its_gradient_are_those_by_hand():
    case = penalty_case(3)
    given = [torch.from_numpy(each) for each in (*case.parameters, *case.anchors, *case.fisher)]
    is_changed, value, *gradients = harness.penalty(answer("ewc_penalty"), *given)
    assert not is_changed
    assert float(value) == pytest.approx(right_penalty(case), rel=1e-9)
    assert is_close([each.numpy() for each in gradients], right_gradients(case))


def test_the_harness_sees_what_is_left_in_a_model():
    weights = [torch.randn(3, 6), torch.randn(3)]
    images, labels = torch.randn(4, 1, 2, 3), torch.tensor([0, 1, 2, 0])

    def measured(function):
        return harness.fisher(function, images, labels, False, *(each.clone() for each in weights))

    assert measured(lambda model, *_: [p.detach() for p in model.parameters()])[:2] == (0, 0)
    assert measured(lambda model, *_: [p * 2 for p in model.parameters()])[:2] == (0, 1)
    assert measured(lambda model, *_: [p.data.mul_(2) for p in model.parameters()])[:2] == (1, 0)
    assert measured(lambda model, *_: [p.data for p in model.requires_grad_(False).parameters()])[:2] == (1, 0)
    assert measured(lambda *_: None) is None
    with pytest.raises(ValueError, match="takes a batch of images"):
        measured(lambda model, images, _: [model(images[0])])


# --- 5d ---


def simulated(rule, capacity, lengths, repeats, rng):
    """What the memory holds under a rule, (repeats, lengths, capacity)."""
    kept = np.zeros((repeats, len(lengths), capacity), dtype=np.int64)
    for stream in kept:
        memory = []
        for seen in range(1, max(lengths) + 1):
            step = reservoir.Step(seen, capacity)
            if len(memory) < capacity:
                memory.append(seen)
            elif rng.random() < rule.accept(step):
                if rule.shifts:
                    memory = memory[1:] + memory[:1]
                memory[rng.choice(capacity, p=rule.places(step))] = seen
            for i in range(len(lengths)):
                if lengths[i] == seen:
                    stream[i, : len(memory)] = memory
    return kept


RULES = [(mistake, variant()) for mistake in reservoir.MISTAKES for variant in mistake.variants]


@pytest.mark.parametrize(("mistake", "rule"), RULES, ids=[f"{i}-{m.name}" for i, (m, _) in enumerate(RULES)])
def test_each_mistake_in_the_memory_is_recognised(mistake, rule):
    lengths = (5, 8, 16)
    kept = simulated(rule, 4, lengths, 600, np.random.default_rng(3))
    assert diagnose_kept(kept, lengths) == (mistake,)
    least = [
        log_tail(np.bincount(kept[:, i].reshape(-1), minlength=n + 1)[1:], 600, 4 / n).min()
        for i, n in enumerate(lengths)
    ]
    assert min(least) < math.log(1e-9)  # the test, with five times as many streams, finds it wrong


def test_what_comes_back_to_the_memory_is_seen():
    lengths, rng = (4, 6, 12), np.random.default_rng(5)
    for _, rule in RULES:
        assert not has_returned(simulated(rule, 3, lengths, 50, rng), lengths)
    assert not has_returned(np.array([[[1, 0, 0], [1, 2, 3]]]), (1, 3))
    assert not has_returned(np.array([[[1, 2, 4], [6, 4, 5]]]), (4, 6))
    assert has_returned(np.array([[[1, 2, 4], [6, 2, 1]], [[1, 2, 4], [6, 3, 1]]]), (4, 6))


def test_reservoir_sampling_keeps_all_equally():
    for capacity, length in ((1, 5), (4, 3), (3, 20)):
        kept = Rule(reservoir._right, reservoir._any).kept(length, capacity)
        assert kept == pytest.approx(min(1, capacity / length))


def test_nothing_is_said_of_a_right_memory():
    kept = simulated(Rule(reservoir._right, reservoir._any), 3, (4, 6, 12), 600, np.random.default_rng(1))
    assert diagnose_kept(kept, (4, 6, 12)) == ()


def test_the_same_examples_in_every_stream():
    kept = np.broadcast_to(np.array([[2, 3, 5], [3, 5, 7]]), (50, 2, 3))
    assert diagnose_kept(kept, (5, 7)) == (reservoir.NOT_RANDOM,)


@pytest.mark.parametrize(("trials", "p"), [(30, 0.2), (30, 0.5), (200, 0.05), (12, 0.9)])
def test_the_bound_on_a_count_is_one(trials, p):
    exact = np.array([math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(trials + 1)])
    tails = np.array([exact[: k + 1].sum() if k < p * trials else exact[k:].sum() for k in range(trials + 1)])
    bounds = log_tail(np.arange(trials + 1), trials, p)
    assert (bounds >= np.log(tails)).all()
    assert bounds[-1] < math.log(0.9)  # and says something


def test_counts_that_cannot_be():
    assert log_tail([0, 1], 5, 0.0).tolist() == [math.log(2), -math.inf]
    assert log_tail([5, 4], 5, 1.0).tolist() == [math.log(2), -math.inf]


class TestStreams:
    """What `harness.streams` says of a memory."""

    def test_the_answer(self):
        most, odd, returns_list, kept = harness.streams(answer("update_memory"), 3, 2, 2, 5)
        assert (most, odd, returns_list) == (3, 0, 0)
        assert kept[:, 0].tolist() == [[1, 2, 0]] * 2
        assert all(len(set(each)) == 3 and min(each) > 0 for each in kept[:, 1].tolist())

    def test_one_that_grows(self):
        assert harness.streams(lambda memory, example, *_: memory.append(example), 3, 5, 9)[:2] == (4, 4)

    def test_one_with_something_else(self):
        assert harness.streams(lambda memory, example, *_: memory.append(example[1]), 3, 1, 2)[:2] == (3, 2)
        twice = harness.streams(lambda memory, example, *_: memory.extend([example] * (not memory) * 2), 3, 1, 2)
        assert twice[:2] == (3, 2)

    def test_one_that_returns_a_list(self):
        most, _, returns_list, kept = harness.streams(lambda memory, example, *_: [*memory, example], 3, 1, 2)
        assert (most, returns_list, int(kept.sum())) == (3, 1, 0)


# --- the experiments ---


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_images_to_ten_logits(name):
    network = NETWORKS[name]()
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert sum(p.numel() for p in network.parameters()) == {"CNN": 28_938, "MLP": 89_610}[name]


@pytest.fixture(scope="module")
def digits():
    whole = load(HOMEWORK.home / "data", full=False)
    return replace(whole, train_images=whole.train_images[:400], train_labels=whole.train_labels[:400])


@pytest.fixture
def run(tmp_path):
    config = read_config(HOMEWORK.home / "config.yml")
    training = replace(config.experiments["continual"], iterations=2, seeds=2)
    config = replace(config, experiments={**config.experiments, "continual": training})
    return Run(config, SOLUTION, HOMEWORK.home / "data", tmp_path, seed=3, device="cpu")


def test_tasks_are_permutations_of_the_first(digits):
    tasks = make_tasks(digits, "cpu")
    first = tasks[0].train_images
    assert first.flatten(1).equal(digits.train_images)
    for task in tasks[1:]:
        assert not task.train_images.equal(first)
        assert task.train_images.flatten(1).sort(dim=1).values.equal(first.flatten(1).sort(dim=1).values)
        moved = task.test_images.flatten(1)[:, task.train_images.flatten(1)[0].argsort()]
        assert moved.shape == tasks[0].test_images.flatten(1).shape


def test_forgetting_is_the_fall_from_the_best():
    accuracies = np.array([[[90.0, 10, 10], [95, 80, 10], [60, 70, 85]], [[90.0, 10, 10], [80, 80, 10], [90, 80, 85]]])
    assert continual.forgetting(accuracies).tolist() == [(35 + 10) / 2, 0]
    assert continual.final_accuracies(accuracies) == pytest.approx([215 / 3, 85])


def test_the_experiments_leave_what_they_declare(run, monkeypatch):
    monkeypatch.setattr(continual, "STRENGTHS", (10.0, 100.0))
    monkeypatch.setattr(continual, "CAPACITIES", (30, 300))
    monkeypatch.setattr(continual, "NETWORKS", {"MLP": NETWORKS["MLP"]})
    monkeypatch.setattr(continual_training, "FISHER_EXAMPLES", 10)
    for part, method, settings in (("5c", "EWC", ["", "10", "100"]), ("5d", "rehearsal", ["", "30", "300"])):
        files = run.files_of(HOMEWORK.part(part))
        name = f"continual_{'ewc' if part == '5c' else 'rehearsal'}.csv"
        rows = list(csv.DictReader(io.StringIO(files[name].decode())))
        assert [row["lambda" if part == "5c" else "capacity"] for row in rows] == settings
        assert [row["method"] for row in rows] == ["naive", method, method]
        assert all(0 <= float(row["final_accuracy"]) <= 100 for row in rows)


class Wrong:
    """A run whose student's functions all do the same."""

    questions: ClassVar = SOLUTION
    wrong_value = Run.wrong_value

    def __init__(self, function):
        self._function = function

    def function(self, file, name):
        return self._function


def small_task():
    return Task(torch.rand(20, 1, 2, 2), torch.zeros(20).long(), torch.rand(5, 1, 2, 2), torch.zeros(5).long())


@pytest.mark.parametrize(
    ("method", "function", "message"),
    [
        (Ewc, lambda model, *_: [torch.zeros(3)], "must return a list with a tensor for each parameter"),
        (Ewc, lambda model, *_: [-torch.ones_like(p) for p in model.parameters()], "finite and from 0 on"),
        (Ewc, lambda *_: None, "must return a list with a tensor for each parameter"),
        (Rehearsal, lambda memory, example, *_: memory.append(example), "leaves 11 examples in the memory after 11"),
        (Rehearsal, lambda *_: None, "leaves 0 examples in the memory after 1"),
        (Rehearsal, lambda memory, *_: memory.__setitem__(slice(1), [3]), "leaves something else than examples"),
        (Rehearsal, lambda memory, *_: memory.__setitem__(slice(1), [(1, 2)]), "leaves something else than examples"),
    ],
)
def test_a_wrong_function_is_one_line(method, function, message):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(StudentCodeError, match=message):
        method(Wrong(function), 10).finish(network, small_task())


def test_a_penalty_without_a_gradient_is_one_line():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    method = Ewc(Wrong(lambda *arguments: [torch.zeros_like(p) for p in network.parameters()]), 10.0)
    task = small_task()
    method.finish(network, task)
    with pytest.raises(StudentCodeError, match="must return a scalar that requires a gradient"):
        method.loss(network, task.train_images, task.train_labels)


def test_methods_keep_what_was_learned(digits, run):
    """EWC and rehearsal forget less of the first task than a network that is trained naively."""
    training, kept = Training(iterations=80, batch_size=32, learning_rate=1e-3, seeds=1), {}
    for name, method in (("naive", Naive()), ("EWC", Ewc(run, 1000.0)), ("rehearsal", Rehearsal(run, 100))):
        torch.manual_seed(1)
        tasks, network = make_tasks(digits, "cpu"), NETWORKS["CNN"]()
        accuracies = learn(network, tasks[:2], method, training)
        assert accuracies[-1][1] == accuracy(network, tasks[1])
        kept[name] = accuracies[-1][0]
    assert kept["EWC"] > kept["naive"] + 10
    assert kept["rehearsal"] > kept["naive"] + 10
