"""One audit: which cases are graded, how often and by whom, and with what results."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from tqdm import tqdm

from src.grading.sandbox.confine import unused_user
from staff.audit.case import Case
from staff.audit.channels import FaultImpossible
from staff.audit.grading import grade_case, grade_written, problems
from staff.audit.many import Graders
from staff.audit.table import Outcome, Row

_FIRST_ORDINARY_USER = 5_000_000


def ordinary_user(number: int) -> int:
    """A user of this process alone; number 0 grades many submissions, all others one."""
    return unused_user(_FIRST_ORDINARY_USER + os.getpid() % 100_000 * 1000 + number)


class Audit:
    """The cases, and the results so far."""

    def __init__(self, folder: Path, port: int, graders: Graders):
        self.rows: list[Row] = []
        self.graders = graders
        self.folder = folder
        self._port = port
        self._tasks: list[Callable[[], None]] = []
        self._users = 0

    def __len__(self) -> int:
        """How many gradings and checks were added."""
        return len(self._tasks)

    def add_case(self, case: Case, seeds: int) -> None:
        """Add the gradings of `case`.

        Where this is root: right answers with several seeds, by root and by an ordinary user in turn; of the wrong
        answers, one by root and the next by an ordinary user; hostile code by both.

        Hostile code, the first seed of a right answer, and zips that are made in an own way go through grader.py; the
        rest through `Graders`, which are faster.
        """
        row = Row(case.kind, case.name, case.about)
        before = sum(other.kind == case.kind for other in self.rows)
        self.rows.append(row)
        both = ("root", "user") if os.geteuid() == 0 else ("user", "user")
        if case.kind == "right":
            runs = [(both[(before + seed) % 2], seed) for seed in range(seeds)]
        elif case.kind == "wrong" or case.build:  # a zip that is refused before anybody's rights matter
            runs = [(both[before % 2], 0)]
        else:
            runs = [(rights, 0) for rights in dict.fromkeys(both)]
        for rights, seed in runs:
            if case.root and rights == "user":
                row.note = "needs root"
            elif rights == "user" and os.geteuid() == 0 and not shutil.which("setpriv"):
                row.note = "no setpriv, so not graded by an ordinary user"
            else:
                is_fast = not case.build and (case.kind == "wrong" or (case.kind == "right" and seed > 0))
                self._tasks.append(partial(self._grade, case, row, rights, seed, is_fast))

    def _grade(self, case: Case, row: Row, rights: str, seed: int, is_fast: bool) -> None:
        parts = case.parts(whole=seed == 0)
        folder = self.folder / f"{case.kind}-{case.name}-{rights}-{seed}"
        is_other_user = os.geteuid() == 0 and rights == "user"
        if is_fast:
            user = ordinary_user(0) if is_other_user else None
            grade = partial(self.graders.grade, seed=seed, parts=parts, user=user, seconds=case.seconds)
            run = grade_written(case, folder, self._port, grade)
        else:
            self._users += 1
            run = grade_case(
                case, folder, seed, ordinary_user(self._users) if is_other_user else None, self._port, *parts
            )
        row.outcomes.append(
            Outcome(
                rights, seed, round(run.seconds, 1), problems(case, run, parts),
                points={part: points for part, points in run.points().items() if not parts or part in parts},
                hints=sorted(set().union(*run.hints().values())), by_value=bool(run.wrong_values()),
            )
        )  # fmt: skip

    def add_tasks(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Add something else to do."""
        self._tasks.extend(tasks)

    def add_check(self, kind: str, name: str, about: str, check: Callable[[Path], list[str]]) -> None:
        """Add a check of something else: a function of an empty folder that returns the problems it found."""
        row = Row(kind, name, about)
        self.rows.append(row)

        def run() -> None:
            place, began = self.folder / f"{kind}-{name}".replace(" ", "-"), time.monotonic()
            place.mkdir(mode=0o711)
            try:
                found = check(place)
            except FaultImpossible as reason:
                row.note = f"not checked: {reason}"
                return
            finally:
                shutil.rmtree(place, ignore_errors=True)
            rights = "root" if os.geteuid() == 0 else "user"
            row.outcomes.append(Outcome(rights, 0, round(time.monotonic() - began, 1), found))

        self._tasks.append(run)

    def run(self, jobs: int) -> None:
        """Do everything that was added, `jobs` at a time, and print each problem at once."""
        printed: set[str] = set()
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(self), unit="grading", smoothing=0.05) as bar:
            futures = [pool.submit(task) for task in self._tasks]
            try:
                for done in as_completed(futures):
                    done.result()
                    bar.update()
                    for problem in self.problems():
                        if problem not in printed:
                            printed.add(problem)
                            tqdm.write(problem, file=sys.stderr)
                    bar.set_postfix_str(f"{len(printed)} problems", refresh=False)
            except BaseException:  # also when it is interrupted: what has not begun is not begun any more
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def problems(self) -> list[str]:
        """What was not as declared, so far."""
        return [problem for row in self.rows for problem in row.problems()]
