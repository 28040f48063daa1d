"""The visible tests of homework 10: one module a file of questions/."""
