"""Problem 3: gradients by hand, the known mistakes, the networks, and what the experiments measure."""

import csv
import io
import math

import numpy as np
import pytest
import torch

from src.errors import StudentCodeError
from src.files import ROOT
from src.grading.student_code import load_function
from src.hw10 import training
from src.hw10.checks import gan as checks
from src.hw10.checks.gan import MINIMAX, NONSATURATING, Batch, a_batch, a_large_batch, expected
from src.hw10.digit_quality import frechet_distance, quality
from src.hw10.experiments import gan
from src.hw10.harness.gan import FROZEN, LEFT_GRADIENTS, SmallDiscriminator, SmallGenerator, losses
from src.hw10.hints import gan as hints
from src.hw10.hints.gan import D_STAGES, LossCase, diagnose_loss
from src.hw10.mnist import load
from src.hw10.networks.digit_classifier import trained_classifier
from src.hw10.networks.gan import Discriminator, Generator, Moved, Z
from src.hw10.parts import HOMEWORK
from src.hw10.run import Run
from src.hw10.settings import read_config

SOLUTION = ROOT / "staff" / "hw10" / "solution"
DATA = ROOT / "homework" / "hw10" / "data"
STAGES = {"d_loss": D_STAGES, "non-saturating": NONSATURATING.stages, "minimax": MINIMAX.stages}


def answer(loss):
    return load_function(SOLUTION, "gan.py", loss.function)


def measured(function, batch: Batch):
    arguments = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in batch.arguments]
    return [np.asarray(each) for each in losses(function, *arguments)]


def some_cases(seed):
    rng = np.random.default_rng(seed)
    return [a_batch(rng, size).case for size in (6, 4, 9)]


def run_with(tmp_path, iterations=4, questions=SOLUTION):
    config = read_config(ROOT / "homework" / "hw10" / "config.yml")
    return Run(config, questions, DATA, tmp_path / "work", 5, "cpu", iterations)


# --- what is right ---


@pytest.mark.parametrize("loss", [NONSATURATING, MINIMAX], ids=lambda loss: loss.function)
@pytest.mark.parametrize("make", [a_batch, a_large_batch])
def test_losses_and_gradients_by_hand_are_autograd_s(loss, make):
    """float32 loses about 1e-6 of a logit, so 5e-5 of the slope at a logit of a hundred."""
    batch = make(np.random.default_rng(3), 8, flat=True)
    d_loss, g_loss, _, _, d_of_d, d_of_g, g_of_g, done = measured(answer(loss), batch)
    right = expected(loss, batch)
    assert (d_loss, g_loss) == (pytest.approx(right.d_loss, rel=1e-5), pytest.approx(right.g_loss, rel=1e-5))
    assert d_of_d == pytest.approx(right.d_of_d, abs=3e-4 * np.abs(right.d_of_d).max())
    assert g_of_g == pytest.approx(right.g_of_g, abs=3e-4 * np.abs(right.g_of_g).max())
    assert not d_of_g.any()
    assert done == 0


def test_a_large_batch_breaks_what_is_not_stable():
    def unstable(g, d, x_real, z):
        return -torch.log(torch.sigmoid(d(x_real))).mean(), -torch.log(torch.sigmoid(d(g(z)))).mean()

    for seed in range(5):
        values = measured(unstable, a_large_batch(np.random.default_rng(seed), 10))
        assert not np.isfinite(values[:2]).any()


# --- the harness ---


def test_the_harness_says_what_was_done_to_networks():
    def trains(g, d, x_real, z):
        d_loss = d(x_real).mean()
        d_loss.backward()
        return d_loss, d(g(z)).mean()

    def freezes(g, d, x_real, z):
        g.weight.requires_grad_(False)
        return d(x_real).mean(), d(g(z)).mean()

    batch = a_batch(np.random.default_rng(0), 4)
    assert measured(trains, batch)[-1] == LEFT_GRADIENTS
    assert measured(freezes, batch)[-1] == FROZEN


@pytest.mark.parametrize("returned", [None, (torch.ones(3), torch.ones(3)), torch.ones(2), ("a", "b")])
def test_the_harness_hands_on_what_are_no_losses(returned):
    arguments = [
        torch.from_numpy(e) if isinstance(e, np.ndarray) else e for e in a_batch(np.random.default_rng(0), 3).arguments
    ]
    assert losses(lambda *_: returned, *arguments) is returned


def test_flat_networks_return_flat_logits():
    batch = a_batch(np.random.default_rng(0), 3)
    tensors = [torch.from_numpy(each) for each in batch.arguments[:-1]]
    images = SmallGenerator(*tensors[2:4])(tensors[1])
    assert images.shape == (3, 1, checks.SIDE, checks.SIDE)
    assert [tuple(SmallDiscriminator(*tensors[4:], flat)(images).shape) for flat in (False, True)] == [(3, 1), (3,)]


# --- the known mistakes ---


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", STAGES)
def test_each_mistake_in_a_loss_is_recognised(name, seed):
    stages, cases = STAGES[name], some_cases(seed)
    right = [value for _, value in zip(cases, outcome(stages, cases, {}), strict=True)]
    assert diagnose_loss(stages, right, right, cases) == ()
    for number, stage in enumerate(stages):
        for mistake in stage.mistakes:
            for step in mistake.variants:
                got = outcome(stages, cases, {number: step})
                assert hint_names(diagnose_loss(stages, got, right, cases)) == [mistake.name]


def outcome(stages, cases, changed):
    """What the stages lead to, where the steps of some, by number, are others."""
    values = []
    for case in cases:
        value = None
        for number, stage in enumerate(stages):
            value = changed.get(number, stage.right)(case, value)
        values.append(float(np.asarray(value)))
    return values


def hint_names(mistakes):
    return [mistake.name for mistake in mistakes]


def test_two_mistakes_are_recognised_together():
    cases = some_cases(1)
    right = outcome(D_STAGES, cases, {})
    got = outcome(D_STAGES, cases, {0: hints.LABELS_SWAPPED.variants[0], 1: lambda _, t: t.real.sum() + t.fake.sum()})
    assert hint_names(diagnose_loss(D_STAGES, got, right, cases)) == ["labels swapped", "summed over the batch"]


@pytest.mark.parametrize("name", STAGES)
def test_random_values_are_not_explained(name):
    rng, stages = np.random.default_rng(0), STAGES[name]
    for seed in range(40):
        cases = some_cases(seed)
        right = outcome(stages, cases, {})
        assert diagnose_loss(stages, rng.normal(1, 1, 3).tolist(), right, cases) == ()


def test_constants_and_infinities_are_recognised():
    cases = [LossCase(np.array([1.0, -2.0]), np.array([0.5, 3.0])), LossCase(np.array([2.0]), np.array([-1.0]))]
    right = outcome(D_STAGES, cases, {})
    assert diagnose_loss(D_STAGES, [math.log(4)] * 2, right, cases) == (hints.CONSTANT,)
    assert diagnose_loss(D_STAGES, [math.inf, 1.0], right, cases) == (hints.LOG_OF_ZERO,)


# --- the networks and the yardstick ---


def test_networks_have_the_shapes_that_students_are_told():
    torch.manual_seed(0)
    images = Generator()(torch.randn(5, Z))
    assert images.shape == (5, 1, 28, 28)
    assert 0 <= images.min() < images.max() <= 1
    assert Discriminator()(images).shape == (5, 1)


def test_images_are_moved_in_training_alone():
    torch.manual_seed(0)
    image, moved = -torch.ones(1, 1, 28, 28), Moved()
    image[0, 0, 10, 20] = 1.0
    places = {tuple((moved(image)[0, 0] == 1).nonzero()[0].tolist()) for _ in range(300)}
    assert places == {(y, x) for y in range(8, 13) for x in range(18, 23)}
    assert torch.equal(moved.eval()(image), image)


def test_distance_is_that_of_two_gaussians():
    """For independent features it is Σ (difference of means)² + (difference of deviations)²."""
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(500, 3))
    sample = (sample - sample.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(sample, rowvar=False))).T
    moved = 3 * sample + np.array([1.0, 0.0, 2.0])
    assert frechet_distance(sample, sample) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(sample, moved) == pytest.approx(5 + 3 * 2**2, rel=1e-9)


@pytest.mark.slow  # 10 s of training
def test_the_yardstick_tells_digits_from_noise():
    torch.manual_seed(0)
    digits = load(DATA, full=False)
    images, held_out = digits.train_images.reshape(-1, 1, 28, 28), digits.test_images.reshape(-1, 1, 28, 28)
    classifier = trained_classifier(images, digits.train_labels, lambda items, *_: items)
    with torch.inference_mode():
        right = (classifier(held_out).argmax(dim=1) == digits.test_labels).float().mean()
    of_real = quality(classifier, images[:1000], held_out, shown=1000)
    of_noise = quality(classifier, torch.rand(1000, 1, 28, 28), held_out, shown=1000)
    assert right > 0.95
    assert of_real.sure > 0.9 > 0.5 > of_noise.sure
    assert of_real.entropy == pytest.approx(math.log(10), abs=0.02)
    assert of_noise.distance > 10 * of_real.distance


# --- the experiments ---


@pytest.fixture
def quick_yardstick(monkeypatch):
    monkeypatch.setattr("src.hw10.networks.digit_classifier.EPOCHS", 1)


def test_a_short_training_leaves_all_files(tmp_path, quick_yardstick):
    files = run_with(tmp_path, iterations=4).files_of(HOMEWORK.part("3c"))
    rows = list(csv.DictReader(io.StringIO(files["gan.csv"].decode())))
    assert [row["digits"] for row in rows] == ["generated, seed 5", "real, to train with"]
    assert [sum(int(row[f"digit {digit}"]) for digit in range(10)) for row in rows] == [200, 200]


def test_an_interrupted_training_goes_on(tmp_path, quick_yardstick, monkeypatch, capsys):
    step = gan.GAN.step

    def interrupted(self, iteration, *arguments):
        if iteration == 3:
            raise KeyboardInterrupt
        return step(self, iteration, *arguments)

    monkeypatch.setattr(gan.GAN, "step", interrupted)
    monkeypatch.setattr(training, "SAVE_SECONDS", -1.0)  # the state is saved after each iteration
    with pytest.raises(KeyboardInterrupt):
        run_with(tmp_path, iterations=5).files_of(HOMEWORK.part("3c"))
    monkeypatch.setattr(gan.GAN, "step", step)
    run_with(tmp_path, iterations=5).files_of(HOMEWORK.part("3c"))
    assert "going on at iteration 3" in capsys.readouterr().out
    assert not list((tmp_path / "work").iterdir())


def test_a_training_step_moves_both_networks(tmp_path):
    run = run_with(tmp_path)
    own = gan.GAN.from_seed(run, 1, run.training("gan"))
    before = [[each.clone() for each in network.parameters()] for network in (own.g, own.d)]
    own.step(0, gan.checked_losses(run, "loss_nonsaturating"), torch.rand(8, 1, 28, 28))
    for old, network in zip(before, (own.g, own.d), strict=True):
        assert any((each != was).any() for each, was in zip(network.parameters(), old, strict=True))


def test_the_minimax_gradient_vanishes_the_other_does_not(tmp_path):
    """The gradients are D and 1 - D times the same, but for what varies within the batch: 5% in an untrained D."""
    run = run_with(tmp_path)
    of = {
        name: gan.gradient_norms(run, gan.checked_losses(run, name)) for name in ("loss_minimax", "loss_nonsaturating")
    }
    d_of_fake, minimax = of["loss_minimax"]
    _, nonsaturating = of["loss_nonsaturating"]
    assert minimax / nonsaturating == pytest.approx(d_of_fake / (1 - d_of_fake), rel=0.05)
    assert minimax[0] < 1e-3 * nonsaturating[0]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("d_loss, g_loss = 1.0, 2.0", "two tensors"),
        ("d_loss = g_loss = torch.tensor(1.0)", "requires a gradient"),
        ("d_loss = g_loss = d(x_real).mean() / 0", "finite"),
        ("return d(x_real)", "two tensors"),
    ],
)
def test_wrong_losses_are_named(tmp_path, block, said):
    questions = tmp_path / "questions"
    questions.mkdir()
    head = "import torch\n\ndef loss_nonsaturating(g, d, x_real, z):\n"
    (questions / "gan.py").write_text(f"{head}    {block}\n    return d_loss, g_loss\n", encoding="utf-8")
    wrong = gan.checked_losses(run_with(tmp_path, questions=questions), "loss_nonsaturating")
    with pytest.raises(StudentCodeError, match=said):
        wrong(Generator(), Discriminator(), torch.rand(4, 1, 28, 28), torch.randn(4, Z))
