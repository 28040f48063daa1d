"""A language model that is a table: small enough that everything about it can be enumerated."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class TableConfig:
    top_k: int


class TableModel:
    """p(next | last two tokens) from a table of random logits (V, V, V); speaks GPT2's interface, in float64.

    It notes what it is called with, and complains where `past` and the new tokens don't fit together.
    """

    def __init__(self, vocab_size: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(vocab_size, vocab_size, vocab_size, generator=generator, dtype=torch.float64)
        self.vocab_size = vocab_size
        self.calls: list[tuple[tuple[int, ...], int]] = []  # shape of input_ids, length of past

    def __call__(self, input_ids: Tensor, past: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        known = past[0] if past is not None else input_ids[:, :0]
        if known.size(0) == 1:
            known = known.expand(input_ids.size(0), -1)
        self.calls.append((tuple(input_ids.shape), known.size(1)))
        ids = torch.cat((known, input_ids), dim=1)
        before = torch.cat((torch.zeros_like(ids[:, :1]), ids[:, :-1]), dim=1)
        return self.table[before, ids][:, known.size(1) :], [ids]

    def next_probabilities(self, ids: list[int], top_k: int) -> list[float]:
        """p(· | ids) over the vocabulary, filtered to the top k and renormalised; plain Python floats."""
        logits = self.table[ids[-2] if len(ids) > 1 else 0, ids[-1]].tolist()
        smallest = sorted(logits)[-top_k] if top_k else -math.inf
        weights = [math.exp(logit) if logit >= smallest else 0.0 for logit in logits]
        return [weight / sum(weights) for weight in weights]

    def joint_marginal(self, ids: list[int], top_k: int, temperature: float) -> list[float]:
        """p_T^{joint-2}(x_i | ids), by enumerating all pairs of next tokens."""
        marginal = [0.0] * self.vocab_size
        for a, b in itertools.product(range(self.vocab_size), repeat=2):
            joint = self.next_probabilities(ids, top_k)[a] * self.next_probabilities([*ids, a], top_k)[b]
            marginal[a] += joint ** (1 / temperature) if joint > 0 else 0.0
        return [weight / sum(marginal) for weight in marginal]
