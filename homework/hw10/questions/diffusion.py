"""Problem 4: a diffusion model adds noise in many small steps, and learns to take them back.

Step t adds noise to x_{t-1}:  q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t I),  t = 1, …, T.

Steps are counted from 0 in code, as Python does: `beta[0]` is β_1, and an image with t = 0 is x_1, one step away from
x_0. The handout's α_t, the product of (1 - β_s) over s ≤ t, is `alpha_bar` here, so that nobody takes it for 1 - β_t.
"""

if __name__ == "__main__":
    raise SystemExit("experiment.py runs this file; try: python experiment.py --model ddpm")

import torch
from torch import LongTensor, Tensor


def q_sample(
    x_0: Tensor,  # (B, …), B images, or anything else of any shape
    t: LongTensor,  # (B,), from 0 to T - 1: the step of each image; 0 is the first
    alpha_bar: Tensor,  # (T,), alpha_bar[t] is the product of 1 - beta[s] over s = 0, …, t
    noise: Tensor,  # (B, …), as x_0: draws from N(0, I)
) -> Tensor:  # (B, …)
    """x_t, drawn from q(x_t | x_0) at once and not step by step; the draw is made of `noise`.

    Each image has a step of its own. Do not change the arguments.
    """
    # TODO 4a: write it. The numbers of an image belong to all of its pixels; which shape puts them there?
    ### START CODE HERE ###
    raise NotImplementedError("4a")
    ### END CODE HERE ###


def posterior(
    x_0: Tensor,  # (B, …), B images
    x_t: Tensor,  # (B, …), the same with noise
    t: LongTensor,  # (B,), from 0 to T - 1: the step of each image, as in `q_sample`
    beta: Tensor,  # (T,), the variance of the noise that each step adds
    alpha_bar: Tensor,  # (T,), as in `q_sample`
) -> tuple[Tensor, Tensor]:  # (B, …) and (B, 1, …, 1)
    """Mean and variance of q(x_{t-1} | x_t, x_0), the step back from x_t when x_0 is known.

    The variance is one number an image. At t = 0, the step back leads to x_0 itself: which variance is that?
    """
    # TODO 4b: compute `mean` and `variance`.
    # What is alpha_bar before the first step? An index of -1 raises no error.
    ### START CODE HERE ###
    raise NotImplementedError("4b")
    ### END CODE HERE ###
    return mean, variance
