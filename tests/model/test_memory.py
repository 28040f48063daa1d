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
print(Path("/proc/self/smaps_rollup").read_text())
"""


@pytest.mark.skipif(
    not OFFERED.exists() or "[madvise]" not in OFFERED.read_text(), reason="large pages are not given on request here"
)
def test_large_tensors_lie_in_large_pages():
    def kilobytes(asked: bool) -> int:
        command = [sys.executable, "-c", LARGE.format(asked=asked)]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return int(re.search(r"AnonHugePages: *([0-9]+) kB", shown)[1])

    assert kilobytes(asked=False) == 0
    assert kilobytes(asked=True) > 0  # not all of the tensor, where the kernel is short of large pages


def test_what_the_user_has_set_stays():
    chosen = {"THP_MEM_ALLOC_ENABLE": "0"}
    use_large_pages(chosen)
    assert chosen == {"THP_MEM_ALLOC_ENABLE": "0"}
