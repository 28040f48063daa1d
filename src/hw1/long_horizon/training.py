"""Training a second model q on texts that the first one, p, draws: with the student's loss, on the small model."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.hw1.long_horizon.joint import Joint

Loss = Callable[[Tensor, Tensor, float], Tensor]  # the student's `lhts_loss`

STEPS, BATCH = 400, 8192
LEARNING_RATE = 0.05


class TabularModel(nn.Module):
    """q, with a parameter for the logit of each token after each text so far. It starts as a copy of p."""

    def __init__(self, p: Joint):
        super().__init__()
        self.logits = nn.ParameterList(torch.tensor(each) for each in p.conditionals)

    def forward(self) -> Tensor:
        """log q(x) of all texts, (V, ..., V)."""
        total = torch.zeros((), dtype=torch.float64)
        for logits in self.logits:
            total = total[..., None] + F.log_softmax(logits, dim=-1)
        return total

    def joint(self) -> Joint:
        """Its probabilities."""
        return Joint(tuple(F.log_softmax(logits, dim=-1).detach().numpy() for logits in self.logits))


def draw(p: Joint, count: int, generator: torch.Generator) -> Tensor:
    """`count` texts drawn from p, each as its place among all texts, (count,)."""
    cumulative = torch.from_numpy(p.log_p.reshape(-1)).exp().cumsum(0)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64) * cumulative[-1]
    return torch.searchsorted(cumulative, drawn, right=True)


def train(p: Joint, loss: Loss, temperature: float, steps: Iterable[int], seed: int) -> Joint:
    """q after STEPS `steps` of training, each on BATCH new samples of p.

    The learning rate falls to 0, which averages out the noise of the samples. (⋆) is as small as Z(T), so its gradients
    are, too, and Adam's epsilon has to be far smaller still.

    Raises:
        BaseException: whatever the student's function raises.
    """
    generator = torch.Generator().manual_seed(seed)
    log_p, q = torch.from_numpy(p.log_p.reshape(-1)), TabularModel(p)
    optimizer = torch.optim.Adam(q.parameters(), lr=LEARNING_RATE, eps=1e-12)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in steps:
        drawn = draw(p, BATCH, generator)
        optimizer.zero_grad()
        loss(log_p[drawn], q().flatten()[drawn], temperature).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return q.joint()
