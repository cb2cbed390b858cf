"""torch.compile of the forward that trains. Axes: B batch, C audio channels, N samples."""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor
from torch._dynamo.exc import Unsupported

from discrete_ae.errors import UsageError
from discrete_ae.model import AutoencoderOutput, DiscreteAutoencoder
from discrete_ae.quantizers import Quantized


class CompiledForward:
    """A model's forward in three compiled parts: audio to latents, the quantizer, latents to audio.

    Every part is one graph for one shape: training has crops of one length in batches of one size, and whatever else
    runs the model (validation, clips) runs it as it is. A quantizer that cannot be one graph, as those of
    vector-quantize-pytorch with their branches on data, is left as it is too.

    It holds functions, no modules: the model's names and tensors, and so its checkpoints, stay the same.
    """

    def __init__(self, model: DiscreteAutoencoder) -> None:
        torch.compiler.reset()  # what earlier runs of a multirun compiled counts against Dynamo's limit
        self.latents = _compiled(model.latents)
        self.quantizer: Callable[[Tensor], Quantized] = _compiled(model.quantizer.forward)
        self.reconstruct = _compiled(model.reconstruct)
        self._eager_quantizer = model.quantizer.forward

    def __call__(self, audio: Tensor) -> AutoencoderOutput:
        """What DiscreteAutoencoder.forward gives for audio (B, C, N)."""
        latents = self.latents(audio)
        try:
            quantized = self.quantizer(latents)
        except Unsupported:
            self.quantizer = self._eager_quantizer
            quantized = self.quantizer(latents)
        reconstruction = self.reconstruct(quantized.latents, audio.shape[-1])
        return AutoencoderOutput(reconstruction, quantized.codes, latents, quantized.losses)


def _compiled(function: Callable) -> Callable:
    return torch.compile(function, fullgraph=True, dynamic=False)


def require_compiler(variable: str, *names: str) -> None:
    """Look for what torch.compile calls: a C++ compiler for a CPU, a C compiler for a GPU.

    Args:
        variable: of the environment, which names another one.
        names: of compilers, any of which will do.

    Raises:
        UsageError: where there is none.
    """
    wanted = (os.environ[variable],) if variable in os.environ else names
    if not any(shutil.which(name) for name in wanted):
        raise UsageError(
            f"compile=true needs a compiler, and there is no {' or '.join(wanted)} on the PATH; install g++, name "
            f"another in the environment variable {variable}, or leave compile=false"
        )
