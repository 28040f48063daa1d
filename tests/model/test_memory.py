"""Large pages: that PyTorch asks for them, and that the user's choice stays."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.model.memory import use_large_pages

OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")

LARGE = """
from pathlib import Path
if {asked}:
    from src.model.memory import use_large_pages
    use_large_pages()
import torch
numbers = torch.ones(2**24)
print(Path("/proc/self/smaps").read_text())
"""


@pytest.mark.skipif(not OFFERED.exists(), reason="this kernel has no large pages")
@pytest.mark.parametrize("asked", [False, True])
def test_large_pages_are_asked_for_large_tensors(asked):
    """Whether they are given depends on how much memory is free."""
    command = [sys.executable, "-c", LARGE.format(asked=asked)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert bool(re.search(r"^VmFlags:.* hg\b", shown, re.M)) == asked


def test_what_the_user_has_set_stays():
    chosen = {"THP_MEM_ALLOC_ENABLE": "0"}
    use_large_pages(chosen)
    assert chosen == {"THP_MEM_ALLOC_ENABLE": "0"}
