# make run     set up .venv and run the whole homework on the bundled model into submit/
# make grade   set up .venv and say how many points questions/ has earned
# <!-- staff -->
# make run uses the reference answers here. For staff, too:
# make test    set up .venv and run the project's tests
# make audit   grade the grader on all known submissions          [SEEDS=20] [ONLY='wrong/*']
# make bench   measure how fast the model is, beside others; half an hour   [ROUNDS=5] [SECTIONS='decoding ahead']
# make lint    check the style of the code
# make stubs   make questions/ from staff/solution/
# make data    cut the pickles of data/ from its texts
# make release make the starter and Gradescope's package, in dist/   [CPU_INDEX=URL, see staff/README.md]
# <!-- /staff -->

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
QUESTIONS := questions
# <!-- staff -->
QUESTIONS := staff/solution
SEEDS := 3
ONLY :=
ROUNDS := 5
SECTIONS :=
# <!-- /staff -->

.PHONY: run grade test audit bench lint stubs data release clean

run: $(VENV)/.run-ready
	$(VENV)/bin/python main.py --questions $(QUESTIONS) --model gpt2-mini

grade: $(VENV)/.run-ready
	$(VENV)/bin/python grader.py

# <!-- staff -->
test: $(VENV)/.dev-ready
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

audit: $(VENV)/.dev-ready
	$(VENV)/bin/python -m staff.audit --seeds $(SEEDS) $(if $(ONLY),--only '$(ONLY)')

bench: $(VENV)/.bench-ready
	$(VENV)/bin/python -m staff.bench --rounds $(ROUNDS) $(SECTIONS)

lint: $(VENV)/.dev-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

stubs: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.make_stubs

data: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.build_data

release: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.release --cpu-index "$(CPU_INDEX)"

# <!-- /staff -->
# The marks are made last, so that an installation that was interrupted is taken up again.
$(VENV)/.run-ready: requirements.txt
	@echo "setting up $(VENV) (once; this takes a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	@touch $@

# <!-- staff -->
$(VENV)/.dev-ready: $(VENV)/.run-ready requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.bench-ready: $(VENV)/.dev-ready requirements-bench.txt
	$(PIP) -r requirements-bench.txt
	@touch $@

# <!-- /staff -->
clean:
	rm -rf $(VENV) submit cs236.hw1.2023.zip .pytest_cache .ruff_cache checkpoints/gpt2-random
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
