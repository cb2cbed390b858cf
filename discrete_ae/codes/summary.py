"""Describe files and folders of codes as rows of a table. No torch here."""

from collections.abc import Iterable
from pathlib import Path

from discrete_ae.codes.code_file import in_words
from discrete_ae.codes.container import FORMATS, read_codes, read_daec_header, read_npy
from discrete_ae.codes.daec import DaecHeader
from discrete_ae.codes.manifest import has_manifest, read_manifest
from discrete_ae.codes.stream import decode_command, holds_stream, read_head
from discrete_ae.errors import DataError

Rows = list[tuple[str, str]]


def holds_codes(path: Path) -> bool:
    """Return whether a path is a file of codes (by its suffix), a folder of such files, or a stream of codes."""
    if path.is_dir():
        return has_manifest(path)
    return path.suffix.lower().removeprefix(".") in FORMATS or _is_stream(path)


def describe_codes(path: Path) -> Rows:
    """Return a description of a file of codes, or of the manifest of a folder.

    Raises:
        OSError: the file or manifest cannot be read.
        DataError: the file or manifest is damaged, or has no codes.
    """
    if path.is_dir():
        return _of_folder(path)
    if _is_stream(path):
        return _of_stream(path)
    if path.suffix.lower() == ".npy":
        codes = read_npy(path)
        return [
            *zip(("streams", "codebooks", "frames"), map(str, codes.shape), strict=True),
            ("range", f"{codes.min()} to {codes.max()}, as {codes.dtype}"),
            ("model", "unknown: a .npy file holds neither the model nor the sample rate"),
        ]
    info = read_daec_header(path) if path.suffix.lower() == ".daec" else read_codes(path)
    coding: Rows = []
    if isinstance(info, DaecHeader):
        size = path.stat().st_size
        payload_kbps, file_kbps = (8 * count / info.duration_s / 1000 for count in (info.payload_bytes, size))
        coding = [
            ("coding", f"{info.coding}, {info.payload_bytes} bytes in a file of {size}"),
            ("measured bitrate", f"{payload_kbps:.3g} kbps, {file_kbps:.3g} kbps with the file's header"),
            *([("entropy model", info.entropy_model)] if info.entropy_model else []),
        ]
    return [
        ("recording", f"{info.duration_s:.3f} s, {info.num_samples} samples at {info.sample_rate} Hz"),
        ("coded at", f"{info.model_sample_rate} Hz"),
        ("streams", str(info.streams)),
        ("frames", str(info.frames)),
        ("codebooks", in_words(info.codebook_sizes)),
        ("bits per frame, all streams", f"{info.bits_per_frame:g}"),
        ("bitrate of the codes", f"{info.code_bits / info.duration_s / 1000:.3g} kbps"),
        *coding,
        ("codes hash", info.model_hash),
    ]


def _is_stream(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return holds_stream(file)


def _of_stream(path: Path) -> Rows:
    with path.open("rb") as file:
        info = read_head(file)
        frames, rest = divmod(path.stat().st_size - file.tell(), info.frame_bytes)
    return [
        ("stream of codes", f"to decode it: {decode_command(path)}"),
        ("recording", f"{info.sample_rate} Hz"),
        ("coded at", f"{info.model_sample_rate} Hz"),
        ("streams", str(info.streams)),
        ("frames", f"{frames}, and {rest} of {info.frame_bytes} bytes of a truncated frame" if rest else str(frames)),
        ("codebooks", in_words(info.codebook_sizes)),
        ("codes hash", info.model_hash),
    ]


def _of_folder(folder: Path) -> Rows:
    entries = read_manifest(folder)
    if not entries:
        raise DataError(f"{folder}: its manifest is empty; encode a folder of recordings first")
    duration_s, size = sum(entry.duration_s for entry in entries), sum(entry.bytes for entry in entries)
    return [
        ("files of codes", f"{len(entries):,}"),
        ("recordings", f"{duration_s:,.1f} s"),
        ("streams", _alternatives(str(entry.streams) for entry in entries)),
        ("frames", f"{sum(entry.streams * entry.frames for entry in entries):,} in all streams"),
        ("codebooks", _alternatives(in_words(entry.codebook_sizes) for entry in entries)),
        ("bytes", f"{size:,}"),
        ("measured bitrate", f"{8 * size / duration_s / 1000:.3g} kbps with the files' headers"),
        ("codes hash", _alternatives(entry.model_hash for entry in entries)),
    ]


def _alternatives(values: Iterable[str]) -> str:
    """Return the common value, or the first few different ones."""
    found = list(dict.fromkeys(values))
    return " or ".join(found[:4]) + (f", and {len(found) - 4} more" if len(found) > 4 else "")
