"""What a confined process cannot do, and how its files, memory and output are limited."""

import ctypes
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from src.errors import SandboxError
from src.grading.homework import Limits
from src.grading.sandbox import client, confine, landlock, memory, readable, seccomp, watch
from src.grading.sandbox.memory import Group, MemoryLimit
from src.grading.sandbox.output import KEPT, Output
from src.grading.sandbox.sandbox import Sandbox
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from tests.answers import SOLUTION

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox confines processes on Linux only")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")

F_SETLEASE, FS_IOC_SETFLAGS = 1024, 0x40086602


def refused(action: Callable[[], object]) -> bool:
    """Whether `action` fails because the process lacks the right to it."""
    try:
        action()
    except PermissionError:
        return True
    return False


def in_a_child(check: Callable[[], bool]) -> bool:
    """What `check` returns in a process of its own, which it may confine."""
    process = os.fork()
    if process == 0:
        try:
            os._exit(0 if check() else 1)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def confined(may_remove: bool = True) -> None:
    confine.bind_to_parent()
    assert seccomp.filter_syscalls(may_remove)


def libc_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


FORBIDDEN: dict[str, Callable[[], object]] = {
    "owner": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
    "lease": lambda: fcntl.fcntl(0, F_SETLEASE, 0),
    "lock": lambda: fcntl.lockf(1, fcntl.LOCK_EX),
    "flags": lambda: fcntl.ioctl(0, FS_IOC_SETFLAGS, struct.pack("i", 0)),
    "truncate": lambda: os.truncate("/dev/null", 0),
    "fallocate": lambda: os.posix_fallocate(1, 0, 1),
    "fork": os.fork,
    "socket": lambda: __import__("socket").socket(),
    "memfd": lambda: os.memfd_create("x"),
    "chmod": lambda: os.chmod("/dev/null", 0o600),
    "affinity": lambda: os.sched_setaffinity(0, {0}),
    "pipes": lambda: os.splice(0, 1, 1),
    "inotify": lambda: libc_call("inotify_init"),
    "queue": lambda: libc_call("msgget", 0, 0o1600),
    "namespace": lambda: libc_call("unshare", 0x10000000),
    "parent": lambda: os.kill(os.getppid(), 0),
    "dumpable": lambda: libc_call("prctl", 4, 1, 0, 0, 0),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_no_answer_needs_is_refused(name):
    def check() -> bool:
        confined()
        return refused(FORBIDDEN[name])

    assert in_a_child(check)


def test_what_answers_need_is_allowed(tmp_path):
    def check() -> bool:
        confined()
        os.chdir(tmp_path)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            Path(folder, "a").write_text("text")
            os.replace(Path(folder, "a"), Path(folder, "b"))
        thread = threading.Thread(target=os.listdir)
        thread.start()
        thread.join()
        return len(os.urandom(3)) == 3 and not list(Path().iterdir())

    assert in_a_child(check)


@pytest.mark.parametrize(
    "take_name",
    [
        lambda: os.rename("file", "other"),
        lambda: os.open(".", os.O_TMPFILE | os.O_WRONLY),
    ],
    ids=["rename", "nameless"],
)
def test_without_a_disk_of_its_own_files_keep_their_names(tmp_path, take_name):
    (tmp_path / "file").touch()

    def check() -> bool:
        os.chdir(tmp_path)
        confined(may_remove=False)
        return refused(take_name)

    assert in_a_child(check)


def test_without_a_disk_of_its_own_removing_does_nothing(tmp_path):
    """And says that it worked: temporary files can be used."""

    def check() -> bool:
        os.chdir(tmp_path)
        confined(may_remove=False)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            Path(folder, "file").write_text("text")
        with tempfile.TemporaryFile(dir=".") as file:
            file.write(b"text")
        return Path(folder, "file").read_text() == "text"

    assert in_a_child(check)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_each_version_of_landlock_protects_files(monkeypatch, tmp_path, version):
    """Of an older kernel, simulated; what its Landlock cannot forbid, the filter of system calls does."""
    if landlock.version() < landlock.COMPLETE:
        pytest.skip("this kernel's own Landlock is older")
    monkeypatch.setattr(landlock, "version", lambda: version)
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").write_text("secret")

    def check() -> bool:
        confine.bind_to_parent()
        assert landlock.restrict_paths([], [tmp_path / "mine"]) == version
        assert seccomp.filter_syscalls(may_remove=True)
        Path(tmp_path, "mine", "file").write_text("text")
        return all(
            refused(action)
            for action in (
                (tmp_path / "theirs").read_text,
                lambda: os.truncate(tmp_path / "theirs", 0),
                FORBIDDEN["owner"],
                FORBIDDEN["parent"],
                FORBIDDEN["socket"],
            )
        )

    assert in_a_child(check)


def test_a_folder_around_the_project_is_not_opened(monkeypatch, tmp_path):
    """As where the project lies in the virtual environment's folder."""
    for folder in ("venv/lib", "venv/project/staff", "venv/project/src"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(readable, "ROOT", tmp_path / "venv" / "project")
    opened = list(readable.without_private([str(tmp_path / "venv"), "/usr/lib", str(tmp_path / "venv" / "project")]))
    assert opened == [str(tmp_path / "venv" / "lib"), "/usr/lib"]


def test_a_private_folder_on_the_path_is_not_opened(monkeypatch, tmp_path):
    """As where PYTHONPATH names it; but a virtual environment may lie in one."""
    monkeypatch.setattr(readable, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "dist" / "venv"))
    for folder in ("staff/hw1", "dist/venv/lib"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "staff")
    found = [str(tmp_path / name) for name in ("staff/hw1", "link", "dist/venv/lib")]
    assert list(readable.without_private(found)) == found[2:]
    assert readable.private() == (str(tmp_path / "staff"), found[0])


def test_a_python_around_the_project_excuses_nothing(monkeypatch, tmp_path):
    (tmp_path / "project" / "staff").mkdir(parents=True)
    monkeypatch.setattr(readable, "ROOT", tmp_path / "project")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert readable.private() == (str(tmp_path / "project" / "staff"),)


@pytest.mark.parametrize("folder", ["", "staff/hw1", "staff/hw1/hidden_tests.py"])
def test_nothing_is_graded_where_staff_can_be_read(monkeypatch, folder):
    """The worker looks from inside, whatever the reason may be."""
    real = readable.system
    monkeypatch.setattr(readable, "system", lambda: (*real(), str(readable.ROOT / folder)))
    with (
        pytest.raises(SandboxError, match=r"student code could read .*staff.* here; grade as root"),
        Sandbox(HOMEWORK, SOLUTION, BUNDLED),
    ):
        pass


@as_root
def test_other_users_cannot_read_a_submission():
    """Another grading that runs meanwhile, on a kernel without Landlock."""
    with Sandbox(HOMEWORK, SOLUTION, BUNDLED) as running:

        def check() -> bool:
            confine.become(running.user + 1)
            return refused(lambda: os.listdir(running.questions))

        assert in_a_child(check)


@as_root
def test_a_scratch_folder_is_a_small_disk(tmp_path):
    def check() -> bool:
        if not confine.mount_scratch(str(tmp_path), 1_000_000, 10, 12345):
            return True  # this container may not mount
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "file").write_bytes(bytes(2_000_000))
        return True

    assert in_a_child(check)
    assert not list(tmp_path.iterdir())


def test_reserved_blocks_count(tmp_path):
    limits = Limits(scratch_size=1_000_000)
    with (tmp_path / "file").open("wb") as file:
        assert not watch.is_too_full(tmp_path, limits)
        libc_call("fallocate", file.fileno(), 1, ctypes.c_long(0), ctypes.c_long(2_000_000))  # KEEP_SIZE
    assert (tmp_path / "file").stat().st_size == 0
    assert watch.is_too_full(tmp_path, limits)


def test_a_folder_that_is_removed_meanwhile_is_no_excess(monkeypatch, tmp_path):
    (tmp_path / "folder").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("folder"):
            os.rmdir(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert not watch.is_too_full(tmp_path, Limits())


def test_a_path_that_is_too_long_is_too_full(tmp_path):
    def check() -> bool:
        os.chdir(tmp_path)
        for _ in range(25):  # 5,000 bytes; the kernel takes 4,096
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        return True

    assert in_a_child(check)
    assert watch.is_too_full(tmp_path, Limits(scratch_depth=100))
    client.remove(tmp_path)
    assert not tmp_path.exists()


def test_a_process_that_breaks_a_limit_is_killed():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    watched = watch.Watch(process.pid, lambda: "too much")
    assert process.wait() < 0
    assert watched.stop() == "too much"
    process.communicate()


def test_threads_are_counted():
    def check() -> bool:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return watch.threads_of(os.getpid()) == 2

    assert in_a_child(check)


# of linux/capability.h: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, SETGID, SETUID
OF_A_CONTAINER = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7


@as_root
def test_memory_is_measured_where_root_may_not_look(monkeypatch):
    """In a container, root may not open what the kernel tells of another user's process."""
    monkeypatch.setattr("src.grading.sandbox.memory._places", lambda: iter(()))

    def check() -> bool:
        rights = struct.pack("=6I", OF_A_CONTAINER, OF_A_CONTAINER, 0, 0, 0, 0)
        libc_call("capset", struct.pack("=Ii", 0x20080522, 0), rights)
        with Sandbox(HOMEWORK, SOLUTION, BUNDLED) as running, running.start() as worker:
            memory = worker._place.memory
            assert refused(Path(f"/proc/{worker._place.process}/smaps_rollup").read_text)
            return worker.limits_memory and memory._own_memory() > 0

    assert in_a_child(check)


@as_root
def test_a_right_that_cannot_be_kept_has_a_remedy():
    def check() -> bool:
        rights = OF_A_CONTAINER & ~(1 << confine.CAP_DAC_READ_SEARCH)
        libc_call("capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", rights, rights, 0, 0, 0, 0))
        with pytest.raises(OSError, match="use a Python that all users can read"):
            confine.become(54_321, keep_reading=True)
        return True

    assert in_a_child(check)


HOARD = "import sys; kept = b'x' * 200_000_000; print(flush=True); sys.stdin.read()"


@pytest.mark.parametrize("grouped", [True, False])
def test_memory_is_limited_from_outside(monkeypatch, grouped):
    """By a control group, or, where there is none, by looking."""
    if not grouped:
        monkeypatch.setattr("src.grading.sandbox.memory._places", lambda: iter(()))
    code = f"import sys; sys.stdin.readline(); exec({HOARD!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    group = Group.around(process.pid, 100_000_000)
    limit = MemoryLimit(100_000_000, group, os.open(f"/proc/{process.pid}/smaps_rollup", os.O_RDONLY))
    try:
        assert not limit.exceeded()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        process.stdout.readline()
        assert limit.exceeded()
    finally:
        process.kill()
        process.communicate()
        limit.close()
        if group is not None:
            group.close()
    assert grouped or group is None
    assert group is None or not group._folder.exists()


@as_root
def test_a_released_process_has_no_limit():
    code = f"import sys; sys.stdin.readline(); exec({HOARD!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    group = Group.around(process.pid, 100_000_000)
    if group is None:
        process.kill()
        process.communicate()
        pytest.skip("no control group can be made here")
    group.release(process.pid)
    try:
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"\n"
        assert not group.kills()
    finally:
        process.kill()
        process.communicate()
        group.close()


@as_root
def test_the_group_of_a_killed_grader_is_removed(monkeypatch):
    place = next(iter(memory._places()), None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = place[0] / f"grading-{ended.pid}-0" if place else None
    try:
        left.mkdir()
    except (AttributeError, OSError):
        pytest.skip("no control group can be made here")
    group = Group.around(os.getpid(), 10**12)
    assert not left.exists()
    group.release(os.getpid())
    group.close()
    assert not group._folder.exists()


def test_only_the_beginning_of_the_output_is_kept():
    output = Output(100_000)
    with pytest.raises(BrokenPipeError), open(output.descriptor, "wb", closefd=False) as pipe:
        pipe.write(bytes(10_000_000))
    output.given()
    output.wait()
    assert output.is_too_much
    assert len(output._kept) == KEPT
    assert len(output.text(10)) == 10
