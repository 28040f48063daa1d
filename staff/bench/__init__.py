"""Benchmarks of the model, against other implementations and against the machine's limits: `make bench`."""
