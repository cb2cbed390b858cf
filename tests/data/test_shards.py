"""Tars of a folder's recordings, against tarfile and webdataset's own rule for keys."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from webdataset.tariterators import base_plus_ext

from discrete_ae.cli.main import main
from discrete_ae.data import find_audio
from discrete_ae.data.index import index
from discrete_ae.data.shards import write_shards
from discrete_ae.errors import DataError

NAMES = {
    "b/y.v2.flac": "b/y%2Ev2.flac",
    "a.b/x.WAV": "a.b/x.WAV",
    "a/100%.ogg": "a/100%25.ogg",
    "ü.mp3": "ü.mp3",
    "n" * 150 + ".wav": "n" * 150 + ".wav",
}


def recording(suffix: str, seed: int, num_frames: int = 4000) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, num_frames)
    soundfile.write(content, noise, 16000, format=suffix.lstrip(".").upper())
    return content.getvalue()


@pytest.fixture
def corpus(tmp_path) -> Path:
    for seed, name in enumerate([*NAMES, ".hidden.wav"]):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(recording(path.suffix, seed))
    (tmp_path / "corpus/notes.txt").write_text("no audio")
    return tmp_path / "corpus"


def content_of(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in found.items() if file}


def test_shards_hold_the_files_byte_for_byte_under_keys_of_webdataset(tmp_path, corpus):
    written = write_shards(corpus, tmp_path / "shards")
    assert written.shards == [tmp_path / "shards/shard-000000.tar"]
    assert (written.recordings, written.num_bytes) == (5, written.shards[0].stat().st_size)
    assert written.duration_s == pytest.approx(sum(file.duration_s for file in find_audio(corpus).files))
    found = content_of(written.shards[0])
    assert found == {key: (corpus / name).read_bytes() for name, key in NAMES.items()}
    keys = [base_plus_ext(name) for name in found]
    assert sorted(keys) == keys
    assert [f"{key}.{suffix}" for key, suffix in keys] == list(found)
    assert {suffix.lower() for _, suffix in keys} == {"wav", "flac", "ogg", "mp3"}
    assert sorted(one.member for one in index(written.shards[0]).files) == sorted(NAMES.values())


def test_shards_are_of_the_size_asked_for_and_the_same_bytes_again(tmp_path):
    (tmp_path / "corpus").mkdir()
    for number in range(20):
        (tmp_path / f"corpus/{number:02}.wav").write_bytes(recording("wav", number))  # 8044 bytes, 8704 in a tar
    first = write_shards(tmp_path / "corpus", tmp_path / "one", 40_000).shards
    assert [path.name for path in first] == [f"shard-{number:06d}.tar" for number in range(7)]
    assert all(30_000 < path.stat().st_size <= 40_000 for path in first[:-1])
    assert [name for path in first for name in content_of(path)] == [f"{number:02}.wav" for number in range(20)]
    again = write_shards(tmp_path / "corpus", tmp_path / "two", 40_000).shards
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    assert len(write_shards(tmp_path / "corpus", tmp_path / "small", 1).shards) == 20


def test_nothing_is_replaced_unasked_and_nothing_half_is_left(tmp_path, corpus):
    shards = tmp_path / "shards"
    write_shards(corpus, shards, 1)
    before = sorted(shards.iterdir())
    with pytest.raises(DataError, match=f"^{shards}: already exists; use --force"):
        write_shards(corpus, shards)
    assert sorted(shards.iterdir()) == before
    assert len(write_shards(corpus, shards, overwrite=True).shards) == 1
    (shards / "mine.txt").touch()
    with pytest.raises(DataError, match=r"holds mine\.txt, which would be deleted"):
        write_shards(corpus, shards, overwrite=True)
    (corpus / "b/y.v2.wav").write_bytes(recording("wav", 1))
    with pytest.raises(
        DataError, match=r"b/y\.v2\.flac and b/y\.v2\.wav have the same name without suffix, b/y%2Ev2; rename one"
    ):
        write_shards(corpus, tmp_path / "twins")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "shards"]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["shards", *arguments])
    return int(ended.value.code or 0), *capsys.readouterr()


def test_the_command_says_what_it_did_and_what_is_wrong(tmp_path, corpus, capsys):
    (corpus / "bad.wav").write_bytes(b"words")
    out = str(tmp_path / "shards")
    status, said, warned = run(capsys, str(corpus), "-o", out, "--size", "10MB")
    size = (tmp_path / "shards/shard-000000.tar").stat().st_size
    assert (status, said) == (0, f"{out}: 1 tar of 5 recordings (0.0 min), {size / 1e6:.1f} MB\n")
    assert warned == f"warning: {corpus}: skipped 1 file, unreadable or empty: bad.wav\n"
    assert run(capsys, str(corpus), "-o", out)[0] == 1
    assert run(capsys, str(corpus), "-o", out, "--force")[0] == 0
    status, _, said = run(capsys, str(corpus), "-o", str(tmp_path / "y"), "--strict")
    assert status == 1
    assert said.startswith(f"error: {corpus}/bad.wav: not readable as audio; ")
    assert said.count("\n") == 1
    for size in ("0", "-1GB", "much", "1 pint"):
        status, _, said = run(capsys, str(corpus), "-o", str(tmp_path / "y"), f"--size={size}")
        assert (status, said) == (2, f"error: --size: expected a size such as 500MB, 1GB or 1GiB, got {size}\n")
    assert not (tmp_path / "y").exists()
