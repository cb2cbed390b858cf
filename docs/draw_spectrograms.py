"""Spectrograms of a recording, of the included model at two bitrates, and of Opus: docs/spectrograms.png.

    python docs/draw_spectrograms.py [RECORDING]

The recording is by default a validation recording of data/, which no training run of the model used. Needs opus-tools.
"""

import io
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import stft

import discrete_ae
from discrete_ae.evaluation.baselines import opus
from discrete_ae.evaluation.coders import through

REPOSITORY = Path(__file__).parents[1]
RECORDING = REPOSITORY / "data" / "validation" / "speech_lj001_0006.flac"
CODEBOOKS = (8, 16)
OPUS_BPS = 6000.0
SECONDS = 3.0
WINDOW = 512
FLOOR_DB = -70.0
"""Level of the darkest color, relative to the loudest point of the original."""


def versions(path: Path) -> tuple[int, dict[str, np.ndarray]]:
    """Return the sample rate, and the original with its decoded versions by title, each (N,)."""
    model = discrete_ae.load()
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    original = soxr.resample(samples.mean(axis=1), rate, model.sample_rate)[: round(SECONDS * model.sample_rate)]
    found = {"original, 16-bit PCM: 256 kbps": original}
    with torch.inference_mode():
        audio = torch.from_numpy(original)[None, None]
        for count in CODEBOOKS:
            decoded = model.decode(model.encode(audio, num_codebooks=count), num_samples=len(original))
            kbps = model.bitrate_bps * count / max(CODEBOOKS) / 1000
            found[f"included model, {count} codebooks: {kbps:.1f} kbps"] = decoded[0, 0].numpy()
    found["Opus: 6 kbps"] = through(opus(OPUS_BPS), original[None], model.sample_rate).audio[0]
    return model.sample_rate, found


def main() -> None:
    """Draw the figure."""
    rate, found = versions(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDING)
    figure = Figure(figsize=(12, 6.4), dpi=100, layout="constrained")
    peak = None
    for axes, (title, samples) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, found.items(), strict=True):
        hertz, seconds, values = stft(samples, rate, nperseg=WINDOW, noverlap=WINDOW * 3 // 4)
        power = np.abs(values) ** 2
        peak = power.max() if peak is None else peak
        level_db = 10 * np.log10(power / peak + 1e-12)
        image = axes.pcolormesh(seconds, hertz / 1000, level_db, vmin=FLOOR_DB, vmax=0, cmap="magma", rasterized=True)
        axes.set_title(title, loc="left", fontsize=11)
    figure.supxlabel("time, s")
    figure.supylabel("frequency, kHz")
    figure.colorbar(image, ax=figure.axes, label="level, dB below the original's peak", pad=0.01)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    few_colors = Image.open(drawn).convert("RGB").quantize(256)  # half of the size
    few_colors.save(Path(__file__).with_name("spectrograms.png"), optimize=True)


if __name__ == "__main__":
    main()
