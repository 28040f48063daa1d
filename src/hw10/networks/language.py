"""The language models of problem 1, with the interface that questions/prompting.py describes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from src.errors import ConfigError
from src.model import checkpoint
from src.model.config import BUNDLED, model_config
from src.model.gpt2 import GPT2

LMS = ("bundled", "smollm2")  # what --lm of experiment.py takes


class LanguageModel(Protocol):
    """A frozen or trainable module with the interface of questions/prompting.py."""

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to embeddings (B, T, E)."""

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, T, E) to logits (B, T, V)."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights."""


@dataclass(frozen=True)
class Language:
    """A language model and its codec."""

    title: str  # for pictures
    model: LanguageModel
    encode: Callable[[str], Tensor]  # a text → its token ids (1, T)
    decode: Callable[[int], str]  # a token id → its text
    device: str

    def ids(self, text: str) -> Tensor:
        """The token ids of `text`, (1, T), on the model's device."""
        return self.encode(text).to(self.device)


class PromptableGPT2(nn.Module):
    """GPT-2, which reads embeddings as well as token ids."""

    def __init__(self, gpt2: GPT2):
        super().__init__()
        self.gpt2 = gpt2

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to embeddings (B, T, E), without those of the positions."""
        embeddings: Tensor = self.gpt2.transformer.wte(ids)
        return embeddings

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, T, E) to logits (B, T, V). The first one has position 0, whatever it is."""
        transformer = self.gpt2.transformer
        x = embeddings + transformer.wpe.weight[: embeddings.size(1)]  # (B, T, E)
        for block in transformer.h:
            x, _ = block(x, None)
        return self.gpt2.readout_head(transformer.ln_f(x)).float()  # type: ignore[no-any-return] # (B, T, V)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""
        return self.logits_of(self.embed(ids))


def load_language(name: str, device: str) -> Language:
    """The language model that --lm calls `name`, on `device`.

    Raises:
        ConfigError: there is no such model, or its packages are missing.
        UserError: its files are damaged.
    """
    if name == "bundled":
        config = model_config(BUNDLED)
        gpt2, codec = checkpoint.load(config, checkpoint.locate(config), device)
        model = PromptableGPT2(gpt2).requires_grad_(True)  # to be frozen by `parameters_to_train`
        return Language("the bundled GPT-2", model, codec.encode, lambda i: codec.decode(torch.tensor([i])), device)
    if name == "smollm2":
        from src.hw10.networks import smollm2  # here, because its packages are optional

        return Language("SmolLM2-135M", *smollm2.load(device), device)
    raise ConfigError(f"--lm {name}: there is no such language model; choose {' or '.join(LMS)}")
