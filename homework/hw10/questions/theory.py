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


# --- Problem 4: diffusion ---


def product_of_gaussians(
    m_1: float,  # the first density is N(y | m_1, v_1)
    v_1: float,  # its variance
    m_2: float,  # the second one is N(y | m_2, v_2)
    v_2: float,
) -> Tensor:  # (2,)
    """Mean and variance of the Gaussian in y to which N(y | m_1, v_1) · N(y | m_2, v_2) is proportional."""
    # TODO 4c: compute `mean` and `variance`: the middle of 4b's derivation.
    ### START CODE HERE ###
    raise NotImplementedError("4c")
    ### END CODE HERE ###
    return torch.tensor((float(mean), float(variance)))


def steps_to_noise(
    beta: float,  # β, the same in all steps, between 0 and 1
    share: float,  # between 0 and 1
) -> int:
    """After how many steps the factor of x_0 in the mean of x_t, √α_t in 4a, is below `share` for the first time."""
    # TODO 4d: return it, without a loop.
    ### START CODE HERE ###
    raise NotImplementedError("4d")
    ### END CODE HERE ###


# --- Problem 5: continual learning ---


def ewc_optimum(
    theta_a: Tensor,  # (N,), the weights after the first task
    fisher: Tensor,  # (N,), F ≥ 0, their Fisher information
    theta_b: Tensor,  # (N,), the weights that are best for the second task alone
    curvature: Tensor,  # (N,), h > 0: the second task's loss is Σ_k ½ h_k (θ_k - θ_b,k)²
    lam: float,  # λ ≥ 0
) -> Tensor:  # (N,)
    """The weights θ with the smallest sum of the second task's loss and EWC's penalty, λ Σ_k ½ F_k (θ_k - θ_a,k)²."""
    # TODO 5e: return them. Where are they for λ → 0, where for λ → ∞, and where if F_k = 0? That answers 5c.ii.
    ### START CODE HERE ###
    raise NotImplementedError("5e")
    ### END CODE HERE ###
