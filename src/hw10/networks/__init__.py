"""The networks of homework 10: one module an experiment."""
