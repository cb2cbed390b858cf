"""Many recordings to files of codes and back: what is kept, what is listed, and what a share of the work leaves."""

import shutil
import sys

import numpy as np
import pytest
import soundfile

import discrete_ae
from discrete_ae.codec import Codec, Share, corpus, encode_corpus
from discrete_ae.codec.corpus import Watch, write_audio
from discrete_ae.codes.container import FORMATS, read_daec_header, write_codes
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.codes.manifest import describe, read_manifest
from discrete_ae.errors import DataError, UsageError
from tests.models import save_checkpoint


@pytest.fixture(scope="module")
def model(ste_run):
    return discrete_ae.load(ste_run / "checkpoints/best.ckpt")


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_there_must_be_what_encoding_would_write(tmp_path, recordings, model, format):
    source, out = tmp_path / "x.wav", tmp_path / "codes"
    shutil.copy(recordings / "clip_2.wav", source)  # 1 s at 22050 Hz
    target = out / f"x.{format}"
    file = Codec(model).encode_file(source)

    def found(existing="skip"):
        (outcome,) = encode_corpus(model, [source], out, format=format, existing=existing)
        return outcome

    assert found().entry == found().entry == describe(file, target, out, source)
    assert (found().error, found().was_there) == (None, True)
    before = target.read_bytes()
    if format != "npy":  # which names no model
        write_codes(file.model_copy(update={"model_hash": "f" * 64}), target, format)
        with pytest.raises(DataError, match=r"codes of another model \(hash ffffffffffff\)"):
            found()
        fewer = {"codes": file.codes[:, :1], "codebook_sizes": file.codebook_sizes[:1]}
        write_codes(file.model_copy(update=fewer), target, format)
        assert found().error.startswith(f"{target}: expected 2 codebooks, got 1")
        target.write_bytes(before)
    soundfile.write(source, np.zeros(30000), 22050)
    assert found().error.startswith(f"{target}: does not match {source}, which may have changed")
    source.write_text("no audio")
    assert (found().entry is None) == (format == "npy")  # which tells neither rate nor length
    target.write_bytes(b"damaged")
    shutil.copy(recordings / "clip_2.wav", source)
    assert found().error.startswith(f"{target}: ")
    with pytest.raises(DataError, match=r"already exists; use --skip-existing .* or --force ") as refused:
        found("refuse")
    assert all(f'existing="{value}"' in str(refused.value) for value in ("skip", "replace"))  # for Python
    assert (found("replace").was_there, target.read_bytes()) == (False, before)


def test_codes_that_are_there_are_not_decoded(tmp_path, recordings, model, monkeypatch):
    source, target = tmp_path / "x.wav", tmp_path / "x.daec"
    shutil.copy(recordings / "clip_2.wav", source)
    (first,) = encode_corpus(model, source, target, format="daec")
    assert read_daec_header(target).entropy_model == model.entropy_model.fingerprint
    monkeypatch.setattr(EntropyModel, "decode", lambda *_: pytest.fail("decoded"))
    (again,) = encode_corpus(model, source, target, format="daec", existing="skip")
    assert (again.entry, again.was_there) == (first.entry, True)
    monkeypatch.setattr(model, "entropy_model", None)
    (other,) = encode_corpus(model, source, target, format="daec", existing="skip")
    assert other.error.startswith(f"{target}: needs the entropy model")


def test_shares_leave_what_one_process_leaves(tmp_path, recordings, model):
    def encode(out, *shares, **settings):
        for share in shares:
            encode_corpus(model, [recordings], tmp_path / out, share=share, **settings)
        paths = (path for path in (tmp_path / out).rglob("*.*") if path.parent.name != "shards")
        return {path.name: path.read_bytes() for path in paths}

    whole = encode("whole", None)
    shared = encode("shared", *(Share(number, 3) for number in (2, 1, 3)))
    assert {name: content for name, content in shared.items() if "manifest" not in name}.items() < whole.items()
    listed = sorted(read_manifest(tmp_path / "shared"), key=lambda entry: entry.path)
    assert listed == read_manifest(tmp_path / "whole")
    assert encode("shared", None, existing="skip", shards="mmap") == whole
    assert (tmp_path / "shared/shards/index.json").exists()


def test_only_the_first_share_names_what_is_missing(tmp_path, model):
    outcomes = [encode_corpus(model, ["none.wav"], tmp_path, share=Share(number, 2)) for number in (1, 2)]
    assert [len(found) for found in outcomes] == [1, 0]
    for out, settings, words in (
        ("x.npz", {"share": Share(1, 2)}, "got a file"),
        ("x.npz", {"shards": "tar"}, "got a file"),
        ("x", {"shards": "tar", "share": Share(1, 2)}, "when all shares are done"),
    ):
        with pytest.raises(UsageError, match=words):
            encode_corpus(model, ["x.wav"], tmp_path / out, **settings)


def test_parquet_without_its_package_is_said_before_the_work(tmp_path, recordings, model, monkeypatch):
    def encode(out):
        return encode_corpus(model, [recordings / "clip_0.wav"], tmp_path / out, shards="parquet")

    encode("codes")
    assert [path.suffix for path in sorted((tmp_path / "codes/shards").iterdir())] == [".parquet", ".json"]
    monkeypatch.delitem(sys.modules, "discrete_ae.codes.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs the package pyarrow; pip install 'discrete-ae\[parquet\]'"):
        encode("other")
    assert not (tmp_path / "other").exists()


def test_shards_that_cannot_be_written_are_said_before_the_work(tmp_path, recordings, model, monkeypatch):
    other = tmp_path / "other/clip_0.wav"
    other.parent.mkdir()
    shutil.copy(recordings / "clip_1.wav", other)
    out = tmp_path / "out"
    encode_corpus(model, other, out)
    monkeypatch.setattr(corpus, "encode_files", lambda *_, **__: pytest.fail("encoded"))

    def refused(source, words):
        with pytest.raises(DataError, match=words):
            encode_corpus(model, source, out, format="daec", shards="tar", existing="replace")

    refused(recordings / "clip_0.wav", "clip_0.npz and clip_0.daec have the same name without suffix")
    (out / "shards").mkdir()
    (out / "shards/notes.txt").touch()
    refused(other, "holds notes.txt, which would be deleted")


@pytest.mark.parametrize(("first", "second"), [("mmap", "tar"), ("tar", "mmap")])
def test_shards_of_another_kind_are_replaced_only_by_force(tmp_path, recordings, model, first, second):
    shards = tmp_path / "shards"

    def encode(kind, existing):
        encode_corpus(model, [recordings / "clip_0.wav"], tmp_path, shards=kind, existing=existing)
        return {path.name: path.read_bytes() for path in shards.iterdir()}

    before = encode(first, "refuse")
    with pytest.raises(DataError, match=f"shards: holds {first} shards, which {second} shards would replace; remove"):
        encode(second, "skip")
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before
    assert encode(first, "skip") == before
    assert encode(second, "replace").keys().isdisjoint(before.keys() - {"index.json"})
    (shards / "index.json").write_text("damaged")
    with pytest.raises(DataError, match=r"index.json: .*; remove the folder"):
        encode(second, "skip")


def test_a_folder_is_for_one_model_unless_forced(tmp_path, recordings, model):
    other = discrete_ae.load(save_checkpoint(tmp_path / "other.ckpt"))
    out = tmp_path / "codes"

    def hashes(coder, source, existing="refuse", **settings):
        encode_corpus(coder, [recordings / source], out, existing=existing, **settings)
        return {entry.path: entry.model_hash for entry in read_manifest(out)}

    first = hashes(other, "clip_0.wav")
    for settings in ({}, {"existing": "skip"}, {"share": Share(2, 2)}):
        with pytest.raises(
            DataError, match=rf"codes/clip_0\.npz: codes of another model \(hash {other.codes_hash[:12]}"
        ):
            hashes(model, "clip_1.wav", **settings)
    (out / "manifest.jsonl").rename(tmp_path / "manifest")  # as where encoding was broken off
    with pytest.raises(DataError, match="codes of another model"):
        encode_corpus(model, [recordings / "clip_0.wav", recordings / "clip_1.wav"], out, existing="skip")
    (tmp_path / "manifest").rename(out / "manifest.jsonl")
    assert not (out / "clip_1.npz").exists()
    assert hashes(model, "clip_1.wav", "replace") == first | {"clip_1.npz": model.codes_hash}
    assert set(hashes(model, "clip_0.wav", "replace").values()) == {model.codes_hash}
    assert len(hashes(model, "clip_5.wav")) == 3


def test_a_recording_under_two_names_is_said(tmp_path, recordings, model):
    said, watch, source = [], Watch(), recordings / "clip_0.wav"
    watch.warn = said.append
    encode_corpus(model, [source], tmp_path)
    encode_corpus(model, [source], tmp_path, format="daec", shards="tar", watch=watch)  # the .npz leaves the manifest
    assert [entry.path for entry in read_manifest(tmp_path)] == ["clip_0.daec"]
    (line,) = said
    assert "with two files of codes: 1, such as clip_0.npz and clip_0.daec" in line


def test_audio_is_clipped_and_long_wav_files_have_lengths_of_64_bits(tmp_path, monkeypatch):
    block = np.array([[1.5, -1.5]], np.float32)
    monkeypatch.setattr(corpus, "MAX_WAV_BYTES", 44 + 4)  # two samples of 16 bits
    write_audio(tmp_path / "a.wav", [block], 8000, 1, 2, "wav")
    write_audio(tmp_path / "b.wav", [block, block[:, :1] / 3], 8000, 1, 3, "wav")
    write_audio(tmp_path / "c.flac", [block, block[:, :1]], 8000, 1, 3, "flac")
    assert [soundfile.info(path).format for path in sorted(tmp_path.iterdir())] == ["WAV", "RF64", "FLAC"]
    samples, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    assert samples.tolist() == [32767, -32768, 16384]
