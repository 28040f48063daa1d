"""The results of all sections as one file, from one run or from several."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from staff.bench.intervals import Ratio
from staff.bench.measurements import Contest, Curves, Entry, Line, Measurements


@dataclass
class Results:
    """What was measured on a machine, section by section."""

    machine: str
    sections: dict[str, Measurements] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        """The lines of all sections."""
        return [line for section in self.sections.values() for line in section.lines]

    @property
    def contests(self) -> list[Contest]:
        """The contests of all sections."""
        return [contest for section in self.sections.values() for contest in section.contests]

    @property
    def curves(self) -> Curves:
        """The curves of all sections. Where two have drawn the same curve, the later one counts."""
        curves: Curves = {}
        for section in self.sections.values():
            for chart, drawn in section.curves.items():
                curves.setdefault(chart, {}).update(drawn)
        return curves


def joined(runs: Sequence[Results], order: Iterable[str]) -> Results:
    """The sections of several runs, in this order; of a section that ran twice, the later run counts.

    Raises:
        ValueError: they were measured on different machines.
    """
    machines = sorted({run.machine for run in runs})
    if len(machines) > 1:
        raise ValueError(f"these runs were measured on different machines: {'; '.join(machines)}")
    sections = {name: section for run in runs for name, section in run.sections.items()}
    return Results(machines[0], {name: sections[name] for name in order if name in sections})


def to_json(results: Results) -> str:
    """The results as text, in JSON with NaN."""
    return json.dumps(asdict(results), indent=1) + "\n"


def from_json(text: str) -> Results:
    """The results that `to_json` has written."""
    raw = json.loads(text)
    return Results(raw["machine"], {name: _section(section) for name, section in raw["sections"].items()})


def _section(raw: dict[str, Any]) -> Measurements:
    lines = [Line(**line | {"interval": line["interval"] and tuple(line["interval"])}) for line in raw["lines"]]
    contests = [
        Contest(contest["what"], tuple(map(_entry, contest["entries"])), tuple(contest["discarded"]))
        for contest in raw["contests"]
    ]
    curves = {
        chart: {label: {int(x): y for x, y in points.items()} for label, points in drawn.items()}
        for chart, drawn in raw["curves"].items()
    }
    return Measurements(raw["began"], raw["minutes"], raw["rounds"], lines, contests, curves)


def _entry(raw: dict[str, Any]) -> Entry:
    return Entry(**raw | {"ratio": raw["ratio"] and Ratio(**raw["ratio"])})
