"""Problem 3: train a GAN on digits and measure what it draws, and see the minimax loss lose its gradient."""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from src.hw10 import mnist
from src.hw10.digit_quality import Quality, quality
from src.hw10.networks.digit_classifier import DigitClassifier, trained_classifier
from src.hw10.networks.gan import Discriminator, Generator, Z
from src.hw10.plots import COLUMNS, ROWS, digit_grid, png
from src.hw10.run import Run
from src.hw10.settings import Training
from src.hw10.tables import Row, table
from src.hw10.training import Loop, Stateful

FILE: Final = "gan.py"
DIGITS: Final = ROWS * COLUMNS
MANY: Final = 1000  # images whose features are compared with those of real ones
POINTS: Final = 25  # of the curves of quality
WINDOWS: Final = 100  # over which the curves of the losses are averaged
BETAS: Final = (0.5, 0.999)  # of Adam, as for the DCGAN
MEMORY: Final = 0.998  # of the average of the generator's weights
DECAY: Final = 0.6  # the share of the iterations in which the step size falls to 0
ENOUGH: Final = 2000  # iterations after which every digit should be drawn now and then
SHIFTS: Final = np.linspace(-10, 10, 41)  # of the discriminator's logits, for the plot of the gradients

Losses = Callable[[nn.Module, nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def train(run: Run) -> Mapping[str, bytes]:
    """gan.png, gan_curves.png and gan.csv: 200 digits, how losses and quality went, and the quality at the end."""
    training, losses = run.training("gan"), checked_losses(run, "loss_nonsaturating")
    judge = Judge.trained(run)
    seeds = [run.seed + i for i in range(training.seeds)]
    gans = [GAN.from_seed(run, seed, training) for seed in seeds]
    with contextlib.ExitStack() as begun:  # the state of a finished training is kept until all are done
        loops = [_trained(run, gan, losses, judge, begun) for gan in gans]
    of_seeds = [judge.quality(gan.average) for gan in gans]
    report(run, of_seeds, judge)
    rows = [_row(f"generated, seed {seed}", each) for seed, each in zip(seeds, of_seeds, strict=True)]
    return {
        "gan.png": digit_grid(judge.draw(gans[0].average)[:DIGITS]),
        "gan_curves.png": _curves(loops[0], judge),
        "gan.csv": table([*rows, _row("real, to train with", judge.of_real)]),
    }


def checked_losses(run: Run, function: str) -> Losses:
    """The student's function, whose result is checked."""
    own = run.function(FILE, function)

    def losses(g: nn.Module, d: nn.Module, x_real: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        value: Any = own(g, d, x_real, z)
        pair = value if isinstance(value, (tuple, list)) and len(value) == 2 else ()
        if not pair or not all(isinstance(loss, Tensor) and loss.numel() == 1 for loss in pair):
            raise run.wrong_value(FILE, function, value, "two tensors with one number each: d_loss, g_loss")
        for name, loss in zip(("d_loss", "g_loss"), pair, strict=True):
            if not loss.requires_grad:
                raise run.wrong_value(FILE, function, loss, f"a {name} that requires a gradient")
            if not math.isfinite(loss.item()):
                raise run.wrong_value(FILE, function, loss, f"a finite {name}")
        return pair[0], pair[1]

    return losses


@dataclass(frozen=True)
class GAN:
    """Two networks, their optimisers, and an average of the generator over the last iterations, which draws best."""

    g: Generator
    d: Discriminator
    average: Generator
    adam_g: torch.optim.Adam
    adam_d: torch.optim.Adam
    training: Training
    seed: int

    @classmethod
    def from_seed(cls, run: Run, seed: int, training: Training) -> "GAN":
        """Untrained networks."""
        run.start_from(seed)
        g, d = Generator().to(run.device), Discriminator().to(run.device)
        adam_g, adam_d = (torch.optim.Adam(each.parameters(), training.learning_rate, BETAS) for each in (g, d))
        return cls(g, d, copy.deepcopy(g).eval(), adam_g, adam_d, training, seed)

    def state(self) -> Mapping[str, Stateful]:
        """What changes in an iteration."""
        return {"g": self.g, "d": self.d, "average": self.average, "adam_g": self.adam_g, "adam_d": self.adam_d}

    def step(self, iteration: int, losses: Losses, x_real: Tensor) -> tuple[float, float]:
        """One step of both networks, each down its own loss. Returns both losses."""
        z = torch.randn(len(x_real), Z).to(x_real.device)
        d_loss, g_loss = losses(self.g, self.d, x_real, z)
        left = 1 - iteration / self.training.iterations
        for adam, network, loss in ((self.adam_d, self.d, d_loss), (self.adam_g, self.g, g_loss)):
            adam.param_groups[0]["lr"] = self.training.learning_rate * min(1, left / DECAY)
            adam.zero_grad()
            loss.backward(inputs=list(network.parameters()), retain_graph=loss is d_loss)  # type: ignore[no-untyped-call]
        self.adam_d.step()
        self.adam_g.step()
        self._follow(min(MEMORY, (1 + iteration) / (10 + iteration)))  # first the average forgets how it began
        return d_loss.item(), g_loss.item()

    @torch.no_grad()
    def _follow(self, memory: float) -> None:
        of_g = self.g.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(of_g[name], 1 - memory)


@dataclass(frozen=True)
class Judge:
    """A classifier of real digits, which tells how good others are, and the noise of which all are made."""

    classifier: DigitClassifier
    images: Tensor  # (N, 1, 28, 28), real ones, to train with
    held_out: Tensor  # (M, 1, 28, 28)
    noise: Tensor  # (MANY, Z)

    @classmethod
    def trained(cls, run: Run) -> "Judge":
        """One that has learnt the digits."""
        digits = mnist.load(run.data, run.full_mnist)
        shape = (-1, 1, mnist.SIDE, mnist.SIDE)
        images, held_out = (each.reshape(shape).to(run.device) for each in (digits.train_images, digits.test_images))
        classifier = trained_classifier(images, digits.train_labels.to(run.device), run.progress)
        return cls(classifier, images, held_out, torch.randn(MANY, Z).to(run.device))

    @torch.inference_mode()
    def draw(self, g: Generator) -> Tensor:
        """Images (MANY, 1, 28, 28); the picture shows the first of them."""
        images: Tensor = g(self.noise)
        return images

    def quality(self, g: Generator) -> Quality:
        """Of the digits in the picture; the distance is that of all."""
        images = self.draw(g)
        return quality(self.classifier, images, self.held_out, shown=DIGITS)

    @property
    def of_real(self) -> Quality:
        """Of as many real digits."""
        return quality(self.classifier, self.images[:MANY], self.held_out, shown=DIGITS)


def _trained(run: Run, gan: GAN, losses: Losses, judge: Judge, begun: contextlib.ExitStack) -> Loop:
    """Train `gan`; the loop that is returned has the curves."""
    training = gan.training
    run.start_from(gan.seed)
    loop = begun.enter_context(run.loop("gan", FILE, training.iterations, gan.state(), seed=gan.seed))
    every = max(1, training.iterations // POINTS)
    for iteration in loop:
        x_real = judge.images[torch.randint(len(judge.images), (training.batch_size,)).to(run.device)]
        d_loss, g_loss = gan.step(iteration, losses, x_real)
        loop.record(d_loss=d_loss, g_loss=g_loss)
        if (iteration + 1) % every == 0:
            now = judge.quality(gan.average)
            loop.record(at=iteration + 1, sure=now.sure, distance=now.distance)
    return loop


def report(run: Run, of_seeds: Sequence[Quality], judge: Judge) -> None:
    """Print what was measured, and what looks wrong."""
    real = judge.of_real
    for drawn in of_seeds:
        print(
            f"gan: {DIGITS} digits, of which {drawn.sure:.0%} are clearly one (real ones: {real.sure:.0%}); "
            f"{min(drawn.counts)} to {max(drawn.counts)} of each; distance to held-out digits {drawn.distance:.1f} "
            f"(real ones: {real.distance:.1f})"
        )
        if min(drawn.counts) == 0 and run.training("gan").iterations >= ENOUGH:
            missing = ", ".join(str(digit) for digit, count in enumerate(drawn.counts) if not count)
            run.remark(f"3c: no {missing} among {DIGITS} digits, which points to a wrong loss")


def _row(name: str, measured: Quality) -> Row:
    counts = {f"digit {digit}": count for digit, count in enumerate(measured.counts)}
    numbers = {"sure": measured.sure, "entropy": measured.entropy, "distance": measured.distance}
    return {"digits": name, **numbers, **counts}


def _curves(loop: Loop, judge: Judge) -> bytes:
    """Both losses, the share of clear digits and the distance to real ones, over the iterations."""
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, label, at_optimum in (("d_loss", "discriminator", math.log(4)), ("g_loss", "generator", math.log(2))):
        xs, ys = _averaged(loop.history[name])
        (line,) = left.plot(xs, ys, label=label, linewidth=1.4)
        left.axhline(at_optimum, color=line.get_color(), linestyle=":", linewidth=1)
    left.legend(frameon=False)
    at, real = loop.history.get("at", []), judge.of_real
    middle.plot(at, loop.history.get("sure", []), linewidth=1.4)
    middle.axhline(real.sure, color="0.5", linestyle=":", linewidth=1)
    right.plot(at, loop.history.get("distance", []), linewidth=1.4)
    right.axhline(real.distance, color="0.5", linestyle=":", linewidth=1)
    _dress(left, "iteration", "loss", "losses; dotted: at the optimum")
    _dress(middle, "iteration", f"share of {DIGITS}", "clear digits; dotted: real ones")
    _dress(right, "iteration", "distance", "distance to held-out digits")
    middle.set_ylim(0, 1)
    right.set_yscale("log")
    return png(figure)


def _averaged(values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middles of `WINDOWS` windows of the iterations, and the means in them."""
    windows = np.array_split(np.arange(len(values)), min(WINDOWS, len(values)))
    of_window = np.array([[window.mean(), np.take(values, window).mean()] for window in windows])
    return of_window[:, 0], of_window[:, 1]


def _dress(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.spines[["top", "right"]].set_visible(False)


# --- 3d ---


class Shifted(nn.Module):
    """A discriminator whose logits are all moved by the same number."""

    def __init__(self, d: nn.Module, shift: float):
        super().__init__()
        self.d, self.shift = d, shift

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.d(images) + self.shift
        return logits


def vanishing_gradient(run: Run) -> Mapping[str, bytes]:
    """vanishing_gradient.png: the gradient of both losses of the generator, over D(G(z)).

    The networks are untrained, and stay as they are. What changes is how sure the discriminator is that images are
    generated: its logits are moved down, and up.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for function, label in (("loss_minimax", "minimax"), ("loss_nonsaturating", "non-saturating")):
        d_of_fake, norms = gradient_norms(run, checked_losses(run, function))
        axes.plot(d_of_fake, norms, label=label, linewidth=1.6)
    axes.axvline(0.5, color="0.5", linestyle=":", linewidth=1)
    axes.set_xscale("logit")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    _dress(axes, "D(G(z))", "norm of the gradient", "The gradient that trains the generator")
    return {"vanishing_gradient.png": png(figure)}


def gradient_norms(run: Run, losses: Losses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each shift of the logits: the mean of D(G(z)), and the norm of g_loss's gradient for the generator."""
    run.start_from(run.seed)
    g, d = Generator().to(run.device), Discriminator().to(run.device).eval()  # which moves no images
    z, x_real = torch.randn(64, Z).to(run.device), torch.rand(64, 1, mnist.SIDE, mnist.SIDE).to(run.device)
    found = []
    for shift in SHIFTS.tolist():
        shifted = Shifted(d, shift)
        _, g_loss = losses(g, shifted, x_real, z)
        gradients = torch.autograd.grad(g_loss, list(g.parameters()), allow_unused=True)
        norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients if gradient is not None))
        with torch.no_grad():
            found.append((torch.sigmoid(shifted(g(z))).mean().item(), norm))
    values = np.array(found)
    return values[:, 0], values[:, 1]
