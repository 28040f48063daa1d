"""Mistakes in rehearsal's memory, 5d: what each of them keeps of a stream, and how often."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes
from src.hw10.counts import Floats, log_tail

REJECTED = math.log(1e-6)  # an explanation that makes the counts less likely than this is none


@dataclass(frozen=True)
class Step:
    """One example after the memory is full: the `seen`-th, from `capacity` + 1 on."""

    seen: int
    capacity: int


Accept = Callable[[Step], float]  # the probability that the example is kept
Places = Callable[[Step], Sequence[float]]  # the probability that it takes each place of the memory, if it is kept


@dataclass(frozen=True)
class Rule:
    """How a function treats the examples that come when the memory is full."""

    accept: Accept
    places: Places
    shifts: bool = False  # the example in the first place leaves, the others move up, and the new one is the last

    def kept(self, length: int, capacity: int) -> Floats:
        """The probability of each of `length` examples to be in the memory after all of them, (length,)."""
        held = np.zeros((length, capacity))  # the probability that this example is in that place
        for i in range(min(length, capacity)):
            held[i, i] = 1
        for seen in range(capacity + 1, length + 1):
            step = Step(seen, capacity)
            moved = np.roll(held, -1, axis=1) if self.shifts else held
            taken = np.asarray(self.places(step))
            after = moved * (1 - taken)
            after[seen - 1] = taken
            accept = min(1.0, self.accept(step))
            held = (1 - accept) * held + accept * after
        return np.asarray(held.sum(axis=1))


def _at(place: int, step: Step) -> list[float]:
    """The new example takes this place, for sure."""
    return [float(i == place % step.capacity) for i in range(step.capacity)]


def _first(step: Step) -> list[float]:
    return _at(0, step)


def _last(step: Step) -> list[float]:
    return _at(-1, step)


def _any(step: Step) -> list[float]:
    return [1 / step.capacity] * step.capacity


def _any_but_first(step: Step) -> list[float]:
    return [float(i > 0) / max(1, step.capacity - 1) for i in range(step.capacity)]


def _any_but_last(step: Step) -> list[float]:
    return _any_but_first(step)[::-1]


def _right(step: Step) -> float:
    return step.capacity / step.seen


def _always(step: Step) -> float:
    return 1.0


def _never(step: Step) -> float:
    return 0.0


# Each variant is a `Rule`.
MISTAKES = (
    Mistake(
        "keeps the first",
        "the first examples stay for ever: nothing is replaced when the memory is full. Or does a new list get the "
        "name `memory`? The caller never sees that one",
        (lambda: Rule(_never, _any),),
    ),
    Mistake(
        "keeps the last",
        "the memory holds the latest examples: all older ones are forgotten, and with them the earlier tasks",
        (
            lambda: Rule(_always, _last, shifts=True),
            lambda: Rule(_always, lambda step: _at(step.seen - 1, step)),
            lambda: Rule(_always, lambda step: _at(step.seen, step)),
        ),
    ),
    Mistake(
        "replaces always",
        "every new example gets in, so the older an example is, the less likely it is still there; the more were "
        "seen, the more often a new one must be dropped",
        (lambda: Rule(_always, _any), lambda: Rule(_always, _first), lambda: Rule(_always, _last)),
    ),
    Mistake(
        "seen off by one",
        "the probability of keeping an example is off by one: count how many there are, the new one among them, and "
        "how many of them the memory holds",
        (
            lambda: Rule(lambda step: step.capacity / (step.seen + 1), _any),
            lambda: Rule(lambda step: step.capacity / (step.seen - 1), _any),
            lambda: Rule(lambda step: (step.capacity - 1) / step.seen, _any),
            lambda: Rule(lambda step: (step.capacity + 1) / step.seen, _any),
            lambda: Rule(lambda step: (step.capacity - 1) / step.seen, _any_but_last),
            lambda: Rule(lambda step: (step.capacity - 1) / step.seen, _any_but_first),
            lambda: Rule(lambda step: (step.capacity - 1) / (step.seen - 1), _any_but_first),
            lambda: Rule(lambda step: (step.capacity - 1) / (step.seen - 1), _any_but_last),
        ),
    ),
    Mistake(
        "always in the same place",
        "a new example always takes the same place, or places in turn; the one that it replaces must be drawn, too",
        (
            lambda: Rule(_right, _first),
            lambda: Rule(_right, _last),
            lambda: Rule(_right, lambda step: _at(step.seen - 1, step)),
            lambda: Rule(_right, lambda step: _at(step.seen, step)),
        ),
    ),
    Mistake(
        "replaces the oldest",
        "a new example gets in with the right probability, but it is the oldest one that leaves; each must be equally "
        "likely to",
        (lambda: Rule(_right, _last, shifts=True),),
    ),
    Mistake(
        "a place is safe",
        "one place of the memory is never taken, the first or the last; are the bounds of the random number right?",
        (lambda: Rule(_right, _any_but_first), lambda: Rule(_right, _any_but_last)),
    ),
    Mistake(
        "constant probability",
        "a new example gets in with the same probability however many have come; it must fall as `seen` grows",
        (lambda: Rule(lambda step: 0.5, _any), lambda: Rule(lambda step: 1 / step.capacity, _any)),
    ),
    Mistake(
        "other probability",
        "a new example gets in with another probability than capacity / seen",
        (
            lambda: Rule(lambda step: 1 / step.seen, _any),
            lambda: Rule(lambda step: 1 / step.seen, _first),
            lambda: Rule(lambda step: 1 - step.capacity / step.seen, _any),
            lambda: Rule(lambda step: (step.capacity / step.seen) ** 2, _any),
            lambda: Rule(lambda step: math.sqrt(step.capacity / step.seen), _any),
        ),
    ),
)
BEYOND_CAPACITY = Mistake(
    "beyond capacity",
    "the memory holds more examples than it may: is a comparison off by one, or is every example appended?",
)
NOT_IN_PLACE = Mistake(
    "not in place",
    "the list that was given stays empty; append to it, or assign to its entries. The caller sees no other list, even "
    "if it is returned",
)
NOT_FULL = Mistake(
    "not full",
    "the memory holds fewer examples than it could: all of them while there is room, and then always as many",
)
NOT_EXAMPLES = Mistake(
    "not examples",
    "the memory holds something else than the examples, or one of them twice; put in `example` as it is, once",
)
COMES_BACK = Mistake(
    "comes back",
    "an example that had left the memory is in it again. Rehearsal has no room for more than `capacity` examples: keep "
    "no others anywhere, and draw from what the memory holds",
)
EARLY_TOO_OFTEN = Mistake(
    "early too often",
    "early examples are kept too often, late ones too rarely; with which probability does the newest one get in?",
)
LATE_TOO_OFTEN = Mistake(
    "late too often",
    "late examples are kept too often, early ones too rarely; with which probability does the newest one get in?",
)
NOT_RANDOM = Mistake(
    "not random",
    "the same examples are kept in every stream; is nothing drawn, or does the function seed a generator by itself?",
)


def diagnose_kept(kept: NDArray[np.int64], lengths: Sequence[int]) -> Mistakes:
    """The mistake that explains best what the memory held after streams of some `lengths`.

    Args:
        kept: examples by their places in the stream, from 1 on, (repeats, lengths, capacity)
    """
    repeats, _, capacity = kept.shape
    explanations: list[tuple[float, Mistake]] = []
    counts = [np.bincount(kept[:, i].reshape(-1), minlength=n + 1)[1:] for i, n in enumerate(lengths)]
    for mistake in MISTAKES:
        for variant in mistake.variants:
            led_to = [variant().kept(n, capacity).clip(0, 1) for n in lengths]
            tails = np.concatenate([log_tail(c, repeats, p) for c, p in zip(counts, led_to, strict=True)])
            if tails.min() > REJECTED:
                explanations.append((tails.sum(), mistake))
    if explanations:
        return (max(explanations, key=lambda each: each[0])[1],)
    ordered = np.sort(kept, axis=-1)
    if repeats > 1 and (ordered == ordered[:1]).all():
        return (NOT_RANDOM,)
    return _trend(counts[-1], repeats * capacity)


def _trend(counts: NDArray[np.int64], kept: int) -> Mistakes:
    """What can be said of how often each example of a stream is kept, where no known rule explains it."""
    half = len(counts) // 2
    early, late = counts[:half].sum(), counts[-half:].sum()
    if max(log_tail([early, late], kept, half / len(counts))) > REJECTED:
        return ()
    return (EARLY_TOO_OFTEN,) if early > late else (LATE_TOO_OFTEN,)
