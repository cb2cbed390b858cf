"""What people would use instead, as baselines of a comparison, where its program is installed.

Axes: C channels, N samples.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discrete_ae.data.files import AudioFile
from discrete_ae.data.reading import stream_audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.coded import Coded, Failed, Pair
from discrete_ae.evaluation.evaluate import Plan, Usage, evaluation_of
from discrete_ae.evaluation.programs import (
    CODEC2_BITS,
    OPUS_BPS,
    Codec2,
    Opus,
    Passed,
    Program,
    codec2_installed,
    opus_installed,
    through,
)
from discrete_ae.evaluation.recordings import Source, opened
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.segments import cut, segment_lengths
from discrete_ae.evaluation.timing import timed_audio

Audio = NDArray[np.float32]

PIECE_S = 300.0
"""Longer recordings go through a program in pieces of about this length, so that memory is bounded."""


class BaselineCodec(NamedTuple):
    """A program at one bitrate, and the channels that it is given together."""

    program: Program
    version: str
    """Of the program."""
    keeps_waveform: bool = True
    """Whether what it makes is meant to be the waveform it is given, so that SI-SDR says something of it."""

    @property
    def name(self) -> str:
        """Such as "opus 6 kbps"."""
        return self.program.name

    def reconstruct(self, audio: Audio, sample_rate: int, channels: int = 1) -> Passed:
        """What it makes of audio, of the same shape and rate and aligned with it.

        Args:
            audio: (C, N), N >= 1.
            sample_rate: in Hz.
            channels: as many are coded together, as a model of so many does; C is a multiple of it. Codec 2 codes every
                channel alone whatever is said.

        Raises:
            DataError: the program fails.
        """
        together = channels if channels <= self.program.max_channels else 1
        streams = [through(self.program, audio[i : i + together], sample_rate) for i in range(0, len(audio), together)]
        return Passed(
            np.concatenate([stream.audio for stream in streams]),
            math.fsum(stream.bits for stream in streams),
            math.fsum(stream.encode_s for stream in streams),
            math.fsum(stream.decode_s for stream in streams),
        )


class Baselines(NamedTuple):
    """What there is to compare with."""

    there: list[BaselineCodec]
    """Without repetitions, in the order of their bitrates."""
    absent: list[str]
    """One line for every program that is not installed."""


def baselines(nominal_bps: Sequence[float]) -> Baselines:
    """Opus and Codec 2, each at the bitrate nearest to each of these that it can do.

    Args:
        nominal_bps: of what is to be compared, for a stream; those that are not finite or not above 0 are left out.
    """
    wanted = [bps for bps in nominal_bps if math.isfinite(bps) and bps > 0]
    absent = []
    programs: dict[str, BaselineCodec] = {}
    opus, codec2 = opus_installed(), codec2_installed()
    if opus.is_there:
        least, most = OPUS_BPS
        found = [BaselineCodec(Opus(float(min(max(round(bps), least), most))), opus.version) for bps in wanted]
        programs |= {baseline.name: baseline for baseline in found}
    else:
        absent.append("Opus is left out: opusenc and opusdec are not installed (package opus-tools)")
    if codec2.is_there:
        modes = [Codec2(mode) for mode in CODEC2_BITS]
        for bps in wanted:
            nearest = min(modes, key=lambda mode: abs(mode.bitrate_bps - bps))
            programs[nearest.name] = BaselineCodec(nearest, codec2.version, keeps_waveform=False)
    else:
        absent.append("Codec 2 is left out: c2enc and c2dec are not installed (package codec2)")
    return Baselines(sorted(programs.values(), key=lambda baseline: baseline.program.bitrate_bps), absent)


def evaluate_baseline(
    baseline: BaselineCodec, sources: Sequence[Source], sample_rate: int, channels: int = 1, plan: Plan | None = None
) -> Evaluation:
    """As `evaluate`, of a program.

    Real-time factors are of the program as it is: with its start and its files.

    Args:
        baseline: of `baselines`.
        sources: the recordings.
        sample_rate: at which reconstructions are compared, in Hz: that of the models beside it.
        channels: of these models; 1 codes every channel alone.
        plan: how.

    Raises:
        DataError: not one recording could be coded.
        UsageError: segments of the plan's length are not possible.
    """
    plan = plan or Plan()
    figures: dict[str, float | None] = {"nominal_bitrate_bps": baseline.program.bitrate_bps}
    settings: dict[str, str | int | float | None] = {"channels": channels}
    if plan.timing and (audio := timed_audio(sources, sample_rate, channels)).shape[1]:
        passed, audio_s = baseline.reconstruct(audio, sample_rate, channels), audio.shape[1] / sample_rate
        figures |= {"encode_rtf": passed.encode_s / audio_s, "decode_rtf": passed.decode_s / audio_s}
        settings |= {"rtf_device": "cpu, a program started and given a file", "rtf_audio_s": audio_s}
    coded = _coded_by_program(baseline, sources, sample_rate, channels, plan.segment_seconds, plan.failed)
    version = {baseline.name: baseline.version}
    return evaluation_of(coded, baseline.name, sample_rate, plan, figures, settings, Usage(), None, version)


def _coded_by_program(
    baseline: BaselineCodec,
    sources: Sequence[Source],
    sample_rate: int,
    channels: int,
    segment_seconds: float,
    failed: Failed,
) -> Iterator[Coded]:
    for source in sources:
        try:
            file = opened(source.path, channels)
        except DataError as error:
            failed(source, error)
            continue
        coded = Coded(source, file.duration_s, iter(()), 0.0)
        coded.pairs = _pairs(baseline, coded, file, sample_rate, channels, segment_seconds)
        yield coded


def _pairs(
    baseline: BaselineCodec, coded: Coded, file: AudioFile, sample_rate: int, channels: int, segment_seconds: float
) -> Iterator[Pair]:
    lengths = segment_lengths(-(-file.num_frames * sample_rate // file.sample_rate), sample_rate, segment_seconds)
    count = max(1, int(PIECE_S // segment_seconds))
    pieces = [lengths[start : start + count] for start in range(0, len(lengths), count)]
    blocks = stream_audio(file, sample_rate, channels if file.channels == 1 else None)
    bits = 0.0
    for segments, original in zip(pieces, cut(blocks, map(sum, pieces)), strict=True):
        passed = baseline.reconstruct(original, sample_rate, channels)
        bits += passed.bits
        yield from map(Pair, cut([passed.audio], segments), cut([original], segments))
    coded.bits = bits
