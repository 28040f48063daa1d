"""Write docs/performance.md and its pictures from the results of `make bench`.

    python -m staff.bench.page                       from dist/bench/results.json
    python -m staff.bench.page FIRST.json NEXT.json  from several runs on the same machine, with other sections each

The words are in performance.md.jinja beside this file, the figures in the results, which are kept as
docs/performance.json. After a change of words only: python -m staff.bench.page docs/performance.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2

from src.files import ROOT, write_file
from src.model.config import BUNDLED
from staff.bench import report, results
from staff.bench.implementations import SMALL
from staff.bench.measurements import Contest, Curves, Line
from staff.bench.results import Results
from staff.bench.sections import SECTIONS

TEMPLATE = Path(__file__).with_name("performance.md.jinja")
NAMES = {SMALL: "GPT-2 small's shape", BUNDLED: "the bundled model"}
RESULTS = ROOT / "dist" / "bench" / "results.json"


class Page:
    """What the template asks of the results."""

    def __init__(self, measured: Results):
        self.machine = measured.machine
        self.sections = measured.sections
        self.contests = measured.contests
        self.curves = measured.curves
        self.lines = measured.lines
        self.targets = [line for line in self.lines if line.bound is not None]
        self.explained: set[str] = set()

    @property
    def others(self) -> list[Line]:
        """The lines without a bound, but for the machine's limits, which stand in the text."""
        limits = self.sections["limits"].lines if "limits" in self.sections else []
        return [line for line in self.lines if line.bound is None and line not in limits]

    def text(self) -> str:
        """The page in Markdown."""
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=self)
        for name, words in NAMES.items():
            text = text.replace(name, words)
        return text

    def find(self, what: str) -> str:
        """The value of the line whose text ends so, with its unit."""
        for line in self.lines:
            if line.what.endswith(what):
                return f"{line.value:.3g} {line.unit}".strip()
        return "(not measured)"

    def milliseconds(self, contest: str, label: str) -> str:
        """The median time of a token in the contest whose text contains `contest`."""
        medians = [e.median for c in self.contests if contest in c.what for e in c.entries if e.label == label]
        return f"{medians[0] * 1e3:.1f} ms" if medians else "(not measured)"

    def missed(self, what: str) -> list[Line]:
        """The lines whose text contains `what` and whose bound is not known to be met; the template explains them."""
        lines = [line for line in self.unmet if what in line.what]
        self.explained |= {line.what for line in lines}
        return lines

    @property
    def unmet(self) -> list[Line]:
        """All lines whose bound is not known to be met."""
        return [line for line in self.targets if not line.met]

    @property
    def when(self) -> str:
        """When which sections were run."""
        days: dict[str, list[str]] = {}
        for name, section in self.sections.items():
            days.setdefault(section.began[:10], []).append(f"{name} {section.began[11:]}")
        return "; ".join(f"{day}: {', '.join(names)}" for day, names in sorted(days.items()))

    def table(self, lines: Sequence[Line]) -> str:
        """The lines as a table."""
        return report.table_of_lines(lines)

    def contest(self, contest: Contest) -> str:
        """The contest as a table."""
        return report.table_of_contest(contest)

    def profile(self) -> str:
        """The parts of a step, one column for each type and batch size; empty if they were not measured."""
        return table_of_profile(self.curves)


def table_of_profile(curves: Curves) -> str:
    """The milliseconds of the parts of a step in Markdown, with their sums."""
    charts = [chart for chart in curves if chart.startswith("step, ")]
    if not charts:
        return ""
    columns = [(chart, batch) for chart in charts for batch in next(iter(curves[chart].values()))]
    rows = {part: [curves[chart][part][batch] for chart, batch in columns] for part in curves[charts[0]]}
    rows["together"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    head = ["milliseconds a token", *(f"{chart.removeprefix('step, ')}, batch {batch}" for chart, batch in columns)]
    cells = [[part, *(f"{value:.1f}" for value in row)] for part, row in rows.items()]
    lines = [head, ["---", *["---:"] * len(columns)], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, metavar="FILE", default=[RESULTS], help="results.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", metavar="DIR", help="(docs)")
    args = parser.parse_args()
    measured = results.joined([results.from_json(path.read_text(encoding="utf-8")) for path in args.results], SECTIONS)
    page = Page(measured)
    args.out.mkdir(parents=True, exist_ok=True)
    write_file(args.out / "performance.md", page.text().encode())
    write_file(args.out / "performance.json", results.to_json(measured).encode())
    report.draw_all(measured, args.out)
    print(f"{args.out / 'performance.md'}: {len(page.targets)} targets, {len(page.unmet)} not met")
    for name in SECTIONS.keys() - measured.sections.keys():
        print(f"no results of section {name}", file=sys.stderr)
    for line in page.unmet:
        if line.what not in page.explained:
            print(f"not explained in {TEMPLATE.name}: {line.what}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
