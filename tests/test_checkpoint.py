"""Checkpoints: both formats, all spellings, every kind of damage, and fetching from a server on this machine."""

import contextlib
import dataclasses
import http.server
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import safetensors.torch
import torch
from conftest import described, write_config, write_vocabulary

from src.checkpoint import CheckpointError, Files, load, locate, read_weights
from src.config import ROOT, CheckpointFiles, RemoteFile, model_config


def load_tiny(root):
    config = model_config("tiny", root)
    return load(config, locate(config, root))


def weights_file(root):
    return root / "checkpoints" / "tiny" / "model.safetensors"


def older_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as the oldest checkpoints called them, masks included."""
    renamed = {}
    for name, tensor in state.items():
        stem, suffix = name.rsplit(".", 1)
        if ".ln_" in f".{name}" or stem == "ln_f":
            suffix = {"weight": "g", "bias": "b"}[suffix]
        elif ".c_" in name:
            suffix = {"weight": "w", "bias": "b"}[suffix]
        renamed[f"{stem}.{suffix}"] = tensor
    for layer in range(2):
        renamed[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        renamed[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return renamed


@pytest.mark.parametrize("spelling", ["as today", "with prefix", "older", "with readout"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_every_spelling_in_both_formats_gives_the_same_model(tiny_root, tiny_model, tiny_config, spelling, suffix):
    state = {name: tensor.clone() for name, tensor in tiny_model.transformer.state_dict().items()}
    if spelling == "with prefix":
        state = {f"transformer.{name}": tensor for name, tensor in state.items()}
    elif spelling == "older":
        state = older_names(state)
        assert "h.0.ln_1.g" in state
        assert "h.0.mlp.c_fc.w" in state
    elif spelling == "with readout":
        state["lm_head.weight"] = state["wte.weight"].clone()
    weights_file(tiny_root).unlink()
    file = (
        tiny_root / "checkpoints" / "tiny" / ("model.safetensors" if suffix == "safetensors" else "pytorch_model.bin")
    )
    if suffix == "safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save(state, file)
    both = (RemoteFile("model.safetensors"), RemoteFile("pytorch_model.bin"))
    files = dataclasses.replace(tiny_config.checkpoint, weights=both)
    write_config(file.parent / "config.yml", dataclasses.replace(tiny_config, checkpoint=files))

    model, _ = load_tiny(tiny_root)
    ids = torch.randint(257, (1, 10))
    assert torch.equal(model(ids)[0], tiny_model(ids)[0])
    assert model.readout_head.decoder.weight is model.transformer.wte.weight
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("h.1.mlp.c_fc.weight"), r"lacks the tensor h\.1\.mlp\.c_fc\.weight;"),
        (lambda s: (s.pop("ln_f.bias"), s.pop("ln_f.weight")), r"lacks the tensor ln_f\.bias and 1 more;"),
        (lambda s: s.update(surplus=torch.zeros(1)), r"has the tensor surplus, which this GPT-2 doesn't have"),
        (lambda s: s.update({"wpe.weight": torch.zeros(32, 12)}), r"wpe\.weight has shape \(32, 12\).*\(64, 12\)"),
        (lambda s: s.update({"lm_head.weight": torch.ones(257, 12)}), r"lm_head\.weight differs from wte\.weight"),
    ],
)
def test_a_tensor_that_is_missing_unexpected_or_misshapen_is_named(tiny_root, tiny_model, change, message):
    state = {name: tensor.clone() for name, tensor in tiny_model.transformer.state_dict().items()}
    change(state)
    safetensors.torch.save_file(state, weights_file(tiny_root))
    with pytest.raises(CheckpointError, match=message):
        load_tiny(tiny_root)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_file_is_one_clear_error(tmp_path, tiny_model, suffix, damage):
    file = tmp_path / f"weights.{suffix}"
    state = dict(tiny_model.transformer.state_dict())
    safetensors.torch.save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    content = {"truncated": file.read_bytes()[:-500], "foreign": b"<html>not found</html>" * 50, "empty": b""}[damage]
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(file)) + ": is truncated or no checkpoint") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_ctrl_c_while_a_file_is_read_is_not_taken_for_damage(tiny_root, monkeypatch):
    @contextlib.contextmanager
    def interrupted(*args):
        with safe_open(*args) as file:
            signal.raise_signal(signal.SIGINT)
            done.append(args)
            yield file

    done, safe_open = [], safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            load_tiny(tiny_root)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(done) == 1


def test_a_bin_file_that_would_execute_something_is_refused_unexecuted(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"wte.weight": Trap()}, tmp_path / "new.bin")
    (tmp_path / "old.bin").write_bytes(pickle.dumps(Trap()))
    for name in ("new.bin", "old.bin"):
        with pytest.raises(CheckpointError):
            read_weights(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_vocabulary_of_another_size_than_the_config_says_is_refused(tiny_root, tiny_config):
    write_config(weights_file(tiny_root).parent / "config.yml", tiny_config, vocab_size=300)
    with pytest.raises(CheckpointError, match=r"encoder\.json: has 257 tokens, .* vocab_size: 300"):
        load_tiny(tiny_root)


def test_a_file_that_differs_from_its_stated_hash_is_refused(tiny_root, tiny_config):
    file = weights_file(tiny_root)
    files = dataclasses.replace(tiny_config.checkpoint, weights=(described(file),))
    write_config(file.parent / "config.yml", dataclasses.replace(tiny_config, checkpoint=files))
    load_tiny(tiny_root)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged or another file"):
        load_tiny(tiny_root)
    file.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="bytes, but should have"):
        load_tiny(tiny_root)


# Fetching


class Server(http.server.BaseHTTPRequestHandler):
    """Serves files, whole, halved or with a wrong byte; counts what it is asked."""

    files: dict[str, bytes]
    fault: str | None
    requests: list[str]
    stalled: threading.Event  # set once half a file was sent
    released: threading.Event

    def do_GET(self):
        self.requests.append(self.path)
        content = self.files.get(self.path.removeprefix("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.path.endswith("safetensors") and self.fault == "halved":
            content = content[: len(content) // 2]
        if self.path.endswith("safetensors") and self.fault == "wrong byte":
            content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
        if self.path.endswith("safetensors") and self.fault == "stalled":
            self.wfile.write(content[: len(content) // 2])
            self.stalled.set()
            self.released.wait(60)
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(files: dict[str, bytes], fault: str | None = None) -> Iterator[tuple[str, type[Server]]]:
    state = {"requests": [], "stalled": threading.Event(), "released": threading.Event()}
    handler = type("Handler", (Server,), {"files": files, "fault": fault, **state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def remote(tiny_root, tiny_config, tmp_path):
    """An empty checkpoint folder, the files that a server has, and the config that says where."""
    folder = tiny_root / "checkpoints" / "tiny"
    contents = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "config.yml"}
    descriptions = {name: described(folder / name) for name in contents}
    for name in contents:
        (folder / name).unlink()

    def config_for(url: str):
        at = {name: dataclasses.replace(d, url=f"{url}/{name}") for name, d in descriptions.items()}
        files = CheckpointFiles((at["model.safetensors"],), at["encoder.json"], at["vocab.bpe"])
        return dataclasses.replace(tiny_config, checkpoint=files)

    return folder, contents, config_for


def test_fetching_makes_a_model_and_a_second_run_touches_no_network(remote, tiny_root):
    folder, contents, config_for = remote
    with serving(contents) as (url, server):
        files = locate(config_for(url), tiny_root)
        assert sorted(server.requests) == ["/encoder.json", "/model.safetensors", "/vocab.bpe"]
        locate(config_for(url), tiny_root)
        assert len(server.requests) == 3
    assert isinstance(files, Files)
    assert load(config_for(url), files)[0](torch.zeros(1, 3, dtype=torch.long))[0].shape == (1, 3, 257)
    assert {p.name for p in folder.iterdir()} == {*contents, "config.yml"}


@pytest.mark.parametrize(("fault", "reason"), [("halved", "broke off"), ("wrong byte", "what arrived is damaged")])
def test_a_broken_download_leaves_nothing_and_can_be_repeated(remote, tiny_root, fault, reason):
    folder, contents, config_for = remote
    with serving(contents, fault) as (url, _), pytest.raises(CheckpointError, match=reason):
        locate(config_for(url), tiny_root)
    assert {p.name for p in folder.iterdir()} == {"config.yml", "encoder.json", "vocab.bpe"}
    with serving(contents) as (url, _):
        assert locate(config_for(url), tiny_root).weights.read_bytes() == contents["model.safetensors"]


def test_interrupting_a_download_leaves_no_part_of_the_file(remote, tiny_root):
    folder, contents, config_for = remote
    with serving(contents, "stalled") as (url, server):
        write_config(folder / "config.yml", config_for(url))
        code = "import sys, pathlib; from src import checkpoint, config; root = pathlib.Path(sys.argv[1]); "
        code += "checkpoint.locate(config.model_config('tiny', root), root)"
        process = subprocess.Popen([sys.executable, "-c", code, tiny_root], cwd=ROOT, stderr=subprocess.DEVNULL)
        assert server.stalled.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
        server.released.set()
    assert {p.name for p in folder.iterdir()} == {"config.yml", "encoder.json", "vocab.bpe"}


def test_without_a_server_the_error_says_what_to_put_where_and_what_is_bundled(remote, tiny_root):
    folder, contents, config_for = remote
    with serving(contents) as (url, _):
        pass
    with pytest.raises(CheckpointError) as caught:
        locate(config_for(url), tiny_root)
    message = str(caught.value)
    assert "no connection" in message
    assert str(folder / "encoder.json") in message
    assert all(f"{url}/{name} as {name}" in message for name in contents)
    assert "--model gpt2-mini" in message
    assert "\n" not in message


def test_a_file_that_the_server_lacks_is_said_so(remote, tiny_root):
    _, _, config_for = remote
    with serving({}) as (url, _), pytest.raises(CheckpointError, match="the server answered 404"):
        locate(config_for(url), tiny_root)


def test_the_older_file_is_used_where_it_is_there_and_the_newer_one_is_not(remote, tiny_root, tiny_model):
    folder, contents, config_for = remote
    write_vocabulary(folder)
    torch.save(dict(tiny_model.transformer.state_dict()), folder / "pytorch_model.bin")
    with serving(contents) as (url, server):
        config = config_for(url)
        weights = (*config.checkpoint.weights, RemoteFile("pytorch_model.bin"))
        files = locate(
            dataclasses.replace(config, checkpoint=dataclasses.replace(config.checkpoint, weights=weights)), tiny_root
        )
        assert server.requests == []
    assert files.weights.name == "pytorch_model.bin"
    shutil.rmtree(folder)
