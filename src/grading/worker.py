"""The processes on the other side of the sandbox.

The *nursery* imports PyTorch, loads the model, and then only forks: the heavy part is paid once. Of its children, the
*examiner* runs the library's own code for the grader (what the model answers); a *student's worker* gives up its rights
and then runs student code. None of them ever holds a test, an expected value or a score.

Where there is no fork, the grader starts each of the two as a process of its own, which connects back to it.
"""

import contextlib
import gc
import os
import random
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src import checkpoint, guest
from src.config import Config, model_config
from src.errors import UserError
from src.gpt2 import GPT2
from src.grading import confine
from src.grading.protocol import DTYPES, Foreign, receive, send

FILTERED = -1e10  # the logit of a token that was filtered out, as the starter code has it
MAX_VALUES = 2_000_000  # elements of a tensor that a student's function may return


class RemoteTable(GPT2):
    """A language model whose answers come from the grader; it speaks `GPT2.forward`'s interface.

    The `past` that it hands out is a list of one tensor: the ids that it stands for, (B, P).
    """

    def __init__(self, channel: socket.socket, vocab_size: int):
        nn.Module.__init__(self)
        self.unused = nn.Parameter(torch.zeros(vocab_size, 1), requires_grad=False)  # so that it has a device, a dtype
        self._channel = channel
        self.eval()

    def __deepcopy__(self, memo: dict) -> "RemoteTable":
        return RemoteTable(self._channel, len(self.unused))

    def forward(self, input_ids, position_ids=None, token_type_ids=None, past=None):
        """Logits (B, T, V) in float32, and the past with which to go on; raises ValueError as GPT2 does."""
        ids = input_ids.detach()
        ids = (ids.long() if not ids.is_floating_point() and ids.dtype != torch.bool else ids).numpy()
        known = past[0].numpy() if past else None
        send(self._channel, {"ask": "table", "ids": ids, "past": known})
        answer = receive(self._channel)
        if "error" in answer:
            raise ValueError(answer["error"])
        return _tensor(answer["logits"]), [_tensor(answer["past"])]


class Worker:
    """Serves the grader's requests on one channel."""

    def __init__(self, channel: socket.socket, model: nn.Module, codec: Any, config: Config, questions: Path | None):
        self.channel = channel
        self.model = model
        self.codec = codec
        self.config = config
        self.questions = questions  # None for the examiner
        self.table: RemoteTable | None = None

    def serve(self) -> None:
        """Answer requests until the grader is gone."""
        while True:
            try:
                request = receive(self.channel)
                answer = self.call(request) if self.questions else getattr(self, request.pop("do"))(**request)
                send(self.channel, answer)
            except (EOFError, OSError):
                return

    # --- for the examiner: the library's own code ---

    def encode(self, texts: list[str]) -> dict[str, Any]:
        """The token ids of each text, (T,)."""
        return {"ids": [self.codec.encode(text)[0].numpy() for text in texts]}

    def logits(self, ids: np.ndarray) -> dict[str, Any]:
        """What the model answers to `ids` (B, T): logits (B, T, V)."""
        with torch.inference_mode():
            logits, _ = self.model(_tensor(ids))
        return {"logits": logits.float().numpy()}

    # --- for a student's worker ---

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one of the student's functions and describe what came of it."""
        torch.manual_seed(request["seed"])
        np.random.seed(request["seed"] % 2**32)
        random.seed(request["seed"])
        try:
            if request["fresh"]:
                guest.forget()
            if request["likelihoods"] is not None:
                self._stand_in(dict(request["likelihoods"]))
            function = guest.load_function(self.questions, request["file"], request["function"])
            # In the scaffolding, students may have changed what marks a token that was filtered out.
            mark = getattr(sys.modules.get(f"{guest.PACKAGE}.sample"), "FILTERED", FILTERED)
            arguments = [self._argument(value) for value in request["arguments"]]
            arguments = [_marked(a, FILTERED, mark) if isinstance(a, Tensor) else a for a in arguments]
            before = _fingerprint(self.model) if request["watch"] else None
            value = function(*arguments)
            changed = request["watch"] and _fingerprint(self.model) != before
            answer = {"returned": described(value), "model_changed": bool(changed)}
            tensors = [_marked(a, mark, FILTERED) for a in arguments if isinstance(a, Tensor)]
            return answer | {"tensors": [t.detach().numpy() for t in tensors]}
        except guest.GuestError as error:
            return {"raised": {"type": "GuestError", "text": self._shown(str(error)), "part": None}}
        except BaseException as error:
            failure = guest.failure(error, self.questions)
            text = failure.text if failure else f"{type(error).__name__}: {error}"
            part = failure.part if failure else None
            if part is not None:
                text = failure.place
            name = type(error).__name__ if type(error).__module__ == "builtins" else "an error of its own kind"
            if isinstance(error, RuntimeError) and "can't allocate memory" in text:
                name = "MemoryError"  # PyTorch's way to say it
            return {"raised": {"type": name, "text": self._shown(text), "part": part}}

    def _shown(self, text: str) -> str:
        folder = str(self.questions)
        text = text.replace(os.path.relpath(folder), "questions").replace(folder, "questions")
        return text.encode("utf-8", "replace").decode()[:4000]

    def _argument(self, value: Any) -> Any:
        """The argument that `value` stands for: an array is a tensor, a dict names something of the worker's own."""
        match value:
            case np.ndarray():
                return _tensor(value)
            case {"past_of": ids, "model": "gpt2"}:
                with torch.no_grad():
                    return self.model(_tensor(ids))[1]
            case {"past_of": ids, "model": "table"}:
                return [_tensor(ids)]
            case {"model": "gpt2"}:
                return self.model
            case {"model": "table", "vocab_size": vocab_size}:
                self.table = self.table or RemoteTable(self.channel, vocab_size)
                return self.table
            case {"config": "gpt2"}:
                return self.config
            case {"config": "table", "vocab_size": vocab_size, "top_k": top_k, "n_ctx": n_ctx}:
                size = {"n_positions": n_ctx, "n_ctx": n_ctx, "n_embd": 1, "n_head": 1, "n_layer": 1}
                return Config(**(vars(self.config) | size | {"vocab_size": vocab_size, "top_k": top_k}))
        return value

    def _stand_in(self, known: dict[tuple[int, ...], float]) -> None:
        """Let `questions.likelihood.log_likelihood` answer from `known`: token ids → log-likelihood."""
        own, name = None, f"{guest.PACKAGE}.likelihood"
        with contextlib.suppress(BaseException):
            own = guest.load_function(self.questions, "likelihood.py", "log_likelihood")
        module = sys.modules.setdefault(name, types.ModuleType(name))

        def log_likelihood(model, text):
            ids = tuple(text.flatten().tolist())
            return known[ids] if ids in known or own is None else own(model, text)

        module.log_likelihood = log_likelihood


def described(value: Any) -> dict[str, Any]:
    """`value` as plain data: what kind of thing it is, and what it holds."""
    if isinstance(value, Tensor) and value.is_complex():
        return {"kind": "other", "dtype": f"{value.dtype}", "value": Foreign("complex tensor")}
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        description = {"kind": "tensor", "dtype": dtype, "requires_grad": bool(value.requires_grad)}
        with contextlib.suppress(Exception):
            array = value.detach().to("cpu").to_dense()
            array = (array.float() if dtype not in DTYPES else array).numpy()
            if array.size <= MAX_VALUES and array.dtype.name in DTYPES:
                return {**description, "value": array}
        return {**description, "value": Foreign(f"{dtype} tensor")}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        known = array.dtype.name in DTYPES and array.size <= MAX_VALUES
        return {"kind": "numpy", "dtype": array.dtype.name, "value": array if known else Foreign("NumPy array")}
    too_large = (type(value) is int and value.bit_length() > 1000) or (type(value) is str and len(value) > 1000)
    if type(value) in (type(None), bool, float, int, str) and not too_large:
        return {"kind": "plain", "dtype": type(value).__name__, "value": value}
    return {"kind": "other", "dtype": type(value).__name__[:80], "value": Foreign(type(value).__name__)}


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


def _marked(tensor: Tensor, old: float, new: Any) -> Tensor:
    """`tensor` with `new` in the place of `old`, if it is of the kind that is marked at all."""
    if not tensor.is_floating_point() or type(new) is not float or old == new:
        return tensor
    return torch.where(tensor == old, new, tensor)


def _fingerprint(model: nn.Module) -> tuple:
    """Changes when a parameter's value, gradient or role changes, or when the model changes its mode."""
    return tuple(
        (name, parameter.double().sum().item(), parameter.requires_grad, parameter.grad is None)
        for name, parameter in model.named_parameters()
    ) + tuple(module.training for module in model.modules())


def _load(model_name: str) -> tuple[nn.Module, Any, Config]:
    torch.set_num_threads(1)  # the models are small; and a pool of threads would not survive a fork
    try:
        config = model_config(model_name)
        return *checkpoint.load(config, checkpoint.locate(config)), config
    except UserError as error:
        sys.exit(str(error))  # the grader reads this line


def _as_student(channel: socket.socket, loaded: tuple, orders: dict[str, Any]) -> None:
    """Give up all rights as ordered, then serve."""
    os.chdir(orders["home"])
    os.environ.update(HOME=orders["home"], TMPDIR=orders["home"])
    confine.apply_limits(confine.Limits(**orders["limits"]), own_user=orders["user"] is not None)
    if orders["user"] is not None:
        confine.become(orders["user"], orders["keep_reading"])
    confine.bind_to_parent()
    paths = confine.restrict_paths(*([Path(path) for path in orders[kind]] for kind in ("readable", "writable")))
    send(channel, {"ready": {"paths": paths, "calls": confine.filter_calls()}})
    Worker(channel, *loaded, questions=Path(orders["questions"])).serve()


def _as_examiner(channel: socket.socket, loaded: tuple) -> None:
    send(channel, {"ready": {}})
    Worker(channel, *loaded, questions=None).serve()


def nursery(control: socket.socket, model_name: str) -> None:
    """Fork children as the grader orders, and say how they ended; until the grader is gone."""
    loaded = _load(model_name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the grader, which then ends this process
    gc.collect()
    gc.freeze()  # so that collecting garbage in a child doesn't copy the pages shared with this one
    send(control, {"ready": True})
    running: dict[int, int | None] = {}  # child → its user
    while True:
        try:
            orders = receive(control)
            if orders["do"] == "fork":
                _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
                child = os.fork()
                if child == 0:
                    _child(control, loaded, orders, *descriptors)
                running[child] = orders["user"]
                for descriptor in descriptors:
                    os.close(descriptor)
                send(control, {"child": child})
            else:
                user = running.pop(orders["child"])
                send(control, {"status": _end(orders["child"], orders["patience"], user)})
        except (EOFError, OSError):
            for child, user in running.items():
                _end(child, 0, user)
            return


def _child(control: socket.socket, loaded: tuple, orders: dict[str, Any], channel: int, output: int) -> None:
    try:
        os.setsid()
        control.close()
        channel, output = os.dup2(channel, 10), os.dup2(output, 11)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 10)
        os.closerange(11, 256)
        # PyTorch makes its pool of threads anew after a fork, and two threads that are the first to ask get in each
        # other's way ("Invalid thread pool!"): so ask here.
        torch.set_num_threads(1)
        with socket.socket(fileno=channel) as connection:
            if orders["role"] == "student":
                _as_student(connection, loaded, orders)
            else:
                _as_examiner(connection, loaded)
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
        os._exit(70)


def _end(child: int, patience: float, user: int | None) -> int:
    """End `child` and all that it started; how it ended by itself, if it did within `patience` seconds, or -9."""
    deadline = time.monotonic() + patience
    done, status = os.waitpid(child, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.002)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        _, status = os.waitpid(child, 0)
    if user is not None:  # whatever else runs as that user, which is this grading's alone
        killer = os.fork()
        if killer == 0:
            with contextlib.suppress(OSError):
                confine.become(user)
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        os.waitpid(killer, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """`fork FD MODEL`: be the nursery, on that socket. `connect PORT MODEL`: be one worker; the orders come first."""
    mode, where, model_name = sys.argv[1:]
    if mode == "fork":
        with socket.socket(fileno=int(where)) as control:
            return nursery(control, model_name)
    with socket.create_connection(("127.0.0.1", int(where))) as channel:
        loaded = _load(model_name)
        send(channel, {"token": sys.stdin.readline().strip()})
        orders = receive(channel)
        if orders["role"] == "student":
            _as_student(channel, loaded, orders)
        else:
            _as_examiner(channel, loaded)
    return None
