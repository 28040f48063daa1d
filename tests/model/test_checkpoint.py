"""Checkpoints on disk: both formats, all names of tensors, and every kind of damage."""

import contextlib
import dataclasses
import pickle
import re
import signal
import threading

import pytest
import safetensors.torch
import torch

from src.errors import CheckpointError
from src.model.checkpoint import SMALLEST_MAPPED, build, load, locate, read_weights
from src.model.config import RemoteFile, model_config
from tests.conftest import described, write_config


def load_tiny(root):
    config = model_config("tiny", root)
    return load(config, locate(config, root))


def weights_file(root):
    return root / "checkpoints" / "tiny" / "model.safetensors"


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}


def oldest_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the names in the oldest checkpoints, with the causal masks."""
    renamed = {}
    for name, tensor in state.items():
        stem, suffix = name.rsplit(".", 1)
        if ".ln_" in f".{name}":
            suffix = {"weight": "g", "bias": "b"}[suffix]
        elif ".c_" in name:
            suffix = {"weight": "w", "bias": "b"}[suffix]
        renamed[f"{stem}.{suffix}"] = tensor
    for layer in range(2):
        renamed[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        renamed[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    assert {"h.0.ln_1.g", "ln_f.b", "h.0.mlp.c_fc.w", "wte.weight"} < renamed.keys()
    return renamed


NAMES = {
    "current": lambda state: state,
    "with prefix": lambda state: {f"transformer.{name}": tensor for name, tensor in state.items()},
    "oldest": oldest_names,
    "with readout": lambda state: state | {"lm_head.weight": state["wte.weight"].clone()},
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("file_name", ["model.safetensors", "pytorch_model.bin"])
def test_all_names_in_both_formats_give_the_same_model(tiny_root, tiny_model, tiny_config, names, file_name):
    state = NAMES[names](state_of(tiny_model))
    folder = weights_file(tiny_root).parent
    weights_file(tiny_root).unlink()
    save = safetensors.torch.save_file if file_name == "model.safetensors" else torch.save
    save(state, folder / file_name)
    both = (RemoteFile("model.safetensors"), RemoteFile("pytorch_model.bin"))
    files = dataclasses.replace(tiny_config.checkpoint, weights=both)
    write_config(folder / "config.yml", dataclasses.replace(tiny_config, checkpoint=files))

    ids = torch.randint(257, (1, 10))
    assert torch.equal(load_tiny(tiny_root)[0](ids)[0], tiny_model(ids)[0])


def test_a_loaded_model_shares_readout_and_embedding(tiny_root):
    model, _ = load_tiny(tiny_root)
    assert model.readout_head.decoder.weight is model.transformer.wte.weight


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(tiny_root):
    model, _ = load_tiny(tiny_root)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_large_and_small_tensors_of_a_file_are_both_read(tmp_path):
    tensors = {"large": torch.randn(SMALLEST_MAPPED // 4 + 1), "small": torch.randn(3)}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.keys() == tensors.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("h.1.mlp.c_fc.weight"), r"lacks the tensor h\.1\.mlp\.c_fc\.weight;"),
        (lambda s: (s.pop("ln_f.bias"), s.pop("ln_f.weight")), r"lacks the tensor ln_f\.bias and 1 more;"),
        (lambda s: s.update(surplus=torch.zeros(1)), r"has the tensor surplus, which this GPT-2 does not have"),
        (lambda s: s.update({"wpe.weight": torch.zeros(32, 12)}), r"wpe\.weight has shape \(32, 12\).*\(64, 12\)"),
        (lambda s: s.update({"lm_head.weight": torch.ones(257, 12)}), r"lm_head\.weight differs from wte\.weight"),
    ],
)
def test_an_error_names_the_tensor_that_does_not_fit(tiny_config, tiny_model, tmp_path, change, message):
    state = state_of(tiny_model)
    change(state)
    with pytest.raises(CheckpointError, match=message) as caught:
        build(tiny_config, state, tmp_path / "weights")
    assert str(caught.value).startswith(f"{tmp_path / 'weights'}: ")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_file_is_a_clear_error(tmp_path, tiny_model, suffix, damage):
    file = tmp_path / f"weights.{suffix}"
    save = safetensors.torch.save_file if suffix == "safetensors" else torch.save
    save(state_of(tiny_model), file)
    content = {"truncated": file.read_bytes()[:-500], "foreign": b"<html>not found</html>" * 50, "empty": b""}[damage]
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(file)) + ": is truncated or not a checkpoint") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"wte.weight": 3}])
def test_a_bin_file_of_anything_but_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(CheckpointError, match="holds something other than named tensors"):
        read_weights(tmp_path / "weights.bin")


def test_ctrl_c_during_reading_is_not_reported_as_damage(tiny_root, monkeypatch):
    @contextlib.contextmanager
    def interrupted(*args):
        with safe_open(*args) as file:
            signal.raise_signal(signal.SIGINT)
            finished.append(args)
            yield file

    finished, safe_open = [], safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored when tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            load_tiny(tiny_root)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(finished) == 1


def test_a_model_can_be_loaded_in_another_thread(tiny_root):
    """Only the main thread may change how a signal is handled."""
    loaded = []
    thread = threading.Thread(target=lambda: loaded.append(load_tiny(tiny_root)))
    thread.start()
    thread.join()
    assert len(loaded) == 1


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, 2))])
def test_a_bin_file_with_code_is_refused_unexecuted(tmp_path, save):
    save({"wte.weight": Trap(tmp_path / "executed")}, tmp_path / "weights.bin")
    with pytest.raises(CheckpointError):
        read_weights(tmp_path / "weights.bin")
    assert not (tmp_path / "executed").exists()


def test_a_vocabulary_of_another_size_is_refused(tiny_root, tiny_config):
    write_config(weights_file(tiny_root).parent / "config.yml", tiny_config, vocab_size=300)
    with pytest.raises(CheckpointError, match=r"encoder\.json: has 257 tokens, .* vocab_size: 300"):
        load_tiny(tiny_root)


@pytest.fixture
def hashed_root(tiny_root, tiny_config):
    """A root folder whose config.yml gives the size and the sha256 of the weights."""
    file = weights_file(tiny_root)
    files = dataclasses.replace(tiny_config.checkpoint, weights=(described(file),))
    write_config(file.parent / "config.yml", dataclasses.replace(tiny_config, checkpoint=files))
    return tiny_root


def test_the_files_hash_is_returned(hashed_root):
    config = model_config("tiny", hashed_root)
    assert locate(config, hashed_root).weights_sha256 == config.checkpoint.weights[0].sha256


def test_a_file_with_another_hash_is_refused(hashed_root):
    content = bytearray(weights_file(hashed_root).read_bytes())
    content[-1] ^= 1
    weights_file(hashed_root).write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged or another file"):
        load_tiny(hashed_root)


def test_a_file_of_another_size_is_refused(hashed_root):
    weights_file(hashed_root).write_bytes(weights_file(hashed_root).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="bytes, but should have"):
        load_tiny(hashed_root)


def test_a_missing_file_without_an_address_is_refused(tiny_root):
    weights_file(tiny_root).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is missing; restore it from the starter code"):
        load_tiny(tiny_root)
