"""Long-horizon temperature for a language model: a copy q of it, trained on its own samples, weighted by the student.

After Shih, Sadigh and Ermon, "Long Horizon Temperature Scaling" (2023): weights that look HORIZON tokens ahead, above a
baseline for each position and clipped, and a small share of KL(q ‖ p), which holds q near p. The baseline is the mean
of all samples, which are drawn before the training begins; the paper's is a running mean.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from src.hw1.dataset import read_papers
from src.hw1.messages import Ids
from src.hw1.run import PROMPT_TOKENS, Run
from src.model import checkpoint
from src.model.gpt2 import GPT2

TEMPERATURE, HORIZON = 0.9, 8
CLIP, KL_SHARE, LEARNING_RATE = 3.0, 0.05, 1e-4
HELD_OUT, TEXTS_EACH = 8, 16  # abstracts whose beginnings are continued to compare the ways to sample, and how often
SAMPLES, LENGTH = 2048, 64  # texts drawn from p to train on, and the tokens of each
BATCH, EPOCHS = 32, 2
MYOPIC = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # temperatures; the one at which horizon 1 is as diverse as q is added

Sampler = Callable[..., Tensor]  # the student's `sample`
Weights = Callable[[Tensor, float, int], Tensor]  # the student's `horizon_weights`


@dataclass(frozen=True)
class Measured:
    """What one way to sample gives."""

    temperature: float
    horizon: int  # HORIZON: that of q, which was trained for it
    log_p: float  # mean log-likelihood of a token under p, in nats
    error: float  # its standard error, over texts
    distinct: tuple[float, float]  # the share of pairs, and of triples, of tokens that are different

    @property
    def name(self) -> str:
        """What it is, for a person."""
        if self.temperature == 1:
            return "T = 1"
        return f"T = {self.temperature:.3g}, horizon {self.horizon}" + (", trained" if self.horizon == HORIZON else "")


def compare(run: Run) -> list[Measured]:
    """q, and the ways to sample that need no training, after the same prompts; by horizon.

    Raises:
        StudentCodeError: a function returned the wrong kind of value.
        BaseException: whatever the student's functions raise.
    """
    training_prompts, prompts = _prompts(run)
    _weights(run, torch.zeros(1, LENGTH))  # so that a block which is not written shows now, and not in some minutes
    myopic = [
        _measured(run, T, 1, _continued(run, run.model, prompts, T, 1))
        for T in run.progress(MYOPIC, "horizon 1", "temperature")
    ]
    one_by_one = run.progress(torch.split(prompts, 1), "horizon 2", "text")  # it takes one text at a time
    ahead = torch.cat([_continued(run, run.model, prompt, TEMPERATURE, 2) for prompt in one_by_one])
    q = _trained(run, _samples(run, training_prompts))
    ours = _measured(run, TEMPERATURE, HORIZON, _continued(run, q, prompts, 1.0, 1))
    T = temperature_at(myopic, ours.distinct[0])
    if T is not None:
        myopic.append(_measured(run, T, 1, _continued(run, run.model, prompts, T, 1)))
    return [*myopic, _measured(run, TEMPERATURE, 2, ahead), ours]


def lines_of(measured: Sequence[Measured]) -> list[str]:
    """The numbers, as a table for the terminal."""
    found = [f"{'':<30}log p of a token    distinct pairs, triples"]
    for each in measured:
        pairs, triples = each.distinct
        found.append(f"{each.name:<30}{each.log_p:>7.3f} ± {each.error:.3f}     {pairs:>10.3f}  {triples:>9.3f}")
    return found


def temperature_at(myopic: Sequence[Measured], distinct: float) -> float | None:
    """At which temperature the share of different pairs is `distinct`: the first one between two that were measured."""
    for warm, cold in itertools.pairwise(myopic):
        most, least = warm.distinct[0], cold.distinct[0]
        if most >= distinct >= least and most > least:
            return cold.temperature + (warm.temperature - cold.temperature) * (distinct - least) / (most - least)
    return None


def _prompts(run: Run) -> tuple[Tensor, Tensor]:
    """Pieces of most abstracts, to train on; the beginnings of the others, TEXTS_EACH times; (N, PROMPT_TOKENS)."""
    encoded = [run.encode(paper["Abstract"].strip()) for paper in read_papers(run.data / "papers.csv")]
    pieces = [ids[0].unfold(0, PROMPT_TOKENS, PROMPT_TOKENS) for ids in encoded]
    beginnings = torch.stack([each[0] for each in pieces[-HELD_OUT:]])
    return torch.cat(pieces[:-HELD_OUT]), beginnings.repeat_interleave(TEXTS_EACH, dim=0)


def _continued(run: Run, model: GPT2, prompts: Tensor, temperature: float, horizon: int, top_k: int = -1) -> Tensor:
    """The prompts (B, PROMPT_TOKENS), each with LENGTH tokens that the student's `sample` draws.

    Raises:
        StudentCodeError: it returned anything else.
    """
    sample: Sampler = run.function("sample.py", "sample")
    config = run.config if top_k < 0 else dataclasses.replace(run.config, top_k=top_k)
    T = None if temperature == 1 else temperature
    texts = sample(model, prompts, config, LENGTH, T, horizon)
    expected = (len(prompts), PROMPT_TOKENS + LENGTH)
    if not isinstance(texts, Tensor) or texts.dtype != torch.long or texts.shape != expected:
        raise run.wrong_value("sample.py", "sample", texts, f"a LongTensor of shape {expected}")
    return texts


def _samples(run: Run, prompts: Tensor) -> Tensor:
    """SAMPLES texts, each of a prompt and LENGTH tokens drawn from p itself: without a filter."""
    chosen = prompts[torch.randint(len(prompts), (SAMPLES,), device=prompts.device)]
    batches = run.progress(torch.split(chosen, 8 * BATCH), "samples of p", "batch")
    return torch.cat([_continued(run, run.model, each, 1.0, 1, top_k=0) for each in batches])


def _drawn(model: GPT2, texts: Tensor) -> tuple[Categorical, Tensor]:
    """The distributions of the tokens after each prompt, and the log-probabilities of those of `texts`, (B, LENGTH)."""
    logits, _ = model(texts)
    of_each = Categorical(logits=logits[:, PROMPT_TOKENS - 1 : -1], validate_args=False)
    return of_each, of_each.log_prob(texts[:, PROMPT_TOKENS:])  # type: ignore[no-untyped-call]


def _trained(run: Run, texts: Tensor) -> GPT2:
    """q: a copy of p, trained on `texts`."""
    q, _ = checkpoint.load(run.config, checkpoint.locate(run.config), run.device)  # without oneDNN: it is to be trained
    q.requires_grad_(True)
    with torch.no_grad():
        batches = run.progress(torch.split(texts, BATCH), "log p", "batch")
        log_p = torch.cat([_drawn(run.model, each)[1] for each in batches])
    weights = _weights(run, log_p - log_p.mean(dim=0))
    optimizer = torch.optim.Adam(q.parameters(), lr=LEARNING_RATE)
    order = torch.cat([torch.randperm(len(texts)) for _ in range(EPOCHS)]).to(run.device)
    for chosen in run.progress(torch.split(order, BATCH), "training q", "step"):
        with torch.no_grad():
            p, _ = _drawn(run.model, texts[chosen])
        of_q, log_q = _drawn(q, texts[chosen])
        loss = -(weights[chosen] * log_q).mean() + KL_SHARE * kl_divergence(of_q, p).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return q.requires_grad_(False)


def _weights(run: Run, log_p: Tensor) -> Tensor:
    """The student's weights, clipped, for log p above the baseline, (N, LENGTH).

    Raises:
        StudentCodeError: it returned anything else.
    """
    function: Weights = run.function("long_horizon.py", "horizon_weights")
    weights = function(log_p, TEMPERATURE, HORIZON)
    if not isinstance(weights, Tensor) or weights.shape != log_p.shape or not weights.is_floating_point():
        expected = f"a tensor of floats of shape {tuple(log_p.shape)}"
        raise run.wrong_value("long_horizon.py", "horizon_weights", weights, expected)
    return weights.detach().clamp(max=math.exp(CLIP))


def _measured(run: Run, temperature: float, horizon: int, texts: Tensor) -> Measured:
    """How likely p finds `texts`, and how different their tokens are."""
    with torch.no_grad():
        of_texts = torch.cat([_drawn(run.model, each)[1].mean(dim=1) for each in torch.split(texts, BATCH)]).double()
    error = float(of_texts.std()) / math.sqrt(len(texts))
    new = texts[:, PROMPT_TOKENS:].cpu().numpy()
    return Measured(temperature, horizon, float(of_texts.mean()), error, (_distinct(new, 2), _distinct(new, 3)))


def _distinct(texts: Ids, n: int) -> float:
    """The share of different ones among all runs of n tokens in `texts` (B, T)."""
    runs: NDArray[np.int64] = np.lib.stride_tricks.sliding_window_view(texts, n, axis=1).reshape(-1, n)
    return len(np.unique(runs, axis=0)) / len(runs)
