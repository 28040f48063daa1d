"""Problem 6.5: is a text random?"""

if __name__ == "__main__":
    raise SystemExit("main.py runs this file; try: python main.py --model bundled --question 6.5")

from torch import LongTensor, nn

from questions.likelihood import log_likelihood


def classification(
    model: nn.Module,  # a GPT-2, as in `log_likelihood`
    text: LongTensor,  # (1, T), the token ids of a text of 100 characters
) -> bool:
    """True where the text is made of random letters, False where somebody wrote it."""
    # TODO 6.5: decide with `log_likelihood` and a threshold read off your histograms. No training; a line or two.
    ### START CODE HERE ###
    raise NotImplementedError("6.5")
    ### END CODE HERE ###
