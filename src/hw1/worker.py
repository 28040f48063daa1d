"""What a worker of homework 1 adds: the bundled GPT-2, table models, and `log_likelihood`'s stand-in."""

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.grading import student_code
from src.grading.homework import Homework
from src.grading.sandbox.messages import Reference
from src.grading.sandbox.protocol import Array, Channel, Message, receive, send
from src.grading.sandbox.worker import WorkerPlugin, as_tensor
from src.hw1.messages import (
    FILTERED,
    AskLogits,
    Encode,
    Encoded,
    GPT2Config,
    GPT2Model,
    GPT2Past,
    LocalModel,
    LogitsAnswer,
    ReadSubmit,
    Remember,
    RemoteConfig,
    RemoteModel,
    RemotePast,
    RightLikelihood,
    SubmitContent,
    TableAnswer,
    TableQuestion,
    TableRefusal,
    Trainable,
)
from src.hw1.remembering import remember
from src.hw1.table import Table
from src.model import checkpoint
from src.model.codec import Codec
from src.model.config import Config, model_config
from src.model.gpt2 import GPT2
from src.model.onednn import compute_with_onednn, is_supported


class TableGPT2(GPT2):
    """A language model with the interface of `GPT2.forward` whose logits come from a table model."""

    def __init__(self, vocab_size: int):
        nn.Module.__init__(self)  # without GPT2's own weights
        self.unused = nn.Parameter(torch.zeros(vocab_size, 1), requires_grad=False)  # so that it has a device, a dtype
        self.eval()

    def forward(  # type: ignore[override] # the past is of another type
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        past: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, T, V) in float32, and the past with which to go on.

        Raises:
            ValueError: as `GPT2.forward` does.
        """
        ids = input_ids.detach()
        ids = ids.long() if not ids.is_floating_point() and ids.dtype != torch.bool else ids
        return self._answer(ids.numpy(), past[0].numpy() if past else None)

    def _answer(self, ids: Array, past: Array | None) -> tuple[Tensor, list[Tensor]]:
        raise NotImplementedError


class RemoteTable(TableGPT2):
    """A table model that the grader runs. The past that it returns is a list of one tensor: the ids so far, (B, P)."""

    def __init__(self, channel: Channel, vocab_size: int):
        super().__init__(vocab_size)
        self._channel = channel

    def __deepcopy__(self, memo: dict[int, Any]) -> "RemoteTable":
        return RemoteTable(self._channel, len(self.unused))

    def _answer(self, ids: Array, past: Array | None) -> tuple[Tensor, list[Tensor]]:
        send(self._channel, TableQuestion(ids, past))
        answer: Message = receive(self._channel, TableAnswer, TableRefusal)
        if isinstance(answer, TableAnswer):
            return as_tensor(answer.logits), [as_tensor(answer.past)]
        raise ValueError(answer.text if isinstance(answer, TableRefusal) else "no answer")


class LocalTable(TableGPT2):
    """A table model that runs here. The past that it returns is a list of one tensor: of each text, hash and length."""

    def __init__(self, table: Table):
        super().__init__(table.vocab_size)
        self._table = table

    def _answer(self, ids: Array, past: Array | None) -> tuple[Tensor, list[Tensor]]:
        if past is not None and (past.dtype != np.int64 or past.ndim != 2 or past.shape[1] != 2 or not len(past)):
            raise ValueError("past is not what the model returned")
        before, start = (None, 0) if past is None else (past[:, :1].view(np.uint64), int(past[0, 1]))
        problem = self._table.problem(ids, None if past is None else len(past), max(0, start))
        if problem:
            raise ValueError(problem)
        sums = self._table.sums(ids, before, max(0, start))
        known = np.empty((len(ids), 2), np.int64)
        known[:, 0], known[:, 1] = sums[:, -1].view(np.int64), start + ids.shape[1]
        return torch.from_numpy(self._table.logits(sums)), [torch.from_numpy(known)]


class _RightWhenAsked:
    """A student's `log_likelihood`, but right for one text under one model, which each call of the classifier sets."""

    model: GPT2 | None = None
    text: tuple[int, ...] = ()
    value = 0.0

    def __init__(self, own: Callable[..., Any] | None):
        self._own = own

    def __call__(self, model: GPT2, text: Tensor, *rest: Any, **options: Any) -> Any:
        if not rest and not options and model is self.model and tuple(text.flatten().tolist()) == self.text:
            return self.value
        if self._own is None:
            raise ValueError("log_likelihood was not called with the model and the text that classification was given")
        return self._own(model, text, *rest, **options)


class Worker(WorkerPlugin):
    """The bundled model and its codec, and what stands for them in the grader's calls."""

    answers_to = (Encode, AskLogits)
    reads = (ReadSubmit,)
    prepares = (Remember,)

    @property
    def homework(self) -> Homework:
        from src.hw1.parts import HOMEWORK  # here, because student workers need nothing of it

        return HOMEWORK

    def read(self, question: ReadSubmit, root: Path) -> SubmitContent:
        from src.hw1.reading import submit_content

        return submit_content(root, question.model)

    def __init__(self, model: GPT2, codec: Codec, config: Config):
        self._model = model
        self._codec = codec
        self._config = config
        self._table: RemoteTable | None = None

    def answer(self, question: Encode | AskLogits) -> Message:
        if isinstance(question, Encode):
            return Encoded(tuple(self._codec.encode(text)[0].numpy() for text in question.texts))
        ids = as_tensor(question.ids)
        with torch.inference_mode():
            logits = self._last_logits(ids) if question.last else self._model(ids)[0]
        return LogitsAnswer(logits.float().numpy())

    def _last_logits(self, ids: Tensor) -> Tensor:
        """What the model answers to the last token of each text, (B, 1, V)."""
        start, past = ids[:1, :-1], None
        if len(ids) > 1 and start.numel() and (ids[:, :-1] == start).all():  # what they share is computed once
            ids, past = ids[:, -1:], self._model(start)[1]
        logits: Tensor = self._model(ids, past=past)[0][:, -1:]
        return logits

    def prepare(self, question: Remember) -> None:
        remember(self._model, as_tensor(question.ids))

    def resolve(self, reference: Reference, channel: Channel) -> Any:
        match reference:
            case GPT2Model():
                return self._model
            case GPT2Config():
                return self._config
            case GPT2Past(ids=ids):
                with torch.no_grad():
                    return self._model(as_tensor(ids))[1]
            case RemoteModel(vocab_size=vocab_size):
                self._table = self._table or RemoteTable(channel, vocab_size)
                return self._table
            case LocalModel(vocab_size=vocab_size, seed=seed, n_ctx=n_ctx):
                return self._local(vocab_size, seed, n_ctx)
            case Trainable(values=values):
                return as_tensor(values).requires_grad_()
            case RemotePast(ids=ids):
                return [as_tensor(ids)]
            case RemoteConfig(vocab_size=vocab_size, top_k=top_k, n_ctx=n_ctx):
                size = {"n_positions": n_ctx, "n_ctx": n_ctx, "n_embd": 1, "n_head": 1, "n_layer": 1}
                return Config(**(vars(self._config) | size | {"vocab_size": vocab_size, "top_k": top_k}))
        return super().resolve(reference, channel)

    @functools.cache  # noqa: B019 # a worker lives as long as its process
    def _local(self, vocab_size: int, seed: int, n_ctx: int) -> LocalTable:
        return LocalTable(Table(vocab_size, seed, n_ctx, peaked=True))

    def stand_in(self, questions: Path, replacement: Reference, channel: Channel) -> None:
        """Let `questions.likelihood.log_likelihood` return the right value for the model and text of `replacement`."""
        assert isinstance(replacement, RightLikelihood)
        name = f"{student_code.PACKAGE}.likelihood"
        current = getattr(sys.modules.get(name), "log_likelihood", None)
        if not isinstance(current, _RightWhenAsked):  # the classifier has not imported one yet
            own = None
            with contextlib.suppress(BaseException):
                own = student_code.load_function(questions, "likelihood.py", "log_likelihood")
            current, module = _RightWhenAsked(own), sys.modules.setdefault(name, types.ModuleType(name))
            setattr(module, "log_likelihood", current)  # noqa: B010 # mypy: a module has no such attribute
        current.model, current.text = self.resolve(replacement.model, channel), replacement.text
        current.value = replacement.value

    def to_student(self, tensor: Tensor) -> Tensor:
        """With the student's own value of FILTERED: some change it in the given code."""
        return _with_mark(tensor, FILTERED, _students_mark())

    def from_student(self, tensor: Tensor) -> Tensor:
        return _with_mark(tensor, _students_mark(), FILTERED)

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._model.parameters()

    def fingerprint(self) -> Hashable:
        """Changes when a parameter's value, gradient or role changes, or when the model changes its mode."""
        parameters = tuple(
            (name, parameter.sum(dtype=torch.float64).item(), parameter.requires_grad, parameter.grad is None)
            for name, parameter in self._model.named_parameters()
        )
        return parameters, tuple(module.training for module in self._model.modules())


def _students_mark() -> Any:
    return getattr(sys.modules.get(f"{student_code.PACKAGE}.sample"), "FILTERED", FILTERED)


def _with_mark(tensor: Tensor, old: Any, new: Any) -> Tensor:
    """`tensor` with `new` in the place of `old`, if it holds logits at all."""
    if not tensor.is_floating_point() or type(new) is not float or old == new:
        return tensor
    return torch.where(tensor == old, new, tensor)


def load(model_name: str) -> Worker:
    """A worker with this model.

    Raises:
        UserError: its files are missing or damaged.
    """
    config = model_config(model_name)
    model, codec = checkpoint.load(config, checkpoint.locate(config))
    if is_supported(model.transformer.wte.weight.dtype):
        compute_with_onednn(model)
    return Worker(model, codec, config)
