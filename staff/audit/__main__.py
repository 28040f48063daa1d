"""Grade the grader: every case through grader.py, and whether it came out as it declares.

python -m staff.audit                       everything
python -m staff.audit --only 'wrong/me*'    some cases
"""

import argparse
import fnmatch
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from src.artifacts import write_file
from src.config import ROOT
from src.errors import UserError
from src.grading.sandbox import unused_user
from staff.audit import fuzz, house, table
from staff.audit.case import KINDS, Case, load_all
from staff.audit.grading import complaints, grade_case
from staff.audit.table import Row

FIRST_ORDINARY_USER = 5_000_000


class Audit:
    """The cases, and what came of them so far."""

    def __init__(self, folder: Path, port: int):
        self.folder = folder
        self.port = port
        self.rows: list[Row] = []
        self.tasks: list[Callable[[], None]] = []
        self._users = 0

    def add_case(self, case: Case, seeds: int) -> None:
        """Have `case` graded.

        Where this is root: right answers with several seeds, by root and by an ordinary user in turn; of the wrong
        answers, one by root and the next by an ordinary user; hostile code by both.
        """
        row = Row(case.kind, case.name, case.about)
        before = sum(other.kind == case.kind for other in self.rows)
        self.rows.append(row)
        both = ("root", "user") if os.geteuid() == 0 else ("user", "user")
        if case.kind == "right":
            runs = [(both[seed % 2], seed) for seed in range(seeds)]
        elif case.kind == "wrong" or case.build:  # a zip that is refused before anybody's rights matter
            runs = [(both[before % 2], 0)]
        else:
            runs = [(rights, 0) for rights in dict.fromkeys(both)]
        for rights, seed in runs:
            if case.root and rights == "user":
                row.note = "needs root"
            elif rights == "user" and os.geteuid() == 0 and not shutil.which("setpriv"):
                row.note = "no setpriv, so not tried as an ordinary user"
            else:
                self.tasks.append(lambda run=(rights, seed): self._grade(case, row, *run))

    def _grade(self, case: Case, row: Row, rights: str, seed: int) -> None:
        self._users += 1
        own = os.geteuid() == 0 and rights == "user"
        user = unused_user(FIRST_ORDINARY_USER + os.getpid() % 100_000 * 1000 + self._users) if own else None
        name = f"{case.kind}-{case.name}-{rights}-{seed}"
        parts = case.parts()
        grading = grade_case(case, self.folder / name, seed, user, self.port, *parts)
        points = {part: points for part, points in grading.points().items() if not parts or part in parts}
        row.outcomes.append({
            "rights": rights, "seed": seed, "seconds": round(grading.seconds, 1), "points": points,
            "hints": sorted(set().union(*grading.hints().values())), "complaints": complaints(case, grading, parts),
        })  # fmt: skip

    def add_check(self, kind: str, name: str, about: str, check: Callable[[Path], list[str]]) -> None:
        """Have something else checked, which returns its complaints."""
        row = Row(kind, name, about)
        self.rows.append(row)

        def run() -> None:
            place, began = self.folder / f"{kind}-{name}".replace(" ", "-"), time.monotonic()
            place.mkdir(mode=0o711)
            try:
                found = check(place)
            except house.NotHere as reason:
                row.note = f"not tried: {reason}"
                return
            finally:
                shutil.rmtree(place, ignore_errors=True)
            rights = "root" if os.geteuid() == 0 else "user"
            seconds = round(time.monotonic() - began, 1)
            row.outcomes.append({"rights": rights, "seed": 0, "seconds": seconds, "complaints": found})

        self.tasks.append(run)

    def run(self, jobs: int) -> None:
        """Do all that was added, `jobs` at a time, and say at once what is not as declared."""
        said: set[str] = set()
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(self.tasks), unit="grading", smoothing=0.05) as bar:
            futures = [pool.submit(task) for task in self.tasks]
            try:
                for done in as_completed(futures):
                    done.result()
                    bar.update()
                    complaints_ = [complaint for row in self.rows for complaint in row.complaints()]
                    for complaint in complaints_:
                        if complaint not in said:
                            said.add(complaint)
                            tqdm.write(complaint, file=sys.stderr)
                    bar.set_postfix_str(f"{len(complaints_)} complaints", refresh=False)
            except BaseException:  # also when it is interrupted: what has not begun is not begun any more
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _listen() -> socket.socket:
    """A server on 127.0.0.1 that takes every connection and notes nothing: for those who try to reach one."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    return server


def _tree() -> dict[str, tuple]:
    """Path → what changes when somebody writes there: all of the repository but what this run itself makes."""
    skipped = {".git", ".venv", "__pycache__", "dist", ".pytest_cache", ".ruff_cache", ".hypothesis", "audit.json"}
    found = {}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped]
        for name in files:
            stat = os.stat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (stat.st_size, stat.st_mtime_ns, stat.st_mode)
    return {os.path.relpath(path, ROOT): value for path, value in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases with such a name, kind/name")
    parser.add_argument("--seeds", type=int, default=3, help="seeds for each right answer (%(default)s)")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="gradings at a time (%(default)s)")
    parser.add_argument(
        "--fuzz", type=float, default=15, metavar="SECONDS", help="for each fuzzed reader (%(default)s)"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "audit.json", metavar="FILE", help="(%(default)s)")
    args = parser.parse_args()
    if args.seeds < 1 or args.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")

    def wanted(name: str) -> bool:
        return not args.only or any(fnmatch.fnmatch(name, pattern) for pattern in args.only)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began, before = time.monotonic(), _tree()
    with tempfile.TemporaryDirectory(prefix="audit-", ignore_cleanup_errors=True) as folder, _listen() as server:
        Path(folder).chmod(0o711)
        audit = Audit(Path(folder), server.getsockname()[1])
        for name, check in fuzz.CHECKS.items():  # the longest first
            if wanted(f"fuzz/{name}") and args.fuzz:
                audit.add_check("fuzz", name, check.__doc__, lambda _, check=check: check(args.fuzz))
        for name, check in house.FAULTS.items():
            if wanted(f"house/{name}"):
                audit.add_check("house", name, check.__doc__, check)
        for case in sorted(load_all(), key=lambda case: KINDS.index(case.kind), reverse=True):
            if wanted(f"{case.kind}/{case.name}"):
                audit.add_case(case, args.seeds)
        if not audit.tasks:
            parser.error(f"--only {' '.join(args.only)}: there is no such case")
        audit.run(args.jobs)
    changed = sorted(path for path, value in (before.items() ^ _tree().items()))
    complaints_ = [complaint for row in audit.rows for complaint in row.complaints()]
    complaints_ += [f"{path} was changed meanwhile" for path in dict.fromkeys(changed)]
    print(table.matrix(audit.rows))
    print("\n".join(complaints_))
    print(f"{table.total(audit.rows)}, in {(time.monotonic() - began) / 60:.1f} min")
    write_file(args.json, table.as_json(audit.rows, complaints_).encode())
    if not args.only and args.seeds == parser.get_default("seeds") and os.geteuid() == 0:
        table.rewrite(ROOT / "staff" / "README.md", audit.rows)
    return 1 if complaints_ else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
