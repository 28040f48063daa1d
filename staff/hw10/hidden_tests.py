"""Hidden tests of homework 10: the visible tests' checks on cases that students do not know."""

from typing import Final

VISIBILITY: Final = "after_published"
