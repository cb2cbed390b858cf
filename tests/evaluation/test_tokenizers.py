"""Tokenizers of transformers: their rates by arithmetic, their audio by transformers itself, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file, save_file

from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.coders import through
from discrete_ae.evaluation.evaluate import evaluate
from discrete_ae.evaluation.pretrained import load_tokenizer
from discrete_ae.evaluation.scoring import SignalScores

transformers = pytest.importorskip("transformers", reason="pip install 'discrete-ae[codecs]'")
tiny = pytest.importorskip("tests.tiny_tokenizers")

NAMES = ("mel_distance", "si_sdr_db")
everyone = pytest.mark.parametrize("make", tiny.EXPECTED, ids=lambda make: make.__name__)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    return {make: tiny.save(make, root / make.__name__) for make in tiny.EXPECTED}


def noise(channels, length):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, length)).astype(np.float32)


def by_transformers(folder, audio, sample_rate, **options):
    """Audio that a model's own `forward` makes of audio (C, N), as its documentation calls it."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    chunked = {"padding": False} if getattr(model.config, "chunk_length", None) else {}
    inputs = extractor(
        audio[0] if len(audio) == 1 else audio, sampling_rate=sample_rate, return_tensors="pt", **chunked
    )
    if isinstance(extractor, transformers.DacFeatureExtractor):
        inputs = {"input_values": inputs["input_values"]}
    with torch.no_grad():
        return model(**inputs, **options).audio_values.reshape(len(audio), -1)[:, : audio.shape[1]].numpy()


@everyone
def test_rates_are_those_of_the_configuration(folders, make):
    expected, tokenizer = tiny.EXPECTED[make], load_tokenizer(f"hf:{folders[make]}")
    assert (tokenizer.sample_rate, tokenizer.channels) == (expected.sample_rate, expected.channels)
    assert tokenizer.rates == expected.rates
    audio = noise(expected.channels, 2 * expected.sample_rate)
    for count in expected.rates:
        coder = tokenizer.at(count)
        assert coder.bitrate_bps == pytest.approx(count * expected.code_bps)
        assert coder.name == f"{make.__name__} {count * expected.code_bps / 1000:.4g} kbps"
        passed = coder.code(audio)
        assert passed.audio.shape == audio.shape
        if make is tiny.encodec_stereo:
            # Chunks of 48000 samples begin every 47520: the third is of 960. Each has 32 bits for its level.
            assert passed.bits == count * 6 * (150 + 150 + 3) + 3 * 32
        else:
            # Two seconds, up to the one frame with which the end is filled up.
            assert 0 <= passed.bits / count - 2 * expected.code_bps <= tokenizer.code_bits


@everyone
def test_scores_are_those_of_what_transformers_makes(folders, make, tmp_path):
    expected = tiny.EXPECTED[make]
    audio = noise(expected.channels, expected.sample_rate)
    soundfile.write(tmp_path / "a.wav", audio.T, expected.sample_rate, subtype="FLOAT")
    count = expected.rates[-2:][0]
    options = {
        tiny.dac: {"n_quantizers": count},
        tiny.mimi: {"num_quantizers": count},
        tiny.xcodec2: {},
    }.get(make, {"bandwidth": round(count * expected.code_bps / 1000, 3)})
    found = evaluate(f"hf:{folders[make]}", tmp_path / "a.wav", metrics=NAMES, num_codebooks=count, device="cpu")
    made = by_transformers(folders[make], audio, expected.sample_rate, **options)
    assert found.sample_rate == expected.sample_rate
    scores = SignalScores(expected.sample_rate, NAMES)(made, audio)
    for name in NAMES:
        assert found.files[0].scores[name] == pytest.approx(scores[name], rel=1e-3)
    assert found.overall["nominal_bitrate_bps"] == pytest.approx(count * expected.code_bps)
    assert found.overall["entropy_coded_bitrate_bps"] is None  # its codes have a fixed length
    assert found.files[0].scores["bitrate_bps"] >= found.overall["nominal_bitrate_bps"]  # whole frames
    assert found.overall["encode_rtf"] > 0
    model = transformers.AutoModel.from_pretrained(folders[make])
    assert found.overall["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_time_of_the_encoder_ends_when_the_gpu_has_finished(folders, monkeypatch):
    tokenizer, done = load_tokenizer(f"hf:{folders[tiny.encodec]}"), []
    coder = tokenizer.at()
    encode, decode = tokenizer.encode, tokenizer.decode
    monkeypatch.setattr(tokenizer, "encode", lambda *given: (done.append("encode"), encode(*given))[1])
    monkeypatch.setattr(tokenizer, "decode", lambda *given: (done.append("decode"), decode(*given))[1])
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: done.append("wait"))
    coder.code(noise(1, 24000))
    gpu = SimpleNamespace(device=torch.device("cuda"), encode=tokenizer.model.encode)
    monkeypatch.setattr(tokenizer, "encode", lambda *given: (done.append("encode"), coded)[1])
    coded = encode(noise(1, 24000), tokenizer.modes[8])
    monkeypatch.setattr(tokenizer, "decode", lambda *given: (done.append("decode"), noise(1, 24000))[1])
    monkeypatch.setattr(tokenizer, "model", gpu)
    coder.code(noise(1, 24000))
    assert done == ["encode", "decode", "encode", "wait", "decode"]


def test_audio_is_resampled_and_channels_are_coded_alone(folders):
    coder = load_tokenizer(f"hf:{folders[tiny.encodec]}").at()
    audio = noise(2, 32000)
    passed = through(coder, audio, 16000, 2)
    assert passed.audio.shape == audio.shape
    for channel, found in zip(audio, passed.audio, strict=True):
        made = by_transformers(folders[tiny.encodec], soxr.resample(channel, 16000, 24000)[None], 24000, bandwidth=3.6)
        assert np.allclose(found, soxr.resample(made[0], 24000, 16000), atol=1e-5)
    assert passed.bits == 2 * (2 * 3600)


def test_a_stereo_tokenizer_takes_mono_as_two_alike_and_any_length(folders):
    coder = load_tokenizer(f"hf:{folders[tiny.encodec_stereo]}").at()
    mono = noise(1, 48000)
    both = coder.code(np.repeat(mono, 2, axis=0))
    assert np.allclose(coder.code(mono).audio, both.audio.mean(axis=0), atol=1e-6)
    # Around the beginnings of chunks, where transformers by itself fails with a last but one that is not whole.
    for length in (1, 400, 47521, 48001, 95039, 95041, 95521):
        assert coder.code(noise(2, length)).audio.shape == (2, length)


def test_a_number_of_codebooks_that_is_no_rate_is_refused(folders):
    for make, words in (
        (tiny.encodec, "the first 2, 4 or 8"),
        (tiny.mimi, "the first 1 to 6"),
        (tiny.xcodec2, "all 1"),
    ):
        with pytest.raises(UsageError, match=f"--codebooks: {make.__name__} codes with {words}.*, got 9"):
            load_tokenizer(f"hf:{folders[make]}").at(9)


def test_without_the_package_its_installation_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"hf:x: needs the package transformers; pip install 'discrete-ae\[codecs\]'"):
        load_tokenizer("hf:x")


def altered(folder, target, **changes):
    """A copy of a tokenizer with another config.json."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_what_cannot_be_used_is_refused_in_one_line(folders, tmp_path):
    encodec = folders[tiny.encodec]
    remote = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}
    cases = {
        "nowhere": "is neither a model folder nor in Hugging Face's cache; .* hf download NAME",
        altered(encodec, tmp_path / "garbled").name: "its config.json cannot be read",
        altered(encodec, tmp_path / "foreign", model_type="x", auto_map=remote).name: "type x, and .* code is not run",
        altered(encodec, tmp_path / "pickled").name: "no safetensors weights, and pickled weights are not read",
        altered(encodec, tmp_path / "mute").name: "its preprocessor_config.json cannot be used",
        altered(encodec, tmp_path / "cut").name: "its model cannot be loaded",
        altered(encodec, tmp_path / "other", num_filters=8).name: "weights do not fit its config.json, .* decoder",
        altered(encodec, tmp_path / "partial").name: "weights do not fit its config.json, .* decoder.layers.0",
        tiny.save(tiny.hubert, tmp_path / "deaf").name: "is a model of type hubert, which does not code audio",
        tiny.save(tiny.pocket, tmp_path / "numbers").name: "no audio_codes",
        tiny.save(
            tiny.mimi, tmp_path / "uneven", frame_rate=13
        ).name: "expected 26 frames for 48000 samples, .* got 50",
    }
    (tmp_path / "pickled/model.safetensors").rename(tmp_path / "pickled/pytorch_model.bin")
    (tmp_path / "garbled/config.json").write_text("{")
    (tmp_path / "mute/preprocessor_config.json").unlink()
    tensors = load_file(tmp_path / "partial/model.safetensors")
    partial = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.layers.0")}
    save_file(partial, tmp_path / "partial/model.safetensors", {"format": "pt"})
    weights = (tmp_path / "cut/model.safetensors").read_bytes()
    (tmp_path / "cut/model.safetensors").write_bytes(weights[: len(weights) // 2])
    for name, words in cases.items():
        with pytest.raises(DataError, match=words) as refused:
            load_tokenizer(f"hf:{tmp_path / name}")
        assert str(refused.value).startswith(f"hf:{tmp_path / name}: ")
        assert "\n" not in str(refused.value)


EVALUATE = """
import sys
from discrete_ae.cli.main import main

for name in ("tiny", "else"):
    try:
        main(["evaluate", "a.wav", "-c", f"hf:someone/{name}", "--metrics", "si_sdr_db"])
    except SystemExit as ended:
        print("status", ended.code or 0)
        print("then:", file=sys.stderr)
"""


@pytest.mark.slow  # a process
def test_a_name_is_found_in_the_cache_and_nowhere_else(folders, tmp_path):
    snapshot = tmp_path / "hub/models--someone--tiny/snapshots/0123456789012345678901234567890123456789"
    shutil.copytree(folders[tiny.encodec], snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(snapshot.name)
    soundfile.write(tmp_path / "a.wav", noise(1, 24000)[0], 24000)
    variables = {"HF_HUB_CACHE": str(tmp_path / "hub"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", EVALUATE]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, check=True)
    assert "tiny 3.6 kbps: 1 recording" in done.stdout
    assert done.stdout.split("status ")[1:] == ["0\n", "1\n"]
    of_the_first, of_the_other, _ = done.stderr.split("then:\n")
    assert of_the_first == ""
    (line,) = of_the_other.splitlines()
    assert line.startswith("error: hf:someone/else: is neither a model folder")
