"""What `main.py --question 7` does: the student's functions, on a model small enough for everything to be exact."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src.hw1.evidence import fits
from src.hw1.long_horizon import metropolis, training
from src.hw1.long_horizon.joint import LENGTH, TOKENS, Joint, kl
from src.hw1.oracle import TableModel
from src.hw1.run import Run

MODEL_SEED = 3  # of the small model: with it, each further token ahead helps, which is not so for every model
TEMPERATURE = 0.5
STEPS, CHAINS = 24, 20_000  # of Metropolis-Hastings
TEMPERATURES = tuple(np.geomspace(0.25, 4, 41).tolist())  # for log Z(T)
FILE = "long_horizon.py"


@dataclass(frozen=True)
class Study:
    """How far each way to sample is from p_T: KL(p_T ‖ q) in nats."""

    by_horizon: tuple[float, ...]  # of q_h, for h = 1, ..., n
    trained: float
    by_step: tuple[float, ...]  # of a chain of Metropolis-Hastings after 0, 1, ... steps
    chains_fit: bool  # whether the texts at which CHAINS chains end are as samples of p_T should be
    log_z: tuple[float, ...]  # at each of TEMPERATURES


def small_model() -> Joint:
    """The model p of this study."""
    return Joint.of(TableModel(TOKENS, MODEL_SEED, LENGTH + 1))


def study(run: Run) -> Study:
    """Everything that the picture shows of the small model.

    Raises:
        StudentCodeError: a function returned the wrong kind of value.
        BaseException: whatever the student's functions raise.
    """
    p = small_model()
    scaled = p.scaled(TEMPERATURE)
    steps = run.progress(range(training.STEPS), "training q", "step")
    q = training.train(p, _loss(run), TEMPERATURE, steps, run.seed)
    chain = metropolis.distributions(p, _accept(run), TEMPERATURE, STEPS)
    counts = metropolis.run_chains(p, _accept(run), TEMPERATURE, CHAINS, range(STEPS), run.seed)
    return Study(
        tuple(kl(scaled, p.scaled_ahead(TEMPERATURE, h).log_p) for h in range(1, p.length + 1)),
        kl(scaled, q.log_p),
        tuple(kl(scaled, log_p) for log_p in chain),
        fits(counts.reshape(-1), np.exp(scaled).reshape(-1)),
        tuple(map(p.log_z, TEMPERATURES)),
    )


def lines_of(found: Study) -> list[str]:
    """The numbers, for the terminal."""
    horizons = ", ".join(f"{abs(value):.4f} (h = {h})" for h, value in enumerate(found.by_horizon, start=1))
    chain = f"of Metropolis-Hastings after {STEPS} steps: {found.by_step[-1]:.4f}"
    verdict = "fit" if found.chains_fit else "do not fit"
    return [
        f"KL(p_T ‖ q) at T = {TEMPERATURE}, for {TOKENS} tokens and texts of {LENGTH}: {horizons}",
        f"of q trained with your loss: {found.trained:.4f}; {chain}",
        f"the texts at which {CHAINS:,} such chains end {verdict} p_T (chi-square test)",
    ]


def _loss(run: Run) -> training.Loss:
    """The student's loss; what it returns is checked, because the training needs its gradient."""
    function = run.function(FILE, "lhts_loss")

    def loss(log_p: Tensor, log_q: Tensor, temperature: float) -> Tensor:
        value = function(log_p, log_q, temperature)
        if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad:
            raise run.wrong_value(FILE, "lhts_loss", value, "a tensor with one number that requires a gradient")
        if torch.autograd.grad(value, log_q, retain_graph=True, allow_unused=True)[0] is None:
            raise run.wrong_value(FILE, "lhts_loss", value, "what is made of log_q: no gradient reaches it")
        return value

    return loss


def _accept(run: Run) -> metropolis.Accept:
    """The student's acceptance probability, checked."""
    function = run.function(FILE, "metropolis_accept")

    def accept(log_p_new: Tensor, log_p_old: Tensor, temperature: float) -> Tensor:
        value = function(log_p_new, log_p_old, temperature)
        if not isinstance(value, Tensor) or value.shape != log_p_new.shape or not value.is_floating_point():
            expected = f"a tensor of {len(log_p_new)} probabilities"
            raise run.wrong_value(FILE, "metropolis_accept", value, expected)
        if not bool(((value >= 0) & (value <= 1)).all()):
            found = float(value[~((value >= 0) & (value <= 1))][0])
            raise run.wrong_value(FILE, "metropolis_accept", found, "probabilities, from 0 to 1")
        return value.detach()

    return accept
