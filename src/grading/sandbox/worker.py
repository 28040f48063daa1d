"""The process that runs student code, and the one that runs this project's own code for the grader.

A *student worker* gives up its rights, then calls student code. A *reference worker* answers what a homework's tests
ask of the model itself; it is not confined, and no student code runs in it. Neither holds a hidden test or a score.

A *reader* is confined as a student worker is, and reads what was handed in; see `reader.py`.

A homework adds what only it knows in `src/hwN/worker.py`: a function `load(model_name)` that returns a
`WorkerPlugin`. That module is named to the worker when it starts.
"""

import bdb
import contextlib
import errno
import os
import random
import socket
import sys
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.random  # which NumPy loads only when it is used: here once, not in every process that is forked
import torch
from torch import Tensor, nn

from src.errors import IntakeError, ProtocolError, StudentCodeError
from src.grading import import_guard, student_code
from src.grading.homework import Homework
from src.grading.sandbox import confine, landlock, seccomp
from src.grading.sandbox.limits import apply_limits
from src.grading.sandbox.messages import (
    BREAKPOINT,
    DISK_FULL,
    INPUT,
    Call,
    Foreign,
    Raised,
    Reference,
    Refused,
    Returned,
    StartWorker,
    Unpack,
    Unpacked,
    UnpackedFile,
    Value,
    WorkerReady,
)
from src.grading.sandbox.protocol import DTYPES, Array, Channel, Message, receive, send

MAX_VALUES = 2_000_000  # elements of a tensor that a student's function may return
MAX_ITEMS = 64  # of a tuple or list that it may return


class WorkerPlugin:
    """What a homework adds to a worker. These are the defaults; a homework overrides what it needs."""

    answers_to: tuple[type[Message], ...] = ()  # what the grader may ask of a reference worker
    reads: tuple[type[Message], ...] = ()  # what it may ask of a reader
    prepares: tuple[type[Message], ...] = ()  # what it may ask of a fork server

    @property
    def homework(self) -> Homework:
        """The homework's declaration; only a reader needs it."""
        raise NotImplementedError

    def read(self, question: Any, root: Path) -> Message:
        """The answer to one of `reads`, about the unpacked submission in the folder `root`."""
        raise ProtocolError(f"no answer to {type(question).__name__}")

    def answer(self, question: Any) -> Message:
        """The answer to one of `answers_to`, by this project's own code."""
        raise ProtocolError(f"no answer to {type(question).__name__}")

    def prepare(self, question: Any) -> None:
        """Compute once what all workers will be asked: one of `prepares`, in the fork server, before it forks them."""

    def resolve(self, reference: Reference, channel: Channel) -> Any:
        """The object for which `reference` stands; it may ask the grader over `channel`."""
        raise ProtocolError(f"nothing stands behind {type(reference).__name__}")

    def stand_in(self, questions: Path, replacement: Reference, channel: Channel) -> None:
        """Replace another part's function in the student's modules, for one call."""
        raise ProtocolError(f"{type(replacement).__name__} replaces nothing")

    def to_student(self, tensor: Tensor) -> Tensor:
        """A tensor among the arguments, as the student's code expects it."""
        return tensor

    def from_student(self, tensor: Tensor) -> Tensor:
        """The inverse of `to_student`."""
        return tensor

    def parameters(self) -> Iterable[nn.Parameter]:
        """The weights of the model that student code may use."""
        return ()

    def fingerprint(self) -> Hashable:
        """Something that differs once student code has changed the model by mistake.

        It is computed in the student's process, where code that means to cheat can replace it. Whether the weights have
        changed, the fork server sees from outside; see `shared_model.py`.
        """
        return None


def serve_student(channel: socket.socket, plugin: WorkerPlugin, start: StartWorker) -> None:
    """Give up all rights as `start` says, then answer calls until the grader is gone."""
    _give_up_rights(channel, start)
    with contextlib.suppress(EOFError, OSError):
        while True:
            send(channel, run_call(receive(channel, Call), plugin, Path(start.questions), channel))


def _give_up_rights(channel: socket.socket, start: StartWorker) -> None:
    limits = start.limits
    own_disk = start.user is not None and confine.mount_scratch(
        start.home, limits.scratch_size, limits.scratch_files, start.user
    )
    os.chdir(start.home)
    os.environ.update(HOME=start.home, TMPDIR=start.home)
    apply_limits(limits, own_user=start.user is not None)
    if start.user is not None:
        confine.become(start.user, start.keep_reading)
    confine.bind_to_parent()
    import_guard.forbid_in_process(start.forbidden)
    sys.breakpointhook = _no_breakpoint
    version = landlock.restrict_paths(map(Path, start.readable), map(Path, start.writable))
    filtered = seccomp.filter_syscalls(may_remove=own_disk)
    send(channel, WorkerReady(version, filtered, own_disk, confine.first_readable(start.private)))


def serve_reader(channel: socket.socket, plugin: WorkerPlugin, start: StartWorker) -> None:
    """Give up all rights as `start` says, then read what was handed in, as the grader asks, until it is gone."""
    source = Path(start.questions)
    with source.open("rb") if source.is_file() else contextlib.nullcontext() as archive:
        _give_up_rights(channel, start)
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                question: Message = receive(channel, Unpack, *plugin.reads)
                if isinstance(question, Unpack):
                    assert archive is not None
                    _send_files(channel, plugin.homework, archive, question.name)
                else:
                    send(channel, plugin.read(question, source))


def _send_files(channel: socket.socket, homework: Homework, archive: BinaryIO, name: str) -> None:
    from src.grading.intake import files_of_zip  # here, because student workers need nothing of it

    try:
        for path, content in files_of_zip(homework, Path(name), archive):
            send(channel, UnpackedFile(str(path), np.frombuffer(content, np.uint8)))
        send(channel, Unpacked())
    except IntakeError as error:
        send(channel, Refused(str(error)))


def serve_reference(channel: socket.socket, plugin: WorkerPlugin) -> None:
    """Answer the grader's questions about the model until it is gone."""
    send(channel, WorkerReady(landlock=0, seccomp=False, own_disk=False, reads=None))
    with contextlib.suppress(EOFError, OSError):
        while True:
            send(channel, plugin.answer(receive(channel, *plugin.answers_to)))


def run_call(call: Call, plugin: WorkerPlugin, questions: Path, channel: Channel) -> Returned | Raised:
    """Call a student's function in the folder `questions`, and describe what it returned or raised."""
    try:
        return returned(call, plugin, questions, channel)
    except BaseException as error:
        if what := missing_terminal(error):
            return Raised(what, "", None)
        return raised(error, questions)


def returned(call: Call, plugin: WorkerPlugin, questions: Path, channel: Channel) -> Returned:
    """Call a student's function in the folder `questions`, and describe what it returned.

    Raises:
        BaseException: whatever the function raises.
    """
    torch.default_generator.manual_seed(call.seed)  # torch.manual_seed also formats a traceback for each kind of GPU
    np.random.seed(call.seed % 2**32)
    random.seed(call.seed)
    if call.fresh:
        student_code.forget()
    if call.stand_in is not None:
        plugin.stand_in(questions, call.stand_in, channel)
    function = student_code.load_function(questions, call.file, call.function)
    arguments = [_argument(value, plugin, channel) for value in call.arguments]
    before = plugin.fingerprint() if call.watch else None
    if call.through is not None:
        value = plugin.resolve(call.through, channel)(function, *arguments)
    else:
        value = function(*arguments)
    changed = call.watch and plugin.fingerprint() != before
    pairs = zip(arguments, call.arguments, strict=True)
    tensors = [plugin.from_student(a).detach().numpy() for a, given in pairs if isinstance(given, np.ndarray)]
    kind, dtype, content, requires_grad = described(value)
    items = tuple(described(item)[2] for item in value) if kind == "several" else ()
    return Returned(kind, dtype, content, requires_grad, changed, tuple(tensors), items)


def _no_breakpoint(*_: object, **__: object) -> None:
    raise bdb.BdbQuit


def missing_terminal(error: BaseException) -> str | None:
    """BREAKPOINT or INPUT, if `error` comes of a debugger that was quit, or of input() at the end of the input.

    Without a terminal, pdb reads the end of its input and quits.
    """
    if student_code.has_quit_debugger(error):
        return BREAKPOINT
    return INPUT if isinstance(error, EOFError) and str(error) == "EOF when reading a line" else None


def raised(error: BaseException, questions: Path, all_frames: bool = False) -> Raised:
    """Describe an error that came of a call of a student's function; see `student_code.failure`."""
    if isinstance(error, StudentCodeError):
        return Raised("StudentCodeError", _anonymous(str(error), questions), None)
    failure = student_code.failure(error, questions, all_frames)
    text = failure.text if failure else f"{type(error).__name__}: {error}"
    part = failure.part if failure else None
    if failure and part is not None:
        text = failure.place
    name = type(error).__name__ if type(error).__module__ == "builtins" else "an error of its own kind"
    if isinstance(error, RuntimeError) and "can't allocate memory" in text:
        name = "MemoryError"  # PyTorch's way to say it
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG):
        name = DISK_FULL
    own = (_anonymous(failure.error, questions), _anonymous(failure.line, questions)) if failure else ("", "")
    return Raised(name, _anonymous(text, questions), part, *own, is_begun=bool(failure and failure.is_begun))


def _anonymous(text: str, questions: Path) -> str:
    """`text` without the place of the folder `questions`."""
    folder = str(questions)
    text = text.replace(os.path.relpath(folder), "questions").replace(folder, "questions")
    return text.encode("utf-8", "replace").decode()[:4000]


def _argument(value: Any, plugin: WorkerPlugin, channel: Channel) -> Any:
    if isinstance(value, np.ndarray):
        return plugin.to_student(as_tensor(value))
    return plugin.resolve(value, channel) if isinstance(value, Reference) else value


def as_tensor(array: Array) -> Tensor:
    """A tensor with a copy of `array`."""
    return torch.from_numpy(array.copy())


def described(value: Any) -> tuple[str, str, Value, bool]:
    """`value` as plain data: its kind, its type, its content (see `Returned`), and whether it requires a gradient.

    Student code can replace this function. What it can gain is what it could return as well: a value.
    """
    if isinstance(value, Tensor) and value.is_complex():
        return "other", f"{value.dtype}", Foreign("complex tensor"), False
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        content: Value = Foreign(f"{dtype} tensor")
        with contextlib.suppress(Exception):
            array = value.detach().to("cpu").to_dense()
            content = _small(array.float().numpy() if dtype not in DTYPES else array.numpy(), content)
        return "tensor", dtype, content, bool(value.requires_grad)
    if isinstance(value, (np.ndarray, np.generic)):
        array_ = np.asarray(value)
        return "numpy", array_.dtype.name, _small(array_, Foreign("NumPy array")), False
    too_large = (type(value) is int and value.bit_length() > 1000) or (type(value) is str and len(value) > 1000)
    if type(value) in (type(None), bool, float, int, str) and not too_large:
        return "plain", type(value).__name__, value, False
    if type(value) in (tuple, list) and len(value) <= MAX_ITEMS:
        return "several", type(value).__name__, Foreign(type(value).__name__), False
    return "other", type(value).__name__[:80], Foreign(type(value).__name__), False


def _small(array: Array, otherwise: Value) -> Value:
    """`array`, if it can be sent."""
    return array if array.size <= MAX_VALUES and array.dtype.name in DTYPES else otherwise


def main() -> None:
    """Start as `fork FD MODULE MODEL`, a fork server on that socket, or `connect PORT MODULE MODEL`, one worker."""
    from src.grading.sandbox import fork_server

    mode, where, module, model_name = sys.argv[1:]
    if mode == "fork":
        fork_server.serve(int(where), module, model_name)
    else:
        fork_server.connect(int(where), module, model_name)
