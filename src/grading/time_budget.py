"""How long student code may run in one grading: each process of it, all of one part, and all together.

The sum is bounded whatever the code does. A part that takes long cannot use up the time of the others: once some code
had to be stopped, all that follows gets less time, and the part that it belongs to even less.
"""

import math
import time
from collections import Counter

TOTAL = 100.0  # seconds from the start of grader.py to the end of the last test, on a machine as fast as two idle cores
PART_SHARE = 0.4  # of the total: what one part may take
USUAL_START = 4.0  # seconds that the sandbox takes to start on such a machine
MOST_SLOWNESS = 4.0
LESS_TIME, EVEN_LESS_TIME = 7.0, 20.0  # what divides the time after code had to be stopped in another part, in this one


def slowness(start_seconds: float) -> float:
    """How much slower than two idle cores a machine is on which the sandbox took so long to start; at least 1."""
    return min(MOST_SLOWNESS, max(1.0, start_seconds / USUAL_START))


class TimeBudget:
    """The time that is left in one grading."""

    def __init__(self, limit: float = math.inf, slowness: float = 1.0):
        """Args:
        limit: seconds from now on
        slowness: multiplies what each process may take; see `slowness`
        """
        self._end = time.monotonic() + limit
        self._of_part = PART_SHARE * limit
        self._slowness = slowness
        self._used: Counter[str] = Counter()  # seconds, by part
        self._stopped: Counter[str] = Counter()  # processes that had to be stopped, by part
        self.ran_out = False  # whether some code could not be run at all

    def allowed(self, part: str, seconds: float) -> float:
        """How long a new process may run code of `part` that usually gets `seconds`; 0 if nothing is left."""
        less = EVEN_LESS_TIME if self._stopped[part] else LESS_TIME if self._stopped.total() else 1.0
        left = min(self._end - time.monotonic(), self._of_part - self._used[part])
        self.ran_out |= left <= 0
        return max(0.0, min(seconds * self._slowness / less, left))

    def use(self, part: str, seconds: float, stopped: bool) -> None:
        """Count what a process of `part` took, and whether it had to be stopped."""
        self._used[part] += seconds  # type: ignore[assignment] # a Counter of floats
        self._stopped[part] += stopped
