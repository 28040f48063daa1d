"""Mistakes that several problems know."""

from src.grading.part_test import Mistake

NO_RESULT = Mistake("no result", "nothing is returned; does your block end with a `return`?")
