"""Audio to integers and back by a model, exactly: the same codes whatever else is computed with them.

On a CPU the codes of a signal are the same bits in every batch, with any number of threads or jobs, and however the
signal is read: it is computed in windows (see `inference`), each by itself. A recording streams through in bounded
memory: blocks are read and resampled on a thread of their own, cut into windows, computed, and put together, and the
next recordings are read meanwhile.

A mono model codes the channels of a recording one by one, so that each channel has the codes that it would have in a
mono file; any other model takes recordings with its own number of channels.

Axes: B batch, C audio channels, N samples, S streams, K codebooks, T frames.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from discrete_ae.codec.fitting import check_fits
from discrete_ae.codec.recordings import read_ahead
from discrete_ae.codes.container import CodeFile, codes_dtype
from discrete_ae.data.resampling import Audio, Resampler
from discrete_ae.errors import DataError
from discrete_ae.inference import Cutter, Piece, Runner, Window, decoder_window, encoder_window, window_codes
from discrete_ae.model import DiscreteAutoencoder

Progress = Callable[[float], None]
"""Called with the seconds of audio that were done since the last call."""


class Encoded(NamedTuple):
    """The codes of one recording, or why there are none."""

    path: Path
    code_file: CodeFile | None
    """None where it failed."""
    error: DataError | None


class Decoded(NamedTuple):
    """Codes that are being decoded."""

    code_file: CodeFile
    blocks: Iterator[Audio]
    """(C, n) float32, together the recording at its own sample rate and of its length; take them before the next."""


class Codec:
    """Exact coding by a model: on a CPU, codes that never change with batch, threads, chunks, jobs or length.

    A signal in parts has the codes of the whole, and a file those of its samples. It costs nothing in speed on a CPU;
    a training loop, or a GPU that is to be kept busy with large batches, takes `model.encode` and `model.decode`.

    Args:
        model: from `discrete_ae.load`; its mode of training or evaluation is left as it is.
        runner: how windows are computed.

    Example:
        >>> codec = Codec(discrete_ae.load(checkpoint))
        >>> audio = torch.zeros(1, 1, 32000)
        >>> codes = codec.encode(audio)
        >>> torch.equal(codec.encode(audio.repeat(3, 1, 1))[2], codes[0])
        True
        >>> codec.decode(codes, num_samples=32000).shape
        torch.Size([1, 1, 32000])
        >>> codec.decode_file(codec.encode_file(recording)).shape  # at its own sample rate
        (1, 16000)
    """

    def __init__(self, model: DiscreteAutoencoder, runner: Runner | None = None) -> None:
        self.model = model
        self.runner = runner or Runner()

    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return codes (B, K, T) int64 of audio (B, C, N), any N >= 1, T = ceil(N / hop_length).

        Raises:
            ValueError: as `DiscreteAutoencoder.encode`.
        """
        model = self.model
        model.check_audio(audio)
        model.quantizer.check_count(num_codebooks)
        codes = self._in_windows(
            audio, encoder_window(model), model.hop_length, 1, lambda window: window_codes(model, window, num_codebooks)
        )
        if bool((codes < 0).any()):
            raise ValueError("audio: the model makes NaN or infinite latents of it; bring its samples to [-1, 1]")
        return codes

    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Return audio (B, C, N) float32 of codes (B, K, T); N = num_samples, or T * hop_length if None.

        Raises:
            ValueError: as `DiscreteAutoencoder.decode`.
        """
        model = self.model
        model.quantizer.check_codes(codes)
        num_samples = model.check_num_samples(codes, num_samples)
        return self._in_windows(codes, decoder_window(model), 1, model.hop_length, model.decode)[..., :num_samples]

    def encode_file(
        self, path: str | Path, num_codebooks: int | None = None, *, loudness_lufs: float | None = None
    ) -> CodeFile:
        """Return the codes of one recording, as `encode_files` does.

        Raises:
            DataError: the recording cannot be coded.
            ValueError: see `encode_files`.
        """
        ((_, code_file, error),) = encode_files(
            self.model, [Path(path)], num_codebooks, runner=self.runner, loudness_lufs=loudness_lufs
        )
        if code_file is None:
            raise error or DataError(f"{path}: cannot be coded")
        return code_file

    def decode_file(self, code_file: CodeFile, *, force: bool = False) -> Audio:
        """Return audio (C, N) float32 of one recording's codes, N = num_samples, as `decode_files` does.

        Raises:
            DataError: the codes are those of another model, or do not fit this one.
        """
        (decoded,) = (
            np.concatenate(list(found.blocks), axis=1)
            for found in decode_files(self.model, [code_file], force=force, runner=self.runner)
        )
        return decoded

    def _in_windows(
        self, signals: Tensor, window: Window, unit: int, unit_out: int, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Apply a function to windows of signals (B, ..., n), and put the frames that count together."""

        def pieces() -> Iterator[tuple[tuple[int, int, int], Tensor]]:
            for item, signal in enumerate(signals.detach().cpu()):
                cutter = Cutter(window, unit)
                for piece in (*cutter.push(signal), *cutter.finish()):
                    yield (item, piece.first, piece.stop), piece.signal

        results: list[list[Tensor]] = [[] for _ in signals]
        for (item, first, stop), result in self.runner.map(self.model, function, pieces()):
            if result is not None:
                results[item].append(result[..., first * unit_out : stop * unit_out].to(signals.device))
        return torch.stack([torch.cat(parts, dim=-1) for parts in results])


class _Part(NamedTuple):
    """The frames of one stream that a window gives; the last of a recording gives none."""

    number: int
    """Of the recording, from 0."""
    source: Any
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
    """Encode recordings of any sample rate and length, at least 1 sample, and yield their codes in order.

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

    Yields:
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
    window = encoder_window(model)

    def windows() -> Iterator[tuple[_Part, Tensor | None]]:
        for number, recording in enumerate(read_ahead(model, paths, chunk_seconds, loudness_lufs)):
            cutter = Cutter(window, model.hop_length)
            try:
                for block in recording.blocks:
                    yield from _parts(number, recording, cutter.push(_streams(block, model.channels)))
                yield from _parts(number, recording, cutter.finish())
            except DataError as error:
                recording.error = error
            yield _Part(number, recording), None

    results = (runner or Runner()).map(model, lambda audio: window_codes(model, audio, num_codebooks), windows())
    for (_, recording), parts in groupby(results, key=lambda result: result[0][:2]):
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
    """Decode codes, and yield audio of the recordings' own sample rate and length in order.

    Args:
        model: the one that made the codes.
        code_files: the codes; `check_fits` holds of each.
        force: decode with a model of another hash too.
        runner: how windows are computed.
        progress: called with every window.

    Raises:
        DataError: codes do not fit the model; or, from the blocks, they decode to NaN or infinity.
    """

    def windows() -> Iterator[tuple[_Part, Tensor | None]]:
        for number, code_file in enumerate(code_files):
            check_fits(model, code_file, force=force)
            cutter = Cutter(decoder_window(model), 1)
            yield from _parts(number, code_file, cutter.push(torch.from_numpy(code_file.codes.astype(np.int64))))
            yield from _parts(number, code_file, cutter.finish())
            yield _Part(number, code_file), None

    results = (runner or Runner()).map(model, model.decode, windows())
    for (_, code_file), parts in groupby(results, key=lambda result: result[0][:2]):
        yield Decoded(code_file, _decoded_blocks(model, code_file, parts, progress))


def _streams(block: Audio, channels: int) -> Tensor:
    """(S C, n) to (S, C, n)."""
    return torch.from_numpy(block).unflatten(0, (-1, channels))


def _parts(number: int, source: Any, pieces: Iterable[Piece]) -> Iterator[tuple[_Part, Tensor]]:
    """The windows (S, ...) of all streams, one by one."""
    for piece in pieces:
        for stream, signal in enumerate(piece.signal):
            yield _Part(number, source, stream, piece.first, piece.stop), signal


def _decoded_blocks(
    model: DiscreteAutoencoder,
    code_file: CodeFile,
    parts: Iterable[tuple[_Part, Tensor | None]],
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
