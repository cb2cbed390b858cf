"""Files of codes for tests, and folders of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discrete_ae.codes.code_file import CodeFile
from discrete_ae.codes.container import write_codes
from discrete_ae.codes.manifest import ManifestEntry, describe, write_manifest
from discrete_ae.errors import DataError

HASH = "0123456789abcdef" * 4


def code_file(codes: Any, sizes: tuple[int, ...], **said: Any) -> CodeFile:
    """Codes (S, K, T) of these codebooks, by default of whole frames of 320 samples at 16 kHz."""
    fields = {"codes": np.asarray(codes), "codebook_sizes": sizes, "model_hash": HASH}
    rates = {"sample_rate": 16000, "num_samples": 320 * np.shape(codes)[-1], "model_sample_rate": 16000}
    return CodeFile.of({**fields, **rates, **said})


def drawn(sizes: tuple[int, ...], streams: int, frames: int, seed: int = 0) -> np.ndarray:
    """Codes that are any of their codebooks."""
    return np.random.default_rng(seed).integers(0, np.array(sizes)[:, None], (streams, len(sizes), frames))


def write_set(folder: Path, files: dict[str, CodeFile]) -> list[ManifestEntry]:
    """Write files of codes by name, in the format that it says, and their manifest."""
    entries = []
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_codes(file, path, path.suffix[1:])  # type: ignore[arg-type]
        entries.append(describe(file, path, folder, Path("in") / name))
    write_manifest(folder, entries)
    return entries


def replace(entry: ManifestEntry, **changes: Any) -> ManifestEntry:
    """The entry of a manifest with some fields changed."""
    return ManifestEntry.of({**vars(entry), **changes})


def assert_refused(use: Callable[[], object], *words: str, error: type[Exception] = DataError) -> None:
    """Check that a use raises a DataError, or another error, of one line that holds all the words."""
    with pytest.raises(error) as refused:
        use()
    line = str(refused.value)
    assert "\n" not in line
    assert all(word in line for word in words), line
