"""A report as `discrete-ae compare` leaves it, with short clips."""

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
METHODS = {"ste": "straight-through", "fourier": "Fourier <b>series</b>"}


def write_report(folder: Path, rate: int = RATE, methods: dict[str, str] = METHODS, clips: int = 2) -> Path:
    """Noise with a tone for an original, and noisier copies of it for the methods."""
    random = np.random.default_rng(0)
    described = []
    for clip in range(clips):
        time = np.arange(int((0.4 + 0.1 * clip) * rate)) / rate
        original = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * random.standard_normal(len(time))
        versions = []
        for i, (key, label) in enumerate({"original": "original", **methods}.items()):
            audio = original + 0.01 * i * random.standard_normal(len(time))
            file = f"clip{clip + 1}/{key}.flac"
            (folder / "clips" / file).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "clips" / file, audio, rate, subtype="PCM_16")
            versions.append({"key": key, "label": label, "file": file})
        described.append({"name": f"recording {clip + 1}", "duration_s": len(time) / rate, "versions": versions})
    (folder / "clips/clips.json").write_text(json.dumps({"sample_rate": rate, "clips": described}))
    return folder
