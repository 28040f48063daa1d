"""The usual coursework kind of implementation, as a baseline: the model in `model.py`, the answers in `questions/`."""
