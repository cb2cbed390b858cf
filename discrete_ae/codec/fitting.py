"""Which codes a model can decode.

Axes: S streams, K codebooks, T frames.
"""

import math

from discrete_ae.codes.container import CodeFile, Codes
from discrete_ae.errors import DataError
from discrete_ae.model import DiscreteAutoencoder


def check_fits(model: DiscreteAutoencoder, code_file: CodeFile, *, force: bool = False) -> None:
    """Refuse codes that a model cannot decode.

    Args:
        model: which is to decode them.
        code_file: the codes.
        force: take those of a model of another hash too, if all else fits.

    Raises:
        DataError: the codes are those of another model, or do not fit this one.
    """
    if code_file.model_hash != model.model_hash and not force:
        this = model.model_hash or "unnamed"
        raise DataError(
            f"codes of another model ({code_file.model_hash[:12]}), this one is {this[:12]}; "
            "decode with the checkpoint that made them, or force it (force=True, --force)"
        )
    counts = model.quantizer.decodable_counts
    if code_file.codebook_sizes not in [model.quantizer.codebook_sizes[:count] for count in counts]:
        raise DataError(
            f"codes of codebooks with {_listed(code_file.codebook_sizes)} entries, the model has "
            f"{_listed(model.quantizer.codebook_sizes)}; decode with the checkpoint that made them"
        )
    if code_file.model_sample_rate != model.sample_rate:
        raise DataError(
            f"codes of a model at {code_file.model_sample_rate} Hz, this one is at {model.sample_rate} Hz; "
            "decode with the checkpoint that made them"
        )
    num_streams, _, num_frames = code_file.codes.shape
    if model.channels != 1 and num_streams != 1:
        raise DataError(
            f"codes of {num_streams} channels one by one, the model takes {model.channels} together; "
            "decode with the checkpoint that made them"
        )
    expected = math.ceil(code_file.num_model_samples / model.hop_length)
    if num_frames != expected:
        raise DataError(
            f"has {num_frames} frames where {code_file.num_samples} samples at {code_file.sample_rate} Hz make "
            f"{expected} of this model; decode with the checkpoint that made them"
        )


def bare_codes(
    model: DiscreteAutoencoder, codes: Codes, sample_rate: int | None = None, num_samples: int | None = None
) -> CodeFile:
    """Return codes (S, K, T) that come without a file as those of a model.

    Args:
        model: which made them.
        codes: the integers.
        sample_rate: of the recording in Hz; by default the model's own.
        num_samples: of the recording; by default that of whole frames.

    Raises:
        DataError: they are no codes of this model.
    """
    try:
        return CodeFile(
            codes=codes,
            sample_rate=sample_rate or model.sample_rate,
            num_samples=num_samples or codes.shape[-1] * model.hop_length,
            model_sample_rate=model.sample_rate,
            codebook_sizes=model.quantizer.codebook_sizes[: codes.shape[1]],
            model_hash=model.model_hash or "",
        )
    except ValueError as error:
        raise DataError(
            f"not codes of this model: {error}; give codes that it made, (streams, codebooks, frames)"
        ) from error


def _listed(sizes: tuple[int, ...]) -> str:
    """[4, 4, 4] as `3 x 4`, since codebooks are mostly alike and sometimes many."""
    return f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else " + ".join(map(str, sizes))
