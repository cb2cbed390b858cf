"""Manifests of one JSON object per line, for each recording or stretch; those of NeMo and Lhotse are supported too.

    {"path": "a/x.flac", "duration": 3.2, "sample_rate": 16000, "channels": 1, "text": "hello"}
    {"audio_filepath": "/corpus/long.wav", "offset": 61.5, "duration": 4.25}
    {"path": "shards/shard-000000.tar", "member": "a/x.flac"}

Sources: NeMo's manifests, https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html;
Lhotse's recordings and cuts, https://lhotse.readthedocs.io/en/latest/cuts.html
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, InstanceOf, Strict, ValidationError

from discrete_ae import checks
from discrete_ae.data.files import TEST, TRAIN, UNKNOWN_FRAMES, VALIDATION, AudioFile, Signs, prefix_of, signs
from discrete_ae.data.headers import members_kept, pieces_as_json, pieces_of, probe_kept
from discrete_ae.data.remote import is_url
from discrete_ae.data.tars import is_tar
from discrete_ae.errors import DataError, counted
from discrete_ae.records import Record
from discrete_ae.writing import written_whole

_OTHER_NAMES = {
    "audio_filepath": "path",  # NeMo
    "offset": "start",
    "sampling_rate": "sample_rate",  # Lhotse
    "num_channels": "channels",
}
_SIDES = {TRAIN: ("training",), VALIDATION: ("valid", "val", "dev"), TEST: ()}
"""Sides of a split, each with its other names. The first word of a split names its side, as in train-clean-100."""
_SIDES_IN_WORDS = ", ".join(f"{side} (or {', '.join(names)})" if names else side for side, names in _SIDES.items())


_CHANGED = "path: {} is not the file that was indexed; index it again"
_Count = Annotated[int, Field(ge=0)]


class Line(Record):
    """A line of a manifest; fields not declared here are kept too."""

    model_config = ConfigDict(extra="allow")

    # pydantic's own str rejects file names that are not UTF-8.
    path: InstanceOf[str] = Field(description="the path of a file")
    member: InstanceOf[str] = Field("", description="the name of a recording in the tar")
    duration: float | None = Field(None, gt=0, description="a number above 0")
    """Duration in seconds, from `start` on."""
    sample_rate: int | None = Field(
        None, ge=checks.MIN_SAMPLE_RATE, le=checks.MAX_SAMPLE_RATE, description="a sample rate in whole Hz"
    )
    channels: int | None = Field(None, ge=1, description="a whole number above 0")
    start: float | None = Field(None, ge=0, description="a number of seconds, 0 or above")
    end: float | None = Field(None, gt=0, description="a number above 0")
    weight: float = Field(1.0, gt=0, le=1e9, description="a number above 0, up to 1e9 (remove a line to leave it out)")
    split: str | None = Field(None, description=_SIDES_IN_WORDS)
    group: str | None = Field(None, min_length=1, description="a text")
    num_bytes: int | None = Field(None, ge=0, description="the size of the file in bytes")
    """Size of the file when it was indexed."""
    version: str | None = Field(None, description="a text")
    """Version of a tar or URL when it was indexed: its modification time, or the version from its server."""
    pieces: list[Annotated[tuple[str, _Count, _Count, _Count], Strict(False)]] | None = Field(
        None, description="pieces of the file"
    )
    doubt: str | None = Field(None, description="a text")


class _Source(Record):
    type: str
    channels: list[int]
    source: str


class _Recording(Record):
    """Lhotse's Recording."""

    sources: Annotated[list[_Source], Field(min_length=1)]
    sampling_rate: Annotated[int, Field(ge=1)]
    num_samples: Annotated[int, Field(ge=1)]


class _Cut(Record):
    """Lhotse's MonoCut, or a MultiCut of all channels."""

    start: Annotated[float, Field(ge=0)]
    duration: Annotated[float, Field(gt=0)]
    channel: int | list[int]
    recording: _Recording


def read_manifest(path: str | Path) -> list[AudioFile]:
    """Read a manifest, and return its recordings sorted by path.

    Headers are read for lines without sample rate, channels or duration. Paths are relative to the manifest's folder,
    absolute, or URLs. The manifest may be compressed (.gz). If a tar was copied or rewritten after indexing, its
    members are checked: each must still be at the place given by its line.

    Raises:
        DataError: a line is invalid, or its file is missing, unreadable, or not the one that was indexed; the message
            gives the number of the line.
        OSError: the manifest cannot be read.
    """
    path = Path(path).expanduser()
    folder = prefix_of(Path(os.path.abspath(path.parent)))  # noqa: PTH100  resolve() would follow links
    files: dict[int, AudioFile] = {}
    lines: dict[int, Line] = {}  # lines that need headers
    faults: dict[int, str] = {}
    one: dict[str, str] = {}  # one string per place: many lines may name the same file
    places: dict[int, str] = {}
    noted: dict[int, tuple[int | None, str | None]] = {}  # size and version when indexed
    for number, text in _numbered(path):
        try:
            line = _line(_fields(text))
            place = line.path if is_url(line.path) else os.path.join(folder, line.path)  # noqa: PTH118  a text
            places[number] = place = one.setdefault(place, place)
            if is_tar(place) and not line.member:
                raise ValueError(
                    "member: expected the name of a recording in the tar; discrete-ae index lists its recordings"
                )
            if line.member and not is_tar(place):
                raise ValueError(f"path: expected the path of a tar beside member, got {line.path}")
            if line.num_bytes is not None or line.version is not None:
                noted[number] = (line.num_bytes, line.version)
            says_less = None in (line.sample_rate, line.channels) or (line.duration is None and line.end is None)
            if says_less or (line.member and not line.pieces):
                lines[number] = line
            else:
                files[number] = _audio_file(line, place)
        except ValueError as error:
            faults[number] = str(error)
    now = signs([*one])
    moved: set[int] = set()  # lines of tars that may have changed
    for number, place in places.items():
        size, version = noted.get(number, (None, None))
        if not isinstance(stamp := now[place], tuple):
            faults[number] = f"path: {stamp or _not_there(place)}"
        elif size not in (None, stamp[0]) or (is_url(place) and version not in (None, stamp[1])):
            faults[number] = _CHANGED.format(place)
        elif number in files and files[number].member and (version or "") != str(stamp[1]):
            moved.add(number)
    wanted = {number: lines[number].member for number in lines.keys() - faults.keys()}
    wanted |= {number: files[number].member for number in moved}
    for number, probed in _probed({number: (places[number], member) for number, member in wanted.items()}, path):
        try:
            if number in lines:
                files[number] = _audio_file(lines[number], places[number], probed)
            elif _place_of(files[number]) != _place_of(probed):
                faults[number] = _CHANGED.format(places[number])
        except ValueError as error:
            faults[number] = str(error)
    if faults:
        first, more = min(faults), len(faults) - 1
        others = f"; {counted(more, 'more line')} cannot be used" if more else ""
        raise DataError(f"{path}:{first}: {faults[first]}{others}")
    if not files:
        raise DataError(f"{path}: no lines; give a manifest with a line for each recording")
    in_order = (files[number] for number in sorted(files))
    return sorted(in_order, key=lambda file: (file.place, file.member, file.first_frame or 0))


def write_manifest(
    path: str | Path, files: Iterable[AudioFile], stamps: Mapping[str, Signs | DataError | None] | None = None
) -> None:
    """Write a manifest, whole or not at all; paths below its folder are relative to the folder.

    Args:
        path: path of the manifest.
        files: the recordings.
        stamps: the `signs` of the files by place, written so that later changes to the files are noticed.

    Raises:
        OSError: the manifest cannot be written.
    """
    path = Path(path)
    below = prefix_of(Path(os.path.abspath(path.parent)))  # noqa: PTH100  resolve() would follow links
    with written_whole(path) as temporary, temporary.open("w", encoding="ascii") as out:
        for file in files:
            place = file.place if is_url(file.place) else os.path.abspath(file.place)  # noqa: PTH100
            stamp = (stamps or {}).get(file.place)
            size, version = stamp[:2] if isinstance(stamp, tuple) else (None, None)
            line = {
                "path": place.removeprefix(below),
                "member": file.member or None,
                "duration": file.duration_s,
                "sample_rate": file.sample_rate,
                "channels": file.channels,
                "start": None if file.first_frame is None else file.first_frame / file.sample_rate,
                "weight": None if file.weight == 1 else file.weight,
                "split": file.split,
                "group": file.group,
                "num_bytes": size,
                "version": str(version) if version and (file.member or is_url(file.place)) else None,
                "pieces": pieces_as_json(file.pieces) or None,
                "doubt": file.doubt,
            }
            line = {name: value for name, value in line.items() if value is not None}
            out.write(json.dumps({**line, **file.known}) + "\n")


def _probed(wanted: Mapping[int, tuple[str, str]], path: Path) -> Iterator[tuple[int, AudioFile | DataError]]:
    """Yield the number of each line with the description of its file or member of a tar, or with the error."""
    alone = [*dict.fromkeys(place for place, member in wanted.values() if not member)]
    files = dict(zip(alone, probe_kept(alone, path), strict=True))
    tars: dict[str, dict[str, AudioFile | DataError] | DataError] = {}
    for place in dict.fromkeys(place for place, member in wanted.values() if member):
        try:
            tars[place] = members_kept(place)
        except DataError as error:
            tars[place] = error
    for number, (place, member) in wanted.items():
        found = tars[place] if member else files[place]
        if isinstance(found, dict):
            found = found.get(member) or DataError(f"member: no recording {member} in {place}")
        yield number, found


def _place_of(file: AudioFile | DataError) -> tuple[Any, ...] | None:
    """Return the pieces, rate and channels of a recording; None for an error."""
    return None if isinstance(file, DataError) else (file.pieces, file.sample_rate, file.channels)


def _not_there(place: str) -> str:
    """Describe a path that names no file."""
    if os.path.isdir(place):  # noqa: PTH112  a text
        return f"expected a file, got a folder, {place}; discrete-ae index lists the recordings in it"
    return f"no such file, {place}"


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, got {text.strip()[:50]!r}")
    return fields


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from ((number, text) for number, text in enumerate(file, 1) if text.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text in UTF-8; give a manifest") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a complete gzip file ({error}); give a manifest") from error


def _line(fields: dict[str, Any]) -> Line:
    """Return the line with these fields, or raise a ValueError that describes the first invalid field."""
    if fields.keys().isdisjoint(("path", "audio_filepath")) and fields.keys() & {"recording", "sources", "tracks"}:
        fields = _of_lhotse(fields)
    given = {}
    for name, value in fields.items():
        known = _OTHER_NAMES.get(name, name)
        if known in given:
            raise ValueError(f"{name}: expected either {name} or {known}, got both")
        given[known] = value
    try:
        return Line.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    shown = next((other for other in fields if _OTHER_NAMES.get(other) == name), name)
    got = "nothing" if fault["type"] == "missing" else repr(given[name])[:80]
    raise ValueError(f"{shown}: expected {Line.model_fields[name].description}, got {got}")


def _of_lhotse(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert a recording or a cut of Lhotse to the fields of a line."""
    is_cut = "sources" not in fields
    try:
        if is_cut:
            cut = _Cut.of(fields)
            recording = cut.recording
            channels = [cut.channel] if isinstance(cut.channel, int) else cut.channel
        else:
            recording = _Recording.of(fields)
            channels = recording.sources[0].channels
    except ValueError as error:
        kind = fields.get("type", "a cut")
        raise ValueError(
            f"{error} (expected Lhotse's Recording, or a MonoCut with its recording, got {kind})"
        ) from None
    source = next((one for one in recording.sources if sorted(one.channels) == sorted(channels)), None)
    if source is None or source.type != "file":
        raise ValueError(f"channel: expected a file with exactly the channels {channels}; save them in one file")
    rest = {
        name: value
        for name, value in fields.items()
        if name not in ("recording", *_Recording.model_fields, *_Cut.model_fields)
    }
    rate = recording.sampling_rate
    stretch = {"start": cut.start, "duration": cut.duration} if is_cut else {"duration": recording.num_samples / rate}
    return {"path": source.source, "sample_rate": rate, "channels": len(channels), **stretch, **rest}


def _audio_file(line: Line, place: str, probed: AudioFile | DataError | None = None) -> AudioFile:
    """Describe a recording by its line, and by its header if the line is not sufficient."""
    if isinstance(probed, DataError):
        raise ValueError(str(probed))
    rate, channels = (probed.sample_rate, probed.channels) if probed else (line.sample_rate, line.channels)
    assert rate is not None
    assert channels is not None
    for name, said, found in (("sample_rate", line.sample_rate, rate), ("channels", line.channels, channels)):
        if said not in (None, found):
            raise ValueError(f"{name}: expected {found}, as in the file, got {said}")
    start = line.start or 0.0
    first = round(start * rate)
    if line.end is not None and line.end <= start:
        raise ValueError(f"end: expected more than the start {start:g}, got {line.end:g}")
    stop = first + round(line.duration * rate) if line.duration is not None else None
    if line.end is not None:
        stop = round(line.end * rate) if stop is None else min(stop, round(line.end * rate))
    pieces, doubt = pieces_of(line.pieces or ()), line.doubt
    is_whole = line.start is None and line.end is None and line.num_bytes is not None
    if probed:
        if first >= probed.num_frames:
            raise ValueError(f"start: expected less than the {probed.duration_s:g} s of the file, got {start:g}")
        pieces, doubt = probed.pieces, probed.doubt
        is_whole = line.start is None and stop is None
        stop = min(stop or probed.num_frames, probed.num_frames)
    assert stop is not None
    if stop >= UNKNOWN_FRAMES:
        raise ValueError("duration: expected less than 2^62 samples")
    if stop <= first:
        raise ValueError(f"duration: expected at least one sample, got {line.duration}")
    further = dict(line.model_extra or {})
    return AudioFile(
        place,
        rate,
        channels,
        stop - first,
        pieces,
        doubt,
        None if is_whole else first,
        line.weight,
        side_of(line.split),
        json.dumps(further) if further else None,
        line.member,
        line.group,
    )


def side_of(split: str | None) -> str | None:
    """Return the side named by the first word of a split, such as train in train-clean-100; None for None.

    Raises:
        ValueError: the word names no side.
    """
    if split is None:
        return None
    word = re.match(r"[a-z]*", split.lower())
    for side, names in _SIDES.items():
        if word and word[0] in (side, *names):
            return side
    raise ValueError(f"split: expected {_SIDES_IN_WORDS}, got {split!r:.80}")
