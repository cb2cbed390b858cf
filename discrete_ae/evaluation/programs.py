"""Codecs that come as programs: audio through files and back.

Opus (RFC 6716) by opusenc and opusdec; Codec 2, a vocoder for the speech of radio amateurs, by c2enc and c2dec.

Axes: N samples, of one stream (C, N).
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from discrete_ae.errors import DataError

Audio = NDArray[np.float32]

OPUS_RATE = 48000
OPUS_BPS = (6000.0, 256000.0)
"""The least and the most that opusenc takes for a channel."""
CODEC2_RATE = 8000
CODEC2_BITS = {"3200": (64, 20), "2400": (48, 20), "1600": (64, 40), "1400": (56, 40), "1300": (52, 40)}
CODEC2_BITS |= {"1200": (48, 40), "700C": (28, 40)}
"""Bits of a frame and its length in ms, by mode; in a file, frames are filled up to whole bytes."""
CODEC2_DELAY = {"700C": 240}
CODEC2_DELAY_USUAL = 160
"""Samples by which Codec 2's output comes late: half of its 40 ms pitch window, in 700C a frame of 10 ms more. With
these STOI was highest on six recordings of speech, among shifts of 80 to 360 in steps of 40, in every mode."""
_OGG_HEADER = 27


class Program(Protocol):
    """A codec at one bitrate."""

    @property
    def name(self) -> str:
        """Such as "opus 6 kbps"."""

    @property
    def bitrate_bps(self) -> float:
        """For which it is asked, for a stream."""

    @property
    def sample_rate(self) -> int:
        """In Hz, at which it works."""

    @property
    def max_channels(self) -> int:
        """Of a stream."""

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Write audio (C, N) at its rate into a file of the folder; the file, and the bits of the codes in it."""

    def decode(self, coded: Path, num_samples: int) -> Audio:
        """Of the file that `encode` wrote, audio (C, num_samples), aligned with what it was made of."""


class Opus(NamedTuple):
    """At a target bitrate, otherwise as opusenc chooses: variable bitrate, frames of 20 ms."""

    bitrate_bps: float
    sample_rate: int = OPUS_RATE
    max_channels: int = 2

    @property
    def name(self) -> str:
        """Such as "opus 6 kbps"."""
        return f"opus {self.bitrate_bps / 1000:g} kbps"

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """See Program. The bits are those of the packets, without Ogg's pages and headers."""
        recording, coded = folder / "in.wav", folder / "coded.opus"
        soundfile.write(recording, audio.T, self.sample_rate, subtype="FLOAT")
        _run(["opusenc", "--quiet", "--bitrate", f"{self.bitrate_bps / 1000:.3f}", recording, coded])
        return coded, 8.0 * opus_packet_bytes(coded.read_bytes())

    def decode(self, coded: Path, num_samples: int) -> Audio:
        """See Program; opusdec takes out the delay itself: to a sample at 64 kbps, while at 6 and 12 kbps 2 or 3
        samples of 48 kHz were left on a recording of speech. SI-SDR feels that, a listener does not.
        """
        decoded = coded.with_suffix(".wav")
        _run(["opusdec", "--quiet", "--float", "--rate", self.sample_rate, coded, decoded])
        audio, _ = soundfile.read(decoded, dtype="float32", always_2d=True)
        return _of_length(audio.T, num_samples)


class Codec2(NamedTuple):
    """In one of its modes."""

    mode: str
    sample_rate: int = CODEC2_RATE
    max_channels: int = 1

    @property
    def name(self) -> str:
        """Such as "codec2 1300 bps"."""
        return f"codec2 {self.bitrate_bps:g} bps"

    @property
    def bitrate_bps(self) -> float:
        """Of the mode."""
        bits, frame_ms = CODEC2_BITS[self.mode]
        return 1000 * bits / frame_ms

    @property
    def _delay(self) -> int:
        return CODEC2_DELAY.get(self.mode, CODEC2_DELAY_USUAL)

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """See Program. The bits are those of the frames that the audio needs."""
        bits, frame_ms = CODEC2_BITS[self.mode]
        frame = frame_ms * CODEC2_RATE // 1000
        raw, coded = folder / "in.raw", folder / "coded.bin"
        # Whole frames, the last of which may be there for the delay alone.
        missing = self._delay + -(audio.shape[1] + self._delay) % frame
        padded = np.pad(audio[0], (0, missing))
        np.round(padded.clip(-1, 1) * 32767).astype("<i2").tofile(raw)
        _run(["c2enc", self.mode, raw, coded])
        return coded, float(-(-audio.shape[1] // frame) * bits)

    def decode(self, coded: Path, num_samples: int) -> Audio:
        """See Program; the delay is taken out."""
        decoded = coded.with_suffix(".raw")
        _run(["c2dec", self.mode, coded, decoded])
        audio = np.fromfile(decoded, "<i2").astype(np.float32) * np.float32(2**-15)
        return _of_length(audio[None, self._delay :], num_samples)


class Installed(NamedTuple):
    """What is there of a family of programs."""

    is_there: bool
    version: str
    """In one line, where it is there."""


def opus_installed() -> Installed:
    """Whether Opus can be run."""
    if not shutil.which("opusenc") or not shutil.which("opusdec"):
        return Installed(False, "")
    said = subprocess.run(["opusenc", "--version"], capture_output=True, text=True, check=False).stdout
    return Installed(True, (said.splitlines() or ["opusenc"])[0])


def codec2_installed() -> Installed:
    """Whether Codec 2 can be run; it does not say which version it is."""
    is_there = bool(shutil.which("c2enc") and shutil.which("c2dec"))
    return Installed(is_there, "c2enc, which names no version" if is_there else "")


class Passed(NamedTuple):
    """What a program made of a stream."""

    audio: Audio
    """(C, N), the shape that it had."""
    bits: float
    """Of its codes."""
    encode_s: float
    """How long it took, with starting the program and with its files."""
    decode_s: float


def through(program: Program, audio: Audio, sample_rate: int) -> Passed:
    """A stream (C, N) at `sample_rate` in Hz, N >= 1, through the program and back.

    Raises:
        DataError: the program fails, or temporary files cannot be written.
    """
    given = _resampled(audio, sample_rate, program.sample_rate)
    try:
        with tempfile.TemporaryDirectory(prefix="discrete-ae-") as folder:
            start = time.perf_counter()
            coded, bits = program.encode(given, Path(folder))
            between = time.perf_counter()
            found = program.decode(coded, given.shape[1])
            end = time.perf_counter()
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{program.name}: its temporary files failed ({error}); see to the disk") from error
    found = _of_length(_resampled(found, program.sample_rate, sample_rate), audio.shape[1])
    return Passed(found, bits, between - start, end - between)


def opus_packet_bytes(content: bytes) -> int:
    """Bytes of all audio packets of an Ogg Opus file (RFC 3533, RFC 7845), without its first two, which are headers.

    Raises:
        DataError: it is not whole.
    """
    packets, position, total = 0, 0, 0
    while position < len(content):
        if content[position : position + 4] != b"OggS" or len(content) < position + _OGG_HEADER:
            raise DataError("opusenc: wrote what is no Ogg file; try another version of opus-tools")
        count = content[position + _OGG_HEADER - 1]
        lengths = content[position + _OGG_HEADER : position + _OGG_HEADER + count]
        for length in lengths:
            total += length if packets >= 2 else 0
            packets += length < 255  # where a packet ends
        position += _OGG_HEADER + count + sum(lengths)
    return total


def _run(command: Sequence[object]) -> None:
    """DataError, with the last line of what the program said, where it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"status {done.returncode}"
        raise DataError(f"{command[0]}: failed ({reason}); try it by hand, or leave the baselines out")


def _resampled(audio: Audio, source_rate: int, target_rate: int) -> Audio:
    if source_rate == target_rate:
        return audio
    length = -(-audio.shape[1] * target_rate // source_rate)
    return _of_length(soxr.resample(np.ascontiguousarray(audio.T), source_rate, target_rate, quality="HQ").T, length)


def _of_length(audio: Audio, num_samples: int) -> Audio:
    """Cut off, or filled up with silence."""
    missing = max(0, num_samples - audio.shape[1])
    return np.ascontiguousarray(np.pad(audio[:, :num_samples], ((0, 0), (0, missing))))
