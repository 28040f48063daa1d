"""Problems 6.3, 6.6 and 6.7, the plain way: one prompt after the other, one candidate after the other."""

from typing import Any

import torch
from torch import LongTensor, Tensor, nn

FILTERED = -1e10


def top_k_logits(logits: Tensor, k: int) -> Tensor:
    """The k largest of each row; the others FILTERED."""
    kth = torch.topk(logits, k, dim=-1).values[..., -1:]
    return torch.where(logits < kth, FILTERED, logits)


def temperature_scale(
    logits: Tensor, model: nn.Module, past: Any, config: Any, temperature: float | None, horizon: int
) -> Tensor:
    """The logits (1, V) at this temperature."""
    if temperature is None:
        return logits
    if horizon == 1:
        return logits / temperature
    scaled = torch.full_like(logits, FILTERED)
    log_probs = torch.log_softmax(logits[0], dim=-1)
    for candidate in (logits[0] > FILTERED).nonzero()[:, 0]:
        following, _ = model(candidate.view(1, 1), past=past)
        following = torch.log_softmax(top_k_logits(following[0, -1], config.top_k), dim=-1)
        scaled[0, candidate] = torch.logsumexp((log_probs[candidate] + following) / temperature, dim=-1)
    return scaled


def sample(
    model: nn.Module,
    start_text: LongTensor,
    config: Any,
    length: int,
    temperature: float | None = None,
    temperature_horizon: int = 1,
) -> LongTensor:
    """Continue each prompt (B, T) by `length` tokens, one prompt after the other."""
    texts = []
    with torch.no_grad():
        for prompt in start_text.split(1):
            text, new, past = prompt, prompt, None
            for _ in range(length):
                logits, past = model(new, past=past)
                logits = top_k_logits(logits[:, -1], config.top_k)
                logits = temperature_scale(logits, model, past, config, temperature, temperature_horizon)
                new = torch.multinomial(torch.softmax(logits, dim=-1), 1)
                text = torch.cat((text, new), dim=1)
            texts.append(text)
    return torch.cat(texts)
