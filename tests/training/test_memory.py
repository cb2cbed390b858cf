"""Freed memory is kept: the pages of a step that was made before are not cleared again."""

import sys

import pytest
import torch

from discrete_ae.training.run import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_the_memory_of_a_step_is_used_again() -> None:
    resource = pytest.importorskip("resource")
    keep_freed_memory()
    layers = torch.nn.Sequential(*[torch.nn.Tanh() for _ in range(6)])
    audio = torch.zeros(1, 32, 2**17, requires_grad=True)  # 16 MiB, and as much for the output of each layer

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        layers(audio).sum().backward()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # Mapped anew, the outputs alone are 24,576 pages; at most every second block of them was cleared once.
    assert min(faults() for _ in range(6)) < 6000
