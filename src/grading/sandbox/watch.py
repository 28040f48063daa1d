"""Watch a worker from outside: end it when it breaks a limit that the kernel does not hold it to."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from src.grading.homework import Limits

_POLL_SECONDS = 0.05  # between two looks


class Watch:
    """A thread that looks at a process until `stop`, whatever the grader waits for meanwhile: half a message, say."""

    def __init__(self, process: int, excess: Callable[[], str | None]):
        """`excess` says which limit the process has broken, if any; the process is then killed."""
        self._process = process
        self._excess = excess
        self._stopped = threading.Event()
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while self._broken is None and not self._stopped.wait(_POLL_SECONDS):
            self._broken = self._excess()
        if self._broken is not None:
            with contextlib.suppress(OSError):
                os.kill(self._process, getattr(signal, "SIGKILL", signal.SIGTERM))

    def stop(self) -> str | None:
        """Look no more, now that the process has ended. The limit that it has broken, if any."""
        self._stopped.set()
        self._thread.join()
        self._broken = self._broken or self._excess()  # the kernel may have ended the process since
        return self._broken


def threads_of(process: int) -> int:
    """How many threads a process has; 0 where nobody can tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
        return int(after_name.split()[17])
    return 0


def is_too_full(home: Path, limits: Limits) -> bool:
    """Whether a process wrote more to `home` than it may. What it wrote has a name there: it cannot remove files."""
    size = count = 0
    folders = [(str(home), 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    count += 1
                    size += 512 * getattr(stat, "st_blocks", 0) or stat.st_size  # Windows counts no blocks
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((entry.path, depth + 1))
                    if size > limits.scratch_size or count > limits.scratch_files or depth > limits.scratch_depth:
                        return True
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except OSError:
            return True  # nobody can look into this folder, or its path is too long
    return False
