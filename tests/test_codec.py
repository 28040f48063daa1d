"""The codec against an independent implementation, and on every kind of text."""

import json

import pytest
import torch
from conftest import write_vocabulary

from src.codec import VocabularyError, load_codec
from src.config import ROOT

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
BUNDLED = ROOT / "checkpoints" / "gpt2-mini"


@pytest.fixture(scope="module")
def bundled():
    return load_codec(BUNDLED / "encoder.json", BUNDLED / "vocab.bpe")


@pytest.mark.parametrize("text", TEXTS)
def test_gpt2s_vocabulary_gives_the_ids_of_an_independent_implementation(gpt2_vocabulary, text):
    from tokenizers import ByteLevelBPETokenizer

    codec = load_codec(*gpt2_vocabulary)
    reference = ByteLevelBPETokenizer(*map(str, gpt2_vocabulary))
    assert codec.encode(text).tolist() == [reference.encode(text).ids]
    assert codec.decode(codec.encode(text)) == text
    assert codec.vocab_size == 50257
    assert codec.end_of_text == 50256


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_what_was_encoded_gives_the_text(bundled, text):
    ids = bundled.encode(text)
    assert ids.dtype == torch.long
    assert ids.shape[0] == 1
    assert bundled.decode(ids) == text
    assert bundled.decode(ids[0]) == text


def test_every_unicode_character_comes_back(bundled):
    text = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    assert bundled.decode(bundled.encode(text)) == text


def test_a_lone_surrogate_is_refused(bundled):
    with pytest.raises(ValueError, match="character 2 is a lone surrogate"):
        bundled.encode("ab\ud800")


def test_the_end_of_text_token_is_decoded_by_its_name(bundled):
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
def test_a_damaged_vocabulary_is_one_clear_error(tmp_path, file, content, message):
    write_vocabulary(tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        load_codec(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert str(tmp_path / file) in str(caught.value)


def test_merges_in_another_order_than_the_ids_are_refused(tmp_path):
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / name).write_bytes((BUNDLED / name).read_bytes())
    lines = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    lines[5], lines[6] = lines[6], lines[5]
    (tmp_path / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"merge 5 .* doesn't make token 260"):
        load_codec(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
