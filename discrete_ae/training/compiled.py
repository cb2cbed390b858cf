"""Compile the parts of a training step with torch.compile. Axes: B batch, C audio channels, N samples."""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_ae.errors import UsageError
from discrete_ae.model import AutoencoderOutput, DiscreteAutoencoder
from discrete_ae.quantizers.base import Quantized, Quantizer, exact_products

Compiler = Callable[[Callable], Callable]
"""Function that compiles a function to one graph, for the shapes of its first call. All training batches have the same
shape."""


def compiler(*, cuda_graphs: bool) -> Compiler:
    """Return a function that compiles the parts of a training step.

    Args:
        cuda_graphs: True to launch each part as one CUDA graph ("reduce-overhead"). The next step overwrites all
            results, so gradients cannot be accumulated over several batches.
    """
    torch.compiler.reset()  # graphs of earlier runs in a multirun count against Dynamo's limit
    mode = "reduce-overhead" if cuda_graphs else None

    def compiled(function: Callable) -> Callable:
        return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)

    return compiled


def compiled_quantizer(quantizer: Quantizer, compiled: Compiler) -> Callable[[Tensor], Quantized]:
    """Return the quantizer's compiled forward.

    The one forward that initializes the codebooks (k-means) is not compiled: its graph is long and runs once.
    """
    forward = compiled(quantizer.forward)
    return lambda latents: (quantizer.forward if quantizer.needs_start else forward)(latents)


class CompiledForward:
    """A model's forward in three compiled parts: audio to latents, the quantizer, latents to audio.

    Validation and logged clips use the uncompiled model. This class holds functions, not modules, so the names and
    tensors in checkpoints stay the same.
    """

    def __init__(self, model: DiscreteAutoencoder, compiled: Compiler) -> None:
        self.latents = compiled(model.latents)
        self.quantizer = compiled_quantizer(model.quantizer, compiled)
        self.reconstruct = compiled(model.reconstruct)

    def __call__(self, audio: Tensor) -> AutoencoderOutput:
        """Compute the same as DiscreteAutoencoder.forward for audio (B, C, N)."""
        torch.compiler.cudagraph_mark_step_begin()  # the last step's results may be overwritten
        latents = self.latents(audio)
        with exact_products():  # needed during compilation too
            quantized = self.quantizer(latents)
        reconstruction = self.reconstruct(quantized.latents, audio.shape[-1])
        return AutoencoderOutput(reconstruction, quantized.codes, latents, quantized.losses)


def require_compiler(*, for_gpu: bool) -> None:
    """Check that the compiler that torch.compile calls is installed: C++ for a CPU, C for a GPU.

    Raises:
        UsageError: the compiler is not on the PATH.
    """
    variable, names = ("CC", ("gcc", "cc", "clang")) if for_gpu else ("CXX", ("g++", "c++", "clang++"))
    wanted = (os.environ[variable],) if variable in os.environ else names
    if not any(shutil.which(name) for name in wanted):
        raise UsageError(
            f"compile=true needs a compiler, but {' or '.join(wanted)} is not on the PATH; install g++, set the "
            f"environment variable {variable} to another compiler, or use compile=false"
        )
