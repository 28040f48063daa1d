"""How much memory larger models need, in bfloat16: those of GPT-2 medium's and XL's shape."""

import json
import struct
import tempfile
from pathlib import Path

import torch
import yaml

from src.files import ROOT
from src.model.config import Config, load_config
from src.model.gpt2 import GPT2
from staff.bench.implementations import SMALL
from staff.bench.measurements import Measurements
from staff.bench.timing import run_python

SHAPES = {"medium": (24, 1024, 16), "xl": (48, 1600, 25)}  # layers, numbers a token, heads
BATCH, PROMPT, STEPS = 5, 24, 4  # as in main.py, which begins with prompts of this length

_STEPS = """
import sys
from pathlib import Path
from src.model.memory import use_large_pages
use_large_pages()  # as main.py does
import torch
from src.model import checkpoint
from src.model.config import model_config
root, name, (batch, prompt, steps) = Path(sys.argv[1]), sys.argv[2], map(int, sys.argv[3:])
config = model_config(name, root)
model, _ = checkpoint.load(config, checkpoint.locate(config, root), fast=True)
with torch.inference_mode():
    ids = torch.zeros(batch, prompt, dtype=torch.long)
    _, past = model(ids)
    for _ in range(steps):
        _, past = model(ids[:, :1], past=past)
"""


def memory(measurements: Measurements, _: int) -> None:
    """The peak of loading a model from a checkpoint in float32, and of steps of five prompts."""
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as root:
            config = make_hollow(Path(root), f"gpt2-{name}", shape)
            sizes = map(str, (BATCH, PROMPT, STEPS))
            peak = run_python("-c", _STEPS, root, config.name, *sizes).memory
        weights = 2 * _parameters(config)
        cache = 4 * 2 * config.n_layer * config.n_embd * BATCH * (PROMPT + STEPS)  # in float32, see Attention
        note = f"{peak / 1e6:.0f} MB in all, {weights / 1e6:.0f} of weights"
        what = f"GPT-2 {name}'s shape, bfloat16: peak memory beyond weights and cache"
        measurements.add(what, (peak - weights - cache) / 1e6, "MB", -300.0, note)


def _parameters(config: Config) -> int:
    return sum(shape.numel() for shape in _shapes(config).values())


def _shapes(config: Config) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: p.shape for name, p in GPT2(config).transformer.named_parameters()}


def make_hollow(root: Path, name: str, shape: tuple[int, int, int]) -> Config:
    """Make a checkpoint of this shape below `root`, in float32, with the vocabulary of SMALL.

    Its weights are a hole in the file: they are read as zeros, and take no room on disk.
    """
    folder, small = root / "checkpoints" / name, ROOT / "checkpoints" / SMALL
    folder.mkdir(parents=True)
    raw = yaml.safe_load((small / "config.yml").read_text(encoding="utf-8"))
    raw |= dict(zip(("n_layer", "n_embd", "n_head"), shape, strict=True), dtype="bfloat16")
    raw["checkpoint"]["weights"] = [{"file": "model.safetensors"}]
    (folder / "config.yml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for file in ("encoder.json", "vocab.bpe"):
        (folder / file).symlink_to(small / file)
    config = load_config(folder / "config.yml", name)
    header, end = {}, 0
    for tensor, size in _shapes(config).items():
        offsets = [end, end + 4 * size.numel()]
        header[tensor] = {"dtype": "F32", "shape": list(size), "data_offsets": offsets}
        end = offsets[1]
    encoded = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + end)
    return config
