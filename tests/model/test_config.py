"""config.yml: what is accepted, and the errors for what is not."""

import dataclasses
import subprocess
import sys

import pytest

from src.errors import ConfigError
from src.files import ROOT
from src.model.config import BUNDLED, load_config, model_config, model_names
from tests.conftest import write_config


def test_the_root_config_is_that_of_gpt2_small():
    config = model_config("gpt2")
    slides = dict(seed=20190929, vocab_size=50257, n_positions=1024, n_ctx=1024, n_embd=768, n_layer=12, n_head=12,
                  layer_norm_epsilon=0.00001, initializer_range=0.02, top_k=40)  # fmt: skip
    assert {key: getattr(config, key) for key in slides} == slides
    assert config.dtype == "float32"
    assert [w.size for w in config.checkpoint.weights] == [548105171, 548118077]


def test_the_bundled_models_config_is_beside_its_weights():
    assert model_config(BUNDLED) == load_config(ROOT / "checkpoints" / BUNDLED / "config.yml", BUNDLED)


def test_bundled_stands_for_the_bundled_model():
    assert model_config("bundled") == model_config(BUNDLED)
    assert model_config("bundled").name == BUNDLED


def test_the_bundled_model_is_small():
    folder = ROOT / "checkpoints" / BUNDLED
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20_000_000


def test_models_are_gpt2_and_the_folders_with_a_config(tiny_root):
    (tiny_root / "checkpoints" / "another").mkdir()
    assert model_names(tiny_root) == ["gpt2", "tiny"]


def test_gpt2s_config_may_be_in_a_folder_of_its_own(tiny_root):
    (tiny_root / "config.yml").write_text("seed: 1", encoding="utf-8")  # another homework's
    folder = tiny_root / "checkpoints" / "gpt2"
    folder.mkdir()
    (folder / "config.yml").write_bytes((ROOT / "config.yml").read_bytes())
    assert model_names(tiny_root) == ["gpt2", "tiny"]
    assert model_config("gpt2", tiny_root) == model_config("gpt2")


def test_the_error_for_an_unknown_model_lists_the_models():
    with pytest.raises(ConfigError, match=r"--model gpt3: there is no such model; known are gpt2, .*gpt2-mini"):
        model_config("gpt3")


def test_the_error_for_an_unknown_model_explains_bundled():
    with pytest.raises(ConfigError, match=rf"\(bundled stands for {BUNDLED}\)"):
        model_config("gpt3")


@pytest.mark.parametrize("package", ["torch", "numpy"])
def test_reading_a_config_imports_no_slow_package(package):
    code = "import sys; from src.model import config; config.model_config('bundled'); "
    code += f"sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 12}, "unknown key n_heads"),
        ({"n_head": None}, "the key n_head is missing"),
        ({"n_embd": 13}, "n_embd is 13, but must be divisible by n_head, which is 3"),
        ({"n_ctx": 65}, "n_ctx is 65, but must not exceed n_positions, which is 64"),
        ({"vocab_size": "many"}, "vocab_size must be of type int, not 'many'"),
        ({"vocab_size": True}, "vocab_size must be of type int, not True"),
        ({"layer_norm_epsilon": "1e-5"}, "write 0.00001 or 1.0e-5"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan, but must be a positive number"),
        ({"n_layer": 0}, "n_layer is 0, but must be at least 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"dtype": "float16"}, "dtype is 'float16', but must be one of float32, bfloat16, int8"),
        ({"checkpoint": {}}, "the key checkpoint.weights is missing"),
        ({"checkpoint": 3}, "checkpoint must hold keys with values, not 3"),
        ({"checkpoint": {"weights": [], "encoder": {"file": "e"}, "merges": {"file": "m"}}}, "must be a list of files"),
        ({"checkpoint": {"weights": [{"file": "../w"}], "encoder": {"file": "e"}, "merges": {"file": "m"}}},
         "checkpoint.weights.file is '../w', but must be a plain file name"),
        ({"checkpoint": {"weights": [{"file": "w", "url": "http://x/w"}], "encoder": {"file": "e"},
                         "merges": {"file": "m"}}}, "url is given, so size and sha256 must be, too"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_the_key_and_the_value(tmp_path, tiny_config, changes, message):
    write_config(tmp_path / "config.yml", tiny_config, **changes)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "config.yml", "tiny")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "config.yml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"- a\n- b", b"a: [", b"\xff\xfe", b"a: !!python/object:os.system {}", b"[" * 9999]
)
def test_a_file_that_is_not_a_mapping_is_a_clear_error(tmp_path, content):
    (tmp_path / "config.yml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "config.yml", "tiny")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "config.yml", "tiny")


def test_a_config_cannot_be_changed(tiny_config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_config.top_k = 3
