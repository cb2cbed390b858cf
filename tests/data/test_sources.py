"""Mixtures of sources: shares counted in the crops themselves, resumption, what is held out, what is refused.

Every file is constant at a value of its own, so that a crop says which file it is of.
"""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.accelerators import CPUAccelerator

from discrete_ae.build import training_recordings, validation_recordings
from discrete_ae.data import AudioDataModule
from discrete_ae.data.containers import Piece
from discrete_ae.data.files import AudioFile
from discrete_ae.data.splitting import without
from discrete_ae.errors import DataError, UsageError

RATE = 8000
# Of every file its value in 1/64, which 16 bits hold exactly, and its length in seconds.
FILES = {
    "speech/train/a.wav": (1, 1.0),
    "speech/train/b.wav": (2, 2.0),
    "speech/train/short.wav": (3, 0.25),
    "speech/dev/c.wav": (4, 1.0),
    "music/d.wav": (5, 4.0),
    "music/e.wav": (6, 2.0),
    "music/f.wav": (7, 1.0),
    "noise/g.wav": (8, 1.0),
    "noise/h.wav": (9, 1.0),
    "noise/deep/i.wav": (10, 1.0),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources: speech with a folder to validate on, music as a manifest, noise as a folder to be split."""
    root = tmp_path_factory.mktemp("corpus")
    for name, (value, seconds) in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.full(int(seconds * RATE), value / 64), RATE)
    lines = [
        {"path": "music/d.wav", "split": "train"},
        {"path": "music/e.wav", "split": "train", "weight": 3},
        {"path": "music/f.wav", "split": "dev"},
    ]
    (root / "music.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def make(**settings: object) -> AudioDataModule:
    return AudioDataModule(**{"sample_rate": RATE, "channels": 1, "crop_seconds": 0.1, "batch_size": 3, **settings})


def mixture(corpus: Path, shares: dict[str, dict[str, float]] | None = None, **settings: object) -> AudioDataModule:
    """The data module of the three sources; `shares` adds to what is told of each."""
    sources = {
        "speech": {"root": f"{corpus}/speech", "validation_root": f"{corpus}/speech/dev", "min_seconds": 0.5},
        "music": {"manifest": f"{corpus}/music.jsonl"},
        "noise": {"root": f"{corpus}/noise"},
    }
    data = make(sources={name: {**of, **(shares or {}).get(name, {})} for name, of in sources.items()}, **settings)
    data.setup()
    return data


def file_of(crop: torch.Tensor) -> str:
    """The name of the file that a crop is of."""
    assert crop.min() == crop.max()
    (name,) = (name for name, (value, _) in FILES.items() if value / 64 == crop[0, 0])
    return name


def names(files: list[AudioFile]) -> set[str]:
    return {file.path.name for file in files}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        # To train on are 3 s of speech, music that counts 4 + 3 * 2 = 10 s, and 2 of the 3 s of noise.
        ({}, {"speech": 3 / 15, "music": 10 / 15, "noise": 2 / 15}),
        ({"speech": {"weight": 3}, "music": {"weight": 1}, "noise": {"weight": 0.5}}, None),
        ({"music": {"hours": 5 / 3600}}, {"speech": 3 / 10, "music": 5 / 10, "noise": 2 / 10}),
    ],
    ids=["own hours", "weights", "hours of one"],
)
def test_every_thousand_crops_have_the_shares_of_three_sources(corpus, shares, expected):
    data = mixture(corpus, shares)
    expected = expected or {"speech": 3 / 4.5, "music": 1 / 4.5, "noise": 0.5 / 4.5}
    assert data.shares == pytest.approx(expected)
    for window in (0, 7):
        files = Counter(file_of(data.training_crops[number]) for number in range(1000 * window, 1000 * window + 1000))
        for name, share in expected.items():
            count = sum(count for file, count in files.items() if file.startswith(f"{name}/"))
            assert abs(count - 1000 * share) <= 1
        # What is too short, or validates, is in no crop.
        assert set(files) <= {f"{name}.wav" for name in ("speech/train/a", "speech/train/b", "music/d", "music/e")} | {
            name for name in FILES if name.startswith("noise/")
        }
        assert len([name for name in files if name.startswith("noise/")]) == 2
        music = files["music/d.wav"] + files["music/e.wav"]
        assert abs(files["music/e.wav"] - 0.6 * music) < 4 * (0.24 * music) ** 0.5  # 3 * 2 s beside 4 s


def stream(data: AudioDataModule, step: int, rank: int = 0, world_size: int = 1) -> list[torch.Tensor]:
    """The batches that a trainer of 12 steps is given from a step on."""
    data.trainer = SimpleNamespace(
        accelerator=CPUAccelerator(),
        **{"global_rank": rank, "world_size": world_size, "num_devices": 1},
        **{"global_step": step, "max_steps": 12, "accumulate_grad_batches": 1},
    )
    return list(data.train_dataloader())


def test_a_resumed_run_has_the_same_crops_with_any_number_of_workers(corpus):
    # A second crop is added to half of them, which is drawn of a source of its own.
    settings = {"shares": {"noise": {"hours": 0.01}}, "speed": [0.8, 1.25], "mix": 0.5, "balance": "folder"}
    whole = stream(mixture(corpus, **settings), 0)
    for workers, step in ((1, 5), (2, 9)):
        rest = stream(mixture(corpus, num_workers=workers, **settings), step)
        assert len(rest) == 12 - step
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[step:], strict=True))
    ranks = [stream(mixture(corpus, **settings), 0, rank, 2) for rank in range(2)]
    assert all(torch.equal(whole[b], ranks[b % 2][b // 2]) for b in range(12))


def test_one_source_is_as_none_bit_for_bit(corpus):
    settings = {"mix": 0.5, "gain_db": [-6, 6], "seed": 3}
    plain, one = make(root=f"{corpus}/music", **settings), make(sources={"a": {"root": f"{corpus}/music"}}, **settings)
    for data in (plain, one):
        data.setup()
    assert (one.train_files, one.validation_files) == (plain.train_files, plain.validation_files)
    assert all(torch.equal(one.training_crops[number], plain.training_crops[number]) for number in range(200))
    assert len(one.validation_segments) == len(plain.validation_segments)
    for a, b in zip(one.val_dataloader(), plain.val_dataloader(), strict=True):  # one loader each
        assert torch.equal(a, b)
    assert one.describe() == plain.describe()
    assert [name for name, _ in one.clips(4)] == [name for name, _ in plain.clips(4)]


def test_folders_of_a_source_are_balanced_within_it(corpus):
    sources = {
        "noise": {"root": f"{corpus}/noise", "validation_root": f"{corpus}/music"},
        "speech": {"root": f"{corpus}/speech/train", "validation_root": f"{corpus}/speech/dev"},
    }
    data = make(sources=sources, balance="folder")
    data.setup()
    assert data.shares == pytest.approx({"noise": 3 / 6.25, "speech": 3.25 / 6.25})  # by hours, as without it
    files = Counter(file_of(data.training_crops[number]) for number in range(1000))
    noise = sum(count for name, count in files.items() if name.startswith("noise/"))
    assert abs(noise - 480) <= 1
    # The folder below it as often as the two files beside it together, which by length is a third of the time.
    assert abs(files["noise/deep/i.wav"] - noise / 2) < 4 * (noise / 4) ** 0.5


def test_a_limit_holds_for_all_sources_but_for_those_with_their_own(corpus):
    with pytest.raises(DataError, match=r"noise: .* [1-9] by data\.sources\.noise\.min_seconds=1\.5;"):
        mixture(corpus, min_seconds=1.5)
    data = mixture(corpus, {"noise": {"min_seconds": 0.5}}, min_seconds=1.5)
    # Speech has one of its own too.
    assert names(data.train_files) >= {"a.wav", "b.wav", "d.wav", "e.wav"}
    assert names(mixture(corpus, {"music": {"min_seconds": 3}}).train_files) & {"d.wav", "e.wav"} == {"d.wav"}


def test_what_validates_in_one_source_trains_in_none(corpus):
    twice = make(sources={"a": {"root": f"{corpus}/noise"}, "b": {"root": f"{corpus}/noise", "max_seconds": 9}})
    twice.setup()
    assert len(twice.validation_files) == 1
    assert len(twice.train_files) == 4
    assert not names(twice.train_files) & names(twice.validation_files)
    assert [len(loader.dataset) for loader in twice.val_dataloader()] == [10, 10]
    # By other paths, too, and where another folder names what validates.
    (held,) = names(twice.validation_files)
    others = {"a": {"root": f"{corpus}/noise"}, "b": {"root": f"{corpus}/music", "validation_root": f"{corpus}/noise"}}
    with pytest.raises(
        DataError, match=r"noise: every file is also a validation file.*data\.sources\.a\.validation_root"
    ):
        make(sources=others).setup()
    others["b"]["validation_root"] = f"{corpus}/./noise/deep"
    data = make(sources=others)
    data.setup()
    assert names(data.train_files) == {"d.wav", "e.wav", "f.wav", "g.wav", "h.wav"} - {held}
    assert names(data.validation_files) == {held, "i.wav"}


def test_sources_share_the_validation_segments_evenly_and_have_loaders_of_their_own(corpus):
    data = mixture(corpus, max_validation_segments=8, num_workers=2)
    assert data.source_names == ["speech", "music", "noise"]
    loaders = data.val_dataloader()
    found = [[file_of(item) for batch in loader for item in batch] for loader in loaders]
    assert [len(items) for items in found] == [2, 3, 3]
    assert [{name.split("/")[0] for name in items} for items in found] == [{"speech"}, {"music"}, {"noise"}]
    assert [loader.num_workers for loader in loaders] == [1, 1, 1]  # they are used one after the other
    assert data.train_dataloader().num_workers == 2


def test_what_was_found_is_said_with_the_shares(corpus):
    data = mixture(corpus, {name: {"weight": weight} for name, weight in (("speech", 3), ("music", 4), ("noise", 1))})
    assert data.describe() == (
        "6 files (0.2 min) to train on, 3 files (0.1 min) to validate on (30 segments), 0 files skipped; "
        "speech 37.5 % of the crops (0.1 min), music 50.0 % (0.1 min), noise 12.5 % (0.0 min)"
    )
    long = make(root=f"{corpus}/music")
    long.setup()
    long.train_files = [AudioFile("x.wav", RATE, 1, 5400 * RATE)]
    assert long.describe().startswith("1 file (1.5 h) to train on")


def test_recordings_of_a_mixture_are_found_again(corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    settings = {"sample_rate": RATE, "channels": 1, "crop_seconds": 0.1, "batch_size": 3}
    sources = {"music": {"manifest": "music.jsonl"}, "noise": {"root": "noise"}}
    config = {"_target_": "discrete_ae.data.AudioDataModule", **settings, "sources": sources}
    root, held_out = validation_recordings(config)
    assert root == corpus  # one path is absolute, as of every manifest, and one is not
    assert {path.resolve().parts[-2] for path in held_out} <= {"music", "noise", "deep"}
    trained = {path.name for path in training_recordings(config)}
    assert trained.isdisjoint({path.name for path in held_out})
    assert {"d.wav", "e.wav"} < trained
    data = make(sources=sources)
    data.setup()
    clips = [name for name, _ in data.clips(9)]
    assert len(clips) == len(set(clips)) == len(held_out)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": {}}, r"data\.sources: expected one or more"),
        ({"sources": {"a": None}}, r"data\.sources: expected one or more"),
        ({"sources": {"a": {}}}, r"data\.sources\.a: expected a root or a manifest"),
        ({"sources": {"a": {"root": "/a", "manifest": "m"}}}, r"data\.sources\.a\.manifest: .*data\.sources\.a\.root"),
        ({"sources": {"a": {"root": "/a", "weight": 0}}}, r"data\.sources\.a\.weight: "),
        ({"sources": {"a": {"root": "/a", "hours": -1.0}}}, r"data\.sources\.a\.hours: "),
        ({"sources": {"a": {"root": "/a", "wieght": 1}}}, r"data\.sources\.a\.wieght: "),
        ({"sources": {"a": {"root": ""}}}, r"data\.sources\.a\.root"),
        ({"sources": {"a": {"root": "/a", "hours": 1, "weight": 1}}}, r"data\.sources\.a\.hours: .*\.weight"),
        (
            {"sources": {"a": {"root": "/a", "hours": 1}, "b": {"root": "/b", "weight": 1}}},
            r"data\.sources\.a\.weight: .* data\.sources\.b",
        ),
        ({"sources": {"a": {"root": "/a"}, "b": {"root": "/b", "weight": 1}}}, r"data\.sources\.a\.weight: "),
        (
            {"sources": {"a": {"root": "/a/b"}, "b": {"root": "/a/c/../b"}}},
            r"data\.sources\.b\.root: .*data\.sources\.a\.root",
        ),
        ({"manifest": ["m", "./m"]}, r"data\.manifest: .*data\.manifest.* once"),
        ({"sources": {"a/b": {"root": "/a"}}}, r"data\.sources: expected names .*'a/b'"),
        ({"sources": {"a": {"root": "/a"}}, "root": "/b"}, r"data\.root: expected null beside data\.sources"),
        (
            {"sources": {name: {"root": f"/{name}"} for name in "abc"}, "max_validation_segments": 2},
            r"data\.max_validation_segments: expected at least 3, 1 for each source, got",
        ),
    ],
)
def test_sources_that_cannot_be_mixed_are_usage_errors(changes, said):
    with pytest.raises(UsageError, match=rf"^{said}"):
        make(**changes)


def test_recordings_that_share_a_sample_are_left_out_and_no_others():
    """Against sets of samples, for random stretches of two files and of two members of each."""
    random = np.random.default_rng(0)

    def drawn(count: int) -> list[AudioFile]:
        return [
            AudioFile(
                f"https://host/{random.integers(2)}",
                8000,
                1,
                int(random.integers(1, 20)) ** 2,
                pieces=(Piece(b"", 0, 10 + int(random.integers(2)), 10),),
                first_frame=[None, int(random.integers(3000))][min(k, 1)],
            )
            for k in range(count)
        ]

    def samples(file: AudioFile) -> set[tuple]:
        first = file.first_frame or 0
        return {(file.place, file.pieces, frame) for frame in range(first, first + file.num_frames)}

    files, others = drawn(300), drawn(60)
    taken = set().union(*map(samples, others))
    expected = [file for file in files if not samples(file) & taken]
    assert 50 < len(expected) < 250
    assert without(files, others) == expected


def test_parts_of_one_folder_by_length_are_sources_of_their_own(corpus):
    folders = {"root": f"{corpus}/speech/train", "validation_root": f"{corpus}/speech/dev"}
    data = make(sources={"long": {**folders, "min_seconds": 1.5}, "short": {**folders, "max_seconds": 1.5}})
    data.setup()
    assert [file.path.name for file in data.train_files] == ["b.wav", "a.wav", "short.wav"]


def test_a_source_without_recordings_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match=rf"^{tmp_path}: no audio files"):
        mixture(corpus, {"noise": {"root": str(tmp_path)}})
    (tmp_path / "one.wav").symlink_to(corpus / "music/d.wav")
    with pytest.raises(DataError, match=r"at least 2 audio files .*got 1; .* data\.sources\.noise\.validation_root"):
        mixture(corpus, {"noise": {"root": str(tmp_path)}})
