"""Baseline codecs of a comparison: Opus (RFC 6716) and Codec 2, a speech vocoder, if their programs are installed.

Audio passes through files. The programs are opusenc and opusdec for Opus, c2enc and c2dec for Codec 2.

Axes: C channels, N samples.
"""

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from discrete_ae.data.reading import Audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.coders import Coder, Passed, of_length

OPUS_RATE = 48000
OPUS_BPS = (6000.0, 256000.0)
"""Lowest and highest bitrate per channel that opusenc accepts."""
CODEC2_RATE = 8000
CODEC2_BITS = {"3200": (64, 20), "2400": (48, 20), "1600": (64, 40), "1400": (56, 40), "1300": (52, 40)}
CODEC2_BITS |= {"1200": (48, 40), "700C": (28, 40)}
"""Bits per frame and frame length in ms, by mode. In a file, each frame is padded to whole bytes."""
_OGG_HEADER = 27
_PIECE_S = 300.0
_DEVICE = "cpu, a program started and given a file"


def opus(bitrate_bps: float) -> Coder:
    """Return Opus at a target bitrate, with the defaults of opusenc: variable bitrate, frames of 20 ms."""
    name = f"opus {bitrate_bps / 1000:g} kbps"
    return Coder(
        name=name,
        bitrate_bps=bitrate_bps,
        sample_rate=OPUS_RATE,
        decoded_rate=OPUS_RATE,
        max_channels=2,
        is_entropy_coded=True,
        piece_s=_PIECE_S,
        device=_DEVICE,
        version=_opus_version,
        code=partial(_through_files, name, partial(_encode_opus, bitrate_bps), _decode_opus),
    )


def codec2(mode: str) -> Coder:
    """Return Codec 2 in one of its modes."""
    name = f"codec2 {_codec2_bps(mode) / 1000:g} kbps"
    return Coder(
        name=name,
        bitrate_bps=_codec2_bps(mode),
        sample_rate=CODEC2_RATE,
        decoded_rate=CODEC2_RATE,
        max_channels=1,
        keeps_waveform=False,
        piece_s=_PIECE_S,
        device=_DEVICE,
        version=lambda: "c2enc, which names no version",
        code=partial(_through_files, name, partial(_encode_codec2, mode), partial(_decode_codec2, mode)),
    )


def installed(nominal_bps: Sequence[float], opus_bps: Sequence[float] = ()) -> tuple[list[Coder], list[str]]:
    """Return Opus and Codec 2 at their bitrates nearest to the given ones, and a message for each codec not installed.

    Args:
        nominal_bps: nominal bitrates per stream of the models to compare; only finite, positive values are used.
        opus_bps: bitrates of Opus, within `OPUS_BPS`; () for the nearest ones.
    """
    wanted = [bps for bps in nominal_bps if math.isfinite(bps) and bps > 0]
    least, most = OPUS_BPS
    found: list[Coder] = []
    absent = []
    if shutil.which("opusenc") and shutil.which("opusdec"):
        found += map(opus, {float(min(max(round(bps), least), most)) for bps in opus_bps or wanted})
    else:
        absent.append("Opus is left out: opusenc and opusdec are not installed (package opus-tools)")
    if shutil.which("c2enc") and shutil.which("c2dec"):
        found += map(codec2, {min(CODEC2_BITS, key=lambda mode: abs(_codec2_bps(mode) - bps)) for bps in wanted})
    else:
        absent.append("Codec 2 is left out: c2enc and c2dec are not installed (package codec2)")
    return sorted(found, key=lambda coder: coder.bitrate_bps), absent


def _through_files(
    name: str, encode: Callable[[Audio, Path], tuple[Path, float]], decode: Callable[[Path, int], Audio], audio: Audio
) -> Passed:
    """Code and decode audio (C, N) by programs.

    Args:
        name: name of the coder.
        encode: function that encodes audio (C, N) to a file in a folder, and returns the path of the file and the bits
            of its codes, without headers.
        decode: function that decodes such a file to audio (C, num_samples).
        audio: the audio.

    Raises:
        DataError: a program fails, or temporary files cannot be written or read.
    """
    try:
        with TemporaryDirectory(prefix="discrete-ae-baseline-") as folder:
            start = time.perf_counter()
            coded, bits = encode(audio, Path(folder))
            between = time.perf_counter()
            found = decode(coded, audio.shape[1])
            end = time.perf_counter()
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{name}: temporary files failed ({error}); check the disk") from error
    return Passed(found, bits, between - start, end - between)


def _opus_version() -> str:
    said = subprocess.run(["opusenc", "--version"], capture_output=True, text=True, check=False).stdout
    return (said.splitlines() or ["opusenc"])[0]


def _encode_opus(bitrate_bps: float, audio: Audio, folder: Path) -> tuple[Path, float]:
    recording, coded = folder / "in.wav", folder / "coded.opus"
    soundfile.write(recording, audio.T, OPUS_RATE, subtype="FLOAT")
    _run(["opusenc", "--quiet", "--bitrate", f"{bitrate_bps / 1000:.3f}", recording, coded])
    return coded, 8.0 * opus_packet_bytes(coded.read_bytes())


def _decode_opus(coded: Path, num_samples: int) -> Audio:
    """Decode a file.

    opusdec removes the delay itself. On a recording of speech it did so exactly at 64 kbps, but left 2 or 3 samples (at
    48 kHz) at 6 and 12 kbps. Such a delay lowers SI-SDR, but is inaudible.
    """
    decoded = coded.with_suffix(".wav")
    _run(["opusdec", "--quiet", "--float", "--rate", OPUS_RATE, coded, decoded])
    audio, _ = soundfile.read(decoded, dtype="float32", always_2d=True)
    return of_length(audio.T, num_samples)


def _codec2_bps(mode: str) -> float:
    bits, frame_ms = CODEC2_BITS[mode]
    return 1000 * bits / frame_ms


def _codec2_delay(mode: str) -> int:
    """Return the delay of the output in samples: half of the 40 ms pitch window; in mode 700C, plus a frame of 10 ms.

    Of the delays 80, 120, ... 360, these gave the highest STOI in every mode on six recordings of speech.
    """
    return 240 if mode == "700C" else 160


def _encode_codec2(mode: str, audio: Audio, folder: Path) -> tuple[Path, float]:
    bits, frame_ms = CODEC2_BITS[mode]
    frame = frame_ms * CODEC2_RATE // 1000
    raw, coded = folder / "in.raw", folder / "coded.bin"
    # Pad to whole frames; the last one may hold only the delay.
    delay = _codec2_delay(mode)
    padded = np.pad(audio[0], (0, delay + -(audio.shape[1] + delay) % frame))
    np.round(padded.clip(-1, 1) * 32767).astype("<i2").tofile(raw)
    _run(["c2enc", mode, raw, coded])
    return coded, float(-(-audio.shape[1] // frame) * bits)


def _decode_codec2(mode: str, coded: Path, num_samples: int) -> Audio:
    decoded = coded.with_suffix(".raw")
    _run(["c2dec", mode, coded, decoded])
    audio = np.fromfile(decoded, "<i2").astype(np.float32) * np.float32(2**-15)
    return of_length(audio[None, _codec2_delay(mode) :], num_samples)


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
