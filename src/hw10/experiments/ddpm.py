"""Problem 4: train a denoiser with the student's `q_sample`, and draw digits with the student's `posterior`."""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import LongTensor, Tensor
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import AveragedModel

from src.hw10 import mnist
from src.hw10.digit_quality import Quality, quality
from src.hw10.mnist import SIDE
from src.hw10.networks.denoiser import Denoiser
from src.hw10.networks.digit_classifier import trained_classifier
from src.hw10.plots import COLUMNS, ROWS, curves, digit_grid, png
from src.hw10.run import Run
from src.hw10.settings import Training
from src.hw10.tables import Row, table
from src.hw10.training import Loop, Stateful

FILE: Final = "diffusion.py"
STEPS: Final = 100  # T
DIGITS: Final = ROWS * COLUMNS
WARM_UP: Final = 100  # iterations until the step size is reached, from which it then falls to 0
MEMORY: Final = 0.995  # of the average of the weights
POINTS: Final = 50  # of each curve
SHOWN: Final = (0, 9, 19, 34, 49, 64, 79, 99)  # the steps in ddpm_process.png
TRAINED, PLAUSIBLE = 1500, 0.5  # after so many iterations, this share of the digits should be clear

Posterior = Callable[[Tensor, Tensor, LongTensor], tuple[Tensor, Tensor]]  # (x_0, x_t, t) → mean and variance
Sampler = Callable[[Tensor, LongTensor, Tensor], Tensor]  # (x_0, t, noise) → x_t


@dataclass(frozen=True)
class Schedule:
    """How much noise each step adds: `beta` and `alpha_bar`, (T,) each."""

    beta: Tensor
    alpha_bar: Tensor

    @classmethod
    def cosine(cls, steps: int) -> "Schedule":
        """alpha_bar falls as a squared cosine, after Nichol and Dhariwal, "Improved denoising diffusion …", 2021."""
        time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        curve = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
        return cls(beta.float(), (1 - beta).cumprod(dim=0).float())

    def to(self, device: str) -> "Schedule":
        return Schedule(self.beta.to(device), self.alpha_bar.to(device))


@dataclass(frozen=True)
class Model:
    """A network that guesses x_0 from x_t, its optimiser, and an average of its weights, which draws better."""

    network: Denoiser
    average: AveragedModel
    adam: torch.optim.Adam
    learning_rate: float

    @classmethod
    def new(cls, device: str, learning_rate: float) -> "Model":
        network = Denoiser(STEPS).to(device)
        average = AveragedModel(network, avg_fn=_follow)
        return cls(network, average, torch.optim.Adam(network.parameters(), learning_rate), learning_rate)

    def step(self, share_done: float, iteration: int, x_0: Tensor, x_t: Tensor, t: LongTensor) -> float:
        """One step of the optimiser; returns the mean squared error of the guesses."""
        rate = min(1, (iteration + 1) / WARM_UP) * (1 + math.cos(math.pi * share_done)) / 2
        self.adam.param_groups[0]["lr"] = self.learning_rate * rate
        loss = mse_loss(self.network(x_t, t), x_0)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.average.update_parameters(self.network)
        return loss.item()

    @torch.no_grad()
    def guess(self, x_t: Tensor, t: LongTensor) -> Tensor:
        """x_0, from -1 for black to 1 for white."""
        guess: Tensor = self.average(x_t, t)
        return guess.clamp(-1, 1)


def _follow(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """The average over the last iterations; at first, over all of them."""
    return average.lerp(now, max(1 - MEMORY, 1 / (1 + float(count))))


@dataclass(frozen=True)
class Path:
    """How digits came about."""

    images: Tensor  # (N, 1, 28, 28)
    x_t: Mapping[int, Tensor]  # step → what stood there before it was taken back, (N, 1, 28, 28)
    guesses: Mapping[int, Tensor]  # step → the guess of x_0 then


@dataclass(frozen=True)
class Task:
    """What does not depend on the seed."""

    training: Training
    sample: Sampler
    posterior: Posterior
    images: Tensor  # (N, 1, 28, 28), from 0 to 1
    held_out: Tensor  # (M, 1, 28, 28)


def train(run: Run) -> Mapping[str, bytes]:
    """ddpm.png, ddpm_curves.png, ddpm_process.png and ddpm.csv: 200 digits, the loss, one digit's way, the quality.

    The pictures are those of the first seed.
    """
    training, schedule, digits = run.training("ddpm"), Schedule.cosine(STEPS).to(run.device), _digits(run)
    images, held_out = (each.reshape(-1, 1, SIDE, SIDE) for each in (digits.train_images, digits.test_images))
    sample, posterior = checked_sampler(run, schedule), checked_posterior(run, schedule)
    _try_out(sample, posterior, images[:DIGITS])
    task, seeds = Task(training, sample, posterior, images, held_out), [run.seed + i for i in range(training.seeds)]
    with contextlib.ExitStack() as begun:  # the state of a finished training is kept until all are done
        of_seeds = [_trained(run, seed, task, begun) for seed in seeds]
    (loop, path), *_ = of_seeds
    classifier = trained_classifier(images, digits.train_labels, run.progress)
    drawn, real = [quality(classifier, each.images, held_out) for _, each in of_seeds], images[:DIGITS]
    of_real = quality(classifier, real, held_out)
    _report(run, drawn, of_real, training.iterations)
    rows = [_row(f"drawn, seed {seed}", each) for seed, each in zip(seeds, drawn, strict=True)]
    return {
        "ddpm.png": digit_grid(path.images.reshape(-1, SIDE, SIDE)),
        "ddpm_curves.png": _curves(loop, training.iterations),
        "ddpm_process.png": _process(sample, images[:1], path),
        "ddpm.csv": table([*rows, _row("real, to train with", of_real)]),
    }


def _digits(run: Run) -> mnist.Digits:
    digits = mnist.load(run.data, run.full_mnist)
    return mnist.Digits(*(getattr(digits, field.name).to(run.device) for field in fields(digits)))


def _trained(run: Run, seed: int, task: Task, begun: contextlib.ExitStack) -> tuple[Loop, Path]:
    """Train a model from `seed`, and draw with it."""
    training = task.training
    run.start_from(seed)
    model = Model.new(run.device, training.learning_rate)
    state: dict[str, Stateful] = {"network": model.network, "average": model.average, "adam": model.adam}
    loop = begun.enter_context(run.loop("ddpm", FILE, training.iterations, state, seed=seed))
    fit(model, task.sample, task.images, task.held_out[:DIGITS], loop, training)
    run.start_from(seed)
    steps = run.progress(range(STEPS - 1, -1, -1), "drawing", "step")
    return loop, draw(model, task.posterior, DIGITS, run.device, steps)


def fit(model: Model, sample: Sampler, images: Tensor, held_out: Tensor, loop: Loop, training: Training) -> None:
    """Train `model` to guess images (N, 1, 28, 28), from 0 to 1, from what `sample` makes of them."""
    iterations = training.iterations
    every = max(1, iterations // POINTS)
    x_test, t_test = held_out * 2 - 1, torch.arange(len(held_out), device=held_out.device) % STEPS
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0)).to(held_out.device)
    x_t_test = sample(x_test, t_test, noise)  # type: ignore[arg-type] # int64; the same noise for each point of the curve
    for iteration in loop:
        x_0 = images[torch.randint(len(images), (training.batch_size,)).to(images.device)] * 2 - 1
        t = _random_steps(x_0)
        x_t = sample(x_0, t, torch.randn_like(x_0))
        loop.record(train=model.step(iteration / iterations, iteration, x_0, x_t, t))
        if (iteration + 1) % every == 0:
            loop.record(test=mse_loss(model.guess(x_t_test, t_test), x_test).item())  # type: ignore[arg-type]


def _random_steps(images: Tensor) -> LongTensor:
    t: LongTensor = torch.randint(STEPS, (len(images),)).to(images.device)  # type: ignore[assignment] # int64
    return t


@torch.no_grad()
def draw(model: Model, posterior: Posterior, count: int, device: str, steps: Iterable[int]) -> Path:
    """So many digits: start with noise, and take the `steps` back, in this order. x_0 is guessed anew at each."""
    x, seen, guesses = torch.randn(count, 1, SIDE, SIDE).to(device), {}, {}
    for step in steps:
        t = torch.full((count,), step, device=device)
        guess = model.guess(x, t)  # type: ignore[arg-type] # int64
        if step in SHOWN:
            seen[step], guesses[step] = x, guess
        mean, variance = posterior(guess, x, t)  # type: ignore[arg-type] # int64
        x = mean + variance.sqrt() * torch.randn_like(x)
    return Path((x.clamp(-1, 1) + 1) / 2, seen, guesses)


# --- the student's functions ---


def checked_sampler(run: Run, schedule: Schedule) -> Sampler:
    """The student's `q_sample`, whose result is checked."""
    function = run.function(FILE, "q_sample")

    def sample(x_0: Tensor, t: LongTensor, noise: Tensor) -> Tensor:
        value = function(x_0, t, schedule.alpha_bar, noise)
        if not isinstance(value, Tensor) or value.shape != x_0.shape or not value.isfinite().all():
            raise run.wrong_value(FILE, "q_sample", value, f"finite numbers in the shape of x_0, {tuple(x_0.shape)}")
        return value.to(x_0)

    return sample


def checked_posterior(run: Run, schedule: Schedule) -> Posterior:
    """The student's `posterior`, whose results are checked; a variance that rounding has made negative becomes 0."""
    function = run.function(FILE, "posterior")

    def posterior(x_0: Tensor, x_t: Tensor, t: LongTensor) -> tuple[Tensor, Tensor]:
        value = function(x_0, x_t, t, schedule.beta, schedule.alpha_bar)
        pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, None)
        mean, variance = pair
        if not isinstance(mean, Tensor) or mean.shape != x_0.shape or not isinstance(variance, Tensor):
            expected = f"two tensors: the mean in the shape of x_0, {tuple(x_0.shape)}, and the variance"
            raise run.wrong_value(FILE, "posterior", value, expected)
        if variance.shape == t.shape:
            variance = variance[:, None, None, None]
        if variance.shape not in ((len(t), 1, 1, 1), x_0.shape):
            raise run.wrong_value(FILE, "posterior", variance, "a variance of shape (B, 1, 1, 1)")
        if not (mean.isfinite().all() and variance.isfinite().all() and (variance > -1e-4).all()):
            raise run.wrong_value(
                FILE, "posterior", value, f"a finite mean, and a variance of 0 or more, also at t = {int(t.min())}"
            )
        return mean.to(x_0), variance.clamp(min=0).to(x_0)

    return posterior


def _try_out(sample: Sampler, posterior: Posterior, images: Tensor) -> None:
    """Call both functions, so that what is wrong with `posterior` shows before the training."""
    x_0, t = images * 2 - 1, torch.arange(len(images), device=images.device) % STEPS
    x_t = sample(x_0, t, torch.randn_like(x_0))  # type: ignore[arg-type] # int64
    posterior(x_0, x_t, t)  # type: ignore[arg-type]


# --- what is left of it ---


def _report(run: Run, of_seeds: Sequence[Quality], real: Quality, iterations: int) -> None:
    """Print what was measured, and say what looks wrong."""
    for drawn in of_seeds:
        print(
            f"ddpm: {DIGITS} digits, of which {drawn.sure:.0%} are clearly one (real ones: {real.sure:.0%}); "
            f"{min(drawn.counts)} to {max(drawn.counts)} of each; distance to held-out digits {drawn.distance:.1f} "
            f"(real ones: {real.distance:.1f})"
        )
        if iterations >= TRAINED and drawn.sure < PLAUSIBLE:
            run.remark(
                f"ddpm.png: only {drawn.sure:.0%} of the digits are clear after {iterations} iterations; "
                "python grader.py diffusion.py says whether q_sample and posterior are right"
            )


def _row(name: str, measured: Quality) -> Row:
    counts = {f"digit {digit}": count for digit, count in enumerate(measured.counts)}
    numbers = {"sure": measured.sure, "entropy": measured.entropy, "distance": measured.distance}
    return {"digits": name, **numbers, **counts}


def _curves(loop: Loop, iterations: int) -> bytes:
    """The error of the guesses over the iterations: of single batches, averaged, and of held-out digits."""
    every = max(1, iterations // POINTS)
    points = iterations // every
    at = every * np.arange(1, points + 1, dtype=np.float64)
    train = np.array(loop.history["train"][: points * every]).reshape(points, every).mean(axis=1)
    test = np.array(loop.history["test"][:points])
    series = {"training images": (at, train), "held-out images": (at, test)}
    return curves(series, "iteration", "mean squared error", "The error of the guess of x_0, over all steps")


def _process(sample: Sampler, image: Tensor, path: Path) -> bytes:
    """A real digit on its way to noise, and noise on its way to a digit, with what the network sees in it."""
    x_0, noise = image * 2 - 1, torch.randn_like(image)
    forward = [sample(x_0, torch.tensor([step], device=image.device), noise) for step in SHOWN]  # type: ignore[arg-type]
    rows: dict[str, list[Tensor | None]] = {
        "q_sample": [x_0, *forward],
        "posterior": [path.images * 2 - 1, *(path.x_t[step] for step in SHOWN)],
        "guess of x_0": [None, *(path.guesses[step] for step in SHOWN)],
    }
    figure = Figure(figsize=(1.1 * (len(SHOWN) + 1), 3.9), layout="constrained")
    grid = figure.subplots(len(rows), len(SHOWN) + 1)
    titles = ["x_0", *(f"t = {step}" for step in SHOWN)]
    for (label, shown), axes_of_row in zip(rows.items(), grid, strict=True):
        axes_of_row[0].set_ylabel(label)
        for title, x, axes in zip(titles, shown, axes_of_row, strict=True):
            axes.set(xticks=[], yticks=[], title=title if label == "q_sample" else "")
            axes.spines[:].set_visible(False)
            if x is not None:
                axes.imshow(x[0, 0].cpu().numpy(), cmap="gray", vmin=-1, vmax=1)
    return png(figure)
