"""The codec compared with an independent implementation, and on every kind of text."""

import json

import pytest
import torch

from src.errors import VocabularyError
from src.files import ROOT
from src.model.codec import load_codec
from src.model.config import BUNDLED
from tests.conftest import write_vocabulary

TEXTS = [
    "Hello world",
    "  two spaces,\ttabs\n\nand newlines \n ",
    "It's we'll I'd they've he's I'm you're IT'S",
    "In 2023, 50257 tokens; 3.14159 and 1,000,000!",
    "emoji 😀👩‍🔬🏳️‍🌈 and flags 🇫🇷",
    "naïve café Ελληνικά русский 中文 日本語 한국어 עברית",
    "a\r\nb\x00c\x7f\x85d\u2028e",
    "<|endoftext|> is text here",
    "a" * 1000 + " " * 1000,
    "",
]
FOLDER = ROOT / "checkpoints" / BUNDLED


@pytest.fixture(scope="module")
def bundled():
    return load_codec(FOLDER / "encoder.json", FOLDER / "vocab.bpe")


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_those_of_another_implementation(gpt2_vocabulary, text):
    from tokenizers import ByteLevelBPETokenizer

    codec = load_codec(*gpt2_vocabulary)
    reference = ByteLevelBPETokenizer(*map(str, gpt2_vocabulary))
    assert codec.encode(text).tolist() == [reference.encode(text).ids]


def test_gpt2s_vocabulary_has_50257_tokens(gpt2_vocabulary):
    codec = load_codec(*gpt2_vocabulary)
    assert (codec.vocab_size, codec.end_of_text) == (50257, 50256)


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_an_encoded_text_gives_the_text(bundled, text):
    assert bundled.decode(bundled.encode(text)) == text


def test_ids_are_a_batch_of_one_text(bundled):
    ids = bundled.encode("Hello world")
    assert ids.dtype == torch.long
    assert ids.shape == (1, ids.numel())


def test_ids_without_a_batch_dimension_are_decoded(bundled):
    assert bundled.decode(bundled.encode("Hello world")[0]) == "Hello world"


def test_every_unicode_character_is_encoded_and_decoded(bundled):
    text = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    assert bundled.decode(bundled.encode(text)) == text


def test_a_lone_surrogate_is_refused(bundled):
    with pytest.raises(ValueError, match="character 2 is a lone surrogate"):
        bundled.encode("ab\ud800")


def test_the_end_of_text_token_is_decoded_as_its_name(bundled):
    assert bundled.decode(torch.tensor([bundled.end_of_text])) == "<|endoftext|>"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("encoder.json", None, "cannot be read"),
        ("encoder.json", b"{", "is not GPT-2's token-to-id table"),
        ("encoder.json", b"[]", "is not GPT-2's token-to-id table"),
        ("encoder.json", b"\xff", "is not UTF-8 text"),
        ("encoder.json", json.dumps({"a": 1, "<|endoftext|>": 2}).encode(), "ids are not 0 to 0"),
        ("vocab.bpe", b"#version: 0.2\na b\n", "has 1 merges, but encoder.json needs 0"),
        ("vocab.bpe", None, "cannot be read"),
    ],
)
def test_a_damaged_vocabulary_is_a_clear_error(tmp_path, file, content, message):
    write_vocabulary(tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        load_codec(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert str(tmp_path / file) in str(caught.value)


def test_merges_in_the_wrong_order_are_refused(tmp_path):
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    lines = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    lines[5], lines[6] = lines[6], lines[5]
    (tmp_path / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"merge 5 .* does not make token 260"):
        load_codec(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
