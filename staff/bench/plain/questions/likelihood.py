"""Problem 6.4, the plain way."""

import torch
from torch import LongTensor, nn


def log_likelihood(model: nn.Module, text: LongTensor) -> float:
    """The log-likelihood of `text` (1, T)."""
    with torch.no_grad():
        logits, _ = model(text)
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1)
        return log_probs.gather(-1, text[:, 1:, None]).sum().item()
