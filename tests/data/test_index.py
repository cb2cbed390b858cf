"""Cache of headers: a second start finds the same recordings and opens no file."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from discrete_ae.data import files, find_audio, read_manifest
from discrete_ae.data.index import index
from discrete_ae.errors import DataError
from discrete_ae.paths import CACHE_VARIABLE
from tests.recordings import write_noise


@pytest.fixture
def probed(tmp_path, monkeypatch) -> list[str]:
    """A cache of the test's own; the names of the files whose headers were read."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    names: list[str] = []
    probe = files.probe
    monkeypatch.setattr(files, "probe", lambda place, member: (names.append(Path(place).name), probe(place, member))[1])
    return names


@pytest.fixture
def root(tmp_path) -> Path:
    for k in range(4):
        write_noise(tmp_path / f"audio/{k % 2}/{k}.wav", 1000 + k)
    cut = tmp_path / "audio/1/1.wav"
    cut.write_bytes(cut.read_bytes()[:-1200])  # its header promises more
    zero = tmp_path / "audio/0/2.wav"
    zero.write_bytes(zero.read_bytes()[:40] + bytes(4) + zero.read_bytes()[44:])  # read by pieces
    (tmp_path / "audio/bad.wav").write_text("no audio")
    return tmp_path / "audio"


def said(caplog) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    files._warn_once.cache_clear()
    return lines


def test_a_second_start_finds_the_same_and_opens_only_what_cannot_be_read(root, probed, caplog):
    files._warn_once.cache_clear()
    first, warnings = find_audio(root), said(caplog)
    assert sorted(probed) == ["0.wav", "1.wav", "2.wav", "3.wav", "bad.wav"]
    assert [file.path.name for file in first.files if file.doubt] == ["2.wav", "1.wav"]
    assert len(warnings) == 3
    probed.clear()
    assert find_audio(root) == first
    assert said(caplog) == warnings
    assert probed == ["bad.wav"]
    probed.clear()
    link = root.with_name("link")
    link.symlink_to(root)
    assert [file.path.name for file in find_audio(link).files] == [file.path.name for file in first.files]
    assert probed == ["bad.wav"]
    with pytest.raises(DataError, match=r"bad\.wav: not readable"):
        find_audio(root, strict=True)


def test_what_changed_is_read_again_and_what_vanished_is_gone(root, probed):
    find_audio(root)
    probed.clear()
    before = (root / "0/0.wav").stat()
    write_noise(root / "0/0.wav", 2000)
    write_noise(root / "new.wav", 500)
    (root / "1/3.wav").unlink()
    os.utime(root / "1/1.wav")
    found = {file.path.name: file.num_frames for file in find_audio(root).files}
    assert found == {"0.wav": 2000, "1.wav": 401, "2.wav": 1002, "new.wav": 500}
    assert sorted(probed) == ["0.wav", "1.wav", "bad.wav", "new.wav"]
    # Another recording of the same size, with the time of the one before it.
    write_noise(root / "0/0.wav", 1000, rate=8000)
    os.utime(root / "0/0.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert find_audio(root).files[0].sample_rate == 8000
    (root / "0/0.wav").write_text("no audio")
    assert find_audio(root).skipped == ["0/0.wav", "bad.wav"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"versions": [], "files": {"0/0.wav": []}}', b"\xff"])
def test_a_cache_of_others_is_not_believed(root, probed, tmp_path, content):
    first = find_audio(root)
    (kept,) = (tmp_path / "cache/index").glob("*.json")
    kept.write_bytes(content)
    probed.clear()
    assert find_audio(root) == first
    assert len(probed) == 5
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "versions": ["another"]}))
    probed.clear()
    assert find_audio(root) == first
    assert len(probed) == 5


@pytest.mark.parametrize("place", ["file/below", "relative", "/proc/none"])
def test_where_nothing_can_be_kept_all_is_read(root, probed, tmp_path, monkeypatch, caplog, place):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, place if place == "relative" else str(tmp_path / place))
    assert find_audio(root) == find_audio(root)
    assert len(probed) == 10
    assert not [line for line in said(caplog) if "cannot be cached" in line]
    assert not (tmp_path / "relative").exists()


def _find(root: Path, start: "multiprocessing.synchronize.Barrier", counts: "multiprocessing.Queue[int]") -> None:
    probe, opened = files.probe, []
    files.probe = lambda place, member: (opened.append(place), probe(place, member))[1]
    start.wait()
    find_audio(root)
    counts.put(len(opened))


def test_of_several_processes_one_reads_the_headers(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for k in range(50):
        write_noise(tmp_path / f"audio/{k}.wav", 100 + k)
    context = multiprocessing.get_context("fork")
    start, counts = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_find, args=(tmp_path / "audio", start, counts)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sorted(counts.get(timeout=60) for _ in processes) == [0, 0, 50]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_folders_files_patterns_and_manifests_are_inputs(root, probed, tmp_path):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"path": "audio/0/0.wav", "text": "x"}) + "\n")
    found = index([root / "1", root / "0/2.wav", tmp_path / "audio/0/*.wav", manifest])
    assert [file.path.name for file in found.files] == ["1.wav", "3.wav", "2.wav", "0.wav", "2.wav", "0.wav"]
    assert found.files[-1].known == {"text": "x"}
    assert index(root).errors.keys() == {str(root / "bad.wav")}
    with pytest.raises(DataError, match="none: no such file or folder"):
        index(tmp_path / "none")


def test_of_several_inputs_those_that_cannot_be_used_are_named(root, tmp_path):
    (tmp_path / "cut.tar").write_bytes(b"\1" * 700)
    found = index([root / "1", tmp_path / "cut.tar", tmp_path / "none"])
    assert [file.path.name for file in found.files] == ["1.wav", "3.wav"]
    assert {str(tmp_path / "cut.tar"), str(tmp_path / "none")} <= found.errors.keys()


def test_a_tar_that_may_not_be_read_does_not_end_the_others(root, tmp_path, monkeypatch):
    tar = tmp_path / "closed.tar"
    tar.touch()

    def refuse(path, advance):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("discrete_ae.data.index.members_kept", refuse)
    found = index([root / "1", tar])
    assert [file.path.name for file in found.files] == ["1.wav", "3.wav"]
    assert str(found.errors[str(tar)]) == f"{tar}: cannot be read (Permission denied); check its permissions"


def test_headers_that_a_manifest_wants_are_kept_too(root, probed, tmp_path):
    manifest = tmp_path / "nemo.jsonl"
    lines = [{"audio_filepath": "audio/0/0.wav", "offset": 0.01, "duration": 0.02}, {"audio_filepath": "audio/1/3.wav"}]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    first = read_manifest(manifest)
    assert probed == ["0.wav", "3.wav"]
    assert read_manifest(manifest) == first
    assert len(probed) == 2
