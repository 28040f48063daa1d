"""Problems 1 to 5, 6.7a and the midterm's question 7: the results of your derivations, in code. Optional, no points.

Write a result as soon as you have derived it. `python grader.py theory` tells you at once whether it holds: on random
numbers, by counting, listing and integrating. A number selects one: `python grader.py 3.3`. It replaces no proof.
"""

if __name__ == "__main__":
    raise SystemExit("grader.py checks this file; try: python grader.py theory")

import math

import torch
from torch import LongTensor, Tensor

# --- Problem 1: maximum likelihood and KL divergence ---


def objectives(
    p_hat: Tensor,  # (X, Y), p̂(x, y) > 0, the data
    p_theta: Tensor,  # (X, Y), p_θ(y | x) > 0, the classifier: each row sums to 1
) -> Tensor:  # (2,)
    """E_{p̂(x, y)} log p_θ(y | x), and E_{p̂(x)} KL(p̂(y | x) ‖ p_θ(y | x)), in nats."""
    # TODO 1a: compute `likelihood` and `divergence`, a number each, from the two tables.
    ### START CODE HERE ###
    raise NotImplementedError("1a")
    ### END CODE HERE ###
    return torch.stack((likelihood, divergence))


def objectives_sum(
    p_hat: Tensor,  # (X, Y), as in `objectives`
) -> Tensor | float:
    """The sum of the two objectives, a number. Your derivation shows why it depends on the data alone."""
    # TODO 1b: return it. The classifier is not among the arguments.
    ### START CODE HERE ###
    raise NotImplementedError("1b")
    ### END CODE HERE ###


def kl_minimizer(
    likelihoods: Tensor,  # (N,), E_{p̂(x, y)} log p_θ(y | x) of N classifiers θ
    sum_of_both: float,  # what `objectives_sum` returns for the data
) -> Tensor | int:
    """Which of the N classifiers has the smallest expected KL divergence: its index, from 0."""
    # TODO 1c: return it.
    ### START CODE HERE ###
    raise NotImplementedError("1c")
    ### END CODE HERE ###


# --- Problem 2: a mixture of Gaussians is a logistic regression ---


def log_joint(
    x: Tensor,  # (n,)
    pi: Tensor,  # (k,), the mixture's weights
    mu: Tensor,  # (k, n), its means
    sigma: float,  # the standard deviation of each coordinate in all components
) -> Tensor:  # (k,)
    """log p_θ(x, y) for each y, with all constants."""
    # TODO 2a: return it.
    ### START CODE HERE ###
    raise NotImplementedError("2a")
    ### END CODE HERE ###


def posterior(
    pi: Tensor,  # (k,), p_θ(y)
    density: Tensor,  # (k,), p_θ(x | y) of one x
) -> Tensor:  # (k,)
    """p_θ(y | x) for each y."""
    # TODO 2b: return it.
    ### START CODE HERE ###
    raise NotImplementedError("2b")
    ### END CODE HERE ###


def logistic_parameters(
    pi: Tensor,  # (k,)
    mu: Tensor,  # (k, n)
    sigma: float,
) -> Tensor:  # (k, n + 1)
    """γ, of the logistic regression with the same p(y | x): w_y and, in the last column, b_y."""
    # TODO 2c: compute `w` (k, n) and `b` (k,).
    ### START CODE HERE ###
    raise NotImplementedError("2c")
    ### END CODE HERE ###
    return torch.cat((w, b.unsqueeze(1)), dim=1)


# --- Problem 3: how many independent parameters? ---


def parameters_of_joint(
    k: LongTensor,  # (n,), the number of outcomes of each variable
) -> Tensor | int:
    """Those of a joint distribution of X_1 … X_n without any independence assumption."""
    # TODO 3.1: return their number.
    ### START CODE HERE ###
    raise NotImplementedError("3.1")
    ### END CODE HERE ###


def fewest_parents(
    n: int,  # variables
) -> Tensor:  # (n, n)
    """A Bayesian network that needs Σ_i (k_i - 1) parameters, whatever the k_i are.

    In row i and column j stands 1 if X_j is a parent of X_i, and 0 if not; parents come earlier, j < i.
    """
    # TODO 3.2: return the matrix of the network that your independence assumption leads to.
    ### START CODE HERE ###
    raise NotImplementedError("3.2")
    ### END CODE HERE ###


def parameters_of_network(
    k: LongTensor,  # (n,)
    m: int,  # given its m predecessors, each variable is independent of all earlier ones; 1 <= m < n
) -> Tensor | int:
    """Those of the Bayesian network in 3.3."""
    # TODO 3.3: return their number. Python counts from 0: k[0] belongs to X_1.
    ### START CODE HERE ###
    raise NotImplementedError("3.3")
    ### END CODE HERE ###


# --- Problem 4: forward and reverse models ---


def forward_model(
    x_1: Tensor,  # (N,), values of X_1 ~ N(0, 1)
) -> Tensor:  # (N, 2)
    """A forward model of n = 2 variables that no reverse model equals: for each x_1, μ_2(x_1) and σ_2(x_1) > 0."""
    # TODO 4a: compute `mu` (N,) and `sigma` (N,), as functions of x_1.
    ### START CODE HERE ###
    raise NotImplementedError("4a")
    ### END CODE HERE ###
    return torch.stack((mu, sigma), dim=1)


def reverse_conditional(
    prior: Tensor,  # (N,), p(x_1) of N values that X_1 can take; they sum to 1
    likelihood: Tensor,  # (N,), p(x_2 | x_1) of one x_2, for each of them
) -> Tensor:  # (N,)
    """What a reverse model would have to equal: p(x_1 | x_2) of each of the N values."""
    # TODO 4b: return it.
    ### START CODE HERE ###
    raise NotImplementedError("4b")
    ### END CODE HERE ###


# --- Problem 5: Monte Carlo integration ---


def mean_estimate(
    p_z: Tensor,  # (Z,), the prior of a discrete z
    likelihood: Tensor,  # (Z,), p(x | z) of one x
    k: int,  # samples
) -> Tensor | float:
    """E[A], exactly, where A is the estimate of p(x) from k samples of the prior."""
    # TODO 5a: return it.
    ### START CODE HERE ###
    raise NotImplementedError("5a")
    ### END CODE HERE ###


def bias_of_log(
    p_z: Tensor,  # (Z,)
    likelihood: Tensor,  # (Z,)
    k: int,  # 1 or 2
) -> Tensor | float:
    """E[log A] - log p(x), exactly: what Jensen's inequality speaks about, for k samples."""
    # TODO 5b: return it. For k = 2, all pairs of samples have to be counted.
    ### START CODE HERE ###
    raise NotImplementedError("5b")
    ### END CODE HERE ###


def is_biased(
    p_z: Tensor,  # (Z,); may hold zeros
    likelihood: Tensor,  # (Z,)
) -> Tensor | bool:
    """Whether log A is a biased estimate of log p(x) under this model, for every k."""
    # TODO 5c: return True or False; when is Jensen's inequality strict?
    ### START CODE HERE ###
    raise NotImplementedError("5c")
    ### END CODE HERE ###


# --- Problem 6.7a: is temperature applied token by token the same as temperature on the joint distribution? ---


def two_token_model() -> Tensor:  # (V, V)
    """p(x_0, x_1) of a model for which they differ, at every temperature but 1: row x_0, column x_1."""
    # TODO 6.7a: return the table; all of its entries are above 0, and they sum to 1.
    ### START CODE HERE ###
    raise NotImplementedError("6.7a")
    ### END CODE HERE ###


# --- The midterm's question 7: p^T(x) = p(x)^(1/T) / Z(T), for sequences of n tokens, each one of V ---


def partition_at_1(
    vocabulary: int,  # V
    n: int,
) -> float:
    """Z(1)."""
    # TODO 7a: return it.
    ### START CODE HERE ###
    raise NotImplementedError("7a")
    ### END CODE HERE ###


def partition_terms(
    vocabulary: int,  # V
    n: int,
) -> int:
    """How many terms the sum Z(T) has: what makes it intractable."""
    # TODO 7b: return it.
    ### START CODE HERE ###
    raise NotImplementedError("7b")
    ### END CODE HERE ###


def better_temperature() -> float:
    """A temperature at which samples are likelier, under p, than samples of p are, whatever p is."""
    # TODO 7c: return one.
    ### START CODE HERE ###
    raise NotImplementedError("7c")
    ### END CODE HERE ###


def can_sample(
    temperature: float,  # T > 0; math.inf is allowed
) -> bool:
    """Whether p^T, exactly, can be sampled token by token without a sum over futures, whatever p is."""
    # TODO 7d: return True or False. p itself is among these distributions.
    ### START CODE HERE ###
    raise NotImplementedError("7d")
    ### END CODE HERE ###


def kl_terms(
    log_p: Tensor,  # (N,), log p(x) of N samples of p
    log_q: Tensor,  # (N,), log q(x) of the same samples
    temperature: float,
    log_z: float,  # log Z(T)
) -> Tensor:  # (N,)
    """A number for each sample, whose mean over samples of p is KL(p^T ‖ q). Which argument makes it intractable?"""
    # TODO 7e: return them.
    ### START CODE HERE ###
    raise NotImplementedError("7e")
    ### END CODE HERE ###


def importance_weights(
    log_p: Tensor,  # (N,)
    temperature: float,
) -> Tensor:  # (N,)
    """What each sample of p must count, so that they stand for samples of p^T; a factor common to all is free."""
    # TODO 7f: return the weights. Z(T) is not among the arguments.
    ### START CODE HERE ###
    raise NotImplementedError("7f")
    ### END CODE HERE ###


def star_estimate(
    log_p: Tensor,  # (N,), log p(x) of N samples of p
    log_q: Tensor,  # (N,)
    temperature: float,
) -> Tensor | float:
    """An unbiased estimate of (⋆) from these samples: with exactly the weights that stand in (⋆)."""
    # TODO 7g: return it, a number.
    ### START CODE HERE ###
    raise NotImplementedError("7g")
    ### END CODE HERE ###
