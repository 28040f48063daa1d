"""Problem 6.5, the plain way."""

from torch import LongTensor, nn

from questions.likelihood import log_likelihood


def classification(model: nn.Module, text: LongTensor) -> bool:
    """Whether `text` (1, T) is random."""
    return log_likelihood(model, text) < -320
