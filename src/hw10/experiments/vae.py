"""Problem 2: train a variational autoencoder from several seeds, measure it on held-out digits, draw its own digits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from src.hw10 import mnist
from src.hw10.mnist import SIDE
from src.hw10.networks.vae import VAE
from src.hw10.plots import COLUMNS, ROWS, curves, digit_grid
from src.hw10.run import Run
from src.hw10.tables import table
from src.hw10.training import Loop, Stateful

FILE, FUNCTION = "vae.py", "negative_elbo_bound"
QUANTITIES = ("negative ELBO", "KL", "reconstruction")  # in nats per image
POINTS = 50  # of each curve
DRAWS = 20  # of the pixels and of z, over which the final values are averaged
TRAINED, PLAUSIBLE = 2000, 130  # after so many iterations, the held-out negative ELBO should be below so many nats

Terms = tuple[Tensor, Tensor, Tensor]  # the negative ELBO, the KL term and the reconstruction loss
Elbo = Callable[[VAE, Tensor], Terms]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Trainer:
    """One autoencoder and its optimiser, whose step size falls to 0 along a cosine."""

    seed: int
    vae: VAE
    adam: torch.optim.Adam
    schedule: CosineAnnealingLR

    @property
    def state(self) -> dict[str, Stateful]:
        """What a training goes on from, by name."""
        parts: dict[str, Stateful] = {"vae": self.vae, "adam": self.adam, "schedule": self.schedule}
        return {f"{name} {self.seed}": part for name, part in parts.items()}

    def step(self, elbo: Elbo, images: Tensor) -> float:
        """One step on grey images (B, 784), whose pixels are drawn anew; returns the negative ELBO."""
        loss, _, _ = elbo(self.vae, torch.bernoulli(images))
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.schedule.step()
        return loss.item()

    @torch.no_grad()
    def measure(self, elbo: Elbo, images: Tensor, draws: int) -> list[float]:
        """The three values for grey images (N, 784), averaged over so many draws of their pixels and of z."""
        values = [torch.stack(elbo(self.vae, torch.bernoulli(images))) for _ in range(draws)]  # (3,) each
        means: list[float] = torch.stack(values).mean(dim=0).tolist()
        return means

    @torch.no_grad()
    def draw(self, count: int) -> Tensor:
        """Images (count, 28, 28) of the model: z from the prior, and the probability that each pixel is white."""
        z = torch.randn(count, self.vae.latents, device=next(self.vae.parameters()).device)
        return self.vae.decode(z).sigmoid().reshape(count, SIDE, SIDE)


def train(run: Run) -> Mapping[str, bytes]:
    """vae.csv, vae_curves.png and vae.png: the held-out values, how they came about, and 200 digits."""
    digits, training = mnist.load(run.data, run.full_mnist), run.training("vae")
    train_images, test_images = digits.train_images.to(run.device), digits.test_images.to(run.device)
    elbo, trainers = _checked_elbo(run), [_new_trainer(run, run.seed + i) for i in range(training.seeds)]
    iterations = training.iterations
    state = {name: part for trainer in trainers for name, part in trainer.state.items()}
    with run.loop("vae", FILE, iterations * len(trainers), state) as loop:
        for step in loop:
            trainer, iteration = trainers[step // iterations], step % iterations
            if iteration == 0:
                run.start_from(trainer.seed)
            batch = torch.randint(len(train_images), (training.batch_size,)).to(run.device)
            loop.record(**{f"train {trainer.seed}": trainer.step(elbo, train_images[batch])})
            if (iteration + 1) % _interval(iterations) == 0:
                loop.record(**{f"test {trainer.seed}": trainer.measure(elbo, test_images, 1)[0]})
    run.start_from(run.seed)
    measured = np.array([trainer.measure(elbo, test_images, DRAWS) for trainer in trainers])  # (seeds, 3)
    rows = _rows(measured)
    _report(run, rows, iterations)
    return {
        "vae.csv": table(rows),
        "vae_curves.png": _curves(loop, [trainer.seed for trainer in trainers], iterations),
        "vae.png": digit_grid(trainers[0].draw(ROWS * COLUMNS)),
    }


def _new_trainer(run: Run, seed: int) -> Trainer:
    run.start_from(seed)
    vae, training = VAE().to(run.device), run.training("vae")
    adam = torch.optim.Adam(vae.parameters(), lr=training.learning_rate)
    return Trainer(seed, vae, adam, CosineAnnealingLR(adam, training.iterations))


def _checked_elbo(run: Run) -> Elbo:
    """The student's function for a network and images (B, 784), whose result is checked."""
    function = run.function(FILE, FUNCTION)

    def elbo(vae: VAE, x: Tensor) -> Terms:
        value = function(vae.encode, vae.decode, x)
        try:
            nelbo, kl, rec = (torch.as_tensor(item, device=x.device).float().reshape(()) for item in value)
        except (TypeError, ValueError, RuntimeError):
            expected = "three scalars: the negative ELBO, the KL term and the reconstruction loss"
            raise run.wrong_value(FILE, FUNCTION, value, expected) from None
        if torch.is_grad_enabled() and not nelbo.requires_grad:
            raise run.wrong_value(FILE, FUNCTION, nelbo.item(), "a negative ELBO with a gradient as its first value")
        if not math.isfinite(nelbo.item()):
            raise run.wrong_value(FILE, FUNCTION, nelbo.item(), "a finite negative ELBO as its first value")
        return nelbo, kl, rec

    return elbo


def _interval(iterations: int) -> int:
    """How many iterations there are between two points of a curve."""
    return max(1, iterations // POINTS)


def _rows(measured: Values) -> list[dict[str, str | int | float]]:
    """Mean and standard error over the seeds of each quantity; no error where there is one seed."""
    seeds = len(measured)
    errors = measured.std(axis=0, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.full(len(QUANTITIES), math.nan)
    return [
        {"held-out images": name, "mean": float(mean), "standard error": float(error), "seeds": seeds}
        for name, mean, error in zip(QUANTITIES, measured.mean(axis=0), errors, strict=True)
    ]


def _report(run: Run, rows: Sequence[Mapping[str, str | int | float]], iterations: int) -> None:
    """Print the rows, and say what looks wrong."""
    for row in rows:
        print(f"{row['held-out images']:<15}{row['mean']:>8.2f} ± {row['standard error']:.2f} nats per image")
    if iterations >= TRAINED and float(rows[0]["mean"]) > PLAUSIBLE:
        run.remark(f"vae.csv: a negative ELBO of {rows[0]['mean']:.0f} nats is too much after {iterations} iterations")


def _curves(loop: Loop, seeds: Sequence[int], iterations: int) -> bytes:
    """The negative ELBO over the iterations: means over the seeds, and over the iterations between two points."""
    interval = _interval(iterations)
    points = iterations // interval
    at = interval * np.arange(1, points + 1, dtype=np.float64)
    train = np.array([loop.history[f"train {seed}"][: points * interval] for seed in seeds])
    train = train.reshape(len(seeds), points, interval).mean(axis=(0, 2))
    test = np.array([loop.history[f"test {seed}"][:points] for seed in seeds]).mean(axis=0)
    series = {"training images": (at, train), "held-out images": (at, test)}
    title = f"Negative ELBO, mean of {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    return curves(series, "iteration", "nats per image", title)
