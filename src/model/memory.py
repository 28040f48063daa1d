"""How PyTorch gets its memory: in large pages, which take a processor less time to find.

Each read of the weights passes through hundreds of megabytes. In pages of 4 KiB, the processor spends a tenth of that
time looking up where the pages are; Linux also has pages of 2 MiB. See docs/performance.md.
"""

import os
from collections.abc import MutableMapping


def use_large_pages(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what PyTorch's allocator reads when it is first used, which must be later. What the user has set stays.

    Tensors of 2 MiB and more then lie in large pages, if the kernel offers them. Other systems than Linux ignore this.
    """
    environment.setdefault("THP_MEM_ALLOC_ENABLE", "1")
