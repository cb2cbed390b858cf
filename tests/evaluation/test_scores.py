"""Scores of pairs against closed forms, and the choice of them."""

import functools
import math
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import soxr

from discrete_ae.data import read_audio, recordings_root
from discrete_ae.errors import UsageError
from discrete_ae.evaluation import scores as scores_module
from discrete_ae.evaluation.perceptual import perceptual_score, weighted_mean
from discrete_ae.evaluation.scores import NAMES, SCORES, choose
from discrete_ae.evaluation.scoring import SignalScores

OWN = [name for name in NAMES if not SCORES[name].packages]


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32)


@pytest.fixture
def speechlike():
    """A second of noise in bursts of 0.5 s with pauses, three times: what STOI and PESQ take for speech."""
    envelope = np.tile(np.repeat([1.0, 0.05], 8000), 3)
    return (0.1 * envelope * np.random.default_rng(1).standard_normal((1, 48000))).astype(np.float32)


def test_weighted_mean():
    assert weighted_mean([(1, 2.0), (3, 6.0), (5, None)]) == 5.0
    assert weighted_mean([(1, None)]) is None
    assert math.isnan(weighted_mean([(1, 2.0), (1, math.nan), (1, None)]))  # a lost one is not left out


def test_own_scores_have_closed_forms_at_every_level(noise):
    for level in (1, 1 / 2):
        scores = SignalScores(16000, NAMES)(noise * level, noise)
        assert list(scores) == OWN
        assert scores["mel_distance"] == pytest.approx(-math.log10(level), rel=1e-5)
        assert scores["stft_distance"] == pytest.approx(1 - level - math.log(level), rel=1e-5)
        assert scores["si_sdr_db"] == pytest.approx(100, abs=0.01)  # the limit
    # What float32 does not hold is lost.
    assert math.isnan(SignalScores(16000, OWN)(noise * 1e30, noise)["mel_distance"])


@pytest.mark.parametrize("length", [1, 2, 1000])
def test_short_signals_have_scores_or_none_and_so_has_silence(noise, length):
    short = noise[:, :length]
    for name, score in SignalScores(16000, OWN)(short * 0.9, short).items():
        assert math.isfinite(score) if score is not None else length == 1
        if not SCORES[name].of_silence:
            assert SignalScores(16000, [name])(short, short * 0) == {name: None}


@pytest.mark.parametrize("name", ["stoi", "pesq"])
def test_channels_where_a_score_is_not_defined_do_not_count(speechlike, name):
    pytest.importorskip({"stoi": "pystoi"}.get(name, name))
    silent = np.zeros_like(speechlike)
    alone = perceptual_score(speechlike * 0.5, speechlike, 16000, name)
    both = perceptual_score(np.vstack([speechlike] * 2) * 0.5, np.vstack([speechlike, silent]), 16000, name)
    assert both == alone
    for original in (silent, *(speechlike[:, :length] for length in (1, 100, 3000))):
        assert perceptual_score(original, original, 16000, name) is None


def test_pesq_is_given_short_pieces(speechlike, monkeypatch):
    """PESQ gets pieces of at most 15 s, since ITU's program writes beyond its arrays from 50 utterances on."""
    pesq = pytest.importorskip("pesq")
    given = []
    monkeypatch.setattr(pesq, "pesq", lambda rate, wanted, found, mode: given.append(len(wanted)) or len(wanted) / 1000)
    long = np.resize(speechlike, (1, 40 * 16000 + 1))
    score = perceptual_score(long, long, 16000, "pesq")
    assert sum(given) == 40 * 16000 + 1
    assert max(given) <= 15 * 16000
    assert score == pytest.approx(sum(length**2 for length in given) / sum(given) / 1000)  # weighted


@pytest.mark.parametrize(("own", "is_lost"), [(4.6, True), (None, False)])
def test_where_pesq_finds_no_utterances_it_is_the_original_that_decides(speechlike, monkeypatch, own, is_lost):
    pesq = pytest.importorskip("pesq")

    def of(rate, wanted, found, mode):
        if own is None or not np.array_equal(wanted, found):
            raise pesq.NoUtterancesError
        return own

    monkeypatch.setattr(pesq, "pesq", of)
    score = perceptual_score(speechlike * 0.5, speechlike, 16000, "pesq")
    assert math.isnan(score) if is_lost else score is None


@pytest.fixture
def absent(monkeypatch):
    """The packages that are not installed: none until some are added."""
    packages = set()

    def version(package):
        if package in packages:
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(scores_module, "version", version)
    return packages


def test_choice(absent):
    assert choose(["si_sdr_db", "mel_distance"]).names == ("mel_distance", "si_sdr_db")
    assert choose("dnsmos_p808").names == ("dnsmos_p808", "dnsmos_p808_original")
    assert {"mel_distance", "pesq"} < set(choose().names) < set(choose(["all"]).names) == set(SCORES)
    for wrong in (["mel"], [], ["dnsmos_p808_original"], ["all", "pesq"]):
        with pytest.raises(UsageError, match="mel_distance, stft_distance"):
            choose(wrong)


def test_absent_packages_leave_their_scores_out(absent):
    absent |= {"pesq", "librosa", "pystoi"}
    assert choose().missing == ("stoi", "pesq")
    assert "pesq" not in choose().names
    assert choose(["mel_distance"]).missing == ()
    assert choose(["all"]).said.startswith("STOI, PESQ, DNSMOS P.808, DNSMOS OVRL left out: pip install")
    with pytest.raises(UsageError, match=r"pesq .*pip install 'discrete-ae\[quality\]'"):
        choose(["pesq"])


def test_every_score_names_its_version_and_is_in_the_documentation_and_the_extra():
    choice = choose(["all"])
    assert set(choice.versions()) == {"discrete-ae", "torch", *choice.names}
    for name in choice.names:
        assert all(f"{package} {version(package)}" in choice.versions()[name] for package in SCORES[name].packages)
    top = Path(__file__).parents[2]
    page = (top / "docs/scores.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []
    project = tomllib.loads((top / "pyproject.toml").read_text())["project"]
    extra = {re.match(r"[\w-]+", package)[0] for package in project["optional-dependencies"]["quality"]}
    assert {score.packages[0] for score in SCORES.values() if score.packages} <= extra


@pytest.fixture(scope="module")
def speech():
    """5 s of a voice at 16 kHz."""
    return read_audio(recordings_root() / "validation/speech_ru_0473.flac", 16000, 1, duration_s=5)


@pytest.fixture(scope="module", autouse=True)
def _dnsmos_is_computed_once():
    """Both of its scores are of the same signals, more than the four that it keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_dnsmos", functools.cache(scores_module._dnsmos.__wrapped__))
        yield


def scored(name, found, wanted):
    if not SCORES[name].packages:
        return SignalScores(16000, [name])(found, wanted)[name]
    if not SCORES[name].is_installed:
        pytest.skip("pip install 'discrete-ae[quality]'")
    return perceptual_score(found, wanted, 16000, name)


def noisy(speech, snr_db):
    noise = np.random.default_rng(0).standard_normal(speech.shape).astype(np.float32)
    return speech + noise * np.float32(math.sqrt(float((speech**2).mean())) / 10 ** (snr_db / 20))


def narrowed(speech, rate):
    narrow = soxr.resample(soxr.resample(speech.T, 16000, rate), rate, 16000).T
    return np.ascontiguousarray(np.resize(narrow, speech.shape).astype(np.float32))


@pytest.mark.parametrize(  # Numba compiles what ViSQOL and librosa compute
    "name", [pytest.param(name, marks=pytest.mark.slow if SCORES[name].packages else ()) for name in NAMES]
)
def test_noise_and_a_narrower_band_make_every_score_worse(speech, name):
    """White noise from 40 dB below the speech on; then no band above 2 kHz, then none above 1 kHz.

    Silence is worse than all of the noise, and noise counts in the second half and in the second channel too.
    """
    before = speech.copy()
    own = scored(name, speech, speech)
    noise = [own, *(scored(name, noisy(speech, snr_db), speech) for snr_db in (40, 25, 10))]
    assert noise == sorted(noise, reverse=SCORES[name].higher_is_better)
    assert len(set(noise)) == len(noise)
    band = [own, *(scored(name, narrowed(speech, rate), speech) for rate in (4000, 2000))]
    # P.835 was made for noise, and hardly hears the band.
    assert band == sorted(band, reverse=SCORES[name].higher_is_better)
    half, stereo = speech.shape[1] // 2, np.vstack([speech, speech])
    late = np.hstack([speech[:, :half], noisy(speech, 0)[:, half:]])
    in_one = np.vstack([speech, noisy(speech, 0)])
    silent = scored(name, 0 * speech, speech)
    for worse, better in (
        (silent, noise[-1]),
        (scored(name, late, speech), own),
        (scored(name, in_one, stereo), own),
    ):
        assert worse < better if SCORES[name].higher_is_better else worse > better
    assert np.array_equal(speech, before)
    if SCORES[name].reference_free:
        assert scored(f"{name}_original", noisy(speech, 20), speech) == own


@pytest.mark.slow
def test_closed_forms_of_the_same_signal(speech):
    assert scored("zimtohrli", speech, speech) == 0
    assert scored("visqol", speech, speech) > scored("visqol", 0 * speech, speech) == 1  # the ends of its scale


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert [SCORES["si_sdr_db"].shown(value) for value in (-0.001, -0.01)] == ["0.00", "-0.01"]
