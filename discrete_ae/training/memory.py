"""What glibc does with the memory of large tensors on a CPU."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving every large block back to the system.

    By default glibc maps each block of more than some MiB anew, and the system clears every page of it at the first
    touch: an eighth to a fifth of a step of large convolutions, for 5 % less memory (benchmarks/NOTES.md). Nothing
    happens where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
