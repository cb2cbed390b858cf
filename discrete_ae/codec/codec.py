"""Audio to integers and back, whole recordings and many of them, in bounded memory.

A recording streams through: blocks are read and resampled on a thread of their own, cut into the windows of the model
(see `model.windows`), computed as `model.encode` and `model.decode` compute them, and put together. Nothing of this
depends on the other recordings, and the next ones are read while the present one is computed.

A mono model codes the channels of a recording one by one, so that each channel has the codes that it would have in a
mono file; any other model takes recordings with its own number of channels.

Axes: C audio channels, N samples, S streams, K codebooks, T frames.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from discrete_ae.codec.fitting import check_fits
from discrete_ae.codec.recordings import Recording, read_ahead
from discrete_ae.codes.container import CodeFile, codes_dtype
from discrete_ae.data.reading import Audio, Resampler
from discrete_ae.errors import DataError
from discrete_ae.model import DiscreteAutoencoder, Runner
from discrete_ae.model.windows import Cutter, Piece

Progress = Callable[[float], None]
"""Is told the seconds of audio that were done since it was last called."""


class Encoded(NamedTuple):
    """What became of one recording."""

    path: Path
    code_file: CodeFile | None
    """None where it failed."""
    error: DataError | None


class Decoded(NamedTuple):
    """Codes that are being decoded."""

    code_file: CodeFile
    blocks: Iterator[Audio]
    """(C, n) float32, together the recording at its own sample rate and of its length; take them before the next."""


@dataclass(eq=False)
class _Codes:
    """Those of one recording: the same file given twice is two."""

    code_file: CodeFile


Source = TypeVar("Source", Recording, _Codes)


class _Part(NamedTuple, Generic[Source]):
    """The frames of one stream that a window gives; the last of a recording gives none."""

    source: Source
    stream: int = 0
    first: int = 0
    stop: int = 0


def encode_files(
    model: DiscreteAutoencoder,
    paths: Iterable[Path],
    num_codebooks: int | None = None,
    *,
    runner: Runner | None = None,
    chunk_seconds: float = 30.0,
    loudness_lufs: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Encoded]:
    """Code recordings of any sample rate and length, at least 1 sample, in their order.

    Args:
        model: from `discrete_ae.load`.
        paths: the recordings.
        num_codebooks: how many of the codebooks to use, one of `model.quantizer.decodable_counts`; None is all.
        runner: how windows are computed.
        chunk_seconds: so much of a recording is read ahead.
        loudness_lufs: to which the whole of each recording is brought before it is coded, in [-70, 0], by one gain, as
            `gain_for`: for a model that was trained so. It is read once more for this. The gain stands in the codes
            and decoding takes it back. None leaves recordings as they are.
        progress: called with every window.

    Returns:
        One result for each recording; its error says that it cannot be read, holds NaN or infinity, has channels that
        do not fit the model, or more of them, or a lower sample rate, than loudness is defined for.

    Raises:
        DataError: the model has no codes.
        ValueError: the model was not loaded from a file, so that nothing names it; num_codebooks does not decode; or
            loudness_lufs is out of its range.
    """
    if model.model_hash is None:
        raise ValueError("model: expected one with a model_hash, which a file of codes must name; use discrete_ae.load")
    if not model.quantizer.num_codebooks:
        raise DataError(f"the model's {type(model.quantizer).__name__} has no codes; use a model with a quantizer")
    model.quantizer.check_count(num_codebooks)
    if loudness_lufs is not None and not -70 <= loudness_lufs <= 0:
        raise ValueError(f"loudness_lufs: expected None or a number from -70 to 0, got {loudness_lufs}")
    sizes = model.quantizer.codebook_sizes[:num_codebooks]

    def windows() -> Iterator[tuple[_Part[Recording], Tensor | None]]:
        for recording in read_ahead(model, paths, chunk_seconds, loudness_lufs):
            cutter = Cutter(model.encoder_window, model.hop_length)
            try:
                for block in recording.blocks:
                    yield from _parts(recording, cutter.push(_streams(block, model.channels)))
                yield from _parts(recording, cutter.finish())
            except DataError as error:
                recording.error = error
            yield _Part(recording), None

    results = (runner or Runner()).map(model, lambda audio: model.window_codes(audio, num_codebooks), windows())
    for recording, parts in groupby(results, key=lambda result: result[0].source):
        codes: list[list[np.ndarray]] = []
        for part, found in parts:
            if found is None:
                continue
            if bool((found < 0).any()):
                recording.error = DataError(
                    f"{recording.path}: the model makes NaN or infinite latents of it; use another checkpoint, or "
                    "bring its samples down to full scale"
                )
            if part.stream == len(codes):
                codes.append([])
            codes[part.stream].append(found[:, part.first : part.stop].cpu().numpy().astype(codes_dtype(sizes)))
            if progress and part.stream == 0:
                progress((part.stop - part.first) / model.frame_rate_hz)
        if recording.error or recording.file is None:
            yield Encoded(recording.path, None, recording.error)
            continue
        yield Encoded(
            recording.path,
            CodeFile(
                codes=np.stack([np.concatenate(stream, axis=-1) for stream in codes]),
                sample_rate=recording.file.sample_rate,
                num_samples=recording.file.num_frames,
                model_sample_rate=model.sample_rate,
                codebook_sizes=sizes,
                model_hash=model.model_hash,
                gain_db=recording.gain_db,
                quantizer=type(model.quantizer).__name__,
            ),
            None,
        )


def decode_files(
    model: DiscreteAutoencoder,
    code_files: Iterable[CodeFile],
    *,
    force: bool = False,
    runner: Runner | None = None,
    progress: Progress | None = None,
) -> Iterator[Decoded]:
    """Decode codes to audio of the recordings' own sample rate and length, in their order.

    Args:
        model: the one that made the codes.
        code_files: the codes; `check_fits` holds of each.
        force: decode with a model of another hash too.
        runner: how windows are computed.
        progress: called with every window.

    Raises:
        DataError: codes do not fit the model; or, from the blocks, they decode to NaN or infinity.
    """

    def windows() -> Iterator[tuple[_Part[_Codes], Tensor | None]]:
        for code_file in code_files:
            check_fits(model, code_file, force=force)
            cutter = Cutter(model.decoder_window, 1)
            source = _Codes(code_file)
            yield from _parts(source, cutter.push(torch.from_numpy(code_file.codes.astype(np.int64))))
            yield from _parts(source, cutter.finish())
            yield _Part(source), None

    results = (runner or Runner()).map(model, model.window_audio, windows())
    for source, parts in groupby(results, key=lambda result: result[0].source):
        yield Decoded(source.code_file, _decoded_blocks(model, source.code_file, parts, progress))


def encode_file(
    model: DiscreteAutoencoder,
    path: str | Path,
    num_codebooks: int | None = None,
    *,
    loudness_lufs: float | None = None,
) -> CodeFile:
    """Code one recording, as `encode_files` does.

    Raises:
        DataError: the recording cannot be coded.
        ValueError: see `encode_files`.
    """
    ((_, code_file, error),) = encode_files(model, [Path(path)], num_codebooks, loudness_lufs=loudness_lufs)
    if code_file is None:
        raise error or DataError(f"{path}: cannot be coded")
    return code_file


def decode_file(model: DiscreteAutoencoder, code_file: CodeFile, force: bool = False) -> Audio:
    """Audio (C, N) float32 of one recording's codes, N = num_samples, as `decode_files` does.

    Raises:
        DataError: the codes are those of another model, or do not fit this one.
    """
    (audio,) = (
        np.concatenate(list(decoded.blocks), axis=1) for decoded in decode_files(model, [code_file], force=force)
    )
    return audio


def _streams(block: Audio, channels: int) -> Tensor:
    """(S C, n) to (S, C, n)."""
    return torch.from_numpy(block).unflatten(0, (-1, channels))


def _parts(source: Source, pieces: Iterable[Piece]) -> Iterator[tuple[_Part[Source], Tensor]]:
    """The windows (S, ...) of all streams, one by one."""
    for piece in pieces:
        for stream, signal in enumerate(piece.signal):
            yield _Part(source, stream, piece.first, piece.stop), signal


def _decoded_blocks(
    model: DiscreteAutoencoder,
    code_file: CodeFile,
    parts: Iterable[tuple[_Part[_Codes], Tensor | None]],
    progress: Progress | None,
) -> Iterator[Audio]:
    hop, missing = model.hop_length, code_file.num_model_samples
    num_channels = len(code_file.codes) * model.channels
    resampler = Resampler(model.sample_rate, code_file.sample_rate, num_channels, code_file.num_samples)
    gain = np.float32(10 ** (-code_file.gain_db / 20))
    streams: list[Audio] = []
    for part, audio in parts:
        if audio is None:
            continue
        streams.append(audio[:, part.first * hop : part.stop * hop].cpu().numpy())
        if len(streams) < len(code_file.codes):
            continue
        block = np.concatenate(streams)[:, :missing]
        streams.clear()
        missing -= block.shape[1]
        if not np.isfinite(block).all():
            raise DataError("the model makes NaN or infinite samples of these codes; use another checkpoint")
        yield from resampler.pieces(block * gain)
        if progress:
            progress((part.stop - part.first) / model.frame_rate_hz)
    yield resampler.finish()
