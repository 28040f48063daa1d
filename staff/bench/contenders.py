"""Who is measured: our model, and what a user would otherwise take, all with the same weights and the same top k."""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import yaml
from torch import LongTensor

from src import checkpoint, packing
from src.checkpoint import BUNDLED
from src.codec import END_OF_TEXT
from src.config import ROOT, Config, load_config, model_config
from src.gpt2 import GPT2
from src.guest import load_function
from staff.bench.plain.model import PlainGPT2

SMALL = "gpt2-random"  # a checkpoint of GPT-2 small's shape with random weights
QUIET = 0.25  # seconds until the threads of the contender before have stopped waiting actively
SOLUTION = ROOT / "staff" / "solution"
PLAIN = ROOT / "staff" / "bench" / "plain" / "questions"

# Of the tokens after the first: the seconds that each took, for the whole batch; and what the model alone took of it.
Steps = tuple[np.ndarray, np.ndarray | None]


def make_small() -> None:
    """Make the checkpoint SMALL, unless it is there: random weights, and the bundled vocabulary, filled up."""
    folder = ROOT / "checkpoints" / SMALL
    if (folder / "config.yml").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config, bundled = load_config(ROOT / "config.yml", SMALL), checkpoint.locate(model_config(BUNDLED))
    torch.manual_seed(config.seed)
    safetensors.torch.save_file(dict(GPT2(config).transformer.state_dict()), folder / "model.safetensors")
    tokens = json.loads(bundled.encoder.read_text(encoding="utf-8"))
    del tokens[END_OF_TEXT]
    merges = bundled.merges.read_text(encoding="utf-8").splitlines()
    for first, second in itertools.product(list(tokens), repeat=2):
        if len(tokens) == config.vocab_size - 1:
            break
        if first + second not in tokens:
            tokens[first + second] = len(tokens)
            merges.append(f"{first} {second}")
    tokens[END_OF_TEXT] = len(tokens)
    (folder / "encoder.json").write_text(json.dumps(tokens), encoding="utf-8")
    (folder / "vocab.bpe").write_text("\n".join(merges) + "\n", encoding="utf-8")
    raw = yaml.safe_load((ROOT / "config.yml").read_text(encoding="utf-8"))
    names = {"encoder": {"file": "encoder.json"}, "merges": {"file": "vocab.bpe"}}
    raw["checkpoint"] = names | {"weights": [{"file": "model.safetensors"}]}
    (folder / "config.yml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def ours(name: str, dtype: str = "float32") -> tuple[GPT2, Config]:
    """Our model as main.py loads it."""
    config = dataclasses.replace(model_config(name), dtype=dtype)
    return checkpoint.load(config, checkpoint.locate(config), packed=True)[0].requires_grad_(False), config


def of_shape(n_layer: int, n_embd: int, n_head: int) -> GPT2:
    """Our model, packed, with random weights and GPT-2's vocabulary and positions."""
    config = load_config(ROOT / "config.yml", "shape")
    model = GPT2(dataclasses.replace(config, n_layer=n_layer, n_embd=n_embd, n_head=n_head)).eval()
    packing.pack(model.requires_grad_(False))
    return model


def plain(config: Config) -> PlainGPT2:
    """The usual coursework implementation with the weights of that model."""
    return PlainGPT2(config, checkpoint.read_weights(checkpoint.locate(config).weights)).eval().requires_grad_(False)


def transformers(config: Config, dtype: torch.dtype = torch.float32):
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


class Sampler:
    """The homework's `sample` with a model: our reference answer with ours, the plain one with the plain one."""

    def __init__(self, name: str, dtype: str = "float32", is_plain: bool = False):
        self.model, self.config = ours(name, dtype)
        self.sample = load_function(SOLUTION, "sample.py", "sample")
        if is_plain:
            self.model, self.sample = plain(self.config), load_function(PLAIN, "sample.py", "sample")

    @torch.inference_mode()
    def decode(self, prompts: LongTensor, tokens: int) -> Steps:
        began, ended = [], []

        def timed(ids, past=None):
            began.append(time.perf_counter())
            answer = self.model(ids, past=past)
            ended.append(time.perf_counter())
            return answer

        self.sample(timed, prompts, self.config, tokens)
        # One row of each, or one for each prompt where they are sampled one by one.
        began, ended = (np.reshape(times, (-1, tokens)) for times in (began, ended))
        return np.diff(ended).sum(0), (ended - began)[:, 1:].sum(0)

    @torch.inference_mode()
    def products(self, batch: int, context: int, tokens: int) -> float:
        """Seconds that the matrix products of `tokens` new tokens each take alone, after `context` tokens."""
        shape = self.config
        x = torch.randn(batch, tokens, shape.n_embd, dtype=getattr(torch, shape.dtype))
        wide = torch.randn(batch, tokens, 4 * shape.n_embd, dtype=x.dtype)
        query = x.unflatten(-1, (shape.n_head, -1)).transpose(1, 2)
        caches = [
            torch.randn(2, batch, shape.n_head, context + tokens, shape.head_dim, dtype=x.dtype)
            for _ in range(shape.n_layer)
        ]
        times = []
        for _ in range(6):
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
            times.append(time.perf_counter() - began)
        return float(np.median(times))


class Transformers:
    """`generate` of the `transformers` library."""

    def __init__(self, name: str, dtype: str = "float32"):
        self.config = model_config(name)
        self.model = transformers(self.config, getattr(torch, dtype))

    def decode(self, prompts: LongTensor, tokens: int) -> Steps:
        ticks = []

        def watch(ids, scores, **_):
            ticks.append(time.perf_counter())
            return torch.zeros(ids.size(0), dtype=torch.bool)

        self.model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=self.config.top_k, temperature=1.0,
            max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0, stopping_criteria=[watch],
        )  # fmt: skip
        return np.diff(ticks), None


class CTranslate2:
    """`generate_batch` of CTranslate2."""

    def __init__(self, name: str, quantization: str):
        import ctranslate2
        from ctranslate2.converters.transformers import GPT2Loader

        config = self.config = model_config(name)

        class Converter(ctranslate2.converters.Converter):
            def _load(self):
                model = transformers(config)
                spec = GPT2Loader().get_model_spec(model)
                spec.register_vocabulary([str(i) for i in range(config.vocab_size)])
                spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
                return spec

        with tempfile.TemporaryDirectory() as folder:
            place = Converter().convert(str(Path(folder) / "model"), quantization=quantization)
            self.generator = ctranslate2.Generator(place, intra_threads=torch.get_num_threads())

    def decode(self, prompts: LongTensor, tokens: int) -> Steps:
        ticks = []

        def watch(step) -> bool:
            if step.batch_id == 0:
                ticks.append(time.perf_counter())
            return False

        self.generator.generate_batch(
            [[str(i) for i in row] for row in prompts.tolist()], max_length=tokens, min_length=tokens,
            sampling_topk=self.config.top_k, include_prompt_in_result=False, callback=watch,
        )  # fmt: skip
        return np.diff(ticks), None


class Apart:
    """A contender in a process of its own, so that the threads of one don't get in another's way."""

    def __init__(self, kind: type, *arguments):
        processes = multiprocessing.get_context("spawn")
        self._ours, theirs = processes.Pipe()
        self._process = processes.Process(target=_serve, args=(theirs, kind, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._ours.recv()  # it is ready

    def __call__(self, method: str, *arguments):
        """What that method of the contender returns."""
        time.sleep(QUIET)
        self._ours.send((method, arguments))
        return self._ours.recv()

    def end(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join()


def _serve(pipe, kind: type, arguments: tuple) -> None:
    contender = kind(*arguments)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(contender, method)(*arguments))
