"""Benchmark the model: `make bench`, or python -m staff.bench [SECTION …] for some sections only.

Each line is printed as soon as it is measured; after each section, the tables and charts are written to dist/bench/.
What a line compares runs in turn, in random order within a round. A ratio is the median of the rounds' ratios, with a
95 % interval; "ahead" and "behind" are said only if it excludes 1. The memory is read between, and what ran while that
was slow does not count. Still, nothing else should run on the machine meanwhile. docs/performance.md is made from such
a run, by python -m staff.bench.page.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from src.files import ROOT
from staff.bench import machine, report, sections
from staff.bench.results import Results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(sections.SECTIONS)} (all)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds, at each context (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "bench", metavar="DIR", help="(dist/bench)")
    args = parser.parse_args()
    unknown = [name for name in args.sections if name not in sections.SECTIONS]
    if unknown or args.rounds < 1:
        parser.error(f"no section {', '.join(unknown)}" if unknown else "--rounds must be at least 1")
    os.environ["TQDM_DISABLE"] = "" if sys.stderr.isatty() else "1"
    results, failed = Results(machine.description()), []
    for name in args.sections or sections.SECTIONS:
        print(f"\n{name}", flush=True)
        try:
            results.sections[name] = sections.run(name, args.rounds)
        except Exception:  # whatever is wrong with a section, the others are worth having
            traceback.print_exc()
            failed.append(name)
        report.save(results, args.out)
    missed = sum(line.met is False for line in results.lines)
    print(f"\n{len(results.lines)} lines; {missed} of them miss their bound. The results are in {args.out}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
