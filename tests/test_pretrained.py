"""The model that comes with the package."""

from pathlib import Path

import pytest
import torch

import discrete_ae
from discrete_ae.data import read_audio, recordings_root
from discrete_ae.metrics import si_sdr_db


@pytest.mark.parametrize(("codebooks", "least_db"), [(2, 1.0), (16, 6.0)])
def test_it_decodes_speech_near_the_measured_quality(codebooks: int, least_db: float) -> None:
    """It has 1.4 and 6.8 dB; means over unheard voices are 2.3 and 9.3 dB (benchmarks/results/speech_16k.md)."""
    model = discrete_ae.load(Path(discrete_ae.__file__).parent / "pretrained/speech_16k")
    audio = torch.from_numpy(read_audio(recordings_root() / "validation/speech_ru_0473.flac", model.sample_rate, 1))[
        None
    ]
    decoded = model.decode(model.encode(audio, codebooks), audio.shape[-1])
    assert si_sdr_db(decoded, audio).item() > least_db
