# make run     set up .venv and run the whole homework on the bundled model, with the reference answers, into submit/
# make test    set up .venv and run the project's tests
# make lint    check the style of the code

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test lint stubs data clean

run: $(VENV)/.run-ready
	$(VENV)/bin/python main.py --questions staff/solution --model gpt2-mini

test: $(VENV)/.dev-ready
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.dev-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

stubs: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.make_stubs

data: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.build_data

# The marks are made last, so that an installation that was interrupted is taken up again.
$(VENV)/.run-ready: requirements.txt
	@echo "setting up $(VENV) (once; this takes a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) submit cs236.hw1.2023.zip .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
