"""Problem 6.4: the log-likelihood of a text."""

import torch


def log_likelihood(model, text):
    """The log-likelihood of `text` under the model, in nats, the first token being given and not counted.

    Args:
        model: a GPT-2; model(token_ids) returns (logits, past), and logits[:, i] say what follows token i
        text: LongTensor (1, T): the token ids of the text

    Returns:
        a Python float: Σ_i log p(x_i | x_<i), from the second token to the last
    """
    with torch.no_grad():
        # TODO 6.4: run the model on `text`, turn its logits (1, T, V) into log-probabilities, pick the one of each
        # token that really came next, and return their sum.
        # torch.log_softmax and torch.gather may help; `.item()` turns a tensor with one element into a Python number.
        ### START CODE HERE ###
        raise NotImplementedError("6.4")
        ### END CODE HERE ###
