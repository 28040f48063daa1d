"""Problem 6.4, as plainly as it gets."""

import torch


def log_likelihood(model, text):
    """The log-likelihood of `text` (1, T)."""
    with torch.no_grad():
        logits, _ = model(text)
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1)
        return log_probs.gather(-1, text[:, 1:, None]).sum().item()
