"""Freed memory is kept: the pages of a step that was made before are not cleared again."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
{first}
layers = torch.nn.Sequential(*[torch.nn.Tanh() for _ in range(6)])
audio = torch.zeros(1, 32, 2**17, requires_grad=True)  # 16 MiB, and as much for the output of each layer
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layers(audio).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(3)][-1])
"""


def page_faults(first: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS.format(first=first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_the_memory_of_a_step_is_used_again():
    mapped = page_faults("")
    kept = page_faults("from discrete_ae.training.run import keep_freed_memory; keep_freed_memory()")
    assert mapped > 1000  # else the C library does it by itself, and there is nothing to be mended
    assert kept < mapped / 2
