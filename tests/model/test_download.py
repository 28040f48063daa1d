"""Downloading a checkpoint, from a server on this machine."""

import dataclasses
import http.server
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from src.errors import CheckpointError
from src.files import ROOT
from src.model.checkpoint import load, locate
from src.model.config import CheckpointFiles, RemoteFile
from tests.conftest import described, write_config, write_vocabulary


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, the weights with a `fault`, and records what it is asked for."""

    def __init__(self, files: dict[str, bytes], fault: str | None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.fault = fault
        self.requests: list[str] = []
        self.stalled = threading.Event()  # set when half of a file has been sent
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path.removeprefix("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        fault = self.server.fault if self.path.endswith("safetensors") else None
        if fault == "wrong byte":
            content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
        self.wfile.write(content[: len(content) // 2] if fault in ("halved", "stalled") else content)
        if fault == "stalled":
            self.server.stalled.set()
            self.server.released.wait(60)

    def log_message(self, *_):
        pass


@contextmanager
def serving(files: dict[str, bytes], fault: str | None = None) -> Iterator[Server]:
    with Server(files, fault) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nothing listens, and meanwhile cannot."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def remote(tiny_root, tiny_config):
    """A checkpoint folder without files, the files that a server has, and a config for the server's address."""
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


def test_missing_files_are_downloaded_and_nothing_else(remote, tiny_root):
    folder, contents, config_for = remote
    with serving(contents) as server:
        locate(config_for(server.url), tiny_root)
    assert sorted(server.requests) == ["/encoder.json", "/model.safetensors", "/vocab.bpe"]
    assert {p.name for p in folder.iterdir()} == {*contents, "config.yml"}


def test_a_downloaded_model_can_be_loaded(remote, tiny_root):
    _, contents, config_for = remote
    with serving(contents) as server:
        config = config_for(server.url)
        model, _ = load(config, locate(config, tiny_root))
    assert model(torch.zeros(1, 3, dtype=torch.long))[0].shape == (1, 3, 257)


def test_a_second_run_does_not_use_the_network(remote, tiny_root):
    _, contents, config_for = remote
    with serving(contents) as server:
        config = config_for(server.url)
        locate(config, tiny_root)
        server.requests.clear()
        locate(config, tiny_root)
    assert server.requests == []


@pytest.mark.parametrize(("fault", "reason"), [("halved", "was lost"), ("wrong byte", "the download is damaged")])
def test_a_failed_download_leaves_no_file(remote, tiny_root, fault, reason):
    folder, contents, config_for = remote
    with serving(contents, fault) as server, pytest.raises(CheckpointError, match=reason):
        locate(config_for(server.url), tiny_root)
    assert {p.name for p in folder.iterdir()} == {"config.yml", "encoder.json", "vocab.bpe"}


def test_a_failed_download_can_be_repeated(remote, tiny_root):
    _, contents, config_for = remote
    with serving(contents, "halved") as server, pytest.raises(CheckpointError):
        locate(config_for(server.url), tiny_root)
    with serving(contents) as server:
        assert locate(config_for(server.url), tiny_root).weights.read_bytes() == contents["model.safetensors"]


def test_an_interrupted_download_leaves_no_file(remote, tiny_root):
    folder, contents, config_for = remote
    with serving(contents, "stalled") as server:
        write_config(folder / "config.yml", config_for(server.url))
        # Python ignores Ctrl-C when its parent does, as a shell in the background.
        code = "import signal, sys, pathlib; from src.model import checkpoint, config; "
        code += "signal.signal(signal.SIGINT, signal.default_int_handler); root = pathlib.Path(sys.argv[1]); "
        code += "checkpoint.locate(config.model_config('tiny', root), root)"
        process = subprocess.Popen([sys.executable, "-c", code, tiny_root], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            assert server.stalled.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) != 0
        finally:
            process.kill()
            server.released.set()
    assert {p.name for p in folder.iterdir()} == {"config.yml", "encoder.json", "vocab.bpe"}


@pytest.fixture
def message_without_server(remote, tiny_root):
    """The error where nothing listens at the address, and that address."""
    _, _, config_for = remote
    with nobody() as url, pytest.raises(CheckpointError) as caught:
        locate(config_for(url), tiny_root)
    return str(caught.value), url


def test_without_a_connection_the_error_says_so_in_a_line(message_without_server):
    message, _ = message_without_server
    assert "no connection" in message
    assert "\n" not in message


def test_without_a_connection_the_error_says_what_to_save(message_without_server, remote):
    (message, url), (folder, contents, _) = message_without_server, remote
    assert f"save into {folder}: " in message
    assert all(f"{url}/{name} as {name}" in message for name in contents)


def test_without_a_connection_the_error_offers_the_bundled(message_without_server):
    assert "--model bundled" in message_without_server[0]


def test_a_file_that_the_server_lacks_is_a_clear_error(remote, tiny_root):
    _, _, config_for = remote
    with serving({}) as server, pytest.raises(CheckpointError, match="the server answered 404"):
        locate(config_for(server.url), tiny_root)


def test_an_older_file_that_exists_is_used(remote, tiny_root, tiny_model):
    folder, contents, config_for = remote
    write_vocabulary(folder)
    torch.save(dict(tiny_model.transformer.state_dict()), folder / "pytorch_model.bin")
    with serving(contents) as server:
        config = config_for(server.url)
        weights = (*config.checkpoint.weights, RemoteFile("pytorch_model.bin"))
        files = dataclasses.replace(config.checkpoint, weights=weights)
        found = locate(dataclasses.replace(config, checkpoint=files), tiny_root)
    assert found.weights.name == "pytorch_model.bin"
    assert server.requests == []
