"""A Dask cluster in the place of this machine's processes, where a class outgrows it. See docs/grading-a-class.md.

Needs the dependency group `cluster`. Each worker has one thread and a copy of this project; what was handed in travels
with the task. A task may run twice, if its worker dies; that does no harm, as the same grading gives the same result.
"""

import contextlib
import ipaddress
import json
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from src.errors import UserError
from src.grading.homework import Homework
from staff.grade_class import engine

RETRIES = 2  # of a task whose worker died; Dask gives it up after as many
_START_SECONDS = 60


@dataclass(frozen=True)
class Tls:
    """The files of a connection that nobody else can read or join."""

    ca: Path
    cert: Path
    key: Path


class ClusterError(UserError):
    """A cluster that cannot be used, in one line with the remedy."""


@contextlib.contextmanager
def cluster(homework: Homework, scheduler: str, tls: Tls | None) -> Iterator[tuple[Executor, int]]:
    """An executor whose tasks are those of the cluster, and how many workers it has.

    Args:
        scheduler: its address, or the file that `dask scheduler --scheduler-file` writes

    Raises:
        ClusterError: it cannot be reached, the connection is open to others, or a worker is not this project's.
    """
    try:
        from distributed import Client
        from distributed.security import Security
    except ImportError:
        raise ClusterError(
            "--scheduler needs the group `cluster`; run: .venv/bin/pip install --group cluster"
        ) from None
    address = _address(scheduler)
    security: Any = None
    if tls is not None:
        files = {"tls_ca_file": str(tls.ca), "tls_client_cert": str(tls.cert), "tls_client_key": str(tls.key)}
        security = Security(require_encryption=True, **files)
    try:
        client = Client(address, security=security, timeout=_START_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterError(f"--scheduler {address}: cannot be reached ({error}); is it running?") from None
    with client:
        workers = _checked_workers(client, homework)
        executor: Executor = client.get_executor(pure=False, retries=RETRIES)
        yield executor, workers


def _address(scheduler: str) -> str:
    """The address of a scheduler.

    Raises:
        ClusterError: it is neither an address nor such a file, or others could read and join the connection.
    """
    address = scheduler
    if "://" not in scheduler:
        try:
            address = str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError):
            form = "an address such as tls://HOST:8786, or the file that `dask scheduler --scheduler-file` writes"
            raise ClusterError(f"--scheduler {scheduler}: must be {form}") from None
    parts = urlsplit(address)
    if parts.scheme != "tls" and not _is_loopback(parts.hostname or ""):
        raise ClusterError(
            f"--scheduler {address}: everybody on the network could read the submissions and run code there; "
            "start the cluster with TLS, and name its files with --tls"
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked_workers(client: Any, homework: Homework) -> int:
    """How many workers there are, once it is known that all of them grade as this machine does."""
    try:
        client.wait_for_workers(1, timeout=_START_SECONDS)
        versions = client.run(engine.version, homework.name, on_error="return")
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"the cluster has no workers ({error}); start some with `dask worker`") from None
    own = engine.version(homework.name)
    for worker, version in sorted(versions.items()):
        if version != own:
            why = f" ({version})" if isinstance(version, BaseException) else ""
            raise ClusterError(
                f"{worker}: has another version of the grader{why}; update it there, then run this again"
            )
    return len(versions)
