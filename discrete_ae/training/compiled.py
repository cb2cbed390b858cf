"""torch.compile of what a training step computes. Axes: B batch, C audio channels, N samples."""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_ae.errors import UsageError
from discrete_ae.model import AutoencoderOutput, DiscreteAutoencoder
from discrete_ae.quantizers.base import Quantized, Quantizer, exact_products

Compiler = Callable[[Callable], Callable]
"""Makes a compiled function of a function: one graph, for the shapes of the first call. Training has crops of one
length in batches of one size."""


def compiler(*, cuda_graphs: bool) -> Compiler:
    """Return what compiles the parts of a training step.

    Args:
        cuda_graphs: whether a GPU is given each part in one launch ("reduce-overhead"). Results then live until the
            next step: a gradient that is accumulated over several batches does not survive it.
    """
    torch.compiler.reset()  # what earlier runs of a multirun compiled counts against Dynamo's limit
    mode = "reduce-overhead" if cuda_graphs else None

    def compiled(function: Callable) -> Callable:
        return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)

    return compiled


def compiled_quantizer(quantizer: Quantizer, compiled: Compiler) -> Callable[[Tensor], Quantized]:
    """Return the compiled forward; the one forward in which codebooks start (k-means) is left as it is.

    It is another graph than all the others, and a long one.
    """
    forward = compiled(quantizer.forward)
    return lambda latents: (quantizer.forward if quantizer.needs_start else forward)(latents)


class CompiledForward:
    """A model's forward in three compiled parts: audio to latents, the quantizer, latents to audio.

    Whatever else runs the model (validation, clips) runs it as it is. It holds functions, no modules: the model's names
    and tensors, and so its checkpoints, stay the same.
    """

    def __init__(self, model: DiscreteAutoencoder, compiled: Compiler) -> None:
        self.latents = compiled(model.latents)
        self.quantizer = compiled_quantizer(model.quantizer, compiled)
        self.reconstruct = compiled(model.reconstruct)

    def __call__(self, audio: Tensor) -> AutoencoderOutput:
        """Compute what DiscreteAutoencoder.forward does, of audio (B, C, N)."""
        torch.compiler.cudagraph_mark_step_begin()  # the last step's results may be overwritten
        latents = self.latents(audio)
        with exact_products():  # also while it is compiled
            quantized = self.quantizer(latents)
        reconstruction = self.reconstruct(quantized.latents, audio.shape[-1])
        return AutoencoderOutput(reconstruction, quantized.codes, latents, quantized.losses)


def require_compiler(*, for_gpu: bool) -> None:
    """Look for what torch.compile calls: a C++ compiler for a CPU, a C compiler for a GPU.

    Raises:
        UsageError: where there is none.
    """
    variable, names = ("CC", ("gcc", "cc", "clang")) if for_gpu else ("CXX", ("g++", "c++", "clang++"))
    wanted = (os.environ[variable],) if variable in os.environ else names
    if not any(shutil.which(name) for name in wanted):
        raise UsageError(
            f"compile=true needs a compiler, and there is no {' or '.join(wanted)} on the PATH; install g++, name "
            f"another in the environment variable {variable}, or leave compile=false"
        )
