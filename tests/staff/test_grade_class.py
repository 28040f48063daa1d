"""Grading a class: every submission gets grader.py's score, nothing is lost, and nothing is graded twice."""

import contextlib
import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.sandbox.forking import ForkServer
from src.hw1.parts import HOMEWORK
from staff.grade_class import cluster, engine, worker
from staff.grade_class.grading import Class, content_hash, packed
from staff.grade_class.sources import part_hashes
from staff.grade_class.store import FAILED, GRADED, REFUSED, WHOLE, Store
from staff.grade_class.submissions import Handed
from staff.warm import GraderDied, Graders
from tests.answers import SOLUTION, graded, points, varied
from tests.processes import looping, wait_for

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes can fork on Linux only")
SEED = 7
HALVED = ("likelihood.py", ("return", "return 0.5 *"))


# --- what a result depends on ---


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what counts of this project."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("src", "staff", "data", "checkpoints", "questions", "config.yml", "pyproject.toml"):
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        (shutil.copy(source, copy / name) if source.is_file() else shutil.copytree(source, copy / name, ignore=ignored))
    return copy


def hashes(project: Path) -> dict[str, str]:
    code = "import json; from staff.grade_class.engine import version; print(json.dumps(version('hw1')))"
    run = subprocess.run([sys.executable, "-B", "-c", code], cwd=project, capture_output=True, text=True, check=True)
    return __import__("json").loads(run.stdout)


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("src/hw1/checks/likelihood.py", '"""Is the sum', '"""Is this the sum', {"6.4", "6.5"}),
        ("staff/hw1/hidden_tests.py", "TableModel(13, seed_from(self.rng)), texts", "TableModel(14, seed_from(self.rng)), texts", {"6.4"}),
        ("src/hw1/hints/horizon.py", "LIKELIER = 20.0", "LIKELIER = 21.0", {"6.7"}),
        ("src/grading/sandbox/seccomp.py", '"""', '"""x', {"6.3", "6.4", "6.5", "6.6", "6.7", "submit"}),
        ("data/plays.txt", "a", "b", {"6.3", "6.4", "6.5", "6.6", "6.7", "submit"}),
        ("src/grading/pages/templates/style.css", "color", "colour", set()),
        ("staff/README.md", "staff", "staffs", set()),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)  # fmt: skip
def test_a_change_regrades_what_it_can_change(project, file, old, new, changed):
    if not (project / file).exists():
        pytest.skip(f"there is no {file}")
    before, text = hashes(project), (project / file).read_text(encoding="utf-8")
    assert old in text
    (project / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        after = hashes(project)
    finally:
        (project / file).write_text(text, encoding="utf-8")
    assert {part for part in before if before[part] != after[part]} == changed


def test_every_part_has_a_hash():
    assert set(part_hashes(HOMEWORK, HOMEWORK.find_model("bundled"))) == {*HOMEWORK.numbers, "submit"}


def test_a_folder_is_known_by_its_files(tmp_path):
    first, second = varied(tmp_path / "1", "likelihood.py"), varied(tmp_path / "2", "likelihood.py")
    assert content_hash(first) == content_hash(second)
    (second / "likelihood.py").write_text("other")
    assert content_hash(first) != content_hash(second)


# --- the engine ---


class Dying:
    """Warm processes that die `times` times."""

    def __init__(self, times: int):
        self.left = times

    def ask(self, what, seconds):
        self.left -= 1
        if self.left >= 0:
            raise GraderDied("killed\nby the kernel")
        return {"status": GRADED, "tests": []}


@pytest.mark.parametrize(("times", "status"), [(0, GRADED), (2, GRADED), (3, FAILED)])
def test_a_process_that_dies_is_our_failure(monkeypatch, times, status):
    graders = Dying(times)
    monkeypatch.setattr(engine, "_graders", lambda homework: graders)
    reply = engine.grade(engine.Order("hw1", {}))
    assert reply["status"] == status
    assert status == GRADED or "died 3 times (by the kernel)" in reply["error"]


def test_few_tasks_are_under_way(monkeypatch):
    monkeypatch.setattr(engine, "grade", lambda order: {"status": GRADED, "tests": []})
    taken = []

    def orders():
        for i in range(50):
            taken.append(i)
            yield i, engine.Order("hw1", {})

    with ThreadPoolExecutor(2) as pool:
        for done, (_, reply) in enumerate(engine.run(place(pool), orders()), start=1):
            assert reply["status"] == GRADED
            assert len(taken) <= done + 4
    assert done == 50


def test_a_lost_task_is_our_failure():
    class Killing:
        def submit(self, *_):
            future = Future()
            future.set_exception(RuntimeError("KilledWorker: attempted 3 times"))
            return future

    ((_, reply),) = engine.run(place(Killing()), [(0, engine.Order("hw1", {}))])
    assert reply["status"] == FAILED
    assert "attempted 3 times" in reply["error"]


@linux
def test_nobody_pays_for_a_fork_server_that_died(tmp_path):
    with Graders("staff.grade_class.worker", "hw1", tmp_path) as graders, ThreadPoolExecutor(1) as pool:
        order = {"submission": str(SOLUTION), "seed": SEED, "parts": ["6.4"]}
        assert points(graders.ask(order, 400))["6.4"] == 8
        loop = "import time\n        while time.process_time() < 1.5: pass\n        return token"
        slow = varied(tmp_path / "slow", "likelihood.py", ("return token", loop))
        reply = pool.submit(graders.ask, order | {"submission": str(slow)}, 400)
        (grader,) = graders._all
        server, _ = wait_for(lambda: looping(grader.process.pid))
        os.kill(server, signal.SIGKILL)
        with pytest.raises(GraderDied, match="the process that forks workers died"):
            reply.result()


@linux
@pytest.mark.parametrize(("busy", "status"), [(2.0, FAILED), (0.0, GRADED)])
def test_what_a_busy_machine_did_not_run_counts_for_nothing(monkeypatch, open_folder, busy, status):
    """`busy` is the least share of a processor at which time that ran out is the submission's doing."""
    monkeypatch.setattr(worker, "TOTAL", 0.0)
    monkeypatch.setattr(worker, "BUSY", busy)
    with ForkServer(HOMEWORK, HOMEWORK.find_model("bundled"), open_folder) as server:
        reply = worker.graded(HOMEWORK, server, submission=str(SOLUTION), seed=SEED, parts=["6.4"])
    assert reply["status"] == status
    assert ("too busy" in reply["error"]) == (status == FAILED)
    assert not any(test["score"] for test in reply["tests"])


def test_what_a_scheduler_drops_stops_the_run():
    class Dropping:
        def submit(self, *_):
            future = Future()
            future.cancel()
            return future

    with pytest.raises(engine.Stopped, match="has dropped what was under way"):
        list(engine.run(place(Dropping()), [(0, engine.Order("hw1", {}))]))


def place(executor) -> engine.Place:
    return engine.Place(executor, lambda: 4, lambda: None)


def test_a_run_that_was_stopped_gets_no_more(monkeypatch):
    monkeypatch.setattr(engine, "_STOPPED", {"this one"})
    reply = engine.grade(engine.Order("hw1", {}, run="this one"))
    assert (reply["status"], reply["error"]) == (FAILED, "the run that it belongs to was stopped")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"torch": "1.0", "6.3": "x"}, r"has torch \S+ instead of 1\.0; bring"),
        ({"Python": "3.99.0"}, r"has Python 3\.\S+ instead of 3\.99\.0; bring"),
        ({"6.4": "x", "6.5": "x"}, "other tests of 6.4, 6.5; bring"),
        (dict.fromkeys((*HOMEWORK.numbers, "submit"), "x"), "another grader, model or data; bring"),
    ],
)
def test_a_worker_of_another_version_does_not_grade(changes, said):
    asked = {**engine.version("hw1"), **changes}
    with pytest.raises(engine.OtherVersion, match=said):
        engine.grade(engine.Order("hw1", {}, b"", asked))


# --- the whole ---


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory):
    """A folder of submissions: right, wrong, not written, broken and empty."""
    folder = tmp_path_factory.mktemp("class")
    shutil.copytree(SOLUTION, folder / "right" / "questions", ignore=shutil.ignore_patterns("__pycache__"))
    varied(folder / "halved", *HALVED)
    shutil.copytree(ROOT / "questions", folder / "starter", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "broken.zip").write_bytes(b"PK\3\4 but nothing more")
    (folder / "empty").mkdir()
    return folder


def command(source: Path, out: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "staff.grade_class", str(source), "--out", str(out), *arguments]


def grade(source: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(source, out, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)


def table_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return {line["submission"]: line for line in csv.DictReader(file)}


@linux
def test_every_score_is_that_of_the_grader(handed_in, tmp_path, monkeypatch):
    process = grade(handed_in, tmp_path / "out", "--seed", str(SEED))
    assert process.returncode == 0, process.stderr
    found = table_of(tmp_path / "out")
    for name in ("right", "halved", "starter"):
        alone = points(graded(handed_in / name, tmp_path / "alone.json", seed=SEED))
        assert {part: float(found[name][part]) for part in HOMEWORK.numbers} == {p: alone[p] for p in HOMEWORK.numbers}
    assert found["right"]["total"] == "35"
    assert 0 < float(found["halved"]["total"]) < 35
    for name in ("broken", "empty"):
        line = next(line for key, line in found.items() if key.startswith(name))
        assert (line["status"], line["total"]) == (REFUSED, "0")
        assert line["remark"]
    assert "Traceback" not in process.stderr + process.stdout

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    again = grade(handed_in, tmp_path / "out", "--seed", str(SEED))
    assert again.returncode == 0
    assert "0submission [" in again.stderr  # nothing is graded again
    assert table_of(tmp_path / "out") == found


@linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_stops_it_loses_nothing(handed_in, tmp_path, number):
    undisturbed = tmp_path / "undisturbed"
    arguments = ("--seed", str(SEED), "--only", "right", "halved", "starter")
    process = subprocess.Popen(command(handed_in, tmp_path / "out", *arguments), cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while stored(tmp_path / "out") < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    began = time.monotonic()
    said = process.communicate()[1].decode()
    if number != signal.SIGKILL:
        assert time.monotonic() - began < 5
        assert process.returncode == 130
        assert "run the same command again" in said
    before = stored(tmp_path / "out")
    assert before >= 1
    assert grade(handed_in, tmp_path / "out", *arguments).returncode == 0
    assert grade(handed_in, undisturbed, *arguments).returncode == 0
    assert (tmp_path / "out" / "grades.csv").read_bytes() == (undisturbed / "grades.csv").read_bytes()


def stored(out: Path) -> int:
    """How many submissions are in the store."""
    with contextlib.suppress(sqlite3.Error):
        database = sqlite3.connect(f"file:{out / 'class.sqlite'}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(database):
            return len(database.execute("SELECT * FROM results WHERE content LIKE '{%'").fetchall())
    return 0


def test_an_unknown_id_is_one_line(handed_in, tmp_path):
    process = grade(handed_in, tmp_path / "out", "--only", "nobody")
    assert process.returncode == 1
    assert process.stderr.startswith("error: --only nobody: there is no such submission")


def test_only_what_failed_is_graded_again(handed_in, tmp_path):
    handed = [Handed(name, (), None, handed_in / name, "") for name in ("right", "halved", "starter")]
    with Store(tmp_path / "store") as store:
        whole = Class(HOMEWORK, handed, store, SEED)
        right, halved, _ = whole.jobs()
        whole._store_reply(right, engine._failure("it died"))
        graded_parts = [{"part": part, "score": 0.0, "number": part} for part in (*HOMEWORK.numbers, "submit")]
        whole._store_reply(halved, engine._failure("") | {"status": GRADED, "tests": graded_parts})
        assert [job.submissions[0].id for job in whole.jobs()] == ["right", "starter"]
        assert [job.submissions[0].id for job in whole.jobs(failed=True)] == ["right"]
        assert [job.submissions[0].id for job in whole.jobs(only=["halved"])] == []
        assert [job.submissions[0].id for job in whole.jobs(only=["halved"], again=True)] == ["halved"]
        assert {r.handed.id: r.status for r in whole.rows()} == {
            "right": FAILED,
            "halved": GRADED,
            "starter": "not graded yet",
        }


def test_equal_files_are_graded_once(handed_in, tmp_path):
    shutil.copytree(handed_in / "right", tmp_path / "copy")
    handed = [Handed("right", (), None, handed_in / "right", ""), Handed("copy", (), None, tmp_path / "copy", "")]
    with Store(tmp_path / "store") as store:
        (job,) = Class(HOMEWORK, handed, store, SEED).jobs()
    assert [each.id for each in job.submissions] == ["right", "copy"]
    assert job.keys[WHOLE]


# --- a cluster ---


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:8786", "tcp://example.org:1"])
def test_a_cluster_without_tls_is_refused(address):
    with pytest.raises(cluster.ClusterError, match="start the cluster with TLS"):
        cluster._address(address, None)


@pytest.mark.parametrize(
    "address", ["tls://10.1.2.3:8786", "tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786"]
)
def test_a_cluster_that_nobody_else_can_join(address):
    assert cluster._address(address, cluster.Tls(Path("ca"), Path("cert"), Path("key"))) == address


@pytest.mark.parametrize("address", ["missing.json", "http://127.0.0.1:8786", "pyproject.toml"])
def test_what_is_no_address_of_a_scheduler(address):
    with pytest.raises(cluster.ClusterError, match="must be an address such as"):
        cluster._address(address, None)


def test_tls_needs_its_certificates():
    with pytest.raises(cluster.ClusterError, match="add --tls"):
        cluster._address("tls://127.0.0.1:8786", None)


def test_a_folder_travels_as_a_zip(handed_in, tmp_path):
    content = packed(handed_in / "right")
    (tmp_path / "s.zip").write_bytes(content)
    shutil.unpack_archive(tmp_path / "s.zip", tmp_path / "out")
    assert content_hash(tmp_path / "out") == content_hash(handed_in / "right")
