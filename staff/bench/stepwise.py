"""Engines that compute one step and leave the sampling to their caller: OpenVINO and ONNX Runtime."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from src.model import checkpoint
from src.model.config import Config, model_config
from staff.bench.own_process import Ticks


class Stepwise(ABC):
    """An engine that is given the new tokens of each step, and keeps the keys and values itself."""

    def __init__(self, name: str):
        self.config = model_config(name)
        self._random = np.random.default_rng(time.time_ns())

    @abstractmethod
    def reset(self, batch: int) -> None:
        """Forget all tokens; `batch` texts follow."""

    @abstractmethod
    def step(self, ids: NDArray[np.int64], past: int) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the new tokens `ids` (B, T), which follow `past` others."""

    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """Sample `tokens` tokens after the prompts."""
        ids, past = prompts.numpy(), 0
        self.reset(len(ids))
        for _ in range(tokens):
            logits = self.step(ids, past)
            past += ids.shape[1]
            ids = self._draw(logits)
            tick()

    def _draw(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """(B, V) -> (B, 1): a draw from the top k, by Gumbel's maximum."""
        top = np.argpartition(logits, -self.config.top_k, axis=1)[:, -self.config.top_k :]
        noisy = np.take_along_axis(logits, top, axis=1) + self._random.gumbel(size=top.shape)
        return np.take_along_axis(top, noisy.argmax(axis=1, keepdims=True), axis=1)

    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the prompts, the last of which is read in a step of its own."""
        ids = prompts.numpy()
        self.reset(len(ids))
        self.step(np.ascontiguousarray(ids[:, :-1]), 0)
        return self.step(np.ascontiguousarray(ids[:, -1:]), ids.shape[1] - 1)


def read_weights(config: Config) -> Mapping[str, NDArray[np.float32]]:
    """The checkpoint's tensors, in float32."""
    weights = checkpoint.read_weights(checkpoint.locate(config).weights)
    return {name: weights[name].float().numpy() for name in weights}
