"""Metropolis-Hastings with p as the proposal, on the small model: samples of it, and its exact distribution."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from src.hw1.long_horizon.joint import Joint
from src.hw1.long_horizon.training import draw
from src.hw1.oracle import Floats

Accept = Callable[[Tensor, Tensor, float], Tensor]  # the student's `metropolis_accept`

CHUNK = 256  # texts whose moves to all others are computed at once


def run_chains(p: Joint, accept: Accept, temperature: float, count: int, steps: Iterable[int], seed: int) -> Floats:
    """How often `count` independent chains end at each text, (V, ..., V). Every chain starts with a sample of p.

    Raises:
        BaseException: whatever the student's function raises.
    """
    generator = torch.Generator().manual_seed(seed)
    log_p = torch.from_numpy(p.log_p.reshape(-1))
    current = draw(p, count, generator)
    for _ in steps:
        proposed = draw(p, count, generator)
        chance = accept(log_p[proposed], log_p[current], temperature)
        moves = torch.rand(count, generator=generator, dtype=torch.float64) < chance
        current = torch.where(moves, proposed, current)
    return np.asarray(torch.bincount(current, minlength=len(log_p)).numpy(), np.float64).reshape(p.log_p.shape)


def distributions(p: Joint, accept: Accept, temperature: float, steps: int) -> list[Floats]:
    """The logarithm of the exact distribution of a chain after 0, 1, ..., `steps` steps, (V, ..., V) each.

    Raises:
        BaseException: whatever the student's function raises.
    """
    log_p = torch.from_numpy(p.log_p.reshape(-1))
    moves = _moves(log_p, accept, temperature)
    current, found = log_p.exp(), [p.log_p]
    for _ in range(steps):
        current = current @ moves + current * (1 - moves.sum(dim=1))  # those that move, and those that stay
        found.append(current.log().numpy().reshape(p.log_p.shape))
    return found


def _moves(log_p: Tensor, accept: Accept, temperature: float) -> Tensor:
    """The probability of a move from each text to each, (V^n, V^n)."""
    size, rows = len(log_p), []
    for old in torch.split(log_p, CHUNK):
        new = log_p.repeat(len(old))  # (len(old) * V^n,)
        chance = accept(new, old.repeat_interleave(size), temperature)
        rows.append(chance.reshape(-1, size) * log_p.exp())
    return torch.cat(rows)
