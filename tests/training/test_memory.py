"""Freed memory is kept: what is freed and allocated again is not cleared page by page a second time."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.full((2**25,), 1.0)  # 128 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def page_faults(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_large_blocks_are_used_again():
    kept = page_faults("from discrete_ae.training.memory import keep_freed_memory; keep_freed_memory()")
    mapped = page_faults("")
    # 128 MiB are 32768 pages, or 64 where pages are huge.
    assert kept < 16
    assert mapped > 32
