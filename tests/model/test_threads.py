"""How many threads PyTorch uses, and how long they spin."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.model.threads import SPIN_COUNT, processor_quota, share_processors

linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux, PyTorch comes with libgomp")

# Many short parallel loops, as in a run of the model: the sum of a vector is split between the threads.
LOOPS = """
import os, time
os.sched_setaffinity(0, {processors})
if {shared}:
    from src.model.threads import share_processors
    share_processors()
import torch
numbers = torch.ones(300_000)
began = time.perf_counter()
for _ in range(400):
    numbers.exp()
print(time.perf_counter() - began, torch.get_num_threads())
"""


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def clean_environment(monkeypatch):
    for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, math.inf),
        (
            {
                "proc/self/cgroup": "5:memory:/m\n2:cpu,cpuacct:/c\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "20000\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "10000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_quota_of_the_control_groups(tmp_path, files, quota):
    for name, content in files.items():
        write(tmp_path / name, content)
    assert processor_quota(tmp_path) == quota


@linux
def test_threads_spin_briefly():
    environment: dict[str, str] = {}
    share_processors(environment)
    assert environment["GOMP_SPINCOUNT"] == str(SPIN_COUNT)


@linux
@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_the_users_own_choice_stays(name):
    environment = {name: "7", "OMP_NUM_THREADS": "3"}
    share_processors(environment)
    assert environment == {name: "7", "OMP_NUM_THREADS": "3"}


@linux
@pytest.mark.parametrize(("quota", "threads"), [(0.5, "1"), (1.9, "1")])
def test_no_more_threads_than_the_quota_feeds(monkeypatch, quota, threads):
    monkeypatch.setattr("src.model.threads.processor_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    environment: dict[str, str] = {}
    share_processors(environment)
    assert environment["OMP_NUM_THREADS"] == threads


def seconds(shared: bool, processors: set[int]) -> float:
    code = LOOPS.format(shared=shared, processors=processors)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    took, threads = done.stdout.split()
    assert threads == "2"
    return float(took)


@linux
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs 2 cores")
def test_a_busy_machine_slows_it_down_fairly(clean_environment):
    """Beside two busy programs on the same two processors, it loses time to them, not to its own waiting."""
    processors = set(sorted(os.sched_getaffinity(0))[:2])
    busy = f"import os; os.sched_setaffinity(0, {processors}); print(flush=True)\nwhile True: pass"
    programs = [subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for program in programs:
            program.stdout.readline()  # it runs
        shared, alone = seconds(True, processors), seconds(False, processors)
    finally:
        for program in programs:
            program.kill()
            program.communicate()
    assert shared < 0.6 * alone
