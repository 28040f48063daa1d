"""How fast the model is, beside what else one could take, and beside what the machine allows: `make bench`."""
