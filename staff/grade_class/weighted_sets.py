"""Sets that overlap more or less, where what few of them hold weighs most."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
ALL = slice(None)  # rows
_NOTHING = 1e-3  # a weight that is only rounding


class Sets:
    """`sets`, in which an element that d of the n non-empty ones hold weighs log((n + 1) / d), times its size."""

    def __init__(self, sets: Sequence[Collection[Any]], size: Callable[[Any], float] = lambda _: 1) -> None:
        self._sets = sets
        counts = Counter(element for elements in sets for element in elements)
        number = sum(1 for elements in sets if elements)
        self._weights = {element: size(element) * math.log((number + 1) / count) for element, count in counts.items()}
        self._common = {element: i for i, element in enumerate(e for e, count in counts.items() if count > 1)}
        self._totals = np.array([self._total(elements) for elements in sets], np.float32)
        self._has = np.zeros((len(sets), len(self._common)), np.float32)
        for index, elements in enumerate(sets):
            self._has[index, [self._common[element] for element in elements if element in self._common]] = 1

    def rarity(self, rows: slice = ALL) -> Matrix:
        """(rows, n), how rare it is what two of them have in common: the root of the sum of its squared weights."""
        return np.sqrt(self._shared(2, rows))

    def scores(self, rows: slice = ALL) -> Matrix:
        """(rows, n), the weight of what two of them have in common, as a share of what either has: 0 to 1."""
        shared = self._shared(1, rows)
        either = self._totals[rows, None] + self._totals[None, :] - shared
        scores: Matrix = np.divide(shared, either, out=np.zeros_like(shared), where=either > _NOTHING)
        return scores

    def score(self, i: int, j: int) -> float:
        """What `scores` holds for the sets `i` and `j`."""
        either = self._total({*self._sets[i], *self._sets[j]})
        return self._total(self.common(i, j)) / either if either > _NOTHING else 0.0

    def common(self, i: int, j: int) -> list[Any]:
        """What the sets `i` and `j` have in common, the heaviest first."""
        return sorted({*self._sets[i]} & {*self._sets[j]}, key=lambda element: (-self._weights[element], element))

    def _shared(self, power: int, rows: slice) -> Matrix:
        """(rows, n), the sum of the weights, to this power, of what two of them have in common."""
        weights = np.array([self._weights[element] for element in self._common], np.float32)
        return ((self._has[rows] * weights**power) @ self._has.T).astype(np.float32, copy=False)

    def _total(self, elements: Collection[Any]) -> float:
        return sum(self._weights[element] for element in elements)
