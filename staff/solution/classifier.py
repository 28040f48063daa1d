"""Problem 6.5: is a text random?"""

from questions.likelihood import log_likelihood


def classification(model, text):
    """Whether `text`, 100 characters long, is made of random letters.

    Args:
        model: a GPT-2, as in `log_likelihood`
        text: LongTensor (1, T): the token ids of the text

    Returns:
        a bool: True where the text is random, False where somebody wrote it
    """
    # TODO 6.5: decide with `log_likelihood` and a threshold read off your histograms; no training, a line or two.
    ### START CODE HERE ###
    return log_likelihood(model, text) < -320
    ### END CODE HERE ###
