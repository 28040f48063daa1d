"""The diffusion experiment: its schedule, its network, and how it draws with a student's functions."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.errors import StudentCodeError
from src.files import ROOT
from src.hw10.experiments import ddpm
from src.hw10.networks import digit_classifier
from src.hw10.networks.denoiser import Denoiser
from src.hw10.parts import HOMEWORK
from src.hw10.run import Run
from src.hw10.settings import Training, read_config
from src.hw10.training import Loop


@pytest.fixture
def make_run(tmp_path):
    def made(questions=ROOT / "staff/hw10/solution"):
        return Run(
            read_config(HOMEWORK.home / "config.yml"), Path(questions), HOMEWORK.home / "data", tmp_path, 1, "cpu"
        )

    return made


@pytest.fixture
def run_with(make_run, tmp_path):
    """A run with another block of `posterior` or `q_sample` in the reference answers."""

    def made(old, new):
        text = (ROOT / "staff/hw10/solution/diffusion.py").read_text(encoding="utf-8")
        assert old in text
        (tmp_path / "diffusion.py").write_text(text.replace(old, new), encoding="utf-8")
        return make_run(tmp_path)

    return made


class Oracle:
    """Stands for a model that knows the digit."""

    def __init__(self, x_0):
        self.x_0 = x_0

    def guess(self, x_t, t):
        return self.x_0


def test_schedule_ends_in_noise():
    schedule = ddpm.Schedule.cosine(ddpm.STEPS)
    assert torch.allclose(schedule.alpha_bar, (1 - schedule.beta).cumprod(0), atol=1e-6)
    assert schedule.alpha_bar[0] > 0.99
    assert schedule.alpha_bar[-1] < 1e-3
    assert ((schedule.beta > 0) & (schedule.beta < 1)).all()


def test_drawing_ends_where_the_guesses_are(make_run):
    """Steps that know x_0 lead to x_0, through images that are as noisy as q_sample makes them."""
    run, schedule = make_run(), ddpm.Schedule.cosine(ddpm.STEPS)
    torch.manual_seed(3)
    x_0 = torch.where(torch.rand(50, 1, 28, 28) < 0.3, 1.0, -1.0)
    steps = range(ddpm.STEPS - 1, -1, -1)
    path = ddpm.draw(Oracle(x_0), ddpm.checked_posterior(run, schedule), 50, "cpu", steps)
    assert torch.allclose(path.images * 2 - 1, x_0, atol=1e-4)
    for step in ddpm.SHOWN[1:-1]:
        share = schedule.alpha_bar[step]
        noise = path.x_t[step] - share.sqrt() * x_0  # 39,200 numbers
        assert abs(noise.var() / (1 - share) - 1) < 0.05


def test_denoiser_knows_the_step():
    torch.manual_seed(1)
    denoiser = Denoiser(ddpm.STEPS)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)  # some start at 0
    x = torch.randn(2, 1, 28, 28)
    at_3, at_90 = (denoiser(x, torch.full((2,), t)) for t in (3, 90))
    assert at_3.shape == x.shape
    assert not torch.allclose(at_3, at_90, atol=1e-3)
    alone = denoiser(x[1:], torch.full((1,), 3))
    assert torch.allclose(at_3[1:], alone, atol=1e-5)


def test_a_short_training_learns(make_run, tmp_path):
    run, schedule = make_run(), ddpm.Schedule.cosine(ddpm.STEPS)
    torch.manual_seed(2)
    model = ddpm.Model.new("cpu", 2e-3)
    images = torch.zeros(20, 1, 28, 28)
    images[:, :, 8:20, 12:16] = 1
    with Loop(tmp_path, "short", 1, 40, {}) as loop:
        ddpm.fit(model, ddpm.checked_sampler(run, schedule), images, images[:5], loop, Training(40, 8, 2e-3, 1))
    losses = loop.history["train"]
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return share.sqrt() * x_0", "return share.sqrt() * x_0.mean()", None),
        ("return share.sqrt() * x_0 +", "return (share - 2).sqrt() * x_0 +", "must return finite numbers"),
        ("return share.sqrt()", "return 0 * share.flatten() #", "must return finite numbers in the shape of x_0"),
        ("return mean, variance", "return mean", "must return two tensors"),
        ("return mean, variance", "return mean, -variance", "a variance of 0 or more"),
        ("return mean, variance", "return mean, variance / 0", "a finite mean"),
        ("return mean, variance", "return mean, variance.view(1, -1)", "a variance of shape (B, 1, 1, 1)"),
        ("return mean, variance", "return mean, variance.flatten()", None),
    ],
)
def test_wrong_kinds_of_values_are_named(run_with, old, new, message):
    run, schedule = run_with(old, new), ddpm.Schedule.cosine(ddpm.STEPS)

    def try_out():
        sample, posterior = ddpm.checked_sampler(run, schedule), ddpm.checked_posterior(run, schedule)
        ddpm._try_out(sample, posterior, torch.rand(110, 1, 28, 28))

    if message is None:
        try_out()
        return
    with pytest.raises(StudentCodeError) as error:
        try_out()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_whole_experiment_in_short(make_run, monkeypatch):
    """With few steps, and a yardstick that has learnt little: all declared files, and a row for each seed."""
    monkeypatch.setattr(ddpm, "STEPS", 10)
    monkeypatch.setattr(ddpm, "SHOWN", (0, 4, 9))
    monkeypatch.setattr(digit_classifier, "EPOCHS", 1)
    run = make_run()
    training = replace(run.config.experiments["ddpm"], iterations=3, seeds=2)
    run = replace(run, config=replace(run.config, experiments={**run.config.experiments, "ddpm": training}))
    files = run.files_of(HOMEWORK.part("4b"))
    assert files["ddpm_process.png"].startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO(files["ddpm.csv"].decode())))
    assert [row["digits"] for row in rows] == ["drawn, seed 1", "drawn, seed 2", "real, to train with"]
    assert not list(run.work.glob("*.pt"))
