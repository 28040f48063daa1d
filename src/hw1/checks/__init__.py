"""The tests of homework 1. A question's module holds its visible tests, then the checks that hidden tests share."""
