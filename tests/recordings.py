"""Generated recordings for tests."""

from pathlib import Path

import numpy as np
import soundfile


def write_noise(
    path: str | Path, num_samples: int = 4000, rate: int = 16000, channels: int = 1, subtype: str = "PCM_16"
) -> Path:
    """Write noise seeded by its length, and create missing folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(num_samples).uniform(-0.5, 0.5, (num_samples, channels))
    soundfile.write(path, noise, rate, subtype=subtype)
    return path
