"""Recordings that were cut off, in every format that notices, against whole ones."""

import struct

import numpy as np
import pytest
import soundfile

from discrete_ae.data.files import require_complete
from discrete_ae.errors import DataError

FORMATS = {
    "wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "aiff": {"subtype": "PCM_24"},
    "au": {"subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
OTHERS = {"flac": {}, "mp3": {}, "w64": {"subtype": "PCM_16"}, "caf": {"subtype": "PCM_16"}}


def write(path, kind):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (60_000, 2))
    soundfile.write(path, noise, 48000, **kind)
    return path


@pytest.mark.parametrize("suffix", FORMATS | OTHERS)
def test_whole_recordings_are_taken(tmp_path, suffix):
    require_complete(write(tmp_path / f"x.{suffix}", (FORMATS | OTHERS)[suffix]))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", FORMATS)
def test_cut_off_recordings_are_refused(tmp_path, suffix, share):
    path = write(tmp_path / f"x.{suffix}", FORMATS[suffix])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"x\..*: was cut off"):
        require_complete(path)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0])
def test_lengths_that_a_pipe_could_not_know_are_taken(tmp_path, length):
    path = write(tmp_path / "x.wav", FORMATS["wav"])
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + struct.pack("<I", length) + content[at + 4 :])
    require_complete(path)


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "x.wav").write_text("no audio")
    with pytest.raises(DataError, match="not readable as audio"):
        require_complete(tmp_path / "x.wav")
