"""Public data sets as they lie on disk.

Layouts, splits and what is left out are those of `torchaudio.datasets`; the deviation: of VCTK both microphones are
kept, and the recordings without texts.
"""

import os
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from discrete_ae.data.files import TEST, TRAIN, VALIDATION
from discrete_ae.data.manifest import side_of

Place = re.Match[str]
"""The end of a recording's path, from the folder of its data set on."""


class Layout:
    """One data set in its folder; the base of those that are known.

    Args:
        root: the folder.
    """

    name: ClassVar[str]
    pattern: ClassVar[re.Pattern[str]]
    """Finds a place; its named groups are fields of the manifest's line."""
    counts: ClassVar[str] = "speaker"
    """The field whose values are counted for the summary."""
    together: ClassVar[tuple[str, ...]] = ("speaker",)
    """The first of these fields that has several values is the group."""
    transcript: ClassVar[str] = ""
    """The path of the file that has a recording's text, by fields, `root`, and `folder`, that of the recording."""
    line: ClassVar[re.Pattern[str]]
    """Finds an utterance and its text in a transcript."""
    left_out: ClassVar[str] = ""
    """Describes the recordings that are not taken."""

    def __init__(self, root: str) -> None:
        self.root = root

    @classmethod
    def is_seen_in(cls, places: Collection[Place]) -> bool:
        """Return whether places of one folder are of this data set; their names alone are enough for most."""
        return True

    def takes(self, place: Place) -> bool:
        """Return whether the data set has this recording in one of its subsets."""
        return True

    def side(self, place: Place) -> str | None:
        """Return the side of the official split; None where there is no such split."""
        return None

    def texts(self, transcript: str) -> dict[str, str]:
        """Read a transcript: its texts by utterance; none where there is no such file.

        Raises:
            OSError: it cannot be read.
        """
        return dict(self.line.findall(_content(transcript)))


_SUBSET = r"(?:/(?P<subset>(?:train|dev|test)-(?:clean|other)(?:-\d+)?))?"
_CHAPTER = r"/(?P<speaker>\d+)/(?P<chapter>\d+)"


class _LibriSpeech(Layout):
    """SUBSET/SPEAKER/CHAPTER/UTTERANCE.flac."""

    name = "LibriSpeech"
    pattern = re.compile(rf"{_SUBSET}{_CHAPTER}/(?P<utterance>(?P=speaker)-(?P=chapter)-\d+)\.\w+\Z")
    transcript = "{folder}/{speaker}-{chapter}.trans.txt"
    line = re.compile(r"^(\S+) (.*\S)", re.MULTILINE)

    def side(self, place: Place) -> str | None:
        return side_of(place["subset"])


class _LibriTTS(_LibriSpeech):
    """The same with other names, and texts as written and as read aloud, of which the latter are taken."""

    name = "LibriTTS"
    pattern = re.compile(rf"{_SUBSET}{_CHAPTER}/(?P<utterance>(?P=speaker)_(?P=chapter)_\d+_\d+)\.\w+\Z")
    transcript = "{folder}/{speaker}_{chapter}.trans.tsv"
    line = re.compile(r"^(\S+)\t[^\t\n]*\t(.*\S)", re.MULTILINE)


class _LJSpeech(Layout):
    """wavs/UTTERANCE.wav, of one speaker; the texts are those as read aloud."""

    name = "LJSpeech"
    pattern = re.compile(r"/wavs[^/]*/(?P<utterance>(?P<speaker>LJ)\d{3}-\d{4})\.\w+\Z")
    transcript = "{root}/metadata.csv"
    line = re.compile(r"^([^|\n]+)\|[^|\n]*\|(.*\S)", re.MULTILINE)


class _VCTK(Layout):
    """wav48_silence_trimmed/SPEAKER/UTTERANCE_MIC.flac; before release 0.92, wav48/SPEAKER/UTTERANCE.wav."""

    name = "VCTK"
    pattern = re.compile(
        r"/wav\d\d\w*/(?P<speaker>p[23]\d\d|s5)/(?P<utterance>(?P=speaker)_\d{3})(?:_(?P<mic>mic[12]))?\.\w+\Z"
    )
    together = ("speaker", "utterance")  # of one speaker, both microphones of an utterance
    transcript = "{root}/txt/{speaker}/{utterance}.txt"

    def texts(self, transcript: str) -> dict[str, str]:
        return {Path(transcript).stem: _content(transcript).strip()}


class _SpeechCommands(Layout):
    """WORD/SPEAKER_nohash_NUMBER.wav; lists say what validates and tests, and the rest trains."""

    name = "Speech Commands"
    pattern = re.compile(r"/(?:_background_noise_/[^/]+|(?P<word>[^/]+)/(?P<speaker>[0-9a-f]{8})_nohash_\d+)\.\w+\Z")
    left_out = "of background noise"

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.sides = {
            _without_suffix(line): side
            for side, name in ((VALIDATION, "validation_list.txt"), (TEST, "testing_list.txt"))
            for line in _content(f"{root}/{name}").split()
        }

    def takes(self, place: Place) -> bool:
        return place["word"] is not None

    def side(self, place: Place) -> str | None:
        return self.sides.get(_without_suffix(place[0][1:]), TRAIN) if self.sides else None


class _GTZAN(Layout):
    """GENRE/GENRE.NUMBER.wav; the split is the filtered one, which leaves out repeated and faulty recordings."""

    name = "GTZAN"
    pattern = re.compile(
        r"/(?P<genre>blues|classical|country|disco|hiphop|jazz|metal|pop|reggae|rock)/(?P=genre)\.\d{5}\.\w+\Z"
    )
    counts = "genre"
    together = ()
    left_out = "repeated or faulty"

    def __init__(self, root: str) -> None:
        from torchaudio.datasets import gtzan

        super().__init__(root)
        lists = ((TRAIN, gtzan.filtered_train), (VALIDATION, gtzan.filtered_valid), (TEST, gtzan.filtered_test))
        self.sides = {name: side for side, names in lists for name in names}

    def takes(self, place: Place) -> bool:
        return self.side(place) is not None

    def side(self, place: Place) -> str | None:
        return self.sides.get(_without_suffix(place[0].rpartition("/")[2]))


class _MUSDB18(Layout):
    """SUBSET/TRACK/STEM.wav; the tracks that validate are those that are agreed on."""

    name = "MUSDB18"
    pattern = re.compile(r"/(?P<subset>train|test)/(?P<track>[^/]+)/(?P<stem>[^/]+)\.\w+\Z")
    counts = "track"
    together = ("track",)

    def __init__(self, root: str) -> None:
        from torchaudio.datasets.musdb_hq import _VALIDATION_SET

        super().__init__(root)
        self.validation = set(_VALIDATION_SET)

    @classmethod
    def is_seen_in(cls, places: Collection[Place]) -> bool:
        stems = defaultdict(set)
        for place in places:
            stems[place["subset"], place["track"]].add(place["stem"])
        return any("mixture" in its and its & {"vocals", "drums", "bass", "other"} for its in stems.values())

    def side(self, place: Place) -> str | None:
        if place["subset"] == "train" and place["track"] in self.validation:
            return VALIDATION
        return side_of(place["subset"])


LAYOUTS: tuple[type[Layout], ...] = (_LibriSpeech, _LibriTTS, _LJSpeech, _VCTK, _SpeechCommands, _GTZAN, _MUSDB18)


def _without_suffix(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122  a text


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
