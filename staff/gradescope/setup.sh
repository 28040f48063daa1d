#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image: it installs Python, the pinned packages, and permissions.
set -euo pipefail
root=${AUTOGRADER_ROOT:-/autograder}
extra_index=''  # PyTorch's index of CPU builds, written here by: make release CPU_INDEX=URL

find_python() {
    for python in python3.12 python3.13 python3.14 python3.11 python3; do
        if "$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

if ! python=$(find_python); then
    apt-get update
    apt-get install --yes --no-install-recommends python3 python3-venv
    python=$(find_python) || { echo "this image has no Python 3.11 to 3.14; choose Ubuntu 24.04" >&2; exit 1; }
fi
"$python" -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    ${extra_index:+--extra-index-url "$extra_index"} --requirement "$root/source/requirements.txt"
"$root/venv/bin/python" -m compileall -q "$root/venv" "$root/source" || true

# Student code runs as an unprivileged user, who must not read the hidden tests and the labels.
chmod -R go-rwx "$root/source/staff"
