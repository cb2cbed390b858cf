"""benchmarks/speech_corpus.py: what is apart, what is left out."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from tests.scripts import load_script


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return load_script("benchmarks/speech_corpus.py")


def recordings(folder: Path, count: int, seconds: float = 1.0) -> list[Path]:
    """Write `count` recordings, each a constant of its own: number n has the level n / 1000."""
    folder.mkdir()
    paths = [folder / f"text{n}.wav" for n in range(count)]
    for n, path in enumerate(paths):
        soundfile.write(path, np.full(round(seconds * 16000), n / 1000, dtype=np.float32), 16000, subtype="FLOAT")
    return paths


def texts_of(folder: Path) -> set[int]:
    """Return the numbers of the recordings in a folder's files."""
    levels = [np.unique((soundfile.read(path)[0] * 1000).round()) for path in folder.rglob("*.flac")]
    return {int(level) for found in levels for level in found if level}


def test_a_text_is_on_one_side_whoever_says_it_and_a_held_out_voice_too(corpus, tmp_path):
    voices = [
        corpus.Source("prompts-it", "it", "it", "*", "CC0", True),
        corpus.Source("prompts-ru", "ru", "ru", "*", "GPL"),
    ]
    held_out = corpus.Source("other", "fr", "fr", "*", "GPL", side="test")
    for source in (*voices, held_out):
        corpus.lay_out(source, recordings(tmp_path / source.voice, 200), tmp_path / "out", "all")
    train = texts_of(tmp_path / "out/train")
    assert texts_of(tmp_path / "out/train/it") | texts_of(tmp_path / "out/train/ru") == train
    for side in ("validation", "test"):
        assert {path.name for path in (tmp_path / "out" / side / "other_texts").iterdir()} == {"it", "ru"}
        assert not texts_of(tmp_path / "out" / side / "other_texts") & train
    assert len(train) > 150  # about 92 % of 200, less what is left over of joining
    assert [path.parts[-2:] for path in (tmp_path / "out").rglob("fr")] == [("other_voices", "fr")]


def test_short_recordings_are_joined_with_a_pause(corpus, tmp_path):
    paths = recordings(tmp_path / "it", 7)
    (first, second) = corpus.joined(paths, 2.5)
    # Two recordings are 2 s and a pause, three are enough; the seventh is left over.
    assert len(first) == len(second) == round((3 + 2 * corpus.PAUSE_S) * 16000)
