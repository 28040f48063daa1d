# make run      run the whole homework; results go to submit/
# make grade    grade questions/: points, and what is wrong where points are lost
# make play     see what the model thinks of a text, and what your functions make of it, in your browser
# make clean    remove .venv and everything that running made
# make help     show this list
#
# The first run sets up .venv. Another Python than python3, 3.11 to 3.14: make run PYTHON=python3.14
# <!-- staff -->
#
# Here, run uses the reference answers, and run, grade, clean and what follows take another homework than the one at the
# top level by its name: HOMEWORK=hw10. Also:
# make test     lint, then all tests
# make test-all the same, then the slow tests and make audit
# make lint     check style (ruff) and types (mypy)
# make audit    grade submissions of known scores            [SEEDS=20] [ONLY='wrong/*']
# make grade-class EXPORT=export.zip   grade a class; results go to grades/   [OUT=DIR] [OPTIONS='--due DATE']
# make bench    measure the model's speed beside others; half an hour  [ROUNDS=3] [SECTIONS='decoding ahead']
# make stubs    make questions/ from the reference answers
# make tables   write the tables of points and names in the READMEs, and requirements.txt
# make handout  make the handout, the answer templates and the key for staff from staff/NAME/written/
# make data     cut the pickles of data/ from its texts
# make release  make the starter and Gradescope's package in dist/   [CPU_INDEX=URL, see staff/README.md]
# <!-- /staff -->

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
QUESTIONS := questions
PLACE :=
LEFTOVERS :=
# <!-- staff -->
HOMEWORK ?= hw1
QUESTIONS := staff/$(HOMEWORK)/solution
PLACE := $(addsuffix /,$(wildcard homework/$(HOMEWORK)))
LEFTOVERS := .pytest_cache .ruff_cache .mypy_cache .hypothesis checkpoints/gpt2-random
LEFTOVERS += $(wildcard homework/*/submit homework/*/.experiments homework/*/*.zip)
SEEDS := 2
ONLY :=
ROUNDS := 3
SECTIONS :=
EXPORT :=
OUT := grades
OPTIONS :=
# <!-- /staff -->
PROGRAM := $(or $(wildcard $(PLACE)experiment.py),main.py --model bundled)

# The version and the place of $(PYTHON), or one line that says why it cannot be used.
ifneq ($(filter-out clean help,$(if $(MAKECMDGOALS),$(MAKECMDGOALS),run)),)
INTERPRETER := $(shell $(PYTHON) -c 'from src.grading.dependencies import interpreter; print(interpreter())' 2>&1 || true)
ifeq ($(filter python-3.%,$(INTERPRETER)),)
ifeq ($(findstring error:,$(INTERPRETER)),)
INTERPRETER := $(PYTHON) does not work ($(INTERPRETER)); install Python 3.11 to 3.14 (python.org/downloads)
endif
$(error $(strip $(patsubst error:%,%,$(INTERPRETER))))
endif
endif
MADE_BY := $(VENV)/.$(filter python-3.%,$(INTERPRETER))

.PHONY: run grade play clean help

run: $(VENV)/.run-ready
	$(VENV)/bin/python $(PROGRAM) --questions $(QUESTIONS)

grade: $(VENV)/.run-ready
	$(VENV)/bin/python $(PLACE)grader.py

play: $(VENV)/.play-ready
	$(VENV)/bin/python -m src.playground --questions $(QUESTIONS)

# <!-- staff -->
.PHONY: test test-all lint audit grade-class bench stubs tables handout data release

test: lint
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

test-all: test
	$(VENV)/bin/python -m pytest --numprocesses 2 -m slow
	$(MAKE) audit

lint: $(VENV)/.dev-ready
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

audit: $(VENV)/.dev-ready
	$(VENV)/bin/python -m staff.audit --homework $(HOMEWORK) --seeds $(SEEDS) $(if $(ONLY),--only '$(ONLY)')

grade-class: $(VENV)/.run-ready
	$(if $(EXPORT),,$(error make grade-class needs EXPORT=, the zip or folder of submissions))
	$(VENV)/bin/python -m staff.grade_class '$(EXPORT)' --out '$(OUT)' --homework $(HOMEWORK) $(OPTIONS)

bench: $(VENV)/.bench-ready
	$(VENV)/bin/python -m staff.bench --rounds $(ROUNDS) $(SECTIONS)

stubs: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.make_stubs --homework $(HOMEWORK)

tables: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.tables --homework $(HOMEWORK)

handout: $(VENV)/.dev-ready
	$(VENV)/bin/python -m staff.handout --homework $(HOMEWORK)

data: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.build_data

release: $(VENV)/.run-ready
	$(VENV)/bin/python -m staff.release --homework $(HOMEWORK) --cpu-index "$(CPU_INDEX)"

# <!-- /staff -->
# The file of a step is made last, so a step that was interrupted is repeated.
$(VENV)/.run-ready: $(MADE_BY) requirements.txt
	$(PIP) -r requirements.txt
	@touch $@

# The pip of a new .venv may be too old for --group.
$(VENV)/.play-ready: $(VENV)/.run-ready pyproject.toml
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) -r requirements.txt --group play
	@touch $@

# .venv is made anew when $(PYTHON) is another Python than the one that made it.
$(MADE_BY):
	@echo "setting up $(VENV) (once; this takes a minute or two)"
	@rm -f $(VENV)/.python-* $(VENV)/.*-ready
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# <!-- staff -->
$(VENV)/.dev-ready: $(VENV)/.run-ready pyproject.toml
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) -r requirements.txt --group dev
	@touch $@

$(VENV)/.bench-ready: $(VENV)/.dev-ready
	$(PIP) -r requirements.txt --group bench
	@touch $@

# <!-- /staff -->
clean:
	rm -rf $(VENV) submit .compiled .experiments .playground *.zip $(LEFTOVERS)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@sed -n -e '/^$$/q' -e '/<!--/d' -e 's/^# \{0,1\}//p' Makefile
