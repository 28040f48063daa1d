"""Text ↔ token ids: GPT-2's byte-level byte-pair encoding, with `tiktoken` doing the work.

A vocabulary is GPT-2's pair of files. `encoder.json` maps tokens to ids, `vocab.bpe` lists the merges in the order in
which they were learnt. In both, every byte of a token is written as one printable character.
"""

import json
from pathlib import Path

import tiktoken
import torch
from torch import LongTensor, Tensor

from src.errors import UserError

END_OF_TEXT = "<|endoftext|>"

# GPT-2's rule for where a token may never cross: contractions, words, numbers, other signs, white space.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class VocabularyError(UserError):
    """A vocabulary file that cannot be used; the message names the file, the place and the remedy."""


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in GPT-2's files, in the order of the bytes' token ids.

    Bytes that are printable in Latin-1 stand for themselves; the others take the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


class Codec:
    """Encodes and decodes text with one vocabulary."""

    def __init__(self, ranks: dict[bytes, int]):
        """`ranks` maps every token's bytes to its id; the id after the last one is `END_OF_TEXT`."""
        self.end_of_text = len(ranks)
        self.vocab_size = len(ranks) + 1
        self._encoding = tiktoken.Encoding(
            "gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: self.end_of_text}
        )

    def encode(self, text: str) -> LongTensor:
        """The token ids of `text`, (1, T); `END_OF_TEXT` spelt out in a text is text like any other.

        Raises:
            ValueError: `text` holds a lone surrogate, which no encoding of Unicode can write.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"the text is not valid Unicode: character {error.start} is a lone surrogate") from None
        return torch.tensor([self._encoding.encode_ordinary(text)], dtype=torch.long)

    def decode(self, token_ids: Tensor) -> str:
        """The text of `token_ids`, (T,) or (1, T); bytes that are no valid UTF-8 become U+FFFD."""
        return self._encoding.decode(token_ids.flatten().tolist(), errors="replace")


def load_codec(encoder_file: Path, merges_file: Path) -> Codec:
    """The codec of GPT-2's `encoder.json` (or `vocab.json`) and `vocab.bpe` (or `merges.txt`).

    Raises:
        VocabularyError: a file is missing, malformed, or doesn't belong to the other.
    """
    byte_of = {character: byte for byte, character in byte_characters().items()}

    def to_bytes(token: str) -> bytes:
        return bytes(byte_of[character] for character in token)

    content = _read(encoder_file)
    try:
        encoder = json.loads(content)
        del encoder[END_OF_TEXT]
        ranks = {to_bytes(token): int(token_id) for token, token_id in encoder.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise VocabularyError(f"{encoder_file}: is not GPT-2's token-to-id table; fetch or restore it") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise VocabularyError(f"{encoder_file}: the token ids are not 0 to {len(ranks) - 1}; fetch or restore it")

    lines = _read(merges_file).splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    if len(merges) != len(ranks) - 256:
        raise VocabularyError(
            f"{merges_file}: has {len(merges)} merges, but {encoder_file.name} needs {len(ranks) - 256}; "
            "fetch or restore both"
        )
    for i, merge in enumerate(merges):
        try:
            token_id = ranks[to_bytes(merge.replace(" ", "", 1))]
        except KeyError:
            token_id = None
        if token_id != 256 + i:
            raise VocabularyError(
                f"{merges_file}: merge {i + 1} ({merge!r}) doesn't make token {256 + i} of {encoder_file.name}; "
                "fetch or restore both"
            )
    return Codec(ranks)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise VocabularyError(f"{file}: cannot be read ({error.strerror}); fetch or restore it") from None
    except UnicodeDecodeError:
        raise VocabularyError(f"{file}: is not UTF-8 text; fetch or restore it") from None
