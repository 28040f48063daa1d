"""Question 7: temperature over longer horizons. After Shih, Sadigh and Ermon, "Long Horizon Temperature Scaling", 2023.

p is a model of texts x = (x_1, ..., x_n). At temperature T it is p_T(x) = p(x)^(1/T) / Z(T), from which nobody can draw
quickly. So a second model q is trained on texts that were drawn from p, each with a weight.
"""

if __name__ == "__main__":
    raise SystemExit("main.py runs this file; try: python main.py --model bundled --question 7")

import torch
from torch import Tensor


def lhts_loss(
    log_p: Tensor,  # (B,), log p(x) of B texts that were drawn from p
    log_q: Tensor,  # (B,), log q(x) of the same texts
    temperature: float,  # T > 0
) -> Tensor:  # a scalar
    """An unbiased estimate of (⋆) in question 7, which q is trained to minimise: a mean over the batch.

        (⋆) = E_{x ~ p} [-exp((1 - T) / T · log p(x)) · log q(x)]

    Gradients flow through log q only: the weights are constants.
    """
    # TODO 7.1: the weight of each text, then the mean.
    ### START CODE HERE ###
    raise NotImplementedError("7.1")
    ### END CODE HERE ###


def horizon_weights(
    log_p: Tensor,  # (B, n), log p(x_i | x_<i) of each token of B texts
    temperature: float,  # T > 0
    horizon: int,  # h ≥ 1: how many tokens a weight looks at
) -> Tensor:  # (B, n)
    """The weight of each token's -log q(x_i | x_<i) when only the next h tokens count, as for a long text.

        w_i = exp((1/T - 1) · Σ_j log p(x_j | x_<j)),  j from i to i + h - 1, or to n where the text ends before

    Gradients must not flow through the weights. Training with them leads to 6.6 for h = 1, to 6.7 for h = 2, and to p_T
    for h = n.
    """
    # TODO 7.2: sum log p over each token's window, then weigh it.
    # torch.nn.functional.pad and Tensor.unfold may help; so does a difference of two cumulative sums.
    ### START CODE HERE ###
    raise NotImplementedError("7.2")
    ### END CODE HERE ###


def metropolis_accept(
    log_p_new: Tensor,  # (B,), log p(x') of the texts that are proposed, drawn from p
    log_p_old: Tensor,  # (B,), log p(x) of the texts that the chains are at
    temperature: float,  # T > 0
) -> Tensor:  # (B,), each from 0 to 1
    """With which probability each chain moves from x to x', so that its texts come to follow p_T.

    Metropolis and Hastings: min(1, p_T(x') g(x) / (p_T(x) g(x'))), where g is the distribution of the proposals; here
    g = p.
    """
    # TODO 7.3: simplify the ratio (Z(T) drops out), and stay in log space until the end.
    ### START CODE HERE ###
    raise NotImplementedError("7.3")
    ### END CODE HERE ###
