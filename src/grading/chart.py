"""What the pages of a grading draw: plain numbers, which the tests leave beside their result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chart:
    """Expected values and those that came, one of each for a label."""

    title: str
    unit: str  # of all values; "" for shares and plain numbers
    labels: tuple[str, ...]
    expected: tuple[float, ...]
    got: tuple[float, ...]  # may be NaN or infinite


@dataclass(frozen=True)
class Series:
    """Values of one kind."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Histogram:
    """Values whose distribution is to be drawn."""

    title: str
    unit: str
    series: tuple[Series, ...]


AnyChart = Chart | Histogram
