"""The model that comes with the package."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import discrete_ae
from discrete_ae.build import read_saved
from discrete_ae.codes import read_codes
from discrete_ae.data import read_audio, recordings_root
from discrete_ae.errors import DataError
from discrete_ae.metrics import si_sdr_db
from discrete_ae.training.weights import beginning

RECORDING = recordings_root() / "validation/speech_ru_0473.flac"
BUNDLE = Path(discrete_ae.__file__).parent / "pretrained/speech_16k"
GOLDEN = Path(__file__).parent / "golden/pretrained_speech_ru_0473.npz"


@pytest.mark.parametrize(("codebooks", "least_db"), [(2, 1.0), (16, 6.0)])
def test_it_decodes_speech_near_the_measured_quality(codebooks: int, least_db: float) -> None:
    """It has 1.9 and 7.0 dB; means over unheard voices are 3.2 and 9.8 dB (benchmarks/results/speech_16k.md)."""
    model = discrete_ae.load()
    audio = torch.from_numpy(read_audio(RECORDING, model.sample_rate, 1))[None]
    decoded = model.decode(model.encode(audio, codebooks), audio.shape[-1])
    assert si_sdr_db(decoded, audio).item() > least_db


def test_commands_use_it_where_no_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ["encode", str(RECORDING), "-o", "a.npz"],
        ["encode", str(RECORDING), "-o", "b.npz", "-c", str(BUNDLE)],
        ["decode", "a.npz", "-o", "a.wav"],
        ["info", "pretrained"],
    ):
        status, _, err = command(*words)
        assert status == 0
        assert any("model: pretrained" in line for line in err) is ("-c" not in words and words[0] != "info")
    found, golden = read_codes("a.npz"), read_codes(GOLDEN)
    assert np.array_equal(found.codes, read_codes("b.npz").codes)
    assert found.model_hash == golden.model_hash
    assert (found.codes != golden.codes).mean() < 0.01  # another processor may round the last bits otherwise


def test_its_name_is_a_checkpoint_unless_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = beginning(None, "pretrained")
    assert begun is not None
    assert begun.saved.model_hash == read_saved(BUNDLE).model_hash
    Path("pretrained").mkdir()
    with pytest.raises(DataError, match="pretrained: expected a model, got a folder"):
        read_saved("pretrained")
