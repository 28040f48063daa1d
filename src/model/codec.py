"""Text to token ids and back: GPT-2's byte-level byte-pair encoding, on top of `tiktoken`.

A vocabulary is two files. `encoder.json` maps tokens to ids; `vocab.bpe` lists the merges in the order in which they
were learned. Both write every byte of a token as one printable character.
"""

import json
from pathlib import Path

import tiktoken
import torch
from torch import Tensor

from src.errors import VocabularyError

END_OF_TEXT = "<|endoftext|>"

# Where GPT-2 splits text before merging: into contractions, words, numbers, other characters and white space.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_characters() -> dict[int, str]:
    """The printable character that GPT-2's files write for each byte, in the order of the bytes' token ids.

    Bytes that are printable in Latin-1 are written as themselves, the others as the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


_BYTE_OF = {character: byte for byte, character in byte_characters().items()}


class Codec:
    """Encodes and decodes text with one vocabulary."""

    def __init__(self, ranks: dict[bytes, int]):
        """`ranks` maps the bytes of every token to its id; the id after the largest is that of `END_OF_TEXT`."""
        self.end_of_text = len(ranks)
        self.vocab_size = len(ranks) + 1
        self._encoding = tiktoken.Encoding(
            "gpt2", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: self.end_of_text}
        )

    def encode(self, text: str) -> Tensor:
        """The token ids of `text`, a LongTensor (1, T); the characters of `END_OF_TEXT` are encoded as ordinary text.

        Raises:
            ValueError: `text` contains a lone surrogate, which is not valid Unicode.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"the text is not valid Unicode: character {error.start} is a lone surrogate") from None
        return torch.tensor([self._encoding.encode_ordinary(text)], dtype=torch.long)

    def decode(self, token_ids: Tensor) -> str:
        """The text of `token_ids`, (T,) or (1, T); bytes that are not valid UTF-8 become U+FFFD."""
        return self._encoding.decode(token_ids.flatten().tolist(), errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, which may be parts of a character."""
        return self._encoding.decode_single_token_bytes(token_id)


def load_codec(encoder_file: Path, merges_file: Path) -> Codec:
    """The codec of a vocabulary: GPT-2's `encoder.json` (or `vocab.json`) and `vocab.bpe` (or `merges.txt`).

    Raises:
        VocabularyError: a file is missing or malformed, or the two do not belong together.
    """
    ranks = _read_ranks(encoder_file)
    merges = [line for line in _read(merges_file).splitlines() if line and not line.startswith("#version")]
    if len(merges) != len(ranks) - 256:
        raise VocabularyError(
            f"{merges_file}: has {len(merges)} merges, but {encoder_file.name} needs {len(ranks) - 256}; "
            "download or restore both"
        )
    for i, merge in enumerate(merges):
        try:
            token_id = ranks[_to_bytes(merge.replace(" ", "", 1))]
        except KeyError:
            token_id = None
        if token_id != 256 + i:
            raise VocabularyError(
                f"{merges_file}: merge {i + 1} ({merge!r}) does not make token {256 + i} of {encoder_file.name}; "
                "download or restore both"
            )
    return Codec(ranks)


def _read_ranks(encoder_file: Path) -> dict[bytes, int]:
    """The bytes of each token and its id, without `END_OF_TEXT`."""
    content = _read(encoder_file)
    try:
        encoder = json.loads(content)
        del encoder[END_OF_TEXT]
        ranks = {_to_bytes(token): int(token_id) for token, token_id in encoder.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise VocabularyError(f"{encoder_file}: is not GPT-2's token-to-id table; download or restore it") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise VocabularyError(f"{encoder_file}: the token ids are not 0 to {len(ranks) - 1}; download or restore it")
    return ranks


def _to_bytes(token: str) -> bytes:
    return bytes(_BYTE_OF[character] for character in token)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise VocabularyError(f"{file}: cannot be read ({error.strerror}); download or restore it") from None
    except UnicodeDecodeError:
        raise VocabularyError(f"{file}: is not UTF-8 text; download or restore it") from None
