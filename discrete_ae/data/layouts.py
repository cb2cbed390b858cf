"""Layouts of public data sets on disk.

Layouts, splits and excluded recordings are those of `torchaudio.datasets`, with one deviation: VCTK keeps both
microphones, and recordings without texts.
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
"""Match of the end of a recording's path, relative to the folder of its data set."""


class Layout:
    """Base class of a data set in its folder.

    Args:
        root: folder of the data set.
    """

    name: ClassVar[str]
    pattern: ClassVar[re.Pattern[str]]
    """Pattern of a place; its named groups are fields of the manifest's line."""
    counts: ClassVar[str] = "speaker"
    """Field whose values are counted for the summary."""
    together: ClassVar[tuple[str, ...]] = ("speaker",)
    """Candidate fields for the group; the first with several values is used."""
    transcript: ClassVar[str] = ""
    """Path of a recording's transcript, with the fields, `root` and the recording's `folder` as placeholders."""
    line: ClassVar[re.Pattern[str]]
    """Pattern of an utterance and its text in a transcript."""
    left_out: ClassVar[str] = ""
    """Description of the excluded recordings."""

    def __init__(self, root: str) -> None:
        self.root = root

    @classmethod
    def is_seen_in(cls, places: Collection[Place]) -> bool:
        """Return whether places in one folder belong to this data set; True by default, since they match `pattern`."""
        return True

    def takes(self, place: Place) -> bool:
        """Return whether the recording is in one of the data set's subsets."""
        return True

    def side(self, place: Place) -> str | None:
        """Return the side in the official split; None if there is no official split."""
        return None

    def texts(self, transcript: str) -> dict[str, str]:
        """Read the texts of a transcript by utterance; none if the file does not exist.

        Raises:
            OSError: the transcript cannot be read.
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
    """LibriSpeech's layout with other names; of the original and normalized texts, the normalized ones are used."""

    name = "LibriTTS"
    pattern = re.compile(rf"{_SUBSET}{_CHAPTER}/(?P<utterance>(?P=speaker)_(?P=chapter)_\d+_\d+)\.\w+\Z")
    transcript = "{folder}/{speaker}_{chapter}.trans.tsv"
    line = re.compile(r"^(\S+)\t[^\t\n]*\t(.*\S)", re.MULTILINE)


class _LJSpeech(Layout):
    """wavs/UTTERANCE.wav, of one speaker; the normalized texts are used."""

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
    together = ("speaker", "utterance")  # with a single speaker, both microphones of an utterance form a group
    transcript = "{root}/txt/{speaker}/{utterance}.txt"

    def texts(self, transcript: str) -> dict[str, str]:
        return {Path(transcript).stem: _content(transcript).strip()}


class _SpeechCommands(Layout):
    """WORD/SPEAKER_nohash_NUMBER.wav; two lists name the validation and test recordings, the rest is for training."""

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
    """GENRE/GENRE.NUMBER.wav; the split is the filtered one, which excludes repeated and faulty recordings."""

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
    """SUBSET/TRACK/STEM.wav; the validation tracks are those of torchaudio."""

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
