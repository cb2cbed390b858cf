"""Checks that an exported program does what the model does, on random signals of random lengths.

Runtimes sum in different orders, so latents differ in their last bits, and one that lies at a decision boundary may be
rounded to either side. Any other difference of codes is an error.

Axes: B batch, C audio channels, N samples, D latent channels, K codebooks, T frames.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discrete_ae.errors import DataError, UsageError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.quantizers import ScalarQuantizer
from discrete_ae.quantizers.scalar import BOUNDS

NEAR = 1e-4
"""Of a decision boundary, in steps of the quantizer; and of a decoded sample, in full scale."""
RANDOM_LENGTHS = 8
MOST_FRAMES = 40

Program = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Runs an exported program."""


class Agreement(NamedTuple):
    """The result of a check; every difference of codes lay within NEAR of a decision boundary."""

    lengths: int
    """Signals compared, each of another length."""
    codes: int
    """Codes compared."""
    differing: int
    """How many of them differ."""
    furthest: float
    """Largest distance of a latent behind a differing code from the decision boundary, in steps; 0 without any."""
    audio_difference: float
    """Largest difference of a decoded sample."""

    def __str__(self) -> str:
        """Say so in words."""
        differing = (
            f"{self.differing} differ, each where a latent lies within {NEAR:g} of a decision boundary "
            f"({self.furthest:.1e} at most)"
            if self.differing
            else "all equal"
        )
        return (
            f"{self.codes} codes of {self.lengths} lengths, {differing}; decoded samples differ by at most "
            f"{self.audio_difference:.1e}"
        )


def check_programs(model: DiscreteAutoencoder, encode: Program, decode: Program, what: str, seed: int = 0) -> Agreement:
    """Compare programs with the model on the CPU: the codes of random audio, the audio of random codes.

    Args:
        model: in evaluation mode, with a scalar quantizer.
        encode: audio (B, C, N) float32 to codes (B, K, T) int64.
        decode: codes to audio (B, C, T * hop_length) float32.
        what: names the programs in messages.
        seed: of the signals.

    Raises:
        DataError: for codes that differ though no latent lies near a decision boundary, or audio that differs.
    """
    quantizer = require_scalar(model)
    random = np.random.default_rng(seed)
    compared = differing = 0
    furthest = audio_difference = 0.0
    hop = model.hop_length
    edges = dict.fromkeys((1, max(1, hop - 1), hop, hop + 1))  # less than a frame, one, and around it; then random ones
    lengths = [
        *edges,
        *map(int, random.choice(np.arange(hop + 2, MOST_FRAMES * hop + 3), RANDOM_LENGTHS, replace=False)),
    ]
    for num_samples in lengths:
        # From quiet to full scale.
        level = 10 ** random.uniform(-3, -0.3)
        audio = torch.from_numpy(level * random.standard_normal((1, model.channels, num_samples))).float()
        with torch.no_grad():
            latents = model.latents(audio)
            expected = quantizer.encode(latents)
            codes = torch.from_numpy(_ran(encode, audio, tuple(expected.shape), np.int64, what, num_samples))
            distances = boundary_distances(model, latents)
        wrong = digits(model, codes) != digits(model, expected)
        far = float(distances[wrong].max()) if wrong.any() else 0.0
        if far > NEAR or bool(((codes < 0) | (codes >= quantizer.codebook_sizes[0])).any()):
            raise DataError(
                f"{what}: the exported encoder gives other codes than the model for {num_samples} samples, and not "
                f"only within {NEAR:g} of a decision boundary ({far:.1e}); nothing was written, please report it"
            )
        compared += codes.numel()
        differing += int((codes != expected).sum())
        furthest = max(furthest, far)
        with torch.no_grad():
            drawn = torch.from_numpy(random.integers(0, quantizer.codebook_sizes[0], tuple(expected.shape)))
            reference = model.reconstruct(quantizer.decode(drawn), drawn.shape[-1] * model.hop_length)
        decoded = _ran(decode, drawn, tuple(reference.shape), np.float32, what, num_samples)
        difference = float((torch.from_numpy(decoded) - reference).abs().max())
        if not difference <= NEAR * max(1.0, float(reference.abs().max())):
            raise DataError(
                f"{what}: the exported decoder differs from the model by {difference:.1e} for {drawn.shape[-1]} "
                "frames; nothing was written, please report it"
            )
        audio_difference = max(audio_difference, difference)
    return Agreement(len(lengths), compared, differing, furthest, audio_difference)


def require_scalar(model: DiscreteAutoencoder) -> ScalarQuantizer:
    """Return the model's quantizer.

    Raises:
        UsageError: if it is of another kind.
    """
    if not isinstance(model.quantizer, ScalarQuantizer):
        raise UsageError(
            f"a {type(model.quantizer).__name__} cannot be exported as a program, only scalar quantizers can, such as "
            "those of quantizer=ste or quantizer=fourier; leave out --onnx and --torch-export"
        )
    return model.quantizer


def boundary_distances(model: DiscreteAutoencoder, latents: Tensor) -> Tensor:
    """Return distances (B, K, d, T) of latents (B, K d, T) from the nearest decision boundary, in quantizer steps."""
    quantizer = require_scalar(model)
    steps = quantizer.steps.repeat(quantizer.num_codebooks)[:, None]
    scaled = BOUNDS[quantizer.bound](latents.double()) * steps
    nearest = (scaled.floor() + 0.5).clamp(min=torch.tensor(0.5), max=steps - 0.5)  # none below 0 or above the last
    return (scaled - nearest).abs().unflatten(1, (quantizer.num_codebooks, -1))


def digits(model: DiscreteAutoencoder, codes: Tensor) -> Tensor:
    """Return the integers (B, K, d, T) that make up codes (B, K, T), one of each channel of a codebook."""
    quantizer = require_scalar(model)
    return codes[:, :, None] // quantizer.radix[:, None] % (quantizer.steps[:, None] + 1)


def first_line(error: Exception) -> str:
    """Return the first line of an error of another package, which may have many."""
    return str(error).strip().partition("\n")[0][:200]


def _ran(
    program: Program, given: Tensor, shape: tuple[int, ...], dtype: type, what: str, num_samples: int
) -> npt.NDArray[Any]:
    try:
        result = program(given.numpy())
    except Exception as error:  # a runtime that cannot run the program has an error of its own
        raise DataError(
            f"{what}: the exported program fails for {num_samples} samples ({first_line(error)}); nothing was written"
        ) from error
    if result.shape != shape or result.dtype != dtype:
        raise DataError(
            f"{what}: the exported program gives {result.dtype} of shape {result.shape} for {num_samples} samples, "
            f"expected {np.dtype(dtype)} of shape {shape}; nothing was written"
        )
    return result
