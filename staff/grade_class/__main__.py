"""Grade a class: Gradescope's export, or a folder of submissions, on all processors of this machine or on a cluster.

    python -m staff.grade_class export.zip --out grades

The results are stored as they come. Whatever stops this command, run it again: it goes on where it stopped. Nothing is
graded twice, unless the submission, the grader or a test that counts has changed. See docs/grading-a-class.md.
"""

import argparse
import contextlib
import functools
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from src.errors import UserError, run_command
from src.files import write_file
from src.grading.command import SEED_BITS
from src.grading.homework import Homework
from src.grading.sandbox.reader import unpack_confined
from src.grading.sandbox.sandbox import Sandbox
from staff.declaration import load_homework
from staff.grade_class import engine, report, similarity, table
from staff.grade_class.cluster import Tls, cluster
from staff.grade_class.export_zip import ExportError
from staff.grade_class.grading import Class
from staff.grade_class.pairs_page import pairs_page
from staff.grade_class.store import Store
from staff.grade_class.submissions import HandedIn, read
from staff.grade_class.table import Row

STORE = "class.sqlite"
DEFAULT_HOMEWORK = "hw1"
INTERRUPTED = "interrupted"
_TASKS_PER_WORKER = 2  # under way, so that none waits for the next


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m staff.grade_class", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, metavar="EXPORT", help="Gradescope's export, a zip or its folder; or a folder of zips"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results, those of before too")
    parser.add_argument("--homework", default=DEFAULT_HOMEWORK, metavar="NAME", help="(%(default)s)")
    parser.add_argument(
        "--due", type=_date, metavar="DATE", help="such as 2026-10-30T23:59-07:00; what came later is late; is kept"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="grade no others than these submissions")
    parser.add_argument("--failed", action="store_true", help="grade only what has failed by the grader's fault")
    parser.add_argument("--again", action="store_true", help="grade even what has been graded")
    parser.add_argument("--anonymous", action="store_true", help="pages with pseudonyms in the place of names")
    parser.add_argument(
        "--archive", type=Path, action="append", default=[], metavar="DIR",
        help="submissions of another year, among which to look for pairs, too",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="of test models and random numbers (default: one that is kept in DIR)")
    parser.add_argument("--jobs", type=int, default=_processors(), help="gradings at a time here (%(default)s)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS_OR_FILE", help="grade on the Dask cluster of this scheduler instead"
    )
    parser.add_argument(
        "--tls", nargs=3, type=Path, metavar=("CA", "CERT", "KEY"), help="files with which to connect to the cluster"
    )
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: must be at least 1")
    if args.seed is not None and args.seed < 0:
        parser.error(f"--seed {args.seed}: must not be negative")
    return args


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _date(text: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-10-30T23:59-07:00") from None
    return date if date.tzinfo else date.astimezone()


def main() -> int:
    args = _parse_arguments()
    homework = load_homework(args.homework)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Store(args.out / STORE) as store, engine.scratch() as folder:
        handed_in = read(args.source, folder)
        _check_ids(args.only, handed_in)
        seed = int(store.setting("seed", str(secrets.randbits(SEED_BITS)))) if args.seed is None else args.seed
        due = _due(store, args.due)
        whole = Class(homework, handed_in.submissions, store, seed)
        archived = _archived(homework, args.archive)
        before = whole.rows() if args.again else []
        stopped = _grade(homework, whole, args)
        rows = whole.rows()
        write_file(args.out / "grades.csv", table.grades_csv(homework, rows, due))
        if not stopped:
            _write_pages(homework, rows, archived, args)
    remarks = [f"{row.handed.id}: {row.error}" for row in rows if row.error]
    remarks += table.differences(before, rows)
    if due is not None:
        remarks.append(f"due {due:%Y-%m-%d %H:%M %z}: {sum(table.is_late(row.handed, due) for row in rows)} late")
    print(
        "\n".join(
            [*handed_in.problems, *remarks, f"{args.out}/grades.csv, index.html, pairs.html: {table.summary(rows)}"]
        )
    )
    if stopped:
        print(f"{stopped}\nwhat was graded is stored: run the same command again to go on", file=sys.stderr)
    return 0 if not stopped else 130 if stopped == INTERRUPTED else 1


def _due(store: Store, given: datetime | None) -> datetime | None:
    """The date that is `given`, which is kept, or the one that was kept before."""
    if given is not None:
        store.keep("due", given.isoformat())
    kept = store.setting("due", "")
    return datetime.fromisoformat(kept) if kept else None


def _check_ids(only: list[str], handed_in: HandedIn) -> None:
    known = [handed.id for handed in handed_in.submissions]
    only[:] = [id if id in known else f"submission_{id}" if f"submission_{id}" in known else id for id in only]
    if unknown := set(only).difference(known):
        raise UserError(f"--only {min(unknown)}: there is no such submission; the first is {known[0]}")


def _grade(homework: Homework, whole: Class, args: argparse.Namespace) -> str:
    """Grade what is to be graded; returns what stopped it, if something did."""
    jobs = whole.jobs(args.only, args.failed, args.again)
    counts: dict[str, int] = {}
    with _place(homework, args) as place, tqdm(total=len(jobs), unit="submission") as bar:
        try:
            for status in whole.grade(jobs, place):
                counts[status] = counts.get(status, 0) + 1
                bar.set_postfix(counts, refresh=False)
                bar.update()
        except KeyboardInterrupt:
            place.stop()
            return INTERRUPTED
        except engine.Stopped as error:
            place.stop()
            return f"error: {error}"
    return ""


@contextlib.contextmanager
def _place(homework: Homework, args: argparse.Namespace) -> Iterator[engine.Place]:
    if args.scheduler:
        with cluster(homework.name, args.scheduler, Tls(*args.tls) if args.tls else None) as place:
            yield place
        return
    executor = ThreadPoolExecutor(args.jobs)
    try:
        most = _TASKS_PER_WORKER * args.jobs
        yield engine.Place(executor, lambda: most, functools.partial(engine.stop, homework.name))
    except BaseException:
        engine.stop(homework.name)
        raise
    finally:
        engine.close(homework.name)
        executor.shutdown(cancel_futures=True)


def _write_pages(
    homework: Homework, rows: list[Row], archived: list[similarity.Answers], args: argparse.Namespace
) -> None:
    for row in rows:
        if row.has_points:
            write_file(args.out / "results" / f"{row.handed.id}.json", table.results_file(row))
    shown = [(row.handed, row.record) for row in rows]
    before = {row.handed.id: points for row in rows if (points := row.points_before) is not None}
    report.write_pages(args.out, homework, shown, before=before or None, anonymous=args.anonymous)
    answers = [similarity.answers_of(row.handed, row.blocks) for row in rows if row.blocks]
    answers += archived
    pairs = similarity.pairs_to_look_at(homework, answers)
    page = pairs_page(homework, pairs, answers, report.names_of(shown, args.anonymous))
    write_file(args.out / "pairs.html", page.encode())


def _archived(homework: Homework, archives: list[Path]) -> list[similarity.Answers]:
    """What was handed in in other years, unpacked without trusting it."""
    if not archives:
        return []
    with Sandbox(homework, None, homework.find_model("bundled")) as sandbox:
        unpack = functools.partial(unpack_confined, sandbox)
        try:
            return [answers for archive in archives for answers in similarity.archived(homework, archive, unpack)]
        except ExportError as error:
            raise UserError(f"--archive {error}") from None


if __name__ == "__main__":
    run_command(main)
