"""Grade the grader: give it every case, and compare its results with what the case declares.

python -m staff.audit                       everything
python -m staff.audit --only 'wrong/me*'    some cases; `mutants` is the name of the mutation score
"""

import argparse
import contextlib
import fnmatch
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from src.errors import run_command
from src.files import ROOT, write_file
from staff.audit import faults, fuzz, mutants, table
from staff.audit.case import KINDS, load_all
from staff.audit.many import Graders
from staff.audit.run import Audit
from staff.audit.subject import DEFAULT_HOMEWORK, Subject, load_subject
from staff.declaration import own_folder

SEEDS = 2  # for each right answer, in an audit whose table goes into the README
_NOT_WATCHED = {".git", ".venv", "__pycache__", "dist", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homework", default=DEFAULT_HOMEWORK, metavar="NAME", help="(%(default)s)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="the cases with such a name, kind/name"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds for each right answer (%(default)s)")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="gradings at a time (%(default)s)")
    parser.add_argument(
        "--fuzz", type=float, default=10, metavar="SECONDS", help="for each fuzzed reader (%(default)s)"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "audit.json", metavar="FILE", help="(%(default)s)")
    args = parser.parse_args()
    if args.seeds < 1 or args.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    return args


def main() -> int | str:
    args = _parse_arguments()
    subject = load_subject(args.homework)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began, before = time.monotonic(), _tree()
    with tempfile.TemporaryDirectory(prefix="audit-", ignore_cleanup_errors=True) as name, _listening() as port:
        folder = Path(name)
        folder.chmod(0o711)
        with Graders(subject, folder) as graders:
            audit = Audit(folder, port, graders)
            sections = _add_all(audit, subject, args)
            if not len(audit):
                return f"error: --only {' '.join(args.only)}: there is no such case"
            audit.run(args.jobs)
    results = [section() for section in sections]
    changed = sorted(path for path, _ in before.items() ^ _tree().items())
    found = [*audit.problems(), *(problem for result in results for problem in result.problems)]
    found += [f"{path} was changed meanwhile" for path in dict.fromkeys(changed)]
    print(table.matrix(audit.rows, subject.homework.numbers))
    print("\n".join([*(f"\n{result.title}: {result.text}\n{result.details}" for result in results), *found]))
    print(f"{table.total(audit.rows)}, in {(time.monotonic() - began) / 60:.1f} min")
    write_file(args.json, table.as_json(audit.rows, found).encode())
    if (args.only, args.seeds) == ([], SEEDS) and os.geteuid() == 0:
        table.rewrite(own_folder(subject.homework, "staff") / "README.md", audit.rows, results)
    return 1 if found else 0


def _add_all(audit: Audit, subject: Subject, args: argparse.Namespace) -> list[Callable[[], table.Section]]:
    """Add all that is wanted to `audit`; returns what to say afterwards about more than one case."""

    def wanted(name: str) -> bool:
        return not args.only or any(fnmatch.fnmatch(name, pattern) for pattern in args.only)

    sections: list[Callable[[], table.Section]] = []
    for target, reader in fuzz.readers(subject).items():  # the longest first
        if wanted(f"fuzz/{target}") and args.fuzz:
            check = partial(fuzz.check, args.homework, target, args.fuzz)
            audit.add_check("fuzz", target, reader.__doc__ or "", check)
    for name, fault in faults.FAULTS.items():
        if wanted(f"fault/{name}"):
            audit.add_check("fault", name, fault.__doc__ or "", partial(fault, subject))
    for case in sorted(load_all(subject), key=lambda case: KINDS.index(case.kind), reverse=True):
        if wanted(f"{case.kind}/{case.name}"):
            audit.add_case(case, args.seeds)
    for name, check in subject.facts.checks.items():
        if wanted(name):
            audit.add_check(*name.split("/", 1), name, lambda _, check=check: check())  # type: ignore[misc]
    if wanted("mutants"):
        mutation = mutants.Mutation(subject)
        audit.add_tasks(mutation.tasks(audit.graders, audit.folder))
        sections.append(mutation.section)
    sections.append(partial(table.hint_rate, audit.rows))
    return sections


@contextlib.contextmanager
def _listening() -> Iterator[int]:
    """The port of a server on 127.0.0.1 that accepts every connection: for code that tries to reach one."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def _tree() -> dict[str, tuple[int, int, int]]:
    """Path → what changes when somebody writes there: for all of the repository but what this run itself makes."""
    found = {}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _NOT_WATCHED]
        for path in (Path(folder, name) for name in files):
            with contextlib.suppress(FileNotFoundError):  # gone in this moment
                stat = path.stat()
                found[path.relative_to(ROOT).as_posix()] = (stat.st_size, stat.st_mtime_ns, stat.st_mode)
    return found


if __name__ == "__main__":
    run_command(main)
