"""Grade all submissions of a class: what is in the store already is taken from there, the rest is graded and stored."""

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.grading.homework import Homework
from staff.grade_class import engine, sources
from staff.grade_class.store import FAILED, GRADED, REFUSED, WHOLE, Store
from staff.grade_class.submissions import Handed
from staff.grade_class.table import NOT_YET, Row


@dataclass(frozen=True)
class Job:
    """The same files, of one submission or of several that are equal, and what is to be graded of them."""

    submissions: tuple[Handed, ...]
    keys: dict[str, str]  # part → key, and that of the whole
    parts: tuple[str, ...]  # to grade; none: all


class Class:
    """The submissions of a class and their store."""

    def __init__(self, homework: Homework, submissions: Sequence[Handed], store: Store, seed: int):
        self._homework = homework
        self._store = store
        self._seed = seed
        model = homework.find_model("bundled")
        self._hashes = {WHOLE: sources.base_hash(homework, model)} | sources.part_hashes(homework, model)
        self._keys = {handed.id: self._keys_of(handed) for handed in submissions if handed.path is not None}
        self._submissions = submissions

    def _keys_of(self, handed: Handed) -> dict[str, str]:
        assert handed.path is not None
        files = content_hash(handed.path)
        return {part: _hash([part, files, depends_on, str(self._seed)]) for part, depends_on in self._hashes.items()}

    def jobs(self, only: Collection[str] = (), failed: bool = False, again: bool = False) -> list[Job]:
        """What is to be graded: what is not in the store, or has failed there.

        Args:
            only: ids of submissions; empty means all that count
            failed: only what has failed
            again: also what is in the store
        """
        equal: dict[str, list[Handed]] = {}
        for handed in self._submissions:
            if handed.id in self._keys and (handed.id in only if only else handed.is_active):
                equal.setdefault(self._keys[handed.id][WHOLE], []).append(handed)
        found = []
        for same in equal.values():
            keys = self._keys[same[0].id]
            status = self._status(keys)
            missing = tuple(part for part in keys if part != WHOLE and self._store.get(keys[part]) is None)
            if again or status in (None, FAILED):
                missing = ()
            elif status == REFUSED or not missing:
                self._store.put([handed.id for handed in same], keys, {})  # so that their history is whole
                continue
            if not failed or status == FAILED:
                found.append(Job(tuple(same), keys, missing))
        return found

    def _status(self, keys: dict[str, str]) -> str | None:
        stored = self._store.get(keys[WHOLE])
        return stored[0] if stored else None

    def grade(self, jobs: Sequence[Job], place: engine.Place) -> Iterator[str]:
        """Grade the `jobs`; the status of each, once it is stored.

        Raises:
            Stopped: nothing more can be graded there.
        """
        orders = ((job, self._order(job, place)) for job in jobs)
        for job, reply in engine.run(place, orders):
            self._store_reply(job, reply)
            yield reply["status"]

    def _store_reply(self, job: Job, reply: dict[str, Any]) -> None:
        status, tests = reply["status"], reply.pop("tests")
        results: dict[str, tuple[str, Any]] = {job.keys[WHOLE]: (status, reply)}
        if status == GRADED:
            for part in job.parts or (part for part in job.keys if part != WHOLE):
                results[job.keys[part]] = (GRADED, [test for test in tests if test["part"] == part])
        self._store.put([handed.id for handed in job.submissions], job.keys, results)

    def _order(self, job: Job, place: engine.Place) -> engine.Order:
        path = job.submissions[0].path
        assert path is not None
        what = {"submission": str(path), "seed": self._seed, "parts": job.parts}
        content = packed(path) if place.version is not None else None  # other machines do not have the file
        return engine.Order(self._homework.name, what, content, place.version, place.run)

    def rows(self) -> list[Row]:
        """All submissions that count, with what the store holds of them."""
        return [self._row(handed) for handed in self._submissions if handed.is_active]

    def _row(self, handed: Handed) -> Row:
        keys = self._keys.get(handed.id)
        if keys is None:
            return Row(handed, REFUSED, handed.problem)
        stored = self._store.get(keys[WHOLE])
        if stored is None:
            return Row(handed, NOT_YET, handed.problem)
        status, whole = stored
        tests: list[dict[str, Any]] = []
        before: list[dict[str, Any]] = []
        for part, key in keys.items() if status == GRADED else ():
            result = self._store.get(key)
            if result is None:
                return Row(handed, NOT_YET, handed.problem)
            if part != WHOLE:
                tests += result[1]
                before += self._store.before(handed.id, part, key) or []
        tests.sort(key=lambda test: (bool(test.get("visibility")), test["number"]))
        remark = whole["error"] or handed.problem
        return Row(
            handed,
            status,
            remark,
            tuple(whole["notes"]),
            whole["seconds"],
            whole["shown_seconds"],
            tuple(tests),
            tuple(before),
            whole["blocks"],
        )


def packed(path: Path) -> bytes:
    """A zip, or one of a folder, in which links stay links."""
    if path.is_file():
        return path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(path.rglob("*")):
            name = inside.relative_to(path).as_posix()
            if inside.is_symlink():
                link = zipfile.ZipInfo(name)
                link.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(link, os.readlink(inside))
            elif inside.is_file():
                archive.write(inside, name)
    return buffer.getvalue()


def content_hash(path: Path) -> str:
    """The hash of a zip, or of all regular files in a folder and their names."""
    if path.is_file():
        return _digest(path)
    pieces = []
    for inside in sorted(path.rglob("*")):
        kind = stat.S_IFMT(inside.lstat().st_mode)
        content = _digest(inside) if kind == stat.S_IFREG else ""
        pieces.append(json.dumps([inside.relative_to(path).as_posix(), kind, content]))
    return _hash(pieces)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(pieces: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(pieces).encode("utf-8", "surrogatepass")).hexdigest()
