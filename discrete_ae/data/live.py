"""Live audio: a WAV stream in a pipe, a microphone, a loudspeaker.

Legend: C channels, n samples per channel.
"""

import io
import math
import struct
from collections.abc import Callable, Iterator
from importlib import import_module
from threading import Event
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import soundfile

from discrete_ae.data.containers import UNKNOWN_BYTES, falls_short
from discrete_ae.data.resampling import Audio, Resampler
from discrete_ae.errors import DataError, UsageError

UNKNOWN = 2**32 - 1
"""Placeholder for the length in the header of a WAV stream, as ffmpeg writes it."""
_READ = 2**16
_MAX_CHUNK = 2**20


class LiveAudio(NamedTuple):
    """Samples that arrive over time."""

    sample_rate: int
    """Sample rate in Hz."""
    channels: int
    """C."""
    blocks: Iterator[Audio]
    """Blocks (C, n) float32, yielded as samples arrive."""


def wav_stream(stream: io.BufferedIOBase, doubted: Callable[[str], None] = lambda doubt: None) -> LiveAudio:
    """Read WAV from a stream that cannot seek, such as standard input.

    Args:
        stream: the stream, at its beginning.
        doubted: called after the last block with a description, if the stream is shorter than its header promises.

    Raises:
        DataError: the stream is not WAV, or its samples do not all have the same size; from the blocks: a sample is NaN
            or infinite.
    """
    front = stream.read(12)
    if front[:4] != b"RIFF" or front[8:] != b"WAVE":
        raise DataError("-: expected a WAV stream on standard input; write one, for example by ffmpeg -f wav")
    form = b""
    while (chunk := stream.read(8))[:4] != b"data" or len(chunk) < 8:
        if len(chunk) < 8 or (size := struct.unpack("<4xI", chunk)[0]) > _MAX_CHUNK:
            raise DataError("-: damaged WAV stream, no data chunk found; write it again")
        content = stream.read(size + size % 2)
        if chunk[:4] == b"fmt ":
            form = chunk + content
    promised = struct.unpack("<4xI", chunk)[0] or UNKNOWN
    try:
        # libsndfile parses the header of an empty file; the samples are then read as raw data of that kind.
        info = soundfile.info(
            io.BytesIO(b"RIFF" + struct.pack("<I", 12 + len(form)) + b"WAVE" + form + b"data\0\0\0\0")
        )
        (size,) = struct.unpack("<20xH", form[:22])  # bytes of one sample of all channels
        raw = {"samplerate": info.samplerate, "channels": info.channels, "subtype": info.subtype, "endian": "LITTLE"}
        if not size or len(_samples(bytes(size), raw)[0]) != 1:
            raise ValueError(size)
    except (soundfile.SoundFileError, struct.error, ValueError, TypeError) as error:
        raise DataError("-: expected a WAV stream of uncompressed samples; write 16-bit or float samples") from error

    def blocks() -> Iterator[Audio]:
        missing, rest = promised, b""
        while missing and (more := stream.read1(min(_READ, missing))):
            missing -= len(more) if promised < UNKNOWN_BYTES else 0  # an unknown length is not counted down
            rest += more
            whole = len(rest) - len(rest) % size
            if not whole:
                continue
            block = _samples(rest[:whole], raw)
            rest = rest[whole:]
            if not np.isfinite(block).all():
                raise DataError("-: holds NaN or infinite samples; repair the signal")
            yield block
        if doubt := falls_short(promised, promised - missing):
            doubted(doubt)

    return LiveAudio(info.samplerate, info.channels, blocks())


def _samples(content: bytes, raw: dict[str, Any]) -> Audio:
    found, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True, format="RAW", **raw)
    return np.ascontiguousarray(found.T)


def wav_head(sample_rate: int, channels: int) -> bytes:
    """Return the header of a WAV stream of 16-bit samples of unknown length."""
    form = struct.pack("<HHIIHH", 1, channels, sample_rate, 2 * channels * sample_rate, 2 * channels, 16)
    unknown = struct.pack("<I", UNKNOWN)
    return b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + unknown


def wav_samples(block: Audio) -> bytes:
    """Return samples (C, n) as bytes of 16-bit samples, clipped at full scale as in `recorded_whole`."""
    content = io.BytesIO()
    soundfile.write(content, block.T.clip(-1, 1), 8000, format="RAW", subtype="PCM_16", endian="LITTLE")
    return content.getvalue()


def resampled(audio: LiveAudio, sample_rate: int) -> Iterator[Audio]:
    """Yield blocks at another rate, which together equal those of `stream_audio`. The filter looks about 20 ms ahead.

    Raises:
        DataError: resampling so many channels at this ratio of rates would take too much memory.
    """
    given = made = 0
    resampler = Resampler(audio.sample_rate, sample_rate, audio.channels, 2**62)
    for block in audio.blocks:
        given += block.shape[1]
        for piece in resampler.pieces(block):
            made += piece.shape[1]
            yield piece
    yield resampler.finish()[:, : math.ceil(given * sample_rate / audio.sample_rate) - made]


def microphone(sample_rate: int, channels: int, block: int, ended: Event) -> LiveAudio:
    """Record from the default input of `sounddevice`, in blocks of `block` samples, until `ended` is set.

    Raises:
        UsageError: sounddevice is not installed.
        DataError: from the blocks: the microphone cannot be used.
    """
    device = _sounddevice("--microphone")

    def blocks() -> Iterator[Audio]:
        try:
            with device.InputStream(
                samplerate=sample_rate, channels=channels, dtype="float32", blocksize=block
            ) as stream:
                while not ended.is_set():
                    samples, _ = stream.read(block)
                    yield np.ascontiguousarray(samples.T)
        except device.PortAudioError as error:
            raise DataError(f"--microphone: {error}; check the sound device") from error

    return LiveAudio(sample_rate, channels, blocks())


class Speaker:
    """Player of blocks (C, n) on the default output of `sounddevice`, as a context manager.

    Args:
        sample_rate: sample rate in Hz.
        channels: C.

    Raises:
        UsageError: sounddevice is not installed.
        DataError: the loudspeaker cannot be used.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._device = _sounddevice("--speaker")
        try:
            self._stream: Any = self._device.OutputStream(samplerate=sample_rate, channels=channels, dtype="float32")
        except self._device.PortAudioError as error:
            raise DataError(f"--speaker: {error}; check the sound device") from error

    def __enter__(self) -> Self:
        self._stream.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.stop()  # waits until everything is played
        self._stream.close()

    def play(self, block: Audio) -> None:
        """Play a block; wait while the queue is full."""
        self._stream.write(np.ascontiguousarray(block.T.clip(-1, 1)))


def _sounddevice(option: str) -> ModuleType:
    try:
        return import_module("sounddevice")
    except ImportError as error:
        raise UsageError(f"{option}: needs the package sounddevice; pip install 'discrete-ae[live]'") from error
    except OSError as error:  # PortAudio is missing
        raise UsageError(f"{option}: {error}; install PortAudio (Debian: libportaudio2)") from error
