"""Scores of pairs against closed forms."""

import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import soxr

from discrete_ae.errors import UsageError
from discrete_ae.evaluation import scores as scores_module
from discrete_ae.evaluation.perceptual import perceptual_score, weighted_mean
from discrete_ae.evaluation.scores import NAMES, SCORES, choose
from discrete_ae.evaluation.scoring import SignalScores

OWN = [name for name in NAMES if not SCORES[name].packages]


def perceptual_scores(found, original, rate, names):
    return {name: perceptual_score(found, original, rate, name) for name in names}


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32)


@pytest.fixture
def speechlike():
    """A second of noise in bursts of 0.5 s with pauses, three times: what STOI and PESQ take for speech."""
    random = np.random.default_rng(1)
    envelope = np.tile(np.repeat([1.0, 0.05], 8000), 3)
    return (0.1 * envelope * random.standard_normal((1, 48000))).astype(np.float32)


def test_weighted_mean():
    assert weighted_mean([(1, 2.0), (3, 6.0), (5, None)]) == 5.0
    assert weighted_mean([(1, None)]) is None
    assert weighted_mean([]) is None
    assert math.isnan(weighted_mean([(1, 2.0), (1, math.nan), (1, None)]))  # a lost one is not left out


def test_the_same_signal_is_perfect(noise):
    scores = SignalScores(16000, NAMES)(noise, noise)
    assert list(scores) == OWN
    assert scores["mel_distance"] == 0
    assert scores["stft_distance"] == 0
    assert scores["si_sdr_db"] == pytest.approx(100, abs=0.01)  # the limit


def test_half_the_level_is_known(noise):
    scores = SignalScores(16000, OWN)(noise / 2, noise)
    assert scores["mel_distance"] == pytest.approx(math.log10(2), rel=1e-5)
    assert scores["stft_distance"] == pytest.approx(1 / 2 + math.log(2), rel=1e-5)
    assert scores["si_sdr_db"] == pytest.approx(100, abs=0.01)


def test_si_sdr_is_the_mean_over_the_channels_that_are_not_silent(noise):
    time = np.arange(16000) / 16000
    tone, other = (np.sin(2 * np.pi * frequency * time).astype(np.float32) for frequency in (100, 300))  # orthogonal
    original = np.stack([tone, tone, 0 * tone])
    found = np.stack([tone + 0.1 * other, tone + 0.01 * other, other])
    scores = SignalScores(16000, ["si_sdr_db"])(found, original)
    assert scores == {"si_sdr_db": pytest.approx((20 + 40) / 2, abs=0.01)}


def test_what_float32_does_not_hold_is_lost(noise):
    assert math.isnan(SignalScores(16000, OWN)(noise * 1e30, noise)["mel_distance"])


@pytest.mark.parametrize("length", [1, 2, 10, 1000])
def test_short_signals_have_scores_or_none_and_so_has_silence(noise, length):
    short = noise[:, :length]
    for name, score in SignalScores(16000, OWN)(short * 0.9, short).items():
        assert math.isfinite(score) if score is not None else length == 1
        if not SCORES[name].of_silence:
            assert SignalScores(16000, [name])(short, short * 0) == {name: None}
    assert SignalScores(16000, ["si_sdr_db"])(short[:, :1] * 0.9, short[:, :1]) == {"si_sdr_db": None}


def test_channels_where_a_score_is_not_defined_do_not_count(speechlike):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    names = ["stoi", "pesq"]
    silent = np.zeros_like(speechlike)
    alone = perceptual_scores(speechlike * 0.5, speechlike, 16000, names)
    both = perceptual_scores(np.vstack([speechlike] * 2) * 0.5, np.vstack([speechlike, silent]), 16000, names)
    assert both == alone
    assert perceptual_scores(speechlike, silent, 16000, names) == dict.fromkeys(names)
    for length in (1, 100, 3000):
        short = speechlike[:, :length]
        assert perceptual_scores(short, short, 16000, names) == dict.fromkeys(names)


def test_pesq_is_given_short_pieces(speechlike, monkeypatch):
    """Of 50 utterances and more, ITU's program writes beyond its arrays."""
    pesq = pytest.importorskip("pesq")
    given = []
    monkeypatch.setattr(pesq, "pesq", lambda rate, wanted, found, mode: given.append(len(wanted)) or len(wanted) / 1000)
    long = np.resize(speechlike, (1, 40 * 16000 + 1))
    scores = perceptual_scores(long, long, 16000, ["pesq"])
    assert sum(given) == 40 * 16000 + 1
    assert max(given) <= 15 * 16000
    assert scores["pesq"] == pytest.approx(sum(length**2 for length in given) / sum(given) / 1000)  # weighted


@pytest.mark.parametrize(("own", "is_lost"), [(4.6, True), (None, False)])
def test_where_pesq_finds_no_utterances_it_is_the_original_that_decides(speechlike, monkeypatch, own, is_lost):
    pesq = pytest.importorskip("pesq")

    def of(rate, wanted, found, mode):
        if own is None or not np.array_equal(wanted, found):
            raise pesq.NoUtterancesError
        return own

    monkeypatch.setattr(pesq, "pesq", of)
    score = perceptual_scores(speechlike * 0.5, speechlike, 16000, ["pesq"])["pesq"]
    assert math.isnan(score) if is_lost else score is None


def absent(monkeypatch, *packages):
    """As where these are not installed."""

    def version(package):
        if package in packages:
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(scores_module, "version", version)


def test_choice(monkeypatch):
    absent(monkeypatch)
    assert choose(["si_sdr_db", "mel_distance"]).names == ("mel_distance", "si_sdr_db")
    assert choose(["dnsmos_p808"]).names == ("dnsmos_p808", "dnsmos_p808_original")
    assert choose().names == tuple(name for name, score in SCORES.items() if score.by_default)
    assert choose(["all"]).names == tuple(SCORES)
    assert {"mel_distance", "pesq"} < set(choose().names) < set(choose(["all"]).names)
    for wrong in (["mel"], [], ["dnsmos_p808_original"], ["all", "pesq"]):
        with pytest.raises(UsageError, match="mel_distance, stft_distance"):
            choose(wrong)


def test_absent_packages_leave_their_scores_out(monkeypatch):
    absent(monkeypatch, "pesq", "librosa", "pystoi")
    assert choose().missing == ("stoi", "pesq")
    assert "pesq" not in choose().names
    assert choose(["mel_distance"]).missing == ()
    assert choose(["all"]).said.startswith("STOI, PESQ, DNSMOS P.808, DNSMOS OVRL left out: pip install")
    with pytest.raises(UsageError, match=r"pesq .*pip install 'discrete-ae\[quality\]'"):
        choose(["pesq"])


def test_every_score_names_its_version():
    choice = choose(["all"])
    assert set(choice.versions()) == {"discrete-ae", "torch", *choice.names}
    for name in choice.names:
        assert all(f"{package} {version(package)}" in choice.versions()[name] for package in SCORES[name].packages)


def test_every_score_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs/scores.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


@pytest.fixture(scope="module")
def speech():
    """5 s of a voice at 16 kHz."""
    from discrete_ae.data.files import recordings_root
    from discrete_ae.data.reading import read_audio

    return read_audio(recordings_root() / "validation/speech_ru_0473.flac", 16000, 1, duration_s=5)


def scored(name, found, wanted):
    if not SCORES[name].packages:
        return SignalScores(16000, [name])(found, wanted)[name]
    for package in SCORES[name].packages:
        try:
            version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: pip install 'discrete-ae[quality]'")
    return perceptual_score(found, wanted, 16000, name)


every_score = pytest.mark.parametrize(  # Numba compiles what ViSQOL and librosa compute
    "name", [pytest.param(name, marks=pytest.mark.slow if SCORES[name].packages else ()) for name in NAMES]
)


@every_score
def test_noise_makes_every_score_worse_the_more_the_louder_it_is(speech, name):
    """By white noise from 40 to 0 dB below the speech."""
    noise = np.random.default_rng(0).standard_normal(speech.shape).astype(np.float32)
    level = math.sqrt(float((speech**2).mean()))
    heard = [speech, *(speech + noise * level / 10 ** (snr_db / 20) for snr_db in (40, 25, 10))]
    scores = [scored(name, found, speech) for found in heard]
    assert scores == sorted(scores, reverse=SCORES[name].higher_is_better)
    assert len(set(scores)) == len(scores)


@every_score
def test_a_narrower_band_makes_every_score_worse(speech, name):
    """A codec that leaves out what is above 2 kHz, then above 1 kHz; P.835 was made for noise, and hardly hears it."""
    heard = [speech]
    for rate in (4000, 2000):
        narrow = soxr.resample(soxr.resample(speech.T, 16000, rate), rate, 16000).T
        heard.append(np.ascontiguousarray(np.resize(narrow, (1, speech.shape[1])).astype(np.float32)))
    scores = [scored(name, found, speech) for found in heard]
    assert scores == sorted(scores, reverse=SCORES[name].higher_is_better)


@pytest.mark.slow
def test_the_original_is_scored_beside_what_was_made_of_it(speech):
    noisy = speech + 0.02 * np.random.default_rng(0).standard_normal(speech.shape).astype(np.float32)
    for name in NAMES:
        if SCORES[name].reference_free:
            assert scored(f"{name}_original", noisy, speech) == scored(name, speech, speech)


@pytest.mark.slow
def test_closed_forms_of_the_same_signal(speech):
    assert scored("zimtohrli", speech, speech) == 0
    assert scored("visqol", speech, speech) > scored("visqol", 0 * speech, speech) == 1  # the ends of its scale
