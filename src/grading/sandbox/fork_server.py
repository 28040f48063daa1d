"""A process that imports PyTorch and loads the model once, and then only forks workers, as the grader orders.

Where a system cannot fork such a process, the grader starts each worker as a process of its own, which connects back.
"""

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

import torch

from src.errors import UserError
from src.grading.sandbox import confine
from src.grading.sandbox.messages import (
    Compared,
    CompareModel,
    Ended,
    EndWorker,
    Forked,
    ForkServerReady,
    Prepared,
    StartWorker,
    Sweep,
    Swept,
    Token,
)
from src.grading.sandbox.protocol import Message, receive, send
from src.grading.sandbox.shared_model import SharedModel
from src.grading.sandbox.worker import WorkerPlugin, serve_reader, serve_reference, serve_student


def serve(descriptor: int, module: str, model_name: str) -> None:
    """Fork workers as the messages on the socket `descriptor` say, until the grader is gone.

    Args:
        module: the homework's worker module, `src.hwN.worker`
    """
    # A dead grader also closes its end of the socket. But a debugger may hold this process up, and it would never read.
    confine.die_with_parent()
    with socket.socket(fileno=descriptor) as control:
        plugin = _load(module, model_name)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the grader, which then ends this process
        send(control, ForkServerReady(sum(parameter.nbytes for parameter in plugin.parameters())))
        workers: dict[int, _Worker] = {}  # by process id
        try:
            while True:
                order: Message = receive(control, StartWorker, CompareModel, EndWorker, Sweep, *plugin.prepares)
                send(control, _carry_out(order, control, plugin, workers))
        except (EOFError, OSError):
            for process, worker in workers.items():
                _end(process, 0, worker.user)
            os._exit(0)  # to take PyTorch down in order would take longer than to start a worker


@dataclass(frozen=True)
class _Worker:
    """What the fork server knows of a worker."""

    user: int | None
    model: SharedModel


def connect(port: int, module: str, model_name: str) -> None:
    """Be one worker that connects to the grader on this port; standard input holds the token to prove it."""
    with socket.create_connection(("127.0.0.1", port)) as channel:
        plugin = _load(module, model_name)
        send(channel, Token(sys.stdin.readline().strip()))
        _serve_as(receive(channel, StartWorker), channel, plugin)


def _load(module: str, model_name: str) -> WorkerPlugin:
    torch.set_num_threads(1)  # the models are small; and a pool of threads would not survive a fork
    try:
        plugin = importlib.import_module(module).load(model_name)
    except UserError as error:
        sys.exit(str(error))  # the grader reads this line
    assert isinstance(plugin, WorkerPlugin)
    gc.freeze()  # so that collecting garbage in a worker does not copy the pages that it shares with this process
    gc.enable()  # nothing was to be collected while PyTorch was imported; see `sandbox.py`
    return plugin


def _serve_as(start: StartWorker, channel: socket.socket, plugin: WorkerPlugin) -> None:
    if start.role == "student":
        serve_student(channel, plugin, start)
    elif start.role == "reader":
        serve_reader(channel, plugin, start)
    else:
        serve_reference(channel, plugin)


def _carry_out(order: Message, control: socket.socket, plugin: WorkerPlugin, workers: dict[int, _Worker]) -> Message:
    if isinstance(order, EndWorker):
        user = workers.pop(order.process).user
        return Ended(_end(order.process, order.patience, user if order.sweep else None))
    if isinstance(order, Sweep):
        _kill_all_of(order.user)
        return Swept()
    if isinstance(order, CompareModel):
        return Compared(workers[order.process].model.is_unchanged())
    if not isinstance(order, StartWorker):
        plugin.prepare(order)
        return Prepared()
    _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    model = SharedModel(plugin.parameters() if order.watched else ())
    process = os.fork()
    if process == 0:
        model.use()
        _be_worker(order, control, plugin, *descriptors)
    workers[process] = _Worker(order.user, model)
    for descriptor in descriptors:
        os.close(descriptor)
    return Forked(process)


def _be_worker(start: StartWorker, control: socket.socket, plugin: WorkerPlugin, channel: int, output: int) -> None:
    """Serve as a worker in a process that was just forked; never returns."""
    try:
        confine.die_with_parent()
        os.setsid()
        control.close()
        channel, output = os.dup2(channel, 10), os.dup2(output, 11)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 10)
        os.closerange(11, 256)
        # PyTorch makes its pool of threads anew after a fork. Two threads that are the first to ask for it disturb each
        # other ("Invalid thread pool!"), so it is asked for here.
        torch.set_num_threads(1)
        with socket.socket(fileno=channel) as connection:
            if start.role == "student":
                _show_memory(connection)
            _serve_as(start, connection, plugin)
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os._exit(70)


def _show_memory(channel: socket.socket) -> None:
    """Hand over the file that tells how much memory this process has.

    The grader could not open it once the process has another user: in a container, root may not look into processes.
    """
    descriptors = []
    with contextlib.suppress(OSError):
        descriptors.append(os.open("/proc/self/smaps_rollup", os.O_RDONLY))
    socket.send_fds(channel, [b"m"], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def _end(process: int, patience: float, user: int | None) -> int:
    """End `process`, and all that runs as `user`. Its exit status if it ends within `patience` seconds, or -9."""
    deadline = time.monotonic() + patience
    done, status = os.waitpid(process, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.002)
        done, status = os.waitpid(process, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    if not done:
        _, status = os.waitpid(process, 0)
    if user is not None:
        _kill_all_of(user)
    return os.waitstatus_to_exitcode(status)


def _kill_all_of(user: int) -> None:
    """Kill whatever runs as `user`, who belongs to this grading alone."""
    killer = os.fork()
    if killer == 0:
        with contextlib.suppress(OSError):
            confine.become(user)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(killer, 0)
