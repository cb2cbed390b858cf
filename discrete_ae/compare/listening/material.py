"""What there is to listen to: the clips of a report of `discrete-ae compare`.

Axes: C channels, N samples.
"""

import hashlib
import itertools
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discrete_ae import checks
from discrete_ae.compare.listening import anchor
from discrete_ae.compare.page.content import ORIGINAL
from discrete_ae.data.files import probe
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, kind_of

REFERENCE = "reference"
"""Key of the hidden reference among the conditions."""
MAX_CONDITIONS = 12
"""Hidden reference and anchors included: more overload a listener (BS.1534-3 §5.3)."""


@dataclass(frozen=True)
class Material:
    """The clips of a report, and the files of their versions."""

    title: str
    sample_rate: int
    clips: dict[str, dict[str, Path]]
    """By name, then by key of the version; the same keys in every clip."""
    labels: dict[str, str]
    """Of every method, by key, in the report's order; the original is none."""
    digest: str
    """SHA-256 of the sample rate and, for every clip and version, its name, key and file: ratings with another one are
    of other sounds. Title and labels, which nobody hears, are not in it."""

    def chosen(self, methods: Sequence[str] | None) -> list[str]:
        """Keys of the methods to be rated; None takes all.

        Args:
            methods: keys or labels.

        Raises:
            UsageError: one of them is not in the report, or there are more than a listener can rate side by side.
        """
        keys = list(self.labels)
        for name in methods or []:
            if name not in self.labels and name not in self.labels.values():
                raise UsageError(f"--methods {name}: not in the report; it has {', '.join(keys)}")
        if methods:
            keys = [key for key, label in self.labels.items() if key in methods or label in methods]
        others = 1 + len(anchor.anchors(self.sample_rate))
        if len(keys) > MAX_CONDITIONS - others:
            raise UsageError(
                f"{len(keys)} methods, of which a listener can rate at most {MAX_CONDITIONS - others} side by side; "
                f"choose some with --methods, from {', '.join(self.labels)}"
            )
        return keys

    def conditions(self, methods: Collection[str]) -> dict[str, str]:
        """Labels, by key, of what is rated in every trial: hidden reference, anchors, and the methods of these keys."""
        added = {REFERENCE: "hidden reference"} | {key: anchor.LABELS[key] for key in anchor.anchors(self.sample_rate)}
        return added | {key: label for key, label in self.labels.items() if key in methods}

    def sounds(self, clip: str, conditions: Collection[str]) -> dict[str, NDArray[np.int16]]:
        """The conditions of a clip, by key: samples (C, N), all of one shape, 16 bits as in the report's files.

        Raises:
            DataError: a file is damaged, or of another length, rate or number of channels than the original.
        """
        files = self.clips[clip]
        original = _samples(files[ORIGINAL], self.sample_rate)
        found = {}
        for key in conditions:
            if key == REFERENCE:
                found[key] = original
            elif key in anchor.CUTOFF_HZ:
                found[key] = anchor.low_pass(original, anchor.CUTOFF_HZ[key], self.sample_rate)
            else:
                found[key] = _samples(files[key], self.sample_rate)
                if found[key].shape != original.shape:
                    raise DataError(
                        f"{files[key]}: {found[key].shape[1]} samples in {found[key].shape[0]} channels, but "
                        f"{original.shape[1]} in {original.shape[0]} of {files[ORIGINAL]}; compare again"
                    )
        return found


def read_material(report: Path) -> Material:
    """Read what `discrete-ae compare` wrote below `report`/clips.

    Raises:
        DataError: there is none, it is damaged, or files are missing.
    """
    folder = report / "clips"
    index = folder / "clips.json"
    if kind_of(index) is not Kind.FILE:
        raise DataError(f"{report}: no clips/clips.json in it; give the folder that discrete-ae compare wrote with -o")
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        title = str(content.get("title") or report.absolute().name)
        sample_rate = checks.sample_rate("sample_rate", content["sample_rate"])
        described = [
            (str(clip["name"]), {str(version["key"]): version for version in clip["versions"]})
            for clip in content["clips"]
        ]
        labels = {key: str(version["label"]) for _, versions in described[:1] for key, version in versions.items()}
        clips: dict[str, dict[str, Path]] = {}
        for name, versions in described:
            files = {key: _inside(folder, str(version["file"])) for key, version in versions.items()}
            clips[_unlike(name, clips)] = files
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{index}: damaged ({type(error).__name__}: {error}); compare again") from error
    _check(index, clips, labels)
    digest = hashlib.sha256(f"{sample_rate}\n".encode())
    for name, versions in clips.items():
        for key, path in versions.items():
            digest.update(json.dumps([name, key, hashlib.sha256(_bytes(path)).hexdigest()]).encode())
    del labels[ORIGINAL]
    return Material(title, sample_rate, clips, labels, digest.hexdigest())


def _check(index: Path, clips: dict[str, dict[str, Path]], labels: dict[str, str]) -> None:
    problem = ""
    if not clips:
        problem = "holds no clips"
    elif any(versions.keys() != labels.keys() for versions in clips.values()):
        problem = "its clips do not all have the same versions"
    elif ORIGINAL not in labels:
        problem = f"its clips have no version {ORIGINAL}"
    elif len(labels) < 2:
        problem = "has no versions beside the originals"
    elif taken := labels.keys() & {REFERENCE, *anchor.CUTOFF_HZ}:
        problem = f"a version must not be called {', '.join(sorted(taken))}"
    if problem:
        raise DataError(f"{index}: {problem}; compare again")


def _unlike(name: str, taken: Collection[str]) -> str:
    """The name, with a number where it is taken."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name} lies outside of the folder")
    return path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); compare again") from error


def _samples(path: Path, sample_rate: int) -> NDArray[np.int16]:
    file = probe(path)
    if file.sample_rate != sample_rate:
        raise DataError(f"{path}: {file.sample_rate} Hz, but clips.json says {sample_rate} Hz; compare again")
    # Exact for files of 16 bits.
    scaled = np.rint(read_audio(file, sample_rate) * 2.0**15)
    return np.clip(scaled, -(2**15), 2**15 - 1).astype(np.int16)
