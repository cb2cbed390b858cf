"""Drawing by folder: the weights by hand, and how often each folder is then heard."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.data import AudioFile, TrainingCrops, find_audio
from discrete_ae.data.crops import folder_weights

RATE = 8000


def test_weights_of_a_folder_add_up_to_one():
    seconds = {"a/x.wav": 1, "a/deep/er/y.wav": 3, "b/x.wav": 10, "one.wav": 2, "two.wav": 2}
    files = [AudioFile(Path("/data", name), RATE, 1, length * RATE) for name, length in seconds.items()]
    assert folder_weights(files, "/data") == [0.25, 0.75, 1.0, 0.5, 0.5]


def test_every_folder_is_drawn_equally_often(tmp_path: Path):
    # The samples tell the file: a has 1 s and 3 s, b 0.5 s, the root itself 10 s.
    for name, seconds, value in (("a/x", 1, 1), ("a/deep/y", 3, 2), ("b/x", 0.5, 3), ("z", 10, 4)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", np.full(round(seconds * RATE), value, dtype=np.int16), RATE)
    files = find_audio(tmp_path).files
    crops = TrainingCrops(files, 100, RATE, 1, weights=folder_weights(files, tmp_path))
    found = torch.stack([crops[number][0, 0] for number in range(1200)]) * 2**15
    counts = torch.stack([(found == value).sum() for value in (1, 2, 3, 4)])
    expected = torch.tensor([100.0, 300.0, 400.0, 400.0])
    # Chi-square with 3 degrees of freedom exceeds 21.1 once in 10,000 seeds.
    assert ((counts - expected).square() / expected).sum() < 21.1
    # By duration it would be 82.8, 248.3, 41.4 and 827.6.
    by_duration = TrainingCrops(files, 100, RATE, 1)
    in_root = sum(by_duration[number][0, 0].item() * 2**15 == 4 for number in range(1200))
    assert in_root == pytest.approx(827.6, abs=4 * 16.1)
