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

# Parallel loops, and work of one thread between them: how much processor time do the other threads take meanwhile?
LOOPS = """
import time
if {shared}:
    from src.model.threads import share_processors
    share_processors()
import torch
torch.set_num_threads(2)
numbers = torch.ones(100_000)
numbers.exp()
began, own_began = time.process_time(), time.thread_time()
for _ in range(100):
    numbers.exp()
    alone = time.thread_time() + 0.004
    while time.thread_time() < alone:
        pass
print((time.process_time() - began) - (time.thread_time() - own_began))
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


def seconds_of_other_threads(shared: bool) -> float:
    code = LOOPS.format(shared=shared)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


@linux
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two processors")
def test_a_waiting_thread_sleeps_soon(clean_environment):
    """By default it spins, and takes the processor from other programs, and from the thread that it waits for."""
    assert seconds_of_other_threads(shared=True) < 0.5 * seconds_of_other_threads(shared=False)
