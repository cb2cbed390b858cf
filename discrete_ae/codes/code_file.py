"""What a file of codes holds, whatever its format.

Axes: S streams (what the model coded one after the other: the channels of the recording for a mono model, otherwise
the whole recording), K codebooks, T frames.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae import checks

Codes = npt.NDArray[np.integer[Any]]

MAX_GAIN_DB = 200.0
MAX_QUANTIZER_LENGTH = 100


@dataclass(frozen=True, eq=False)
class CodeFile:
    """The codes of one recording, and what is needed to make audio of them again.

    Raises:
        ValueError: if the fields do not fit one another.
    """

    codes: Codes
    """(S, K, T) integers, 0 <= codes[:, k] < codebook_sizes[k]."""
    sample_rate: int
    """Of the recording, in Hz; decoding restores it."""
    num_samples: int
    """Length of the recording in samples per channel at `sample_rate`; decoding restores it."""
    model_sample_rate: int
    """The rate in Hz at which the model heard it."""
    codebook_sizes: tuple[int, ...]
    """Entries of each of the K codebooks; fewer than the model's where only the first ones were used."""
    model_hash: str
    """The model that made the codes: SHA-256, 64 hexadecimal digits."""
    gain_db: float = 0.0
    """Gain that was applied to the recording before it was coded; decoding takes it back."""
    quantizer: str = ""
    """The class of the quantizer that made the codes, for people; at most 100 characters."""

    def __post_init__(self) -> None:
        check_description(
            self.sample_rate,
            self.num_samples,
            self.model_sample_rate,
            self.codebook_sizes,
            self.model_hash,
            self.gain_db,
            self.quantizer,
        )
        if self.codes.ndim != 3 or 0 in self.codes.shape or not np.issubdtype(self.codes.dtype, np.integer):
            raise ValueError(
                "codes: expected integers of shape (streams, codebooks, frames), none of them 0, "
                f"got {self.codes.dtype} of shape {self.codes.shape}"
            )
        if self.codes.shape[1] != len(self.codebook_sizes):
            raise ValueError(f"codes: expected {len(self.codebook_sizes)} codebooks, got {self.codes.shape[1]}")
        for k, size in enumerate(self.codebook_sizes):
            low, high = int(self.codes[:, k].min()), int(self.codes[:, k].max())
            if low < 0 or high >= size:
                raise ValueError(f"codes: expected 0 <= code < {size} in codebook {k}, got values from {low} to {high}")

    @property
    def num_model_samples(self) -> int:
        """Length in samples per channel at the model's rate, at least 1."""
        return num_model_samples(self.num_samples, self.sample_rate, self.model_sample_rate)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return len(self.codes) * sum(math.log2(size) for size in self.codebook_sizes)


def num_model_samples(num_samples: int, sample_rate: int, model_sample_rate: int) -> int:
    """How many samples at the model's rate cover `num_samples` at `sample_rate`: rounded up, so never 0 of 1."""
    return -(-num_samples * model_sample_rate // sample_rate)


def codes_dtype(codebook_sizes: tuple[int, ...]) -> np.dtype[Any]:
    """The smallest unsigned type that holds every code: one byte up to 256 entries, two up to 65536."""
    return np.min_scalar_type(max(codebook_sizes) - 1)


def check_description(
    sample_rate: int,
    num_samples: int,
    model_sample_rate: int,
    codebook_sizes: tuple[int, ...],
    model_hash: str,
    gain_db: float,
    quantizer: str,
) -> None:
    """Check what a `CodeFile` says beside its codes.

    Raises:
        ValueError: a number or text that no recording and model can have.
    """
    if not 1 <= num_samples < 2**63:
        raise ValueError(f"num_samples: expected at least 1, and below 2^63, got {num_samples}")
    for name, rate in (("sample_rate", sample_rate), ("model_sample_rate", model_sample_rate)):
        checks.sample_rate(name, rate)
    if wrong := [size for size in codebook_sizes if not 2 <= size < 2**63]:
        raise ValueError(f"codebook_sizes: expected at least 2 entries in each, and below 2^63, got {wrong[0]}")
    if not re.fullmatch("[0-9a-f]{64}", model_hash):
        raise ValueError(f"model_hash: expected 64 hexadecimal digits, got {model_hash[:80]!r}")
    if not abs(gain_db) <= MAX_GAIN_DB:  # nor NaN
        raise ValueError(f"gain_db: expected -{MAX_GAIN_DB:g} to {MAX_GAIN_DB:g} dB, got {gain_db}")
    if len(quantizer) > MAX_QUANTIZER_LENGTH or not quantizer.isprintable():
        raise ValueError(
            f"quantizer: expected at most {MAX_QUANTIZER_LENGTH} printable characters, got {quantizer[:80]!r}"
        )
