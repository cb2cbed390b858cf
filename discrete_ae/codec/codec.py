"""Audio to integers and back, a whole recording at a time.

A mono model codes the channels of a recording one by one, so that each channel has the codes that it would have in a
mono file; any other model takes recordings with its own number of channels.

Axes: C audio channels, N samples, S streams, K codebooks, T frames.
"""

import math
from pathlib import Path

import numpy as np
import soxr
import torch

from discrete_ae.codec.container import CodeFile
from discrete_ae.data.files import probe
from discrete_ae.data.reading import Audio, read_audio
from discrete_ae.errors import DataError
from discrete_ae.model import DiscreteAutoencoder

# The resampler looks this far to both sides of a sample, and takes what lies outside for silence.
_MARGIN_S = 0.02


def encode_file(model: DiscreteAutoencoder, path: str | Path, num_codebooks: int | None = None) -> CodeFile:
    """Code a recording of any sample rate and length, at least 1 sample.

    Args:
        model: from `discrete_ae.load`.
        path: the recording.
        num_codebooks: how many of the codebooks to use, one of `model.quantizer.decodable_counts`; None is all.

    Raises:
        DataError: the recording cannot be read, holds NaN or infinity, or its channels do not fit the model; or the
            model has no codes.
        ValueError: the model was not loaded from a file, so that nothing names it; or num_codebooks does not decode.
    """
    if model.model_hash is None:
        raise ValueError("model: expected one with a model_hash, which a file of codes must name; use discrete_ae.load")
    if not model.quantizer.num_codebooks:
        raise DataError(f"the model's {type(model.quantizer).__name__} has no codes; use a model with a quantizer")
    file = probe(Path(path))
    if model.channels != 1 and file.channels not in (1, model.channels):
        raise DataError(
            f"{path}: has {file.channels} channels, the model takes {model.channels}; "
            f"convert it to {model.channels} channels, or use a mono model, which codes each channel alone"
        )
    channels = model.channels if file.channels == 1 else None  # as in training, mono is copied into every channel
    audio = torch.from_numpy(read_audio(file, model.sample_rate, channels)).unflatten(0, (-1, model.channels))
    # One by one, not as a batch: the order of summation, and with it a code, may depend on the size of a batch.
    with torch.inference_mode():
        codes = [model.encode(stream.to(_device(model))[None], num_codebooks).cpu().numpy() for stream in audio]
    return CodeFile(
        codes=np.concatenate(codes),
        sample_rate=file.sample_rate,
        num_samples=file.num_frames,
        model_sample_rate=model.sample_rate,
        codebook_sizes=model.quantizer.codebook_sizes[:num_codebooks],
        model_hash=model.model_hash,
    )


def decode_file(model: DiscreteAutoencoder, code_file: CodeFile, force: bool = False) -> Audio:
    """Audio (C, N) float32 of codes, at the recording's own sample rate and of its length: N = num_samples.

    Args:
        model: the one that made the codes.
        code_file: the codes.
        force: decode with a model of another hash too; what must fit all the same is checked.

    Raises:
        DataError: the codes are those of another model, or do not fit this one.
    """
    _check(model, code_file, force)
    codes = torch.from_numpy(code_file.codes.astype(np.int64))
    with torch.inference_mode():
        streams = [
            model.decode(stream.to(_device(model))[None], code_file.num_model_samples)[0].cpu().numpy()
            for stream in codes
        ]
    audio = np.concatenate(streams)
    if not np.isfinite(audio).all():
        raise DataError("the model makes NaN or infinite samples of these codes; use another checkpoint")
    return _resample(audio, code_file.model_sample_rate, code_file.sample_rate, code_file.num_samples)


def _check(model: DiscreteAutoencoder, code_file: CodeFile, force: bool) -> None:
    if code_file.model_hash != model.model_hash and not force:
        this = model.model_hash or "unnamed"
        raise DataError(
            f"codes of another model ({code_file.model_hash[:12]}), this one is {this[:12]}; "
            "decode with the checkpoint that made them, or use force"
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


def _resample(audio: Audio, source_rate: int, target_rate: int, num_samples: int) -> Audio:
    """Resample (C, N) to exactly `num_samples`, silence on both sides."""
    if source_rate == target_rate:
        return np.ascontiguousarray(audio[:, :num_samples])
    # Only each `step`-th sample falls on a sample of the result: the margin before the first is a multiple of it.
    step = source_rate // math.gcd(source_rate, target_rate)
    margin = step * math.ceil(_MARGIN_S * source_rate / step)
    padded = np.pad(audio, ((0, 0), (margin, margin)))
    resampled = soxr.resample(np.ascontiguousarray(padded.T), source_rate, target_rate, quality="HQ").T
    first = margin * target_rate // source_rate
    return np.ascontiguousarray(resampled[:, first : first + num_samples])


def _device(model: DiscreteAutoencoder) -> torch.device:
    return next(model.parameters()).device


def _listed(sizes: tuple[int, ...]) -> str:
    """[4, 4, 4] as `3 x 4`, since codebooks are mostly alike and sometimes many."""
    return f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else " + ".join(map(str, sizes))
