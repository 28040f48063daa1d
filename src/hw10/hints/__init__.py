"""Known mistakes in homework 10: one module a question. An entry has a mistake's name, hint, and what it leads to."""

from src.grading.mistakes import mistakes_in

HINTS = mistakes_in(__name__, __path__)
