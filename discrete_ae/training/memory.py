"""What glibc does with the memory of large tensors on a CPU."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving every large block back to the system.

    By default glibc maps each block of more than some MiB anew, and every page of it is cleared at the first touch: of
    a step of large convolutions that is a tenth of the time. Nothing happens where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
