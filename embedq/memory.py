"""A provider's answer is several megabytes in one piece. glibc soon serves such pieces from its heaps, where each thread keeps
what it once had; told where to draw the line, it gives them back the moment they are free.

Source: mallopt(3), M_MMAP_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import sys

M_MMAP_THRESHOLD = -3
LARGE = 1 << 20


def give_large_pieces_back() -> bool:
    """For the whole process. False where the C library is another: nothing is lost but memory."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE))
    except (AttributeError, OSError):  # musl has no mallopt
        return False
