"""Problems 3 to 5: the results of your derivations, in code. Optional, no points.

Write a result as soon as you have derived it. `python grader.py theory` tells you at once whether it holds, on random
numbers. A number selects one: `python grader.py 3b`. It replaces no proof.
"""

if __name__ == "__main__":
    raise SystemExit("grader.py checks this file; try: python grader.py theory")

import math

import torch
from torch import Tensor

# --- Problem 3: generative adversarial networks ---


def generator_gradient(
    logit: Tensor,  # (N,), h of N generated images
) -> Tensor:  # (2, N)
    """The derivatives with respect to h of the two losses of the generator: log(1 - σ(h)), then -log σ(h)."""
    # TODO 3a: compute `minimax` (N,) and `nonsaturating` (N,), simplified as far as you can.
    ### START CODE HERE ###
    raise NotImplementedError("3a")
    ### END CODE HERE ###
    return torch.stack((minimax, nonsaturating))


def optimal_discriminator(
    p_data: Tensor,  # (X,), the probability of each of X images in the data; all above 0
    p_model: Tensor,  # (X,), the same for the generator's images
) -> Tensor:  # (X,)
    """D*(x) of the discriminator whose loss is smallest."""
    # TODO 3b: return it.
    ### START CODE HERE ###
    raise NotImplementedError("3b")
    ### END CODE HERE ###


def value_at_optimum(
    p_data: Tensor,  # (X,), as in `optimal_discriminator`
    p_model: Tensor,  # (X,)
) -> Tensor | float:
    """V(G, D*) in nats, by the Jensen-Shannon divergence of the two distributions."""
    # TODO 3e: return it, a number.
    ### START CODE HERE ###
    raise NotImplementedError("3e")
    ### END CODE HERE ###
