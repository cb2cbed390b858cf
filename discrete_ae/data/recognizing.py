"""Recognize public data sets, and add their metadata to recordings.

A data set is recognized by the ends of its paths, never by the name of its folder, so that part of a data set suffices.
If a data set has no validation recordings, its training recordings are marked with a group, not as training recordings.
Training then holds out some of them by hash: whole speakers or tracks, if there are several.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from discrete_ae.data.files import TEST, TRAIN, VALIDATION, AudioFile, by_threads
from discrete_ae.data.layouts import LAYOUTS, Layout, Place
from discrete_ae.data.remote import is_url
from discrete_ae.errors import counted
from discrete_ae.paths import in_utf8


class Described(NamedTuple):
    """Recordings with the metadata of their data sets."""

    files: list[AudioFile]
    """Recordings in the given order, without those that their data set excludes."""
    summaries: list[str]
    """One line for each recognized data set."""


def described(files: Sequence[AudioFile]) -> Described:
    """Add the metadata of data sets to recordings: the split or group, and fields such as speaker and text.

    Fields from a manifest take precedence. Recordings of no known data set are unchanged.

    Raises:
        OSError: a transcript or list of a data set cannot be read.
    """
    paths = [_absolute(file) for file in files]
    known: dict[int, AudioFile | None] = {}
    summaries = []
    for layout in LAYOUTS:
        by_root: dict[str, dict[int, Place]] = defaultdict(dict)
        for number, path in enumerate(paths):
            if number not in known and (place := layout.pattern.search(path)):
                by_root[path[: place.start()]][number] = place
        for root, places in by_root.items():
            if not layout.is_seen_in(places.values()):
                continue
            data_set = layout(root)
            if taken := {number: place for number, place in places.items() if data_set.takes(place)}:
                told, summary = _told(data_set, [files[number] for number in taken], [*taken.values()])
                known |= dict.fromkeys(places) | dict(zip(taken, told, strict=True))
                left = len(places) - len(taken)
                summaries.append(f"{summary}; left out: {left} {layout.left_out}" if left else summary)
    kept = (known.get(number, file) for number, file in enumerate(files))
    return Described([file for file in kept if file], summaries)


def _told(data_set: Layout, files: Sequence[AudioFile], places: Sequence[Place]) -> tuple[list[AudioFile], str]:
    """Return recordings with the metadata of their data set, and the summary of the data set."""
    sides = [data_set.side(place) for place in places]
    is_split = VALIDATION in sides
    values = {field: {place[field] for place in places} for field in (data_set.counts, *data_set.together)}
    group = None if is_split else next((field for field in data_set.together if len(values[field]) > 1), None)
    told = []
    for file, place, side, text in zip(files, places, sides, _texts(data_set, files, places), strict=True):
        fields = {name: value for name, value in (*place.groupdict().items(), ("text", text)) if value}
        told.append(
            replace(
                file,
                split=file.split or (side if is_split or side == TEST else None),
                group=file.group or (place[group] if group else None),
                further=json.dumps({**fields, **file.known}),
            )
        )
    number_of = Counter(sides)
    of_sides = ", ".join(f"{side} {number_of[side]}" for side in (TRAIN, VALIDATION, TEST) if number_of[side])
    summary = (
        f"{in_utf8(data_set.root or '/')}: {data_set.name}, {counted(len(values[data_set.counts]), data_set.counts)}; "
        + (f"{of_sides} recordings" if of_sides else counted(len(files), "recording"))
    )
    if is_split or number_of[TEST] == len(files):
        return told, summary
    return told, f"{summary}, none to validate on: training holds out {f'whole {group}s' if group else 'some'}"


def _texts(data_set: Layout, files: Sequence[AudioFile], places: Sequence[Place]) -> list[str]:
    """Return the texts of recordings; "" if there is no text, as in tars."""
    if not data_set.transcript:
        return [""] * len(files)
    transcripts = [
        data_set.transcript.format(root=data_set.root, folder=os.path.dirname(place.string), **place.groupdict())  # noqa: PTH120
        if file.is_file
        else ""
        for file, place in zip(files, places, strict=True)
    ]
    each = [path for path in dict.fromkeys(transcripts) if path]
    texts = dict(zip(each, by_threads(data_set.texts, each), strict=True))
    return [
        texts[path].get(place["utterance"], "") if path else "" for path, place in zip(transcripts, places, strict=True)
    ]


def _absolute(file: AudioFile) -> str:
    """Return the absolute path of a recording; for a member of a tar, the path after unpacking beside the tar."""
    place = file.place if is_url(file.place) else os.path.abspath(file.place)  # noqa: PTH100  resolve() follows links
    return f"{os.path.dirname(place)}/{file.member}" if file.member else place  # noqa: PTH120  a text
