"""Measure how fast the model is: `make bench`, or python -m staff.bench [SECTION …] for some of it.

Each line is printed as soon as it is known; the table and the chart are in dist/bench/ at the end. All contenders of a
line take turns in the same run, and a ratio is the median of the rounds' ratios. Nothing else should run meanwhile.
"""

import argparse
import os
import sys
from pathlib import Path

from src.config import ROOT
from staff.bench import report, sections


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(sections.SECTIONS)} (all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds that count (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "bench", metavar="DIR", help="(dist/bench)")
    args = parser.parse_args()
    unknown = [name for name in args.sections if name not in sections.SECTIONS]
    if unknown or args.rounds < 1:
        parser.error(f"no section {', '.join(unknown)}" if unknown else "--rounds must be at least 1")
    os.environ["TQDM_DISABLE"] = "" if sys.stderr.isatty() else "1"
    found = sections.run(args.sections or sections.SECTIONS, args.rounds)
    report.save(found, args.out)
    missed = sum(line.met is False for line in found.lines)
    print(f"\n{len(found.lines)} lines, {missed} of them beyond their bounds; see {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
