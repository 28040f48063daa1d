"""A Dask cluster in the place of this machine's processes, where a class outgrows it. See docs/grading-a-class.md.

Needs the dependency group `cluster`. Each worker has one thread and a copy of this project; what was handed in travels
with the task. A task may run twice, if its worker dies; that does no harm, as the same grading gives the same result.
"""

import asyncio
import contextlib
import functools
import ipaddress
import json
import logging
import re
import ssl
import time
import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from staff.grade_class import engine
from staff.grade_class.engine import Place, Stopped

RETRIES = 2  # of a task that raises an exception; how often one is begun again whose worker dies: see cluster.yml
_CONNECT_SECONDS = 10
_WORKER_SECONDS = 60  # to wait for the first worker, or another one when all are gone
_ANSWER_SECONDS = 20  # a worker that takes longer hangs
_STOP_SECONDS = 2
_SCHEMES = ("tls", "tcp")
# What a refused certificate looks like: a scheduler that hangs up at once may be gone before its reason is read.
_HUNG_UP = (ssl.SSLError, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Tls:
    """The files of a connection that nobody else can read or join."""

    ca: Path
    cert: Path
    key: Path


class ClusterError(Stopped):
    """A cluster that cannot be used, in one line with the remedy."""


@contextlib.contextmanager
def cluster(homework: str, scheduler: str, tls: Tls | None) -> Iterator[Place]:
    """The workers of a cluster.

    Args:
        scheduler: its address, or the file that `dask scheduler --scheduler-file` writes

    Raises:
        ClusterError: it cannot be reached, the connection is open to others, or a worker is not this project's.
    """
    address = _address(scheduler, tls)
    client = _client(address, tls)
    try:
        workers = _Workers(client, homework)
        workers.wait_for_first()
        run = uuid.uuid4().hex
        # Not two for each worker: what waits for a worker that dies again and again would be blamed for that, too.
        yield Place(
            client.get_executor(pure=False, retries=RETRIES),
            workers.count, functools.partial(_stop, client, homework, run), workers.version, run,
        )  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            client.close(timeout=_STOP_SECONDS)  # what is still under way is cancelled


def _address(scheduler: str, tls: Tls | None) -> str:
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
    if urlsplit(address).scheme not in _SCHEMES:
        raise ClusterError(f"--scheduler {address}: must be an address such as tls://HOST:8786")
    if _is_open(address):
        raise ClusterError(
            f"--scheduler {address}: everybody on the network could read the submissions and run code there; "
            "start the cluster with TLS, and name its files with --tls"
        )
    if address.startswith("tls:") and tls is None:
        raise ClusterError(f"--scheduler {address}: needs its certificates; add --tls ca.pem cert.pem key.pem")
    return address


def _is_open(address: str) -> bool:
    """Whether others can read and join a connection to `address`."""
    parts = urlsplit(address)
    try:
        return parts.scheme != "tls" and not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def _client(address: str, tls: Tls | None) -> Any:
    """A connection to the scheduler.

    Raises:
        ClusterError: there is none.
    """
    try:
        from distributed import Client
        from distributed.security import Security
    except ImportError:
        raise ClusterError(
            "--scheduler needs the group `cluster`; run: .venv/bin/python -m pip install --group cluster"
        ) from None
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):  # what they say is said here, in one line
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", "Sending large graph")  # a submission may have 50 MB
    security: Any = None
    if tls is not None:
        _check_files(tls)
        files = {"tls_ca_file": str(tls.ca), "tls_client_cert": str(tls.cert), "tls_client_key": str(tls.key)}
        security = Security(require_encryption=True, **files)
    try:
        return Client(address, security=security, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        cause = error.__cause__ or error
        if not str(cause):  # cut short by the last attempt's own time limit
            cause = error
        why = re.sub("^in <.*?>: ", "", str(cause).partition("\n")[0])
        remedy = "is it running there?"
        if tls is not None and isinstance(cause, _HUNG_UP):
            remedy = "name the certificate and the key that the cluster's authority has signed, and that authority"
        raise ClusterError(f"--scheduler {address}: cannot be reached ({why}); {remedy}") from None


def _check_files(tls: Tls) -> None:
    for path in astuple(tls):
        try:
            path.read_bytes()
        except OSError as error:
            raise ClusterError(f"--tls {path}: cannot be read ({error.strerror})") from None


class _Workers:
    """The workers of a cluster, which come and go."""

    def __init__(self, client: Any, homework: str):
        self.version = engine.version(homework)  # which they must have
        self._client = client
        self._homework = homework
        self._checked: set[str] = set()
        self._count = 0
        self._looked = self._seen = time.monotonic()

    def wait_for_first(self) -> None:
        """Wait until there is one, and check all that there are.

        Raises:
            ClusterError: there is none, or one would grade in another way.
        """
        with contextlib.suppress(OSError):
            self._client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        self._look()
        if not self._count:
            raise ClusterError("the cluster has no workers; start some as docs/grading-a-class.md says")

    def count(self) -> int:
        """How many threads they have just now, at least 1; those that are new are checked.

        Raises:
            ClusterError: none is left, or one would grade in another way.
        """
        now = time.monotonic()
        if now > self._looked + engine.LOOK_SECONDS:
            self._looked = now
            self._look()
            if self._count:
                self._seen = now
            elif now > self._seen + _WORKER_SECONDS:
                raise ClusterError("the cluster has lost all of its workers; start some again")
        return max(1, self._count)

    def _look(self) -> None:
        try:
            threads: dict[str, int] = self._client.sync(self._client.nthreads, callback_timeout=_ANSWER_SECONDS)
            self._check(threads.keys() - self._checked)
        except (OSError, RuntimeError, AttributeError):  # it has closed itself
            raise ClusterError("the connection to the scheduler is lost; start it again, and its workers") from None
        self._count = sum(threads.values())

    def _check(self, addresses: Collection[str]) -> None:
        replies = _ask(self._client, addresses, engine.version, self._homework)
        for worker, version in sorted(replies.items()):
            if isinstance(version, OSError):
                continue  # it hangs or has gone, which Dask will notice
            if _is_open(worker):
                raise ClusterError(f"{worker}: everybody on the network could run code there; start it with TLS")
            if not isinstance(version, Mapping):
                raise ClusterError(f"{worker}: cannot grade ({version}); start it in the folder of this project")
            if version != self.version:
                raise ClusterError(f"{worker}: has {engine.difference(self.version, version)}; {engine.UPDATE}")
            self._checked.add(worker)


def _ask(client: Any, workers: Collection[str], function: Any, *args: object) -> dict[str, Any]:
    """What `function` returns on each worker, or the exception there; a TimeoutError where there is no answer."""

    async def ask(worker: str) -> Any:
        replies = await asyncio.wait_for(client.run(function, *args, workers=[worker]), _ANSWER_SECONDS)
        return replies[worker]

    async def ask_all() -> dict[str, Any]:
        replies = await asyncio.gather(*map(ask, workers), return_exceptions=True)
        return dict(zip(workers, replies, strict=True))

    found: dict[str, Any] = client.sync(ask_all)
    return found


def _stop(client: Any, homework: str, run: str) -> None:
    """End at once what this run has begun on the workers."""
    with contextlib.suppress(OSError, RuntimeError):
        client.sync(client.run, engine.stop, homework, run, on_error="ignore", callback_timeout=_STOP_SECONDS)
