"""The results of a class, in one SQLite file with one writer: each submission is stored in one transaction.

A result belongs to a key: the student's files, the grader with the tests of a part, the model and the seed. So what was
graded once is not graded again, and what a change cannot have changed stays.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.errors import UserError

GRADED, REFUSED, FAILED = "graded", "refused", "failed"  # by the tests; the student's fault; ours, and so tried again
WHOLE = "*"  # in the place of a part: what concerns the whole submission

_TABLES = """
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, status TEXT NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    submission TEXT NOT NULL, part TEXT NOT NULL, key TEXT NOT NULL, number INTEGER PRIMARY KEY,
    UNIQUE (submission, part, key)
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class StoreError(UserError):
    """A store that cannot be used, in one line with the remedy."""


class Store:
    """The file. Use it as a context manager; one thread uses it."""

    def __init__(self, path: Path):
        """Open the store at `path`, or make it.

        Raises:
            StoreError: it cannot be read or written, or another program is using it.
        """
        self._path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            try:
                # Not the write-ahead log: it does not work on network file systems, where homes of labs often lie.
                self._database.execute("PRAGMA journal_mode = DELETE")
                self._database.execute("PRAGMA synchronous = FULL")
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._database.execute("BEGIN EXCLUSIVE")
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._database.execute(statement)
                self._database.execute("COMMIT")
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def setting(self, name: str, default: str) -> str:
        """The value of a setting, which from now on is `default` if it had none."""
        with self._errors():
            self._database.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, default))
            (value,) = self._database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
            return str(value)

    def keep(self, name: str, value: str) -> None:
        """Give a setting another value."""
        with self._errors():
            self._database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def get(self, key: str) -> tuple[str, Any] | None:
        """Status and content of what was stored under `key`; None if nothing was."""
        with self._errors():
            row = self._database.execute("SELECT status, content FROM results WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], json.loads(row[1]))

    def put(self, submissions: Sequence[str], keys: Mapping[str, str], results: Mapping[str, tuple[str, Any]]) -> None:
        """Store the results of a submission in one transaction.

        Args:
            submissions: the ids of all that handed in just this
            keys: part → key, of all that counts for them now
            results: key → status and content, of all that is new
        """
        with self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?)",
                    [(key, status, json.dumps(content)) for key, (status, content) in results.items()],
                )
                rows = [(submission, part, key) for submission in submissions for part, key in keys.items()]
                self._database.executemany(
                    "INSERT OR IGNORE INTO history (submission, part, key) VALUES (?, ?, ?)", rows
                )
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def before(self, submission: str, part: str, key: str) -> Any | None:
        """What counted for a submission's part before `key` did; None if nothing else was ever graded."""
        with self._errors():
            row = self._database.execute(
                "SELECT content FROM history JOIN results USING (key) WHERE submission = ? AND part = ? AND key != ? "
                "AND status = ? ORDER BY number DESC LIMIT 1",
                (submission, part, key, GRADED),
            ).fetchone()
        return None if row is None else json.loads(row[0])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StoreError(f"{self._path}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        text = str(error)
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            return "cannot be made, because --out is a file; name a folder"
        if "locked" in text:
            return "is used by another run of this command; wait for it, or choose another --out"
        if "full" in text or "ENOSPC" in text:
            return "the disk is full; make room and run the same command again: it goes on where it stopped"
        if "readonly" in text or "unable to open" in text or isinstance(error, PermissionError):
            return "cannot be written; make the folder writable, or choose another --out"
        if "not a database" in text or "malformed" in text or isinstance(error, ValueError):
            return "is damaged, or no store of this command; move it away and run the same command again"
        if "disk I/O" in text or "locking protocol" in text:
            return f"cannot be used on this file system ({text}); choose an --out on a local disk"
        return f"cannot be used ({text}); choose another --out"
