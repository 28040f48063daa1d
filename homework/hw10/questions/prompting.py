"""Problem 1: prompting a language model, with words and with vectors.

A language model of this file is a `torch.nn.Module` with three methods:

    model(ids)                   token ids (B, T) → logits (B, T, V); logits[:, i] say what follows token i
    model.embed(ids)             token ids (B, T) → their embeddings (B, T, E)
    model.logits_of(embeddings)  embeddings (B, T, E) → logits (B, T, V)

model(ids) is model.logits_of(model.embed(ids)). No position sees what comes after it.
"""

if __name__ == "__main__":
    raise SystemExit("experiment.py runs this file; try: python experiment.py --model prompting")

import torch
from torch import LongTensor, Tensor, nn


def label_log_likelihood(
    model: nn.Module,  # a language model, see above
    prompt: LongTensor,  # (1, P), the token ids of a prompt, at least one
    label: LongTensor,  # (1, L), the token ids of a label that may follow it, at least one
) -> float:
    """log p(label | prompt) in nats: the sum over the label's tokens, each given the prompt and the tokens before it.

    The result is a Python float. The label with the largest one is the model's answer.
    """
    with torch.no_grad():
        # TODO 1b: run the model on the prompt and the label that follows it, turn its logits into log-probabilities,
        # pick those of the label's tokens at the places that predict them, and return their sum.
        # torch.cat, torch.log_softmax and torch.gather may help; so does `.item()`.
        ### START CODE HERE ###
        raise NotImplementedError("1b")
        ### END CODE HERE ###


def parameters_to_train(
    model: nn.Module,  # a language model
    soft_prompt: nn.Parameter,  # (K, E), K vectors of the width of an embedding
) -> list[nn.Parameter]:
    """Freeze the model, and return what the optimiser may change: the soft prompt alone.

    A frozen parameter requires no gradient, so none is computed for it.
    """
    # TODO 1c: freeze each parameter of the model; return a list.
    ### START CODE HERE ###
    raise NotImplementedError("1c")
    ### END CODE HERE ###


def soft_prompt_logits(
    model: nn.Module,  # a language model, frozen
    soft_prompt: Tensor,  # (K, E), the same for all texts
    ids: LongTensor,  # (B, T), the token ids of B texts
) -> Tensor:  # (B, T, V)
    """What the model says of each text after the soft prompt: result[:, i] are the logits of what follows token i.

    The soft prompt comes first, then the text's embeddings. Gradients flow back to the soft prompt.
    """
    # TODO 1d: put the soft prompt before each text, run the model on that, and keep the logits at the text's tokens.
    # Tensor.expand and torch.cat may help.
    ### START CODE HERE ###
    raise NotImplementedError("1d")
    ### END CODE HERE ###
