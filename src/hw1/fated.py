"""A test model that finds some texts likely and others unlikely, of which nothing can be told but by asking it."""

import numpy as np

from src.hw1.messages import Ids, Logits
from src.hw1.oracle import Floats, TableModel

TOKENS = 60  # of every text: as many as 100 random letters have
UNLIKELY, LIKELY = (-700.0, -660.0), (-110.0, -60.0)  # nats; where the bundled GPT-2 has random letters and abstracts


class FatedModel(TableModel):
    """Texts of random tokens, all of one length, half of them likely; and a model whose answers make them so.

    Attributes:
        texts: token ids, (TOKENS,) each, in random order
        log_p: the log-likelihood of each
        unlikely: whether it is meant to be taken for random letters
    """

    def __init__(self, texts: int, rng: np.random.Generator, vocab_size: int = 50):
        super().__init__(vocab_size, seed=0)
        firsts = rng.permutation(vocab_size)[:texts]  # no two are the same, so no text begins like another
        self.texts = [np.append(first, rng.integers(0, vocab_size, TOKENS - 1)) for first in firsts]
        self.unlikely = rng.permutation(np.arange(texts) % 2 == 0)
        self.log_p = [float(rng.uniform(*(UNLIKELY if is_unlikely else LIKELY))) for is_unlikely in self.unlikely]
        shares = rng.dirichlet(np.full(TOKENS - 1, 20.0), texts)  # of each token in its text's log-likelihood
        self._elsewhere = rng.dirichlet(np.ones(vocab_size), vocab_size)  # p(next | last) in any other text
        self._all = np.stack(self.texts)
        p_along = np.exp(np.array(self.log_p)[:, None] * shares)
        self._along = _with(self._elsewhere[self._all[:, :-1]], self._all[:, 1:, None], p_along[..., None])
        self._offset = rng.standard_normal(vocab_size)  # of logits that are not normalised, after each token

    @property
    def description(self) -> str:
        """What it is, for a person."""
        return f"a test model that finds half of them likely, {_span(LIKELY)}, and half unlikely, {_span(UNLIKELY)}"

    def logits(self, ids: Ids) -> Logits:
        """Logits (B, T, V), float32, of the token after each of `ids` (B, T)."""
        p = self._elsewhere[ids]
        tokens = min(ids.shape[1], TOKENS - 1)
        is_same = ids[:, None, :tokens] == self._all[:, :tokens]  # (B, texts, tokens)
        rows, texts, places = np.nonzero(np.logical_and.accumulate(is_same, axis=-1))
        p[rows, places] = self._along[texts, places]
        return np.asarray(np.log(p) + self._offset[ids][..., None], np.float32)


def _with(p: Floats, token: Ids, value: Floats) -> Floats:
    """The probabilities `p` (…, V) with another one for `token` (…, 1); the others share the rest as before."""
    others: Floats = p * (1 - value) / (1 - np.take_along_axis(p, token, axis=-1))
    np.put_along_axis(others, token, value, axis=-1)
    return others


def _span(limits: tuple[float, float]) -> str:
    return f"log p from {limits[0]:.0f} to {limits[1]:.0f} nats"
