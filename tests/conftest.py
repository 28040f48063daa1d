"""Fixtures for all tests: GPT-2's vocabulary, a tiny model, and a folder that holds it as a checkpoint."""

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path

# One thread for each process: several tests run at once, and threads that wait for a busy processor are very slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # tests look at what commands print beside their progress
os.environ["no_proxy"] = "127.0.0.1,localhost"  # all servers of the tests

import pytest
import safetensors.torch
import torch
import yaml

from src.files import ROOT
from src.model.codec import END_OF_TEXT, byte_characters
from src.model.config import CheckpointFiles, Config, RemoteFile
from src.model.gpt2 import GPT2

SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def gpt2_vocabulary() -> tuple[Path, Path]:
    """GPT-2's own encoder.json and vocab.bpe, which are not part of the repository."""
    folder = SHARED / "gpt2-vocab"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    return folder / "encoder.json", folder / "vocab.bpe"


@pytest.fixture
def open_folder():
    """A temporary folder that all users may enter, unlike that of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp" if Path("/tmp").is_dir() else None) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_config() -> Config:
    """A vocabulary of single bytes, two layers, and so few parameters that a call takes a millisecond."""
    files = CheckpointFiles((RemoteFile("model.safetensors"),), RemoteFile("encoder.json"), RemoteFile("vocab.bpe"))
    return Config(
        seed=1, vocab_size=257, n_positions=64, n_ctx=64, n_embd=12, n_layer=2, n_head=3, layer_norm_epsilon=1e-5,
        initializer_range=0.5, top_k=5, checkpoint=files, name="tiny",
    )  # fmt: skip


@pytest.fixture
def tiny_model(tiny_config) -> GPT2:
    return GPT2(tiny_config).eval().requires_grad_(False)


@pytest.fixture
def tiny_root(tmp_path, tiny_config, tiny_model) -> Path:
    """A root folder with the tiny model in checkpoints/tiny/, all files included."""
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    write_vocabulary(folder)
    safetensors.torch.save_file(dict(tiny_model.transformer.state_dict()), folder / "model.safetensors")
    write_config(folder / "config.yml", tiny_config)
    return tmp_path


def write_vocabulary(folder: Path) -> None:
    """Write a vocabulary of the 256 bytes and END_OF_TEXT, without merges."""
    tokens = [*byte_characters().values(), END_OF_TEXT]
    (folder / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "vocab.bpe").write_text("#version: 0.2\n", encoding="utf-8")


def write_config(path: Path, config: Config, **changes: object) -> None:
    """Write `config` as a config.yml, with some keys changed; None leaves a key out."""
    values = dataclasses.asdict(config) | changes
    del values["name"]
    values["checkpoint"] = json.loads(json.dumps(values["checkpoint"]))
    path.write_text(yaml.safe_dump({key: v for key, v in values.items() if v is not None}), encoding="utf-8")


def described(path: Path, url: str | None = None) -> RemoteFile:
    """The entry of config.yml for the file at `path`."""
    content = path.read_bytes()
    return RemoteFile(path.name, url=url, size=len(content), sha256=hashlib.sha256(content).hexdigest())
