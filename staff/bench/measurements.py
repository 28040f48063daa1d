"""The record of a benchmark: the lines of its table and the curves of its chart."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    what: str
    value: float
    unit: str
    bound: float | None = None  # the value should be at least this; or at most -bound, if bound is negative
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value keeps to its bound; None if there is no bound."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.bound > 0 else self.value <= -self.bound


@dataclass
class Measurements:
    """Everything measured so far."""

    machine: str
    lines: list[Line] = field(default_factory=list)
    curves: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)  # chart → label of a curve → x → y

    def add(self, what: str, value: float, unit: str, bound: float | None = None, note: str = "") -> None:
        """Add a `Line`, and print it."""
        line = Line(what, value, unit, bound, note)
        self.lines.append(line)
        print(text_of(line), flush=True)

    def add_curve(self, chart: str, label: str, points: dict[int, float]) -> None:
        """Add a curve to a chart."""
        self.curves.setdefault(chart, {})[label] = points


def text_of(line: Line) -> str:
    """The line as it is printed."""
    bound = "" if line.bound is None else f"{'at least' if line.bound > 0 else 'at most'} {abs(line.bound):g}"
    verdict = {None: "", True: "met", False: "MISSED"}[line.met]
    return f"{line.what:<66} {line.value:>9.3g} {line.unit:<10} {bound:<14} {verdict:<7}{line.note}".rstrip()
