"""Many recordings to files of codes and back: what is kept, what is listed, and what a share of the work leaves."""

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.codec import Codec, Share, codec, corpus, encode_corpus
from discrete_ae.codec.corpus import Watch, write_audio
from discrete_ae.codes.container import FORMATS, write_codes
from discrete_ae.codes.manifest import describe, read_manifest
from discrete_ae.errors import DataError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def model(ste_run):
    return discrete_ae.load(ste_run / "checkpoints/best.ckpt")


@pytest.mark.parametrize("documented", [codec.Codec, corpus.encode_corpus])
def test_examples_run(documented, ste_run, recordings, tmp_path):
    names = {
        "checkpoint": ste_run / "checkpoints/best.ckpt",
        "recordings": recordings,
        "recording": recordings / "clip_0.wav",
        "folder": tmp_path / "codes",
        "discrete_ae": discrete_ae,
        "torch": torch,
        "Codec": Codec,
    }
    (example,) = doctest.DocTestFinder(recurse=False).find(documented, documented.__name__, globs=names)
    assert doctest.DocTestRunner().run(example) == (0, len(example.examples))


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_there_must_be_what_encoding_would_write(tmp_path, recordings, model, format):
    source, out = tmp_path / "x.wav", tmp_path / "codes"
    shutil.copy(recordings / "clip_2.wav", source)  # 1 s at 22050 Hz
    target = out / f"x.{format}"
    code_file = Codec(model).encode_file(source)

    def found(**settings):
        (outcome,) = encode_corpus(model, [source], out, format=format, existing="skip", **settings)
        return outcome

    assert found().entry == found().entry == describe(code_file, target, out, source)
    assert (found().error, found().was_there) == (None, True)
    before = target.read_bytes()
    if format != "npy":  # which names no model
        write_codes(code_file.model_copy(update={"model_hash": "f" * 64}), target, format)
        assert found().error.startswith(f"{target}: codes of another model (ffffffffffff)")
        fewer = {"codes": code_file.codes[:, :1], "codebook_sizes": code_file.codebook_sizes[:1]}
        write_codes(code_file.model_copy(update=fewer), target, format)
        assert "1 codebooks, where 2 are wanted" in found().error
        target.write_bytes(before)
    soundfile.write(source, np.zeros(30000), 22050)
    assert found().error.startswith(f"{target}: codes of another recording than {source} is now")
    source.write_text("no audio")
    assert (found().entry is None) == (format == "npy")  # which tells neither rate nor length
    target.write_bytes(b"damaged")
    shutil.copy(recordings / "clip_2.wav", source)
    assert found().error.startswith(f"{target}: ")
    with pytest.raises(DataError, match="exists already; use --skip-existing to go on, or --force"):
        encode_corpus(model, [source], out, format=format)
    (outcome,) = encode_corpus(model, [source], out, format=format, existing="replace")
    assert (outcome.was_there, target.read_bytes()) == (False, before)


def test_shares_leave_what_one_process_leaves(tmp_path, recordings, model):
    encode_corpus(model, [recordings], tmp_path / "whole")
    for number in (2, 1, 3):
        encode_corpus(model, [recordings], tmp_path / "shared", share=Share(number, 3))
    expected = read_manifest(tmp_path / "whole")
    assert sorted(read_manifest(tmp_path / "shared"), key=lambda entry: entry.path) == expected
    for entry in expected:
        assert (tmp_path / "shared" / entry.path).read_bytes() == (tmp_path / "whole" / entry.path).read_bytes()
    encode_corpus(model, [recordings], tmp_path / "shared", existing="skip", shards="mmap")
    names = {path.name for path in (tmp_path / "shared").iterdir()}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()} | {"shards"}
    manifests = [(tmp_path / folder / "manifest.jsonl").read_bytes() for folder in ("shared", "whole")]
    assert manifests[0] == manifests[1]


def test_only_the_first_share_names_what_is_missing(tmp_path, model):
    outcomes = [encode_corpus(model, ["none.wav"], tmp_path, share=Share(number, 2)) for number in (1, 2)]
    assert [len(found) for found in outcomes] == [1, 0]
    for settings in ({"share": Share(1, 2)}, {"shards": "tar"}):
        with pytest.raises(UsageError, match="one file"):
            encode_corpus(model, ["x.wav"], tmp_path / "x.npz", **settings)
    with pytest.raises(UsageError, match="when all shares are done"):
        encode_corpus(model, ["x.wav"], tmp_path, shards="tar", share=Share(1, 2))


class Heard(Watch):
    def __init__(self):
        self.said = []

    def warn(self, message):
        self.said.append(message)


def test_a_recording_under_two_names_is_said(tmp_path, recordings, model):
    heard, out = Heard(), tmp_path / "codes"
    source = tmp_path / "in/a.wav"
    source.parent.mkdir()
    shutil.copy(recordings / "clip_0.wav", source)
    encode_corpus(model, [source], out)
    encode_corpus(model, [source], out, format="daec", shards="tar", watch=heard)  # a.npz leaves the manifest
    assert [entry.path for entry in read_manifest(out)] == ["a.daec"]
    (said,) = heard.said
    assert "under two names: 1, such as a.npz and a.daec" in said


def test_audio_is_clipped_and_long_wav_files_have_lengths_of_64_bits(tmp_path, monkeypatch):
    block = np.array([[1.5, -1.5]], np.float32)
    monkeypatch.setattr(corpus, "MAX_WAV_BYTES", 44 + 4)  # two samples of 16 bits
    write_audio(tmp_path / "a.wav", [block], 8000, 1, 2, "wav")
    write_audio(tmp_path / "b.wav", [block, block[:, :1] / 3], 8000, 1, 3, "wav")
    write_audio(tmp_path / "c.flac", [block, block[:, :1]], 8000, 1, 3, "flac")
    assert [soundfile.info(path).format for path in sorted(tmp_path.iterdir())] == ["WAV", "RF64", "FLAC"]
    samples, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    assert samples.tolist() == [32767, -32768, 16384]
    with pytest.raises(DataError, match="9 channels at 8000 Hz cannot be written as flac"):
        write_audio(tmp_path / "d.flac", [np.zeros((9, 1), np.float32)], 8000, 9, 1, "flac")
