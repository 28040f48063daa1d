"""results.json while a grading runs: complete at every moment, and replaced at the end even where the disk is full."""

import contextlib
import os
import tempfile
from pathlib import Path

from src.errors import OutputError
from src.grading.report import results_json
from src.grading.results import Results

ROOM = 2_000_000  # bytes that are reserved for the final results; see `MAX_OUTPUT` in `report.py`


class ResultsFile:
    """The file to which one grading writes its results. Use it as a context manager.

    Each version is written to a file of its own beside it, which nobody else can open or guess, and then renamed.
    """

    def __init__(self, path: Path):
        """Removes the results of an earlier grading from `path`.

        Raises:
            OutputError: the folder cannot be written to.
        """
        self._path = path
        self._reserved: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._error(error) from None

    def __enter__(self) -> "ResultsFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reserved is not None:
            self._reserved.unlink(missing_ok=True)

    def reserve(self) -> None:
        """Reserve room for the final results, so that student code cannot use it up.

        Raises:
            OutputError: there is not enough.
        """
        try:
            descriptor, name = tempfile.mkstemp(prefix=".results-", dir=self._path.parent)
            self._reserved = Path(name)
            with open(descriptor, "wb") as file:
                file.write(bytes(ROOM))
        except OSError as error:
            raise self._error(error) from None

    def save(self, results: Results) -> None:
        """Write the results so far, if there is room; else what was there stays."""
        with contextlib.suppress(OSError):
            self._replace(results_json(results))

    def finish(self, results: Results) -> None:
        """Write the final results, into the reserved room if there is any.

        Raises:
            OutputError: that failed all the same.
        """
        content = results_json(results)
        try:
            if self._reserved is None:
                self._replace(content)
                return
            with self._reserved.open("r+b") as file:
                file.write(content)
                file.truncate()
            os.replace(self._reserved, self._path)
            self._reserved = None
        except OSError as error:
            raise self._error(error) from None

    def _replace(self, content: bytes) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".results-", dir=self._path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({error.strerror}); make room, or choose another place")
