"""Problem 6.4: the log-likelihood of a text."""

if __name__ == "__main__":
    raise SystemExit("main.py runs this file; try: python main.py --model bundled --question 6.4")

import torch
from torch import LongTensor, nn


def log_likelihood(
    model: nn.Module,  # a GPT-2: model(token_ids) returns (logits, past); logits[:, i] say what follows token i
    text: LongTensor,  # (1, T), the token ids of a text
) -> float:
    """The log-likelihood of `text` under the model, in nats: Σ_i log p(x_i | x_<i), from the second token to the last.

    The first token is given, so it is not counted. The result is a Python float.
    """
    with torch.no_grad():
        # TODO 6.4: run the model on `text`, turn its logits (1, T, V) into log-probabilities, pick those of the tokens
        # that really came next, and return their sum.
        # torch.log_softmax and torch.gather may help; `.item()` turns a tensor with one element into a Python number.
        ### START CODE HERE ###
        raise NotImplementedError("6.4")
        ### END CODE HERE ###
