"""Codecs that people use, as baselines of a comparison, where their programs are installed.

Audio goes through files and back: Opus (RFC 6716) by opusenc and opusdec; Codec 2, a vocoder for the speech of radio
amateurs, by c2enc and c2dec.

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

import numpy as np
import soundfile

from discrete_ae.data.reading import Audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.coders import Passed, of_length
from discrete_ae.writing import scratch_folder

OPUS_RATE = 48000
OPUS_BPS = (6000.0, 256000.0)
"""The least and the most that opusenc takes for a channel."""
CODEC2_RATE = 8000
CODEC2_BITS = {"3200": (64, 20), "2400": (48, 20), "1600": (64, 40), "1400": (56, 40), "1300": (52, 40)}
CODEC2_BITS |= {"1200": (48, 40), "700C": (28, 40)}
"""Bits of a frame and its length in ms, by mode; in a file, frames are filled up to whole bytes."""
_OGG_HEADER = 27


class Program(ABC):
    """A codec that is a program to encode and one to decode; a `Coder`."""

    keeps_waveform = True
    piece_s = 300.0
    device = "cpu, a program started and given a file"
    parameters: int | None = None
    model_hash: str | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """As of `Coder`."""

    @abstractmethod
    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Write audio (C, N) into a file of the folder; return it, and the bits of its codes without headers."""

    @abstractmethod
    def decode(self, coded: Path, num_samples: int) -> Audio:
        """Return audio (C, num_samples) of the file."""

    def code(self, audio: Audio) -> Passed:
        """See `Coder`; temporary files that cannot be written are a DataError, too."""
        try:
            with scratch_folder("discrete-ae-baseline-") as folder:
                start = time.perf_counter()
                coded, bits = self.encode(audio, folder)
                between = time.perf_counter()
                found = self.decode(coded, audio.shape[1])
                end = time.perf_counter()
        except (OSError, soundfile.SoundFileError) as error:
            raise DataError(f"{self.name}: its temporary files failed ({error}); see to the disk") from error
        return Passed(found, bits, between - start, end - between)


@dataclass(frozen=True)
class Opus(Program):
    """Opus at a target bitrate, otherwise as opusenc chooses: variable bitrate, frames of 20 ms."""

    bitrate_bps: float
    sample_rate = decoded_rate = OPUS_RATE
    max_channels = 2
    is_entropy_coded = True

    @property
    def name(self) -> str:
        """Such as "opus 6 kbps"."""
        return f"opus {self.bitrate_bps / 1000:g} kbps"

    def version(self) -> str:
        """Return the version that opusenc prints."""
        said = subprocess.run(["opusenc", "--version"], capture_output=True, text=True, check=False).stdout
        return (said.splitlines() or ["opusenc"])[0]

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Write audio (C, N) into a file of the folder; return it, and the bits of its packets without headers."""
        recording, coded = folder / "in.wav", folder / "coded.opus"
        soundfile.write(recording, audio.T, self.sample_rate, subtype="FLOAT")
        _run(["opusenc", "--quiet", "--bitrate", f"{self.bitrate_bps / 1000:.3f}", recording, coded])
        return coded, 8.0 * opus_packet_bytes(coded.read_bytes())

    def decode(self, coded: Path, num_samples: int) -> Audio:
        """Return audio (C, num_samples) of the file.

        opusdec takes out the delay itself: to a sample at 64 kbps, while at 6 and 12 kbps 2 or 3 samples of 48 kHz were
        left on a recording of speech. SI-SDR feels that, a listener does not.
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
        """Such as "codec2 1300 bps"."""
        return f"codec2 {self.bitrate_bps:g} bps"

    def version(self) -> str:
        """Return that c2enc prints no version."""
        return "c2enc, which names no version"

    @property
    def bitrate_bps(self) -> float:
        """The bitrate of the mode."""
        bits, frame_ms = CODEC2_BITS[self.mode]
        return 1000 * bits / frame_ms

    @property
    def _delay(self) -> int:
        """Samples by which the output comes late: half of its 40 ms pitch window, in 700C a frame of 10 ms more.

        With these STOI was highest on six recordings of speech, of shifts of 80 to 360 in steps of 40, in every mode.
        """
        return 240 if self.mode == "700C" else 160

    def encode(self, audio: Audio, folder: Path) -> tuple[Path, float]:
        """Write audio (1, N) into a file of the folder; return it, and the bits of the frames that the audio needs."""
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
        """Return audio (1, num_samples) of the file, without the delay."""
        decoded = coded.with_suffix(".raw")
        _run(["c2dec", self.mode, coded, decoded])
        audio = np.fromfile(decoded, "<i2").astype(np.float32) * np.float32(2**-15)
        return of_length(audio[None, self._delay :], num_samples)


def installed(nominal_bps: Sequence[float]) -> tuple[list[Opus | Codec2], list[str]]:
    """Return Opus and Codec 2, each at the bitrate nearest to each of these that it can do, and a line on each absent.

    Args:
        nominal_bps: of what is to be compared, for a stream; those that are not finite or not above 0 are left out.
    """
    wanted = [bps for bps in nominal_bps if math.isfinite(bps) and bps > 0]
    least, most = OPUS_BPS
    modes = [Codec2(mode) for mode in CODEC2_BITS]
    programs: set[Opus | Codec2] = set()
    absent = []
    if shutil.which("opusenc") and shutil.which("opusdec"):
        programs |= {Opus(float(min(max(round(bps), least), most))) for bps in wanted}
    else:
        absent.append("Opus is left out: opusenc and opusdec are not installed (package opus-tools)")
    if shutil.which("c2enc") and shutil.which("c2dec"):
        programs |= {min(modes, key=lambda mode: abs(mode.bitrate_bps - bps)) for bps in wanted}
    else:
        absent.append("Codec 2 is left out: c2enc and c2dec are not installed (package codec2)")
    return sorted(programs, key=lambda program: program.bitrate_bps), absent


def opus_packet_bytes(content: bytes) -> int:
    """Count the bytes of the audio packets of an Ogg Opus file (RFC 3533, RFC 7845): all but the first two.

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
    """Run a program; where it fails, raise a DataError with the last line that it printed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = said[-1] if said else f"status {done.returncode}"
        raise DataError(f"{command[0]}: failed ({reason}); try it by hand, or leave the baselines out")
