"""One network learns three tasks in turn: naively, with EWC's penalty, or with a memory of old examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src.errors import StudentCodeError
from src.files import shown
from src.hw10.mnist import PIXELS, SIDE, Digits
from src.hw10.run import Run
from src.hw10.settings import Training

FILE: Final = "continual.py"
TASKS: Final = 3
FISHER_EXAMPLES: Final = 200
Accuracies = list[list[float]]  # [after task i][on task j], in percent


@dataclass(frozen=True)
class Task:
    """Digits whose pixels are permuted in the same way."""

    train_images: Tensor  # (N, 1, 28, 28)
    train_labels: Tensor  # (N,)
    test_images: Tensor  # (M, 1, 28, 28)
    test_labels: Tensor  # (M,)


def make_tasks(digits: Digits, device: str) -> list[Task]:
    """The digits as they are, then with two random permutations of the pixels."""
    orders = [torch.arange(PIXELS), *(torch.randperm(PIXELS) for _ in range(TASKS - 1))]
    return [
        Task(
            digits.train_images[:, order].reshape(-1, 1, SIDE, SIDE).to(device),
            digits.train_labels.to(device),
            digits.test_images[:, order].reshape(-1, 1, SIDE, SIDE).to(device),
            digits.test_labels.to(device),
        )
        for order in orders
    ]


class Naive:
    """Learns each task as if there had been no other."""

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """What is minimised at a step, with a batch of the task."""
        return cross_entropy(network(images), labels)

    def finish(self, network: nn.Module, task: Task) -> None:
        """What is kept of a task when it has been learned."""


class Ewc(Naive):
    """Adds λ times the student's penalty for each task that has been learned."""

    def __init__(self, run: Run, strength: float):
        self._run, self._strength = run, strength
        self._fisher = run.function(FILE, "fisher_information")
        self._penalty = run.function(FILE, "ewc_penalty")
        self._learned: list[tuple[list[Tensor], list[Tensor]]] = []  # θ* and F of each task

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        total = super().loss(network, images, labels)
        parameters = list(network.parameters())
        for anchors, fisher in self._learned:
            penalty = self._penalty(parameters, anchors, fisher)
            if not isinstance(penalty, Tensor) or penalty.numel() != 1 or not penalty.requires_grad:
                raise self._run.wrong_value(FILE, "ewc_penalty", penalty, "a scalar that requires a gradient")
            total = total + self._strength * penalty.reshape(())
        return total

    def finish(self, network: nn.Module, task: Task) -> None:
        """θ* is where the parameters are now; F is estimated with labels that are drawn from the network."""
        chosen = torch.randperm(len(task.train_images))[:FISHER_EXAMPLES].to(task.train_images.device)
        images = task.train_images[chosen]
        with torch.no_grad():
            labels = torch.multinomial(network(images).softmax(dim=1), 1).squeeze(1)
        fisher = self._fisher(network, images, labels)
        parameters = list(network.parameters())
        if not _is_fisher(fisher, parameters):
            expected = "a list with a tensor for each parameter, of its shape, finite and from 0 on"
            raise self._run.wrong_value(FILE, "fisher_information", fisher, expected)
        self._learned.append(([each.detach().clone() for each in parameters], [each.detach() for each in fisher]))


def _is_fisher(found: Any, parameters: Sequence[Tensor]) -> bool:
    if not isinstance(found, (list, tuple)) or len(found) != len(parameters):
        return False
    return all(
        isinstance(each, Tensor) and each.shape == parameter.shape and bool((each.isfinite() & (each >= 0)).all())
        for each, parameter in zip(found, parameters, strict=True)
    )


class Rehearsal(Naive):
    """Repeats examples of earlier tasks, of which the student's function keeps some in a bounded memory."""

    def __init__(self, run: Run, capacity: int):
        self._run, self._capacity, self._seen = run, capacity, 0
        self._update = run.function(FILE, "update_memory")
        self._memory: list[tuple[Tensor, int]] = []
        self._images = self._labels = torch.empty(0)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """With as many examples of the memory as of the task, once there are any."""
        if self._memory:
            chosen = torch.randint(len(self._memory), (len(images),)).to(images.device)
            images, labels = torch.cat((images, self._images[chosen])), torch.cat((labels, self._labels[chosen]))
        return super().loss(network, images, labels)

    def finish(self, network: nn.Module, task: Task) -> None:
        """Show the student's function each example of the task once."""
        for example in zip(task.train_images, task.train_labels.tolist(), strict=True):
            self._seen += 1
            self._update(self._memory, example, self._seen, self._capacity)
            if not 0 < len(self._memory) <= self._capacity:
                raise StudentCodeError(
                    f"{shown(self._run.questions / FILE)}: update_memory leaves {len(self._memory)} examples in the "
                    f"memory after {self._seen}; there must be 1 to {self._capacity}"
                )
        if not all(map(_is_example, self._memory)):
            raise StudentCodeError(
                f"{self._run.questions / FILE}: update_memory leaves something else than examples in the memory; each "
                "is a pair of an image and a label"
            )
        images, labels = zip(*self._memory, strict=True)
        self._images, self._labels = torch.stack(images), torch.tensor(labels, device=task.train_labels.device)


def _is_example(each: Any) -> bool:
    if not isinstance(each, (tuple, list)) or len(each) != 2:
        return False
    image, label = each
    return isinstance(image, Tensor) and image.shape == (1, SIDE, SIDE) and isinstance(label, int)


def learn(network: nn.Module, tasks: Sequence[Task], method: Naive, training: Training) -> Accuracies:
    """Learn the tasks in turn, with a new optimiser for each; how good the network is at each after each of them."""
    accuracies = []
    for task in tasks:
        optimizer = torch.optim.Adam(network.parameters(), training.learning_rate)
        for _ in range(training.iterations):
            chosen = torch.randint(len(task.train_images), (training.batch_size,)).to(task.train_images.device)
            loss = method.loss(network, task.train_images[chosen], task.train_labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if not math.isfinite(loss.item()):
            raise StudentCodeError(f"the loss is {loss.item()} after {training.iterations} steps; is a value infinite?")
        if task is not tasks[-1]:
            method.finish(network, task)
        accuracies.append([accuracy(network, each) for each in tasks])
    return accuracies


@torch.inference_mode()
def accuracy(network: nn.Module, task: Task) -> float:
    """How many of 100 held-out images of the task the network recognises."""
    is_right = network(task.test_images).argmax(dim=1) == task.test_labels
    return 100 * float(is_right.float().mean())
