"""Our model and the implementations that sample by themselves, with the same weights and the same top k."""

import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from torch import Tensor

from src.files import ROOT
from src.grading.student_code import load_function
from src.model import checkpoint, compiled, onednn
from src.model.codec import END_OF_TEXT
from src.model.config import BUNDLED, Config, load_config, model_config
from src.model.gpt2 import GPT2
from staff.bench.own_process import Ticks
from staff.bench.plain.model import PlainGPT2
from staff.bench.stepwise import Stepwise

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

SMALL = "gpt2-random"  # a checkpoint of GPT-2 small's shape with random weights
SOLUTION = ROOT / "staff" / "hw1" / "solution"
PLAIN = ROOT / "staff" / "bench" / "plain" / "questions"


def make_small() -> None:
    """Make the checkpoint SMALL, unless it exists: random weights, and the bundled vocabulary, filled up."""
    folder = ROOT / "checkpoints" / SMALL
    if (folder / "config.yml").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(ROOT / "config.yml", SMALL)
    torch.manual_seed(config.seed)
    safetensors.torch.save_file(dict(GPT2(config).transformer.state_dict()), folder / "model.safetensors")
    _fill_vocabulary(checkpoint.locate(model_config(BUNDLED)), config.vocab_size, folder)
    raw = yaml.safe_load((ROOT / "config.yml").read_text(encoding="utf-8"))
    names = {"encoder": {"file": "encoder.json"}, "merges": {"file": "vocab.bpe"}}
    raw["checkpoint"] = names | {"weights": [{"file": "model.safetensors"}]}
    (folder / "config.yml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def _fill_vocabulary(files: checkpoint.Files, vocab_size: int, folder: Path) -> None:
    """Write the vocabulary of `files`, with pairs of its tokens merged up to `vocab_size`, into `folder`."""
    tokens = json.loads(files.encoder.read_text(encoding="utf-8"))
    del tokens[END_OF_TEXT]
    merges = files.merges.read_text(encoding="utf-8").splitlines()
    for first, second in itertools.product(list(tokens), repeat=2):
        if len(tokens) == vocab_size - 1:
            break
        if first + second not in tokens:
            tokens[first + second] = len(tokens)
            merges.append(f"{first} {second}")
    tokens[END_OF_TEXT] = len(tokens)
    (folder / "encoder.json").write_text(json.dumps(tokens), encoding="utf-8")
    (folder / "vocab.bpe").write_text("\n".join(merges) + "\n", encoding="utf-8")


def ours(name: str, dtype: str = "float32") -> tuple[GPT2, Config]:
    """Our model as main.py loads it."""
    config = dataclasses.replace(model_config(name), dtype=dtype)
    return checkpoint.load(config, checkpoint.locate(config), fast=True)[0].requires_grad_(False), config


def of_shape(n_layer: int, n_embd: int, n_head: int) -> GPT2:
    """Our model as `load` makes it fast, with random weights, and GPT-2's vocabulary and positions."""
    config = load_config(ROOT / "config.yml", "shape")
    model = GPT2(dataclasses.replace(config, n_layer=n_layer, n_embd=n_embd, n_head=n_head)).eval()
    onednn.use_onednn(model.requires_grad_(False))
    compiled.use_compiled_step(model)
    return model


def plain(config: Config) -> PlainGPT2:
    """The usual coursework implementation with the weights of that model."""
    return PlainGPT2(config, checkpoint.read_weights(checkpoint.locate(config).weights)).eval().requires_grad_(False)


def transformers(config: Config, dtype: torch.dtype = torch.float32) -> "GPT2LMHeadModel":
    """The `transformers` library's GPT-2 with the weights of that model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.n_positions, n_embd=config.n_embd, n_layer=config.n_layer,
        n_head=config.n_head, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape)
    weights = checkpoint.read_weights(checkpoint.locate(config).weights)
    model.transformer.load_state_dict({name: weights[name].float() for name in weights}, strict=False)
    return model.to(dtype).eval().requires_grad_(False)


class Ours:
    """The homework's `sample`, as the reference answer has it, with our model."""

    def __init__(self, name: str, dtype: str = "float32"):
        self.model, self.config = ours(name, dtype)
        self._sample = load_function(SOLUTION, "sample.py", "sample")

    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """Sample `tokens` tokens after the prompts."""
        _sample_in_blocks(self._sample, self.model, self.config, prompts, tokens, tick)

    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the prompts, the last of which is read in a step of its own."""
        return _logits_from_a_past(self.model, prompts)

    @torch.inference_mode()
    def products(self, batch: int, context: int, tokens: int) -> float:
        """Seconds that only the matrix products of `tokens` new tokens each take, after `context` tokens."""
        multiply = self._multiplication(batch, context, tokens)
        return statistics.median(multiply() for _ in range(6))

    def _multiplication(self, batch: int, context: int, tokens: int) -> Callable[[], float]:
        """A job that multiplies as a step does, and returns the seconds that it took."""
        shape = self.config
        x = torch.randn(batch, tokens, shape.n_embd, dtype=getattr(torch, shape.float_type))
        wide = torch.randn(batch, tokens, 4 * shape.n_embd, dtype=x.dtype)
        query = x.unflatten(-1, (shape.n_head, -1)).transpose(1, 2)
        size = (2, batch, shape.n_head, context + tokens, shape.head_dim)
        caches = [torch.randn(size, dtype=x.dtype) for _ in range(shape.n_layer)]

        def multiply() -> float:
            began = time.perf_counter()
            for block, (key, value) in zip(self.model.transformer.h, caches, strict=True):
                block.attn.c_attn(x)
                if tokens == 1:
                    scores = key.flatten(0, 1) @ query.flatten(0, 1).mT
                    scores.view(-1, 1, scores.size(1)) @ value.flatten(0, 1)
                else:
                    F.scaled_dot_product_attention(query, key, value, is_causal=True)
                block.attn.c_proj(x)
                block.mlp.c_fc(x)
                block.mlp.c_proj(wide)
            self.model.readout_head(x)
            return time.perf_counter() - began

        return multiply


class DrawnAlike(Stepwise):
    """Our model with the sampling of those engines that have none of their own."""

    def __init__(self, name: str, dtype: str = "float32"):
        super().__init__(name)
        self.model, _ = ours(name, dtype)

    def reset(self, batch: int) -> None:
        """Forget all tokens."""
        self._past = None

    @torch.inference_mode()
    def step(self, ids: NDArray[np.int64], past: int) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the new tokens `ids` (B, T)."""
        logits, self._past = self.model(torch.from_numpy(ids), past=self._past)
        last: NDArray[np.float32] = logits[:, -1].numpy()
        return last


class NotCompiled(Ours):
    """Our model where there is no g++."""

    def __init__(self, name: str, dtype: str = "float32"):
        compiled.compile_step = lambda folder: None  # in this contender's own process
        super().__init__(name, dtype)


class Products(Ours):
    """Only the matrix products of our model's steps: a limit for what the rest of it could save."""

    @torch.inference_mode()
    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """The products of `tokens` steps, each after as many tokens as the middle one."""
        batch, context = prompts.shape
        multiply = self._multiplication(batch, context + tokens // 2, 1)
        for _ in range(tokens):
            multiply()
            tick()


class Plain:
    """The usual coursework kind of `sample`, with the plain model: one prompt after the other."""

    def __init__(self, name: str, dtype: str = "float32"):
        self.config = model_config(name)
        self.model = plain(self.config).to(getattr(torch, dtype))
        self._sample = load_function(PLAIN, "sample.py", "sample")

    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """Sample `tokens` tokens after each prompt."""
        _sample_in_blocks(self._sample, self.model, self.config, prompts, tokens, tick)

    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the prompts, the last of which is read in a step of its own."""
        return _logits_from_a_past(self.model, prompts)


@torch.inference_mode()
def _sample_in_blocks(
    sample: Callable[..., Tensor], model: Callable[..., Any], config: Config, prompts: Tensor, tokens: int, tick: Ticks
) -> None:
    def timed_model(ids: Tensor, past: Any = None) -> Any:
        began = time.perf_counter()
        output = model(ids, past=past)
        tick(time.perf_counter() - began)
        return output

    sample(timed_model, prompts, config, tokens)


@torch.inference_mode()
def _logits_from_a_past(model: Callable[..., Any], prompts: Tensor) -> NDArray[np.float32]:
    _, past = model(prompts[:, :-1])
    logits: NDArray[np.float32] = model(prompts[:, -1:], past=past)[0][:, -1].float().numpy()
    return logits


class Transformers:
    """`generate` of the `transformers` library."""

    def __init__(self, name: str, dtype: str = "float32"):
        self.config = model_config(name)
        self.model = transformers(self.config, getattr(torch, dtype))

    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """Sample `tokens` tokens after the prompts."""

        def on_token(ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
            tick()
            return torch.zeros(ids.size(0), dtype=torch.bool)  # do not stop

        self.model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=self.config.top_k, temperature=1.0,
            max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0, stopping_criteria=[on_token],
        )  # fmt: skip

    @torch.inference_mode()
    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the prompts, the last of which is read in a step of its own."""
        past = self.model(prompts[:, :-1]).past_key_values
        logits: NDArray[np.float32] = self.model(prompts[:, -1:], past_key_values=past).logits[:, -1].float().numpy()
        return logits


class CTranslate2:
    """`generate_batch` of CTranslate2."""

    def __init__(self, name: str, dtype: str):
        import ctranslate2
        from ctranslate2.converters.transformers import GPT2Loader

        config = self.config = model_config(name)

        class Converter(ctranslate2.converters.Converter):
            def _load(self) -> Any:
                spec = GPT2Loader().get_model_spec(transformers(config))
                spec.register_vocabulary([str(i) for i in range(config.vocab_size)])
                spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
                return spec

        with tempfile.TemporaryDirectory() as folder:
            path = Converter().convert(str(Path(folder) / "model"), quantization=dtype)
            self.generator = ctranslate2.Generator(path, intra_threads=torch.get_num_threads())

    def decode(self, prompts: Tensor, tokens: int, tick: Ticks) -> None:
        """Sample `tokens` tokens after the prompts."""

        def on_token(step: Any) -> bool:
            if step.batch_id == 0:
                tick()
            return False  # do not stop

        self.generator.generate_batch(
            self._named(prompts), max_length=tokens, min_length=tokens,
            sampling_topk=self.config.top_k, include_prompt_in_result=False, callback=on_token,
        )  # fmt: skip

    def logits(self, prompts: Tensor) -> NDArray[np.float32]:
        """Logits (B, V) of the token after the prompts."""
        logits: NDArray[np.float32] = np.array(self.generator.forward_batch(self._named(prompts)))[:, -1]
        return logits

    @staticmethod
    def _named(prompts: Tensor) -> list[list[str]]:
        return [[str(i) for i in row] for row in prompts.tolist()]
