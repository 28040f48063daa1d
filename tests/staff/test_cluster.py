"""Grading a class on a Dask cluster: the same table as here, whatever becomes of the workers and of the connection."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from src.files import ROOT
from staff.grade_class import cluster
from staff.grade_class.cluster import ClusterError, Tls
from tests.answers import SOLUTION, varied

pytest.importorskip("distributed", reason="the group `cluster` is not installed")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="submissions of others are graded on Linux only"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make certificates with"),
]
LOOPBACK = "127.0.0.1"
HALVED = ("likelihood.py", ("return", "return 0.5 *"))
SIGNED = "name the certificate and the key that the cluster's authority has signed"


# --- certificates, schedulers and workers ---


def certificates(folder: Path) -> Tls:
    """A new authority, and a certificate that it has signed: the commands of docs/grading-a-class.md."""
    folder.mkdir(mode=0o700)
    text = (ROOT / "docs" / "grading-a-class.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("    openssl ")]
    assert len(commands) == 3
    for command in commands:
        subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True)
    return Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Tls:
    return certificates(tmp_path_factory.mktemp("tls") / "cluster")


@pytest.fixture(scope="module")
def open_root():
    """A folder that all users may enter."""
    root = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    root.chmod(0o711)
    yield root
    shutil.rmtree(root)


class Cluster:
    """A scheduler and its workers, as docs/grading-a-class.md starts them."""

    def __init__(self, folder: Path, tls: Tls, **settings: str):
        self.folder = folder
        self.file = folder / "cluster.json"
        self.log = folder / "log.txt"
        self._tls = tls
        self._settings = {"DASK_CONFIG": "staff/grade_class/cluster.yml", "TMPDIR": str(folder), **settings}
        self._processes: list[subprocess.Popen] = []
        folder.mkdir()
        folder.chmod(0o711)

    def start(self, *command: str, around: tuple[str, ...] = (), project: Path = ROOT) -> subprocess.Popen:
        ca, cert, key = map(str, (self._tls.ca, self._tls.cert, self._tls.key))
        files = ("--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*around, sys.executable, "-m", "dask", *command, *files, "--no-dashboard"], cwd=project,
                env=os.environ | self._settings, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def scheduler(self, host: str = LOOPBACK, around: tuple[str, ...] = ()) -> subprocess.Popen:
        self.file.unlink(missing_ok=True)
        options = ("--protocol", "tls", "--host", host, "--port", "0", "--scheduler-file", str(self.file))
        process = self.start("scheduler", *options, around=around)
        wait_until(self.file.exists, self.log)
        return process

    def workers(self, count: int, host: str = LOOPBACK, **where) -> subprocess.Popen:
        options = ("--scheduler-file", str(self.file), "--host", host, "--nworkers", str(count), "--nthreads", "1")
        before = self.log.read_text().count("Registered to")
        process = self.start("worker", *options, "--memory-limit", "0", **where)
        wait_until(lambda: self.log.read_text().count("Registered to") >= before + count, self.log)
        return process

    def address(self) -> str:
        return json.loads(self.file.read_text())["address"]

    def arguments(self) -> list[str]:
        return ["--scheduler", str(self.file), "--tls", *map(str, (self._tls.ca, self._tls.cert, self._tls.key))]

    def worker_with(self, submission: bytes) -> int | None:
        """The process that grades a submission just now."""
        for path in self.folder.glob("class-*-*/submission.zip"):
            pid = path.parent.name.split("-")[1]
            with contextlib.suppress(OSError):
                if path.read_bytes() == submission and Path("/proc", pid).exists():
                    return int(pid)
        return None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(holds, log: Path | None = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, log.read_text() if log else "it did not come about"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def two_workers(open_root, tls) -> Iterator[Cluster]:
    with Cluster(open_root / "two", tls) as started:
        started.scheduler()
        started.workers(2)
        yield started


# --- a class ---


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory) -> Path:
    """A folder of zips and folders: right, wrong, not written, broken and empty."""
    folder, work = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("work")
    for name, source in {"right": SOLUTION, "halved": varied(work / "halved", *HALVED)}.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path in sorted(source.glob("*.py")):
                archive.write(path, f"questions/{path.name}")
    shutil.copytree(ROOT / "questions", folder / "starter", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "broken.zip").write_bytes(b"PK\3\4 but nothing more")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def graded_here(handed_in, tmp_path_factory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("here") / "out"
    assert grade(handed_in, out).returncode == 0
    return content(out)


def start_grading(source: Path, out: Path, *arguments: str, around: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [*around, sys.executable, "-m", "staff.grade_class", str(source), "--out", str(out), "--seed", "7"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *arguments], cwd=ROOT, **pipes)


def grade(source: Path, out: Path, *arguments: str, around: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    process = start_grading(source, out, *arguments, around=around)
    stdout, stderr = process.communicate()
    assert "Traceback" not in stdout + stderr
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def content(out: Path) -> dict[str, object]:
    """The table, and the results without how long each grading took."""
    found: dict[str, object] = {"grades.csv": (out / "grades.csv").read_bytes()}
    for path in sorted((out / "results").iterdir()):
        found[path.name] = json.loads(path.read_bytes()) | {"execution_time": 0}
    return found


def status(out: Path, id: str) -> str:
    (line,) = [line for line in (out / "grades.csv").read_text("utf-8-sig").splitlines() if f",{id}," in line]
    return next(word for word in ("graded", "refused", "failed", "not graded yet") if f",{word}," in line)


# --- what cannot be used: one line ---


def test_only_the_right_certificate_is_let_in(open_root, tls, tmp_path):
    other = certificates(tmp_path / "other")
    with Cluster(open_root / "certificates", tls) as started:
        started.scheduler()
        address = started.address()
        for wrong in (other, Tls(tls.ca, other.cert, other.key), Tls(tls.ca, tls.cert, other.key)):
            with pytest.raises(ClusterError, match=SIGNED):
                cluster._client(address, wrong)
        with pytest.raises(ClusterError, match="cannot be reached"):
            cluster._client(address.replace("tls:", "tcp:"), None)
        cluster._client(address, tls).close()


def test_nobody_listens(tls, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1)
    reasons = r"(ConnectionRefusedError: .*|Timed out trying to connect to tls://127\.0\.0\.1:9 after 1 s)"
    with pytest.raises(ClusterError, match=rf"9: cannot be reached \({reasons}\); is it running there\?$"):
        cluster._client("tls://127.0.0.1:9", tls)


@pytest.mark.parametrize("cause", [TimeoutError(), ConnectionResetError("reset")])
def test_why_there_is_no_connection(tls, monkeypatch, cause):
    (refused := OSError("too late")).__cause__ = cause
    monkeypatch.setattr("distributed.Client", Mock(side_effect=refused))
    with pytest.raises(ClusterError, match=rf"reached \((too late\); is it running|reset\); {SIGNED})"):
        cluster._client("tls://127.0.0.1:9", tls)


def test_a_certificate_that_is_missing(tls, tmp_path):
    with pytest.raises(ClusterError, match=r"--tls .*missing\.pem: cannot be read \(No such file"):
        cluster._client("tls://127.0.0.1:9", Tls(tls.ca, tmp_path / "missing.pem", tls.key))


def test_the_group_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="pip install --group cluster"):
        cluster._client("tcp://127.0.0.1:9", None)


@pytest.mark.slow
def test_a_worker_of_another_version_is_named(two_workers, handed_in, tmp_path):
    project = tmp_path / "project"
    for name in ("src", "staff", "data", "checkpoints"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    check = project / "src" / "hw1" / "checks" / "likelihood.py"
    check.write_text(check.read_text().replace('"""Is the sum', '"""Is this the sum'))
    process = two_workers.workers(1, project=project)
    refused = grade(handed_in, tmp_path / "out", *two_workers.arguments())
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: tls://127.0.0.1:")
    assert "has other tests of 6.4, 6.5; bring it to the version of this machine" in line


# --- the same table ---


@pytest.mark.slow
def test_two_workers_make_the_same_table(two_workers, handed_in, graded_here, tmp_path):
    done = grade(handed_in, tmp_path / "out", *two_workers.arguments())
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == graded_here


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, 10.199.7.1 and 10.199.7.2, with a cable between them."""
    names = [f"grade{os.getpid()}{side}" for side in "ab"]
    cable = ("netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
    commands = [("netns", "add", name) for name in names] + [("link", "add", "cable", *cable)]
    for number, name in enumerate(names, start=1):
        commands.append(("-n", name, "address", "add", f"10.199.7.{number}/24", "dev", "cable"))
        commands += [("-n", name, "link", "set", device, "up") for device in ("cable", "lo")]
    try:
        for command in commands:
            done = subprocess.run(["ip", *command], check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make network namespaces")
@pytest.mark.skipif(shutil.which("ip") is None, reason="there is no `ip` to make network namespaces with")
def test_two_hosts_make_the_same_table(two_hosts, open_root, tls, handed_in, graded_here, tmp_path):
    here, there = (("ip", "netns", "exec", name) for name in two_hosts)
    with Cluster(open_root / "hosts", tls) as started:
        started.scheduler("10.199.7.1", around=here)
        started.workers(1, "10.199.7.2", around=there)
        done = grade(handed_in, tmp_path / "out", *started.arguments(), around=here)
        assert done.returncode == 0, done.stderr
        assert started.address().startswith("tls://10.199.7.1:")
    assert content(tmp_path / "out") == graded_here


# --- what dies ---


def killed_while_it_grades(found, process: subprocess.Popen, times: int) -> list[int]:
    """SIGKILL what `found` returns, each time that it is another process."""
    killed: list[int] = []
    while len(killed) < times and process.poll() is None:
        pid = found()
        if pid is not None and pid not in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        time.sleep(0.02)
    return killed


def warm_process_of(worker: int | None) -> int | None:
    """The process that grades for a worker."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            is_warm = b"staff.warm" in (path.parent / "cmdline").read_bytes()
            if is_warm and worker == int(path.read_text().rpartition(")")[2].split()[1]):
                return int(path.parent.name)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("what", ["worker", "warm process"])
def test_three_deaths_are_a_failure_of_ours(two_workers, handed_in, graded_here, tmp_path, what):
    out, right = tmp_path / "out", (handed_in / "right.zip").read_bytes()
    process = start_grading(handed_in, out, *two_workers.arguments())

    def found() -> int | None:
        worker = two_workers.worker_with(right)
        return worker if what == "worker" else worker and warm_process_of(worker)

    assert len(killed_while_it_grades(found, process, 3)) == 3
    stdout, stderr = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in stdout + stderr
    assert status(out, "right.zip") == "failed"
    assert not (out / "results" / "right.zip.json").exists()
    others = {name: value for name, value in content(out).items() if name != "grades.csv"}
    assert others == {n: value for n, value in graded_here.items() if n not in ("grades.csv", "right.zip.json")}
    again = grade(handed_in, out, "--failed", *two_workers.arguments())
    assert again.returncode == 0, again.stderr
    assert content(out) == graded_here


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_too(two_workers, handed_in, graded_here, tmp_path):
    out, right = tmp_path / "out", (handed_in / "right.zip").read_bytes()
    process = start_grading(handed_in, out, *two_workers.arguments())
    wait_until(lambda: warm_process_of(two_workers.worker_with(right)))
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    stdout, stderr = process.communicate()
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "run the same command again" in stderr
    assert "Traceback" not in stdout + stderr
    wait_until(lambda: two_workers.worker_with(right) is None, seconds=2)
    assert status(out, "right.zip") == "not graded yet"
    assert grade(handed_in, out, *two_workers.arguments()).returncode == 0
    assert content(out) == graded_here


@pytest.mark.slow
def test_a_worker_that_hangs_is_started_again(open_root, tls, handed_in, graded_here, tmp_path):
    right = (handed_in / "right.zip").read_bytes()
    with Cluster(open_root / "hangs", tls, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="5s") as started:
        started.scheduler()
        started.workers(1)
        process = start_grading(handed_in, tmp_path / "out", *started.arguments())
        wait_until(lambda: started.worker_with(right) is not None)
        hanging = started.worker_with(right)
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stdout + stderr
        assert not Path("/proc", str(hanging)).exists()
    assert content(tmp_path / "out") == graded_here


@pytest.mark.slow
def test_a_lost_scheduler_is_one_line(open_root, tls, handed_in, graded_here, tmp_path):
    out, right = tmp_path / "out", (handed_in / "right.zip").read_bytes()
    with Cluster(open_root / "lost", tls) as started:
        scheduler = started.scheduler()
        started.workers(1)
        process = start_grading(handed_in, out, *started.arguments())
        wait_until(lambda: started.worker_with(right) is not None)
        scheduler.kill()
        scheduler.wait()
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "Traceback" not in stdout + stderr
        assert stderr.splitlines()[-2].startswith("error: the")
        assert "run the same command again" in stderr.splitlines()[-1]
        assert status(out, "right.zip") == "not graded yet"
        started.scheduler()
        started.workers(1)
        assert grade(handed_in, out, *started.arguments()).returncode == 0
    assert content(out) == graded_here
