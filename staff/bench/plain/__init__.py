"""The usual coursework kind of implementation, to be measured beside ours: see `model.py` and `questions/`."""
