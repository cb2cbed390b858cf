"""Crops and segments: which samples of which file, and that nothing but the numbers decides it."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.data import AudioFile, TrainingCrops, ValidationSegments, crops, find_audio
from discrete_ae.data.crops import CropSettings, folder_weights
from discrete_ae.data.files import probe
from discrete_ae.data.loudness import measure_stream
from discrete_ae.errors import DataError

RATE = 8000
CHANGES = {"gain_db": (-6.0, 6.0), "flip_polarity": True, "speed": (0.8, 1.25), "equalizer_db": 6.0, "mix": 0.5}
ALL = {"crop_seconds": 0.5, "weights": [1.0, 1.0, 3.0], "loudness_lufs": -30.0, **CHANGES}
every_setting = pytest.mark.parametrize("options", [{}, ALL], ids=["default", "all options"])


@pytest.fixture
def files(tmp_path) -> list[AudioFile]:
    """Three ramps that tell file and place: a has the samples 1 to 4000, b 10001 to 18000, c 20001 to 20100."""
    for name, first, count in (("a", 1, 4000), ("b", 10001, 8000), ("c", 20001, 100)):
        soundfile.write(tmp_path / f"{name}.wav", np.arange(first, first + count, dtype=np.int16), RATE)
    return find_audio(tmp_path).files


def crops_of(files, weights=None, **changes: object) -> TrainingCrops:
    settings = {"sample_rate": RATE, "channels": 1, "crop_seconds": 500 / RATE, **changes}
    return TrainingCrops(files, CropSettings.of(settings), weights)


def segments_of(files, max_segments: int, **changes: object) -> ValidationSegments:
    settings = {"sample_rate": RATE, "channels": 1, "crop_seconds": 1500 / RATE, **changes}
    return ValidationSegments(files, CropSettings.of(settings), max_segments)


def integers(audio: torch.Tensor) -> torch.Tensor:
    return (audio * 2**15).round().int()


@pytest.mark.parametrize(("seed", "weights"), [(0, None), (7, [1.0, 1.0, 3.0])])
def test_draws_are_the_documented_ones(files, seed, weights):
    """By slices of the written ramps: no option may move the draws of the file and of the start."""
    ramps = [np.arange(1, 4001), np.arange(10001, 18001), np.arange(20001, 20101)]
    shares = weights or [len(ramp) / RATE for ramp in ramps]
    crops = crops_of(files, weights, seed=seed)
    changed = crops_of(files, weights, seed=seed, gain_db=(-6.0, 6.0), flip_polarity=True)
    for number in range(100):
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number, 0))))
        place = random.random() * sum(shares)
        ramp = ramps[sum(place >= end for end in itertools.accumulate(shares))]
        start = random.integers(max(len(ramp) - 500, 0) + 1)
        expected = np.zeros(500)
        expected[: len(ramp) - start] = ramp[start : start + 500]
        assert integers(crops[number])[0].tolist() == expected.tolist()
        ratio = changed[number][0, 0] / crops[number][0, 0]
        assert torch.allclose(changed[number], ratio * crops[number], rtol=1e-5)


def at_speed(files: list[AudioFile], speed: float, num_samples: int = 500) -> TrainingCrops:
    return crops_of(files, crop_seconds=num_samples / RATE, speed=(speed, speed))


def sine_file(folder: Path, hz: float, rate: int) -> list[AudioFile]:
    """Three seconds of a sine of half of full scale."""
    soundfile.write(folder / "a.wav", 0.5 * np.sin(2 * np.pi * hz * np.arange(3 * rate) / rate), rate, subtype="FLOAT")
    return find_audio(folder).files


@pytest.mark.parametrize("speed", [0.5, 1.07, 2.0])
def test_speed_reads_a_longer_or_shorter_run_of_the_same_place(files, speed):
    plain, changed = crops_of(files), at_speed(files, speed)
    inner = slice(180, 320)  # at the ends of a file, the filter rings
    for number in range(50):
        crop, original = changed[number][0].double().numpy() * 2**15, integers(plain[number])[0].numpy()
        if original[0] == 20001:  # the short file: as much of it as before, then zeros
            assert crop.shape == (500,)
            assert not crop[round(100 / speed) + 1 :].any()
            assert crop[: int(100 / speed)].min() > 10000
            continue
        length, first = (4000, 1) if original[0] < 10000 else (8000, 10001)
        assert np.diff(crop[inner]).mean() == pytest.approx(speed, rel=1e-3)
        # The same share of what is left of the file lies before both.
        place = (original[0] - first) / (length - 500)
        start = first + place * (length - 500 * speed)
        np.testing.assert_allclose(crop[inner], start + speed * np.arange(180, 320), atol=1 + speed)


def test_no_speed_reads_beyond_a_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(700, 0.5), RATE)
    files = find_audio(tmp_path).files
    for number in range(50):
        assert at_speed(files, 1.25)[number].min() > 0.2  # 625 of the 700 frames: never a zero, though the ends ring
    assert (at_speed(files, 2.0)[0] == 0).sum() == 150  # 350 samples are all there are


@pytest.mark.parametrize("file_rate", [8000, 11025])
def test_sine_at_a_speed_is_a_sine_of_that_frequency(tmp_path, file_rate):
    files = sine_file(tmp_path, 1000, file_rate)
    for speed in (0.8, 0.93, 1.25):
        crop = at_speed(files, speed, RATE)[3][0].double().numpy()[50:-50]
        angles = 2 * np.pi * 1000 * speed * np.arange(50, RATE - 50) / RATE
        waves = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        found, *_ = np.linalg.lstsq(waves, crop, rcond=None)
        assert np.hypot(*found) == pytest.approx(0.5, abs=1e-4)
        np.testing.assert_allclose(crop, waves @ found, atol=1e-4)


def test_nothing_is_folded_back_from_above_half_the_rate(tmp_path):
    # 3600 Hz become 4500 Hz, of which 4000 Hz are left; 80 dB below the sine.
    assert at_speed(sine_file(tmp_path, 3600, RATE), 1.25, RATE)[3][0, 50:-50].abs().max() < 5e-5


def test_mixture_adds_a_second_crop_to_the_same_first(files):
    """By ramps: what is added is a ramp too, of a slope in MIX_DB, and the same whenever it is added."""
    plain = crops_of(files[:2])
    mixed = crops_of(files[:2], mix=1.0)
    at_times = crops_of(files[:2], mix=0.3)
    differing, count = set(), 0
    for number in range(200):
        added = (mixed[number] - plain[number])[0].double() * 2**15
        gain = added.diff().mean().item()
        assert 10 ** (-10 / 20) - 1e-3 < gain < 1 + 1e-3
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, number, 0), spawn_key=(1,))))
        first, length = ((1, 4000), (10001, 8000))[int(random.random() * 12000 >= 4000)]
        ramp = first + random.integers(length - 500 + 1) + np.arange(500)
        np.testing.assert_allclose(added, gain * ramp, rtol=0.002, atol=0.1)
        differing.add(round(gain, 2))
        if not torch.equal(at_times[number], plain[number]):
            assert torch.equal(at_times[number], mixed[number])
            count += 1
    assert len(differing) > 20
    assert abs(count - 60) < 26  # standard deviation 6.5; four of them


@pytest.fixture
def bad(tmp_path) -> AudioFile:
    soundfile.write(tmp_path / "bad.wav", np.full(8000, np.nan), RATE, subtype="FLOAT")
    return AudioFile(str(tmp_path / "bad.wav"), RATE, 1, 8000)


def test_damaged_second_crop_is_replaced_and_leaves_the_first(files, bad, caplog):
    plain, mixed = crops_of([*files, bad]), crops_of([*files, bad], mix=1.0)
    for number in range(30):
        added = (mixed[number] - plain[number])[0, :50] * 2**15  # all of the short file is longer
        slope = added.diff().mean()
        assert 0.3 < slope < 1.01
        torch.testing.assert_close(added.diff(), slope.expand(49), atol=0.01, rtol=0)
    assert len(caplog.records) == 2  # once for each set


@every_setting
def test_crop_is_a_function_of_seed_and_number(files, options):
    crops = crops_of(files, seed=3, **options)
    forwards = [crops[number] for number in range(20)]
    other = pickle.loads(pickle.dumps(crops))
    backwards = [other[number] for number in reversed(range(20))]
    assert all(torch.equal(x, y) for x, y in zip(forwards, reversed(backwards), strict=True))
    loader = torch.utils.data.DataLoader(crops, batch_sampler=[[k] for k in range(20)], num_workers=2)
    assert all(torch.equal(x, y[0]) for x, y in zip(forwards, loader, strict=True))
    another_seed = crops_of(files, seed=4, **options)
    assert sum(torch.equal(x, another_seed[k]) for k, x in enumerate(forwards)) <= 2
    assert crops[10**15].shape == forwards[0].shape


@every_setting
def test_a_batch_holds_the_crops_of_its_numbers(files, options):
    crops = crops_of(files, **options)
    numbers = [7, 2, 7, 1000003]
    batch = crops.__getitems__(numbers)
    assert [torch.equal(one, crops[number]) for one, number in zip(batch, numbers, strict=True)] == [True] * 4


def test_a_file_of_which_a_part_is_damaged_validates_with_no_part(tmp_path, files):
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 20_000), RATE)
    file = probe(tmp_path / "cut.flac")
    file.path.write_bytes(file.path.read_bytes()[:30_000])
    settings = CropSettings(sample_rate=RATE, channels=1, crop_seconds=0.1)
    both = ValidationSegments([file, *files], settings, 10**6)
    assert both.damaged == {file.name}
    assert {segment[0].path for segment in both.segments} == {other.path for other in files}
    with pytest.raises(DataError, match="none of the validation files can be used"):
        ValidationSegments([file], settings, 10**6)


def test_damaged_file_is_replaced_named_once_and_counted(files, bad, caplog):
    crops, again = crops_of([*files, bad]), crops_of([*files, bad])
    first = [crops[number] for number in range(20)]
    (record,) = caplog.records
    assert f"(1 so far): {bad.path}: holds NaN" in record.getMessage()
    assert all(torch.equal(again[number], first[number]) for number in reversed(range(20)))
    with pytest.raises(DataError, match=r"bad\.wav: holds NaN"):
        [crops_of([*files, bad], strict=True)[number] for number in range(20)]
    with pytest.raises(DataError, match=r"1 recording;.*holds NaN"):
        crops_of([bad])[0]


def test_crops_and_segments_have_the_loudness_asked_for(tmp_path):
    random = np.random.default_rng(0)
    for name, level in (("loud", 0.5), ("quiet", 0.02)):
        soundfile.write(tmp_path / f"{name}.wav", level * random.uniform(-1, 1, 2 * RATE), RATE)
    files = find_audio(tmp_path).files
    loud = {"crop_seconds": 1.0, "loudness_lufs": -23.0}
    for audio in (
        crops_of(files, **loud, flip_polarity=True, speed=(0.8, 1.25), equalizer_db=12.0, mix=0.5),
        segments_of(files, 4, **loud),
    ):
        found = [measure_stream([audio[k].numpy()], RATE).loudness_lufs for k in range(4)]
        assert found == pytest.approx([-23.0] * 4, abs=0.01)


def test_segments_follow_one_another(files):
    segments = segments_of(files, 100)
    firsts = [integers(segments[k])[0, 0].item() for k in range(len(segments))]
    # a: 2 whole segments of 4000 samples, the rest dropped; b: 5 of 8000; c: its 100 samples, padded.
    assert firsts == [1, 1501, 10001, 11501, 13001, 14501, 16001, 20001]
    assert integers(segments[1])[0].tolist() == list(range(1501, 3001))
    assert integers(segments[7])[0].tolist() == [*range(20001, 20101), *[0] * 1400]


def test_segments_are_thinned_evenly(files):
    segments = segments_of(files, 4)
    assert [integers(segments[k])[0, 0].item() for k in range(len(segments))] == [1, 10001, 13001, 16001]


@pytest.mark.parametrize("most", [1, 7, 256, 10**6])
def test_the_chosen_segments_are_those_of_the_list_of_all(monkeypatch, most):
    monkeypatch.setattr(crops, "_read", lambda *_: None)
    random = np.random.default_rng(most)
    lengths, rates = random.integers(1, 10**6, 80), (8000, 22050, 44100)
    files = [AudioFile(f"{k}.wav", rates[k % 3], 1, int(length)) for k, length in enumerate(lengths)]
    every = [
        (file, round(k * 1000 * file.sample_rate / 16000))
        for file in files
        for k in range(max(int(file.num_frames * 16000 / (1000 * file.sample_rate)), 1))
    ]
    count = min(len(every), most)
    expected = [every[k * len(every) // count] for k in range(count)]
    given = CropSettings(sample_rate=16000, channels=1, crop_seconds=1 / 16)
    assert ValidationSegments(files, given, most).segments == expected


def test_damaged_segments_are_met_when_the_set_is_made(files, bad, caplog):
    assert len(segments_of([*files, bad], 100)) == 8
    assert len(caplog.records) == 1
    with pytest.raises(DataError, match="holds NaN"):
        segments_of([*files, bad], 100, strict=True)
    with pytest.raises(DataError, match="none of the validation files"):
        segments_of([bad], 100)


def test_weights_of_a_folder_add_up_to_one():
    seconds = {"a/x.wav": 1, "a/deep/er/y.wav": 3, "b/x.wav": 10, "one.wav": 2, "two.wav": 2}
    files = [AudioFile(f"/data/{name}", RATE, 1, length * RATE) for name, length in seconds.items()]
    assert folder_weights(files, "/data") == [0.25, 0.75, 1.0, 0.5, 0.5]
