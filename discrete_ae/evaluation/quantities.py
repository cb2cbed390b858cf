"""What is measured of a codec: names, units, and which way is better."""

from typing import NamedTuple

SEGMENT_S = 30.0
"""Longer recordings are scored in segments of this length, unless another is asked for."""


class Quantity(NamedTuple):
    """One column of every table."""

    name: str
    """In files: CSV columns, JSON keys."""
    label: str
    """In tables and plots."""
    unit: str
    """Empty for a pure number."""
    higher_is_better: bool | None
    """None where neither is."""
    digits: int
    """After the point, in tables."""
    meaning: str
    """One sentence for a person who has not met it."""


PER_FILE = (
    Quantity("mel_distance", "mel distance", "", False, 3,
             "mean |log10| difference of mel spectrograms at seven window lengths"),
    Quantity("stft_distance", "STFT distance", "", False, 3,
             "spectral convergence plus log magnitude difference, mean of three window lengths"),
    Quantity("si_sdr_db", "SI-SDR", "dB", True, 2, "scale-invariant signal-to-distortion ratio of the waveform"),
    Quantity("stoi", "STOI", "", True, 3, "short-time objective intelligibility of speech, 0 to 1"),
    Quantity("pesq", "PESQ", "MOS", True, 2, "wideband perceptual evaluation of speech quality, 1 to 4.64"),
    Quantity("bitrate_bps", "bitrate", "bps", None, 0, "bits of the entropy-coded payload for each second of audio"),
)  # fmt: skip
"""Of every recording by itself, and as a mean over recordings."""

OVERALL = (
    Quantity("usage", "usage", "", True, 3, "share of codebook entries used at least once over all recordings"),
    Quantity("perplexity", "perplexity", "", True, 1, "exp of the entropy of the codes, mean over codebooks"),
    Quantity("entropy_bits", "entropy", "bits/frame", None, 1, "entropy of the codes, summed over codebooks"),
    Quantity("nominal_bitrate_bps", "nominal bitrate", "bps", None, 0,
             "bits per frame times frame rate; of each channel where channels are coded alone"),
    Quantity("entropy_coded_bitrate_bps", "entropy-coded bitrate", "bps", None, 0,
             "bits of all entropy-coded payloads over all seconds of audio"),
    Quantity("encode_rtf", "encode RTF", "", False, 4, "seconds of computing per second of audio, recording to codes"),
    Quantity("decode_rtf", "decode RTF", "", False, 4, "seconds of computing per second of audio, codes to audio"),
    Quantity("parameters", "parameters", "", None, 0, "numbers that training optimized"),
    Quantity("macs_per_second", "MACs/s", "", None, 0, "multiply-accumulates for each second of audio"),
)  # fmt: skip
"""Of all recordings together, or of the model alone."""

QUANTITIES = {quantity.name: quantity for quantity in (*PER_FILE, *OVERALL)}
