"""Could this have happened so often, with that probability? A bound on how often the answer is wrongly no."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@np.errstate(all="ignore")
def log_tail(counts: ArrayLike, trials: int, probability: ArrayLike) -> Floats:
    """The log of a bound on the probability that a count is as far from what is expected as each of `counts`.

    Chernoff, for `trials` that each succeed with `probability`: P ≤ 2 exp(-trials · KL(count / trials ‖ probability)).
    They are independent, or draws without replacement, whose sums are no further out (Hoeffding, 1963, section 6).
    """
    share, p = np.broadcast_arrays(np.asarray(counts) / trials, np.asarray(probability, np.float64))
    return np.asarray(np.log(2) - trials * (_relative(share, p) + _relative(1 - share, 1 - p)))


def _relative(share: Floats, p: Floats) -> Floats:
    """share · log(share / p), 0 where the share is 0."""
    return np.where(share > 0, share * np.log(share / p), 0.0)
