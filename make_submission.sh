#!/usr/bin/env bash
# Checks questions/ and submit/ and packs them into one zip, ready for Gradescope.
set -euo pipefail
cd "$(dirname "$0")"

python=python3
command -v "$python" >/dev/null || python=python
if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    python=python
elif [ -x .venv/bin/python ]; then
    python=.venv/bin/python
elif [ -x .venv/Scripts/python.exe ]; then
    python=.venv/Scripts/python.exe
fi
exec "$python" -m src.hw1.make_submission
