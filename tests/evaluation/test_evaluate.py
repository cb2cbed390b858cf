"""Evaluation measures the codec's own output; totals follow from the scores of files by arithmetic."""

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.codec import Codec
from discrete_ae.codes import read_daec_header, write_codes
from discrete_ae.data import measure
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.coded import real_time_factors, reconstruct
from discrete_ae.evaluation.evaluate import Plan, evaluate, evaluate_model
from discrete_ae.evaluation.recordings import Source, find_sources
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import choose
from discrete_ae.evaluation.scoring import SignalScores

NAMES = ("mel_distance", "stft_distance", "si_sdr_db")
PLAN = Plan(choose(NAMES), segment_seconds=1, jobs=2, timing=False)


@pytest.fixture(scope="module")
def model(ste_run):
    return discrete_ae.load(ste_run / "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def identity(run_training):
    return discrete_ae.load(run_training("quantizer=identity", "trainer.max_steps=1") / "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """2.5 s of mono at the model's rate, 1.3 s of stereo at another, and a very short one."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for name, rate, length, channels in (("a", 16000, 40000, 1), ("b/c", 22050, 28665, 2), ("d", 16000, 7, 1)):
        (root / name).parent.mkdir(exist_ok=True)
        soundfile.write(root / f"{name}.wav", random.uniform(-0.5, 0.5, (length, channels)), rate, subtype="FLOAT")
    return root


@pytest.fixture(scope="module")
def evaluation(model, corpus):
    return evaluate_model(model, find_sources([corpus]).sources, "ste", PLAN)


def test_scores_are_means_over_segments_by_length(model, corpus, evaluation):
    assert [file.path for file in evaluation.files] == ["a.wav", "b/c.wav", "d.wav"]
    original = read_audio(corpus / "a.wav", 16000)
    found = Codec(model).decode_file(Codec(model).encode_file(corpus / "a.wav"))
    score = SignalScores(16000, NAMES)
    # 2.5 s in segments of 1 s: what is left is shorter than a second, and goes to the one before.
    first, second = score(found[:, :16000], original[:, :16000]), score(found[:, 16000:], original[:, 16000:])
    for name in NAMES:
        expected = (first[name] * 16000 + second[name] * 24000) / 40000
        assert evaluation.files[0].scores[name] == pytest.approx(expected, rel=1e-9)


def test_channels_are_coded_alone_and_compared_at_the_rate_of_the_model(model, corpus, evaluation):
    original = read_audio(corpus / "b/c.wav", 16000)
    found = np.concatenate([reconstruct(model, channel[None]) for channel in original])
    expected = SignalScores(16000, NAMES)(found, original)  # 1.3 s are one segment
    assert evaluation.files[1].duration_s == 1.3
    for name in NAMES:
        assert evaluation.files[1].scores[name] == pytest.approx(expected[name], rel=1e-5)


def test_bits_and_codes_are_those_of_the_files(model, corpus, evaluation, tmp_path):
    code_files = [Codec(model).encode_file(corpus / file.path) for file in evaluation.files]
    total = 0
    for code_file, file in zip(code_files, evaluation.files, strict=True):
        write_codes(code_file, tmp_path / "x.daec", "daec", model.entropy_model)
        bits = 8 * read_daec_header(tmp_path / "x.daec").payload_bytes
        assert file.scores["bitrate_bps"] == pytest.approx(bits / file.duration_s)
        total += bits
    joined = np.concatenate([frames for code_file in code_files for frames in code_file.codes], axis=-1)
    sizes = model.quantizer.codebook_sizes
    counts = [np.bincount(row, minlength=size) for row, size in zip(joined, sizes, strict=True)]
    assert evaluation.code_counts == tuple(tuple(row.tolist()) for row in counts)
    shares = [row[row > 0] / row.sum() for row in counts]
    entropy = -sum(float((share * np.log2(share)).sum()) for share in shares)
    overall = evaluation.overall
    assert overall["entropy_bits"] == pytest.approx(entropy, rel=1e-5)
    assert overall["usage"] == pytest.approx(np.mean([(row > 0).mean() for row in counts]))
    assert overall["entropy_coded_bitrate_bps"] == pytest.approx(total / (2.5 + 1.3 + 7 / 16000))
    assert overall["nominal_bitrate_bps"] == 2 * 8 * 50  # two codebooks of 256 entries, 50 frames per second
    assert overall["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert overall["macs_per_second"] > 0
    assert overall["encode_rtf"] is None  # not asked for
    assert evaluation.model_hash == model.model_hash
    assert evaluation.settings["entropy_model"] == model.entropy_model.fingerprint


def test_nothing_depends_on_jobs_and_time_is_measured(model, corpus, evaluation):
    told = []
    plan = PLAN._replace(jobs=1, timing=True, progress=lambda *done: told.append(done))
    again = evaluate_model(model, find_sources([corpus]).sources, "ste", plan)
    assert again.files == evaluation.files
    assert again.code_counts == evaluation.code_counts
    seconds = 2.5 + 1.3 + 7 / 16000
    assert told[-1] == ("ste", pytest.approx(seconds), pytest.approx(seconds))
    assert min(again.overall["encode_rtf"], again.overall["decode_rtf"]) > 0
    assert again.settings["rtf_audio_s"] == pytest.approx(seconds)


def test_no_recordings_are_refused_in_a_line(model):
    with pytest.raises(UsageError, match="data: expected recordings, folders or patterns, got none"):
        evaluate(model, [])


def test_of_several_passes_the_fastest_is_the_time(corpus):
    passes = iter([(3.0, 2.0), (1.0, 4.0), (0.0, 0.0)])
    found = real_time_factors(find_sources([corpus / "a.wav"]).sources, 16000, 1, lambda audio: next(passes))
    assert (found["encode_rtf"], found["decode_rtf"]) == pytest.approx((1.0 / 2.5, 2.0 / 2.5))  # 10 s are enough
    passes = iter([(3.0, 2.0), (1.0, 1.0), (2.0, 1.5), (0.0, 0.0)])
    found = real_time_factors(find_sources([corpus / "a.wav"]).sources, 16000, 1, lambda audio: next(passes))
    assert (found["encode_rtf"], found["decode_rtf"]) == pytest.approx((1.0 / 2.5, 1.0 / 2.5))


def test_a_model_without_codes_is_that_of_the_whole_in_segments_and_has_no_figures_of_codes(identity, corpus):
    found = evaluate_model(identity, find_sources([corpus]).sources, "identity", PLAN._replace(timing=True))
    assert [file.path for file in found.files] == ["a.wav", "b/c.wav", "d.wav"]
    audio = read_audio(corpus / "a.wav", 16000)
    with torch.no_grad():
        whole = identity(torch.from_numpy(audio)[None]).reconstruction[0].numpy()
    assert np.allclose(reconstruct(identity, audio), whole, atol=1e-5)
    score = SignalScores(16000, ["mel_distance"])  # of segments of 1 s, as above
    parts = [score(whole[:, part], audio[:, part])["mel_distance"] for part in (slice(16000), slice(16000, None))]
    assert found.files[0].scores["mel_distance"] == pytest.approx((parts[0] * 2 + parts[1] * 3) / 5, rel=1e-4)
    assert found.files[0].scores["bitrate_bps"] is None
    of_codes = ("usage", "perplexity", "entropy_bits", "nominal_bitrate_bps", "entropy_coded_bitrate_bps")
    assert [found.overall[name] for name in of_codes] == [None] * 5
    assert found.code_counts == ()
    assert found.overall["encode_rtf"] > 0


@pytest.mark.parametrize("which", ["model", "identity"])
def test_what_cannot_be_read_is_told_and_the_rest_is_done(request, corpus, tmp_path, which):
    codec = request.getfixturevalue(which)
    (tmp_path / "damaged.wav").write_bytes(b"RIFF and nothing else")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    sources = [Source(tmp_path / name, name) for name in ("damaged.wav", "nan.wav", "none.wav")]
    found = evaluate_model(codec, [*sources, Source(corpus / "a.wav", "a.wav")], which, PLAN)
    assert [file.path for file in found.files] == ["a.wav"]
    assert [one.path for one in found.failures] == ["damaged.wav", "nan.wav", "none.wav"]
    assert all(one.reason.startswith(str(tmp_path)) for one in found.failures)
    assert found.files[0].sha256 == hashlib.sha256((corpus / "a.wav").read_bytes()).hexdigest()
    with pytest.raises(DataError, match="no recording could be evaluated"):
        evaluate_model(codec, sources, which, PLAN._replace(timing=True))


def test_a_model_gone_wrong_is_told(ste_run, corpus):
    broken = discrete_ae.load(ste_run / "checkpoints/last.ckpt")
    with torch.no_grad():
        for parameter in broken.from_latents.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(
        DataError, match=f"no recording could be evaluated.*{corpus / 'a.wav'}: these codes decode to NaN"
    ):
        evaluate_model(broken, [Source(corpus / "a.wav", "a.wav")], "broken", PLAN)


def test_a_checkpoint_and_a_folder_become_a_file_with_its_run_and_clips(ste_run, corpus, tmp_path):
    path = ste_run / "checkpoints/last.ckpt"
    found = evaluate(path, corpus, tmp_path / "x.json", metrics=["si_sdr_db"], clips=3, clip_seconds=0.5, device="cpu")
    assert Evaluation.read_json(tmp_path / "x.json") == found
    assert (found.codec, found.run.quantizer, found.run.seed) == (str(path), "ste", 0)
    assert (found.run.folder, found.run.checkpoint) == (str(ste_run), "checkpoints/last.ckpt")
    assert found.run.config["trainer"]["max_steps"] == 4
    assert [(clip.recording, clip.duration_s) for clip in found.clips[:2]] == [("a.wav", 0.5), ("b/c.wav", 0.5)]
    for clip, channels in zip(found.clips, (1, 2), strict=False):
        original, decoded = (read_audio(tmp_path / name, 16000) for name in (clip.original, clip.decoded))
        assert original.shape == decoded.shape == (channels, 8000)
        expected = read_audio(corpus / clip.recording, 16000, None, clip.start_s, 0.5)
        assert np.abs(original - expected).max() <= 2**-14
        rendered = np.concatenate([reconstruct(discrete_ae.load(path), channel[None]) for channel in expected])
        assert np.abs(decoded - rendered.clip(-1, 1)).max() <= 2**-14


def test_saved_audio_is_what_was_compared_under_names_of_its_own(model, recordings, tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    clip = (recordings / "clip_0.wav").read_bytes()
    for name in ("a/x y.wav", "a_x_y.wav", "A_x_y.wav", "b.v2.wav"):
        (tmp_path / "in" / name).write_bytes(clip)
    (tmp_path / "in/damaged.wav").write_bytes(clip[:20])
    out = tmp_path / "pairs"
    found = evaluate(model, tmp_path / "in", metrics=["si_sdr_db"], segment_seconds=1, save_audio=out)
    lists = {}
    for kind in ("reference", "decoded"):
        lines = (out / f"{kind}.scp").read_text().splitlines()
        assert lines == sorted(lines)
        lists[kind] = dict(line.split(maxsplit=1) for line in lines)  # as VERSA and Kaldi read it
        assert {str(path) for path in (out / kind).iterdir()} == set(lists[kind].values())
    assert set(lists["reference"]) == set(lists["decoded"]) == {"A_x_y", "a_x_y-2", "a_x_y-3", "b.v2"}
    for name in lists["reference"]:
        reference, decoded = (read_audio(lists[kind][name], 16000) for kind in lists)
        assert np.abs(reference - read_audio(recordings / "clip_0.wav", 16000)).max() <= 2**-15
        # 16 bits are 90 dB below full scale, the codec's error a few.
        score = SignalScores(16000, ["si_sdr_db"])(decoded, reference)["si_sdr_db"]
        assert score == pytest.approx(found.files[0].scores["si_sdr_db"], abs=0.01)


def test_scores_are_there_where_the_disk_is_full_at_the_clips(model, corpus, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("discrete_ae.evaluation.saving.recorded_whole", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate(model, corpus, tmp_path / "out", metrics=["si_sdr_db"], clips=2, clip_seconds=0.5)
    found = Evaluation.read_json(tmp_path / "out" / "evaluation.json")
    assert (len(found.files) > 0, found.clips) == (True, ())
    assert (tmp_path / "out" / "evaluation.csv").exists()


def test_one_recording_of_huge_samples_ends_neither_timing_nor_clips(model, corpus, tmp_path):
    paths = [corpus / "a.wav", tmp_path / "huge.wav"]
    soundfile.write(paths[1], np.full(16000, 1e30), 16000, subtype="FLOAT")
    found = evaluate(model, paths, tmp_path / "out.json", metrics=["si_sdr_db"], clips=4, clip_seconds=0.5)
    assert [file.path for file in found.files] == ["a.wav"]
    (failure,) = found.failures
    assert failure.reason.startswith(f"{paths[1]}: its latents are NaN or infinite")
    assert {clip.recording for clip in found.clips} == {"a.wav"}
    assert found.overall["encode_rtf"] > 0


def test_what_cannot_be_sought_in_is_evaluated_and_heard(model, tmp_path):
    path = tmp_path / "gsm.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 16000), 8000, subtype="GSM610")
    found = evaluate(model, path, tmp_path / "out.json", metrics=["si_sdr_db"], clips=2, clip_seconds=0.5)
    assert (len(found.files), len(found.clips), found.failures) == (1, 2, ())


def test_with_strict_a_recording_of_another_length_than_it_says_is_a_failure(model, corpus, tmp_path):
    content = (corpus / "a.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(content[: len(content) // 2])
    (tmp_path / "y.wav").write_bytes(content)
    for strict, names in ((False, ["x.wav", "y.wav"]), (True, ["y.wav"])):
        found = evaluate(model, tmp_path, metrics=["si_sdr_db"], strict=strict)
        assert [file.path for file in found.files] == names
        assert len(found.failures) == 2 - len(names)
    assert found.failures[0].path == str(tmp_path / "x.wav")


def test_jobs_and_measurements_use_the_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(1), raising=False)
    threads = []
    monkeypatch.setattr(measure, "ThreadPoolExecutor", lambda count: threads.append(count) or ThreadPoolExecutor(count))
    measure.measure_all([])
    assert (threads, Plan(choose()).num_jobs) == ([1], 1)
