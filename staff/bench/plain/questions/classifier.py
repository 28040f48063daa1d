"""Problem 6.5, as plainly as it gets."""

from questions.likelihood import log_likelihood


def classification(model, text):
    """Whether `text` (1, T) is random."""
    return log_likelihood(model, text) < -320
