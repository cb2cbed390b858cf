"""Sources of recordings: their settings, and the training and validation files found in them."""

import logging
import math
import os
import shlex
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from discrete_ae.data.files import (
    TEST,
    TRAIN,
    VALIDATION,
    AudioFile,
    name_of,
    recordings_root,
    warn_doubtful,
    warn_skipped,
)
from discrete_ae.data.index import find_audio
from discrete_ae.data.manifest import read_manifest
from discrete_ae.data.remote import is_url
from discrete_ae.data.splitting import split_by_hash, without
from discrete_ae.errors import DataError, counted
from discrete_ae.paths import command, listed, real
from discrete_ae.records import Record

log = logging.getLogger("discrete_ae")


def _named(folder: str) -> str:
    if not folder:  # such as an unset variable of the shell
        raise ValueError("expected a folder or null, got an empty name")
    if is_url(folder):
        raise ValueError(f"expected a path on this machine (a manifest there may list URLs), got {folder!r}")
    return folder


def _above_zero(share: float) -> float:
    if share <= 0:
        raise ValueError(f"expected a number above 0 (set the source to null to leave it out), got {share:g}")
    return share


Folder = Annotated[str, AfterValidator(_named)]
Share = Annotated[float, AfterValidator(_above_zero)]
Manifests = Folder | list[Folder] | None
PLACES = ("root", "validation_root", "manifest", "validation_manifest")
LIMITS = ("min_seconds", "max_seconds", "min_bandwidth_hz")
"""Settings that limit the training recordings."""


class RecordingsSettings(Record):
    """Places of recordings, and limits on the training recordings."""

    model_config = ConfigDict(extra="forbid")

    root: Folder | None = None
    """Folder of the recordings, or of tars of recordings."""
    validation_root: Folder | None = None
    """Folder of the validation recordings; None splits the recordings of `root`."""
    manifest: Manifests = None
    """One or several manifests, instead of `root`."""
    validation_manifest: Manifests = None
    """One or several manifests, instead of `validation_root`."""
    min_seconds: Annotated[float, Field(gt=0)] | None = None
    """Minimum duration of training recordings."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Maximum duration of training recordings."""
    min_bandwidth_hz: Annotated[float, Field(gt=0)] | None = None
    """Minimum measured bandwidth of training recordings."""

    def check_places(self, key: str) -> None:
        """Check that the places do not conflict.

        Args:
            key: prefix of the settings, such as "sources.speech."; "" for settings outside of `sources`.

        Raises:
            ValueError: settings conflict; the message names the first conflict.
        """
        for folder, manifest in (("root", "manifest"), ("validation_root", "validation_manifest")):
            if getattr(self, folder) is not None and getattr(self, manifest) is not None:
                raise ValueError(f"{key}{manifest}: expected null beside data.{key}{folder}; give one of the two")
            if getattr(self, manifest) == []:
                raise ValueError(f"{key}{manifest}: expected one or several manifests, got none")
        if self.root is None and self.manifest is None and self.validation_manifest is not None:
            raise ValueError(f"{key}validation_manifest: expected data.{key}manifest or data.{key}root beside it")


class SourceSettings(RecordingsSettings):
    """Settings of one source of a mixture; their defaults are the limits outside of `sources`."""

    weight: Share | None = None
    """Relative share of the crops, in any unit; given for all sources or for none."""
    hours: Share | None = None
    """Hours that determine the share of the crops; None for the actual duration of the training recordings."""


def check_mixture(sources: dict[str, SourceSettings]) -> None:
    """Check that every source has a name and a place, and that the shares are comparable.

    Raises:
        ValueError: a source is invalid; the message names the setting.
    """
    if not sources:
        raise ValueError("sources: expected one or more by name, or null, got none")
    for name, source in sources.items():
        if not name.replace("-", "_").isidentifier():
            raise ValueError(f"sources: expected names of letters, digits, - and _, such as speech, got {name!r}")
        source.check_places(f"sources.{name}.")
        if source.root is None and source.manifest is None:
            raise ValueError(
                f"sources.{name}: expected a root or a manifest, got neither; set the source to null to leave it out"
            )
        if source.weight is not None and source.hours is not None:
            raise ValueError(
                f"sources.{name}.hours: expected null beside data.sources.{name}.weight; give one of the two"
            )
    weighted, others = (
        [name for name, source in sources.items() if (source.weight is not None) is given] for given in (True, False)
    )
    if weighted and others:
        raise ValueError(
            f"sources.{others[0]}.weight: expected a weight, since data.sources.{weighted[0]} has one; give all "
            "sources a weight, or none for shares by hours"
        )


def check_distinct(sources: dict[str, SourceSettings]) -> None:
    """Check that no folder or manifest is given twice with the same limits.

    Raises:
        ValueError: a folder or manifest is given twice; the message names the setting.
    """
    given: dict[Hashable, str] = {}
    for name, source in sources.items():
        field = "root" if source.manifest is None else "manifest"
        key = f"sources.{name}.{field}" if name else field
        for place in listed(getattr(source, field) or []):
            same = (real(place.expanduser()), *(getattr(source, limit) for limit in LIMITS))
            if same in given:
                raise ValueError(f"{key}: {place} is also given by data.{given[same]}; give the recordings once")
            given[same] = key


@dataclass
class RecordingSource:
    """The recordings of one source.

    Args:
        settings: settings of the source.
        key: prefix of the settings in errors, such as "data." or "data.sources.speech.".
        channels: number of channels to train with. With 1, any recording fits. With n > 1, a recording must be mono or
            have n channels.
        validation_fraction: share of the files used for validation, if no split is given.
        strict: True to raise an error for an unusable recording, instead of skipping it.
    """

    settings: SourceSettings
    key: str
    channels: int
    validation_fraction: float
    strict: bool
    train: list[AudioFile] = field(default_factory=list)
    """Training files, set by `find`."""
    validation: list[AudioFile] = field(default_factory=list)
    """Validation files, set by `find`."""
    num_skipped: int = 0
    """Number of unusable recordings."""

    @property
    def train_roots(self) -> list[Path]:
        """Folders to which the names of the training files are relative."""
        its = self.settings
        if its.manifest is not None:
            return [Path(os.path.abspath(path.expanduser().parent)) for path in listed(its.manifest)]  # noqa: PTH100
        return [Path(its.root or recordings_root() / "train").expanduser()]

    @property
    def validation_root(self) -> Path | None:
        """Folder that is searched for validation files, or whose files are split; None if manifests list the files."""
        its = self.settings
        if its.validation_manifest is not None or (its.manifest is not None and its.validation_root is None):
            return None
        return Path(its.validation_root or its.root or recordings_root() / "validation").expanduser()

    def find(self) -> None:
        """Find the training and validation files, without applying the limits.

        Raises:
            DataError: there are no training files, or no validation files.
        """
        its = self.settings
        is_split = its.root is None and its.manifest is None
        found = self._taken(self.train_roots[0], its.manifest)
        files = [file for file in found if file.split != TEST]
        if not files:
            raise DataError(
                f"{self._said}: every line is of split test, which is not used for training; add other recordings"
            )
        if left := len(found) - len(files):
            log.info("%s of split test, used neither for training nor for validation", counted(left, "recording"))
        if (unsplit := sum(file.split is None for file in files)) and unsplit < len(files):
            log.info("%s without a split, unlike the others: used for training only", counted(unsplit, "recording"))
        self.train = [file for file in files if file.split != VALIDATION]
        if is_split or its.validation_root is not None or its.validation_manifest is not None:
            self.validation = self._taken(self.validation_root or Path(), its.validation_manifest)
            self.hold_out(self.validation)  # one folder may contain the other
        elif any(file.split for file in files):
            self.validation = [file for file in files if file.split == VALIDATION]
            for side, found in ((TRAIN, self.train), (VALIDATION, self.validation)):
                if not found:
                    raise DataError(
                        f"{self._said}: no line is of split {side}; add such lines, or give "
                        f"{self.key}validation_manifest"
                    )
        else:
            self.train, self.validation = split_by_hash(files, self.train_roots, self.validation_fraction, self.key)

    def hold_out(self, files: Sequence[AudioFile]) -> None:
        """Remove validation files from the training files.

        Raises:
            DataError: no training file is left.
        """
        self.train = without(self.train, files)
        if not self.train:
            raise DataError(
                f"{self._said}: every file is also a validation file, and none is left to train on; give other "
                f"validation files with {self.key}validation_root"
            )

    def limit(self) -> None:
        """Remove training files outside of the limits on duration and bandwidth.

        Raises:
            DataError: no training file is left, or a bandwidth is unknown.
        """
        its, files = self.settings, self.train
        least_s, most_s = its.min_seconds or 0, its.max_seconds or math.inf
        in_time = [file for file in files if least_s <= file.duration_s <= most_s]
        taken = in_time
        if its.min_bandwidth_hz:
            taken = [file for file in in_time if self._bandwidth_hz(file) >= its.min_bandwidth_hz]
        left_out = (
            sum(file.duration_s < least_s for file in files),
            sum(file.duration_s > most_s for file in files),
            len(in_time) - len(taken),
        )
        told = ", ".join(
            f"{count} by {self.key}{limit}={getattr(its, limit):g}"
            for limit, count in zip(LIMITS, left_out, strict=True)
            if count
        )
        if not taken:
            raise DataError(
                f"{self._said}: none of {counted(len(files), 'file')} is left to train on; excluded: {told}; "
                "relax a limit, or give other files"
            )
        if told:
            log.info("%s left out of training: %s", counted(len(files) - len(taken), "file"), told)
        self.train = taken

    @property
    def seconds(self) -> float:
        """Total duration of the training files."""
        return math.fsum(file.duration_s for file in self.train)

    @property
    def weight(self) -> float:
        """Relative share of the crops: the weight or hours in the settings, or else the weighted hours of the files."""
        its = self.settings
        return its.weight or its.hours or math.fsum(file.duration_s * file.weight for file in self.train) / 3600

    @property
    def _places(self) -> list[str]:
        """Manifests or folders of the training files."""
        its = self.settings
        return [str(each) for each in (self.train_roots if its.manifest is None else listed(its.manifest))]

    @property
    def _said(self) -> str:
        return ", ".join(self._places)

    def _taken(self, root: Path, manifest: Manifests) -> list[AudioFile]:
        """Return the recordings of a folder, or of manifests, that fit the number of channels."""
        if manifest is None:
            scan = find_audio(root, strict=self.strict)
            files, folder = scan.files, root.expanduser()
            self.num_skipped += len(scan.skipped)
        else:
            folder = Path(", ".join(map(str, listed(manifest))))
            files = [file for path in listed(manifest) for file in read_manifest(path)]
            warn_doubtful(files, folder, strict=self.strict)

        def fits(file: AudioFile) -> bool:
            return self.channels in (1, file.channels) or file.channels == 1

        others = [name_of(file, folder) for file in files if not fits(file)]
        if others and (self.strict or len(others) == len(files)):
            raise DataError(
                f"{folder}: expected 1 or {self.channels} channels in {others[0]}; mix it down, or train a mono model"
            )
        warn_skipped(others, folder, f"neither 1 nor {self.channels} channels")
        self.num_skipped += len(others)
        return [file for file in files if fits(file)]

    def _bandwidth_hz(self, file: AudioFile) -> float:
        bandwidth = file.known.get("bandwidth_hz")
        if isinstance(bandwidth, int | float):
            return bandwidth
        measuring = [command("discrete-ae"), "index", *self._places, "-o", "measured.jsonl", "--measure"]
        raise DataError(
            f"{self.key}min_bandwidth_hz: {file.name} has no bandwidth_hz; measure it with {shlex.join(measuring)}, "
            f"and give {self.key}manifest=measured.jsonl"
        )


def common_folder(files: Iterable[AudioFile]) -> Path:
    """Return the innermost common folder of files; URLs are ignored."""
    folders = [os.path.dirname(os.path.abspath(file.place)) for file in files if not is_url(file.place)]  # noqa: PTH100, PTH120
    return Path(os.path.commonpath(folders)) if folders else Path()
