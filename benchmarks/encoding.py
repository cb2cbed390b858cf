"""Compare `discrete-ae encode` with its bare model: speed, and memory for a recording of three hours.

    python benchmarks/encoding.py                              # about ten minutes on two cores, 4 GB of disk in TMPDIR
    python benchmarks/encoding.py --hours 0                    # without the long recording

Speed: recordings of a few minutes of stereo FLAC at 44.1 kHz, from the file to the codes (`encode_files`: read,
resample, compute windows, join), against the same samples in batches of 16 x 10 s through encoder and quantizer
alone, with all threads; interleaved, medians. Memory: the peak (VmHWM) of the process that encodes, minus
that of a process which loads the model and encodes one second. Random weights. Writes benchmarks/results/encoding.md.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from _common import composed, interleaved, machine, publish, table, versions
from omegaconf import OmegaConf

from discrete_ae import DiscreteAutoencoder
from discrete_ae.build import build_model
from discrete_ae.cli.info import model_of
from discrete_ae.codec import encode_files
from discrete_ae.data import read_audio
from discrete_ae.saving.checkpoint import KEY, STATE_PREFIX, describe_model

MODELS = {"spectral/tiny": 10.0, "spectral/base": 5.0, "conv/tiny": 3.0}
"""Minutes of audio for each model."""
BATCH, SECONDS = 16, 10.0
RATE = 44100


def noise(path: Path, seconds: float) -> Path:
    """Write a stereo recording of noise, which no format compresses, and return its path."""
    random = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for start in range(0, round(seconds * RATE), 60 * RATE):
            file.write(random.uniform(-0.5, 0.5, (min(60 * RATE, round(seconds * RATE) - start), 2)))
    return path


def bare(model: DiscreteAutoencoder, audio: torch.Tensor) -> None:
    """Encode audio (streams, samples) at the model's rate in large batches, by the model alone."""
    length = round(SECONDS * model.sample_rate)
    items = torch.cat([stream[: len(stream) // length * length].view(-1, 1, length) for stream in audio])
    with torch.no_grad():
        for batch in items.split(BATCH):
            model.quantizer.encode(model.latents(batch))


def speed_row(name: str, minutes: float, folder: Path) -> list[str]:
    """Return a model's row: the speed of both ways, x real time per channel, and their ratio."""
    model = model_of([f"model={name}"]).eval()
    model.codes_hash = "0" * 64
    path = noise(folder / "speed.flac", 60 * minutes)
    audio = torch.from_numpy(read_audio(path, model.sample_rate))
    ways = {"encode": lambda: list(encode_files(model, [path])), "bare": lambda: bare(model, audio)}
    seconds = interleaved(ways, "cpu", rounds=5)
    streams = 2 * 60 * minutes
    speeds = {way: streams / found for way, found in seconds.items()}
    return [name, f"{speeds['encode']:.0f}", f"{speeds['bare']:.0f}", f"{speeds['encode'] / speeds['bare']:.2f}"]


def peak_mib(arguments: list[str]) -> tuple[float, str]:
    """Return the peak memory in MiB of a process that runs discrete-ae, and its last line of output."""
    code = (
        "import sys; from discrete_ae.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    *_, summary, kib = done.stdout.splitlines()
    return int(kib) / 1024, summary


def memory_rows(name: str, hours: float, folder: Path) -> list[list[str]]:
    """Return the rows of peak memory when encoding and decoding a long recording, beside one second."""
    checkpoint = folder / "model.ckpt"
    save(name, checkpoint)
    long, short = noise(folder / "long.wav", 3600 * hours), noise(folder / "short.wav", 1.0)
    model = ["-c", str(checkpoint), "--device", "cpu", "--force"]
    rows = []
    for verb, suffix, sources in (("encode", "npz", (short, long)), ("decode", "wav", (None, None))):
        peaks = []
        for kind, source in zip(("short", "long"), sources, strict=True):
            given = source or folder / f"{kind}.npz"
            peak, summary = peak_mib([verb, str(given), "-o", str(folder / f"{kind}.{suffix}"), *model])
            peaks.append(peak)
        speed = summary.partition(" at ")[2].partition(" x")[0]
        rows.append([f"{verb}, {name}", f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", f"{peaks[1] - peaks[0]:.0f}", speed])
    return rows


def save(name: str, path: Path) -> None:
    """Save a checkpoint of random weights."""
    torch.manual_seed(0)
    config = OmegaConf.to_container(composed(f"model={name}").model, resolve=True)
    model = build_model(config)
    state = {STATE_PREFIX + key: tensor for key, tensor in model.state_dict().items()}
    torch.save({KEY: describe_model(model, config), "state_dict": state}, path)


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0, help="duration of the long recording; 0 to skip it")
    hours = parser.parse_args().hours
    lines = [
        "# Encoding files",
        "",
        f"`python benchmarks/encoding.py`; {machine('cpu', torch.get_num_threads())}, {versions('soxr', 'soundfile')}.",
        "",
        "## Speed, x real time of one channel",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [speed_row(model, minutes, folder) for model, minutes in MODELS.items()]
        lines += table(["model", "encode, from stereo FLAC at 44.1 kHz", "bare model, batches", "ratio"], rows)
        if hours:
            lines += [f"## Peak memory in MiB, {hours:g} hours of stereo at 44.1 kHz", ""]
            columns = ["", "of 1 s", f"of {hours:g} h", "difference", "x real time"]
            lines += table(columns, memory_rows("spectral/tiny", hours, folder))
    publish(lines, "encoding")


if __name__ == "__main__":
    main()
