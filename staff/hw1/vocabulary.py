"""Problem 6.2, for staff: is this number of additional parameters right, and under which assumption?

python -m staff.hw1.vocabulary 7482624

The vocabulary grows from 50257 to 60000 tokens. Each of four numbers is right if the answer states its assumption; of
the others, the likely mistake is named.
"""

import argparse
import re

from src.errors import ConfigError, run_command

BEFORE, AFTER, WIDTH = 50_257, 60_000, 768  # tokens, and the size of an embedding
ADDED = AFTER - BEFORE

READINGS = {
    WIDTH * ADDED: "the output layer shares the embedding's weights and has no bias, as in GPT-2 itself",
    (WIDTH + 1) * ADDED: "the output layer shares the embedding's weights and has a bias",
    2 * WIDTH * ADDED: "embedding and output layer have weights of their own, without a bias, as in the figure",
    (2 * WIDTH + 1) * ADDED: "embedding and output layer have weights of their own, and the output layer has a bias",
}
MISTAKES = {
    ADDED: "the number of additional tokens; each needs a whole vector",
    2 * ADDED: "two numbers for each additional token; each needs a whole vector",
    WIDTH: "the size of one embedding; how many are added?",
    WIDTH * AFTER: "all embeddings of the larger vocabulary, not the increase",
    2 * WIDTH * AFTER: "all weights of the larger vocabulary, in both layers, not the increase",
    WIDTH * BEFORE: "all embeddings of the smaller vocabulary, not the increase",
    2 * WIDTH * BEFORE: "all weights of the smaller vocabulary, in both layers, not the increase",
    WIDTH**2 * ADDED: "the embedding's size is counted twice, as a product; two layers add",
    2 * (WIDTH + 1) * ADDED: "a bias in both layers; an embedding is a table and has none",
    16 * ADDED: "16 bits for each additional token, which is the code of 6.1, not an embedding",
    0: "no increase; the GPT-2 module stays the same, but the layers around it do not",
}


def verdict(increase: int) -> tuple[bool, str]:
    """Whether the increase is right, and under which assumption, or what is wrong with it."""
    if increase in READINGS:
        return True, f"{increase:,} is right, if the answer says so: {READINGS[increase]}"
    for change in (1, -1):  # 9744 or 9742 tokens: counted with both ends, or with none
        for right in READINGS:
            if increase == right // ADDED * (ADDED + change):
                return False, f"{increase:,} is wrong: it counts {ADDED + change:,} additional tokens, not {ADDED:,}"
    if -increase in READINGS:
        return False, f"{increase:,} is wrong: the sign is flipped"
    reason = f": it is {MISTAKES[increase]}" if increase in MISTAKES else "; no known mistake leads to it"
    return False, f"{increase:,} is wrong{reason}"


def as_number(text: str) -> int:
    """A whole number, however its digits are grouped.

    Raises:
        ConfigError: it is none.
    """
    digits = re.sub(r"(?<=\d)[\s,._'’](?=\d{3}\b|\d{3}[\s,._'’])", "", text.strip())
    if not re.fullmatch(r"-?\d+", digits):
        raise ConfigError(f"{text!r}: is not a whole number; write it as 7482624 or 7,482,624")
    return int(digits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("increase", metavar="NUMBER", help="the answer, as 7482624 or 7,482,624")
    is_right, text = verdict(as_number(parser.parse_args().increase))
    print(text)
    return 0 if is_right else 1


if __name__ == "__main__":
    run_command(main)
