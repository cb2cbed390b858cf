"""Baseline codecs of a comparison: Opus (RFC 6716) and Codec 2, a speech vocoder, if their programs are installed.

Audio passes through files. The programs are opusenc and opusdec for Opus, c2enc and c2dec for Codec 2.

Axes: C channels, N samples.
"""

import math
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from discrete_ae.data.reading import Audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.coders import Passed, of_length

OPUS_RATE = 48000
OPUS_BPS = (6000.0, 256000.0)
"""Lowest and highest bitrate per channel that opusenc accepts."""
CODEC2_RATE = 8000
CODEC2_BITS = {"3200": (64, 20), "2400": (48, 20), "1600": (64, 40), "1400": (56, 40), "1300": (52, 40)}
CODEC2_BITS |= {"1200": (48, 40), "700C": (28, 40)}
"""Bits per frame and frame length in ms, by mode. In a file, each frame is padded to whole bytes."""
_OGG_HEADER = 27


class Program(ABC):
    """A `Coder` that runs one program to encode and one to decode."""

    keeps_waveform = True
    piece_s = 300.0
    device = "cpu, a program started and given a file"
    parameters: int | None = None
    model_hash: str | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """See `Coder`."""

    @abstractmethod
    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Encode audio (C, N) to a file in the folder; return its path and the bits of its codes, without headers."""

    @abstractmethod
    def decode(self, coded: Path, num_samples: int) -> Audio:
        """Decode the file to audio (C, num_samples)."""

    def code(self, audio: Audio) -> Passed:
        """See `Coder`; also raises DataError if temporary files cannot be written or read."""
        try:
            with TemporaryDirectory(prefix="discrete-ae-baseline-") as folder:
                start = time.perf_counter()
                coded, bits = self.encode(audio, Path(folder))
                between = time.perf_counter()
                found = self.decode(coded, audio.shape[1])
                end = time.perf_counter()
        except (OSError, soundfile.SoundFileError) as error:
            raise DataError(f"{self.name}: temporary files failed ({error}); check the disk") from error
        return Passed(found, bits, between - start, end - between)


@dataclass(frozen=True)
class Opus(Program):
    """Opus at a target bitrate, with the defaults of opusenc: variable bitrate, frames of 20 ms."""

    bitrate_bps: float
    sample_rate = decoded_rate = OPUS_RATE
    max_channels = 2
    is_entropy_coded = True

    @property
    def name(self) -> str:
        """Name such as "opus 6 kbps"."""
        return f"opus {self.bitrate_bps / 1000:g} kbps"

    def version(self) -> str:
        """Return the version that opusenc prints."""
        said = subprocess.run(["opusenc", "--version"], capture_output=True, text=True, check=False).stdout
        return (said.splitlines() or ["opusenc"])[0]

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Encode audio (C, N) to a file in the folder; return its path and the bits of its audio packets."""
        recording, coded = folder / "in.wav", folder / "coded.opus"
        soundfile.write(recording, audio.T, self.sample_rate, subtype="FLOAT")
        _run(["opusenc", "--quiet", "--bitrate", f"{self.bitrate_bps / 1000:.3f}", recording, coded])
        return coded, 8.0 * opus_packet_bytes(coded.read_bytes())

    def decode(self, coded: Path, num_samples: int) -> Audio:
        """Decode the file to audio (C, num_samples).

        opusdec removes the delay itself. On a recording of speech it did so exactly at 64 kbps, but left 2 or 3 samples
        (at 48 kHz) at 6 and 12 kbps. Such a delay lowers SI-SDR, but is inaudible.
        """
        decoded = coded.with_suffix(".wav")
        _run(["opusdec", "--quiet", "--float", "--rate", self.sample_rate, coded, decoded])
        audio, _ = soundfile.read(decoded, dtype="float32", always_2d=True)
        return of_length(audio.T, num_samples)


@dataclass(frozen=True)
class Codec2(Program):
    """Codec 2 in one of its modes."""

    mode: str
    sample_rate = decoded_rate = CODEC2_RATE
    max_channels = 1
    keeps_waveform = False
    is_entropy_coded = False

    @property
    def name(self) -> str:
        """Name such as "codec2 1.3 kbps"."""
        return f"codec2 {self.bitrate_bps / 1000:g} kbps"

    def version(self) -> str:
        """Return a placeholder, since c2enc prints no version."""
        return "c2enc, which names no version"

    @property
    def bitrate_bps(self) -> float:
        """Bitrate of the mode."""
        bits, frame_ms = CODEC2_BITS[self.mode]
        return 1000 * bits / frame_ms

    @property
    def _delay(self) -> int:
        """Delay of the output in samples: half of the 40 ms pitch window; in mode 700C, plus a frame of 10 ms.

        Of the delays 80, 120, ... 360, these gave the highest STOI in every mode on six recordings of speech.
        """
        return 240 if self.mode == "700C" else 160

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Encode audio (1, N) to a file in the folder; return its path and the bits of the frames with audio."""
        bits, frame_ms = CODEC2_BITS[self.mode]
        frame = frame_ms * CODEC2_RATE // 1000
        raw, coded = folder / "in.raw", folder / "coded.bin"
        # Pad to whole frames; the last one may hold only the delay.
        missing = self._delay + -(audio.shape[1] + self._delay) % frame
        padded = np.pad(audio[0], (0, missing))
        np.round(padded.clip(-1, 1) * 32767).astype("<i2").tofile(raw)
        _run(["c2enc", self.mode, raw, coded])
        return coded, float(-(-audio.shape[1] // frame) * bits)

    def decode(self, coded: Path, num_samples: int) -> Audio:
        """Decode the file to audio (1, num_samples), with the delay removed."""
        decoded = coded.with_suffix(".raw")
        _run(["c2dec", self.mode, coded, decoded])
        audio = np.fromfile(decoded, "<i2").astype(np.float32) * np.float32(2**-15)
        return of_length(audio[None, self._delay :], num_samples)


def installed(nominal_bps: Sequence[float], opus_bps: Sequence[float] = ()) -> tuple[list[Opus | Codec2], list[str]]:
    """Return Opus and Codec 2 at their bitrates nearest to the given ones, and a message for each codec not installed.

    Args:
        nominal_bps: nominal bitrates per stream of the models to compare; only finite, positive values are used.
        opus_bps: bitrates of Opus, within `OPUS_BPS`; () for the nearest ones.
    """
    wanted = [bps for bps in nominal_bps if math.isfinite(bps) and bps > 0]
    least, most = OPUS_BPS
    modes = [Codec2(mode) for mode in CODEC2_BITS]
    programs: set[Opus | Codec2] = set()
    absent = []
    if shutil.which("opusenc") and shutil.which("opusdec"):
        programs |= {Opus(float(min(max(round(bps), least), most))) for bps in opus_bps or wanted}
    else:
        absent.append("Opus is left out: opusenc and opusdec are not installed (package opus-tools)")
    if shutil.which("c2enc") and shutil.which("c2dec"):
        programs |= {min(modes, key=lambda mode: abs(mode.bitrate_bps - bps)) for bps in wanted}
    else:
        absent.append("Codec 2 is left out: c2enc and c2dec are not installed (package codec2)")
    return sorted(programs, key=lambda program: program.bitrate_bps), absent


def opus_packet_bytes(content: bytes) -> int:
    """Count the bytes of the audio packets of an Ogg Opus file (RFC 3533, RFC 7845): all but the first two packets.

    Raises:
        DataError: the content is not a sequence of Ogg pages.
    """
    packets, position, total = 0, 0, 0
    while position < len(content):
        if content[position : position + 4] != b"OggS" or len(content) < position + _OGG_HEADER:
            raise DataError("opusenc: expected an Ogg file, got something else; try another version of opus-tools")
        count = content[position + _OGG_HEADER - 1]
        lengths = content[position + _OGG_HEADER : position + _OGG_HEADER + count]
        for length in lengths:
            total += length if packets >= 2 else 0
            packets += length < 255  # a shorter segment ends the packet
        position += _OGG_HEADER + count + sum(lengths)
    return total


def _run(command: Sequence[object]) -> None:
    """Run a program; if it fails, raise a DataError with the last line that it printed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"status {done.returncode}"
        raise DataError(f"{command[0]}: failed ({reason}); try it by hand, or leave the baselines out")
