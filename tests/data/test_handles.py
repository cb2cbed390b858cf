"""Files that are kept open: how many, which, and that nobody notices but the clock."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.data import AudioFile, TrainingCrops, find_audio, read_audio, reading
from discrete_ae.errors import DataError

RATE = 8000
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which files are open")


def write(path: Path, seconds: float = 1.0, channels: int = 1, **kind: str) -> AudioFile:
    noise = np.random.default_rng(len(path.name)).uniform(-0.5, 0.5, (round(seconds * RATE), channels))
    soundfile.write(path, noise, RATE, **kind)
    return AudioFile(path, RATE, channels, len(noise))


def read(file: AudioFile, start_s: float = 0.5) -> np.ndarray:
    return read_audio(file, RATE, 1, start_s, 0.1, keep_open=True)


def left_open(folder: Path) -> list[str]:
    """The names of the files of a folder that this process has open."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.append(descriptor.readlink())
        except FileNotFoundError:  # that of this very listing
            continue
    return sorted(target.name for target in targets if target.parent == folder)


@needs_proc
def test_only_so_many_are_kept_and_the_longest_unused_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_OPEN", 2)
    a, b, c = (write(tmp_path / f"{name}.flac") for name in "abc")
    for file, kept in ((a, "a"), (b, "ab"), (a, "ab"), (c, "ac"), (c, "ac"), (b, "bc")):
        read(file)
        assert left_open(tmp_path) == [f"{name}.flac" for name in kept]


@needs_proc
@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_formats_whose_decoders_remember_are_not_kept(tmp_path, name):
    write(tmp_path / name, 5.0)
    (file,) = find_audio(tmp_path).files
    orders = (range(20), reversed(range(20)))
    forwards, backwards = ({k: read(file, k / 5) for k in order} for order in orders)
    assert all(np.array_equal(forwards[k], backwards[k]) for k in forwards)
    assert left_open(tmp_path) == []


@pytest.mark.parametrize(
    "kind", [{}, {"subtype": "PCM_24"}, {"format": "WAV", "subtype": "FLOAT"}, {"format": "AIFF", "subtype": "PCM_32"}]
)
def test_parts_do_not_depend_on_what_was_read_before(tmp_path, kind):
    file = write(tmp_path / "a.flac", 5.0, **kind)
    whole = read_audio(file, RATE, 1)
    for start in np.random.default_rng(0).integers(0, 4 * RATE, 50):
        assert np.array_equal(read(file, start / RATE), whole[:, start : start + RATE // 10])


def test_deleted_file_is_a_data_error(tmp_path):
    file = write(tmp_path / "a.flac")
    read(file)
    file.path.unlink()
    with pytest.raises(DataError, match=r"a\.flac: not readable as audio; remove or replace it"):
        read(file)
    assert file.path not in reading._idle


def test_file_that_was_written_anew_is_read_anew(tmp_path):
    file = write(tmp_path / "a.wav")
    read(file)
    soundfile.write(tmp_path / "b.wav", np.full(RATE, 0.25), RATE)
    (tmp_path / "b.wav").replace(file.path)
    assert np.array_equal(read(file), np.full((1, RATE // 10), 0.25))


@pytest.mark.parametrize("changes", [{"channels": 2}, {"seconds": 0.2}, {"seconds": 3.0}])
def test_file_that_is_no_longer_the_same_recording_is_a_data_error(tmp_path, changes):
    file = write(tmp_path / "a.wav")
    read(file)
    write(file.path, **changes)
    with pytest.raises(DataError, match=r"a\.wav: was replaced by another recording meanwhile; start again"):
        read(file)


def test_file_that_fails_is_dropped_and_read_again_once_it_is_mended(tmp_path):
    file = write(tmp_path / "a.flac", 5.0)
    first, content = read(file, 4.0), file.path.read_bytes()
    file.path.write_bytes(content[: len(content) // 2])
    for _ in range(2):
        with pytest.raises(DataError, match=r"a\.flac: "):
            read(file, 4.0)
    assert file.path not in reading._idle
    file.path.write_bytes(content)
    assert np.array_equal(read(file, 4.0), first)


def test_workers_forked_after_reading_share_no_place_in_the_file(tmp_path):
    crops = TrainingCrops([write(tmp_path / "a.flac", 60.0)], 500, RATE, 1)
    alone = [crops[number] for number in range(60)]
    loader = torch.utils.data.DataLoader(crops, batch_sampler=[[k] for k in range(60)], num_workers=2)
    for number, (batch,) in enumerate(loader):
        assert torch.equal(batch, alone[number])
        assert torch.equal(crops[59 - number], alone[59 - number])  # this process reads on meanwhile


def test_threads_do_not_share_a_file(tmp_path):
    file = write(tmp_path / "a.flac", 60.0)
    whole = read_audio(file, RATE, 1)

    def right(seed: int) -> list[bool]:
        starts = np.random.default_rng(seed).integers(0, 59 * RATE, 100)
        return [np.array_equal(read(file, start / RATE), whole[:, start : start + RATE // 10]) for start in starts]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(found) for found in pool.map(right, range(4)))
