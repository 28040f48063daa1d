"""What a worker of homework 1 adds: the bundled GPT-2, table models, and `log_likelihood`'s stand-in."""

import contextlib
import sys
import types
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.grading import student_code
from src.grading.sandbox.messages import Reference
from src.grading.sandbox.protocol import Channel, Message, receive, send
from src.grading.sandbox.worker import WorkerPlugin, as_tensor
from src.hw1.messages import (
    FILTERED,
    AskLogits,
    Encode,
    Encoded,
    GPT2Config,
    GPT2Model,
    GPT2Past,
    LogitsAnswer,
    RemoteConfig,
    RemoteModel,
    RemotePast,
    RightLikelihoods,
    TableAnswer,
    TableQuestion,
    TableRefusal,
)
from src.model import checkpoint
from src.model.codec import Codec
from src.model.config import Config, model_config
from src.model.gpt2 import GPT2


class RemoteTable(GPT2):
    """A language model whose answers come from the grader; it has the interface of `GPT2.forward`.

    The past that it returns is a list of one tensor: the ids that it stands for, (B, P).
    """

    def __init__(self, channel: Channel, vocab_size: int):
        nn.Module.__init__(self)  # without GPT2's own weights
        self.unused = nn.Parameter(torch.zeros(vocab_size, 1), requires_grad=False)  # so that it has a device, a dtype
        self._channel = channel
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> "RemoteTable":
        return RemoteTable(self._channel, len(self.unused))

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
        send(self._channel, TableQuestion(ids.numpy(), past[0].numpy() if past else None))
        answer: Message = receive(self._channel, TableAnswer, TableRefusal)
        if isinstance(answer, TableAnswer):
            return as_tensor(answer.logits), [as_tensor(answer.past)]
        raise ValueError(answer.text if isinstance(answer, TableRefusal) else "no answer")


class Worker(WorkerPlugin):
    """The bundled model and its codec, and what stands for them in the grader's calls."""

    answers_to = (Encode, AskLogits)

    def __init__(self, model: GPT2, codec: Codec, config: Config):
        self._model = model
        self._codec = codec
        self._config = config
        self._table: RemoteTable | None = None

    def answer(self, question: Encode | AskLogits) -> Message:
        if isinstance(question, Encode):
            return Encoded(tuple(self._codec.encode(text)[0].numpy() for text in question.texts))
        with torch.inference_mode():
            logits, _ = self._model(as_tensor(question.ids))
        return LogitsAnswer(logits.float().numpy())

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
            case RemotePast(ids=ids):
                return [as_tensor(ids)]
            case RemoteConfig(vocab_size=vocab_size, top_k=top_k, n_ctx=n_ctx):
                size = {"n_positions": n_ctx, "n_ctx": n_ctx, "n_embd": 1, "n_head": 1, "n_layer": 1}
                return Config(**(vars(self._config) | size | {"vocab_size": vocab_size, "top_k": top_k}))
        return super().resolve(reference, channel)

    def stand_in(self, questions: Path, replacement: Reference) -> None:
        """Let `questions.likelihood.log_likelihood` return the right values for the texts in `replacement`."""
        assert isinstance(replacement, RightLikelihoods)
        known = dict(zip(replacement.texts, replacement.values, strict=True))
        own, name = None, f"{student_code.PACKAGE}.likelihood"
        with contextlib.suppress(BaseException):
            own = student_code.load_function(questions, "likelihood.py", "log_likelihood")
        module = sys.modules.setdefault(name, types.ModuleType(name))

        def log_likelihood(model: GPT2, text: Tensor) -> Any:
            ids = tuple(text.flatten().tolist())
            return known[ids] if ids in known or own is None else own(model, text)

        setattr(module, "log_likelihood", log_likelihood)  # noqa: B010 # mypy: a module has no such attribute

    def to_student(self, tensor: Tensor) -> Tensor:
        """With the student's own value of FILTERED: some change it in the given code."""
        return _with_mark(tensor, FILTERED, _students_mark())

    def from_student(self, tensor: Tensor) -> Tensor:
        return _with_mark(tensor, _students_mark(), FILTERED)

    def fingerprint(self) -> Hashable:
        """Changes when a parameter's value, gradient or role changes, or when the model changes its mode."""
        parameters = tuple(
            (name, parameter.double().sum().item(), parameter.requires_grad, parameter.grad is None)
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
    return Worker(model, codec, config)
