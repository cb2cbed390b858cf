"""Whether a recording was cut off: libsndfile reads what is left of most formats as if it were all."""

import os
import re
from pathlib import Path

import soundfile

from discrete_ae.errors import DataError

# What libsndfile notes of the chunk of samples: its length by the header, and by the file.
_LENGTHS = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
# A program that writes to a pipe knows no length, and gives the largest, or nearly so.
_UNKNOWN = 0x7FF00000
# Some count the header too.
_TOLERANCE_BYTES = 1024
_OGG_PAGE, _OGG_LONGEST_PAGE, _OGG_HEADER, _OGG_LAST = b"OggS", 65307, 27, 0x04


def require_complete(path: Path) -> None:
    """Refuse a recording that ends before its header says, or an Ogg stream without its last page.

    MP3 and FLAC are found out when their end is read, and WAV in W64 or RF64 form is not.

    Raises:
        DataError: it was cut off.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == _OGG_PAGE:
                file.seek(max(0, path.stat().st_size - _OGG_LONGEST_PAGE))
                complete = _ends(file.read())
            else:
                notes = soundfile.info(os.fsencode(path), verbose=True).extra_info
                lengths = [(int(promised), int(found)) for promised, found in _LENGTHS.findall(notes)]
                complete = not any(found + _TOLERANCE_BYTES < promised < _UNKNOWN for promised, found in lengths)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: not readable as audio; remove or replace it") from error
    if not complete:
        raise DataError(
            f"{path}: was cut off, it ends before its header or its format says; replace it, or save it anew"
        )


def _ends(end: bytes) -> bool:
    """Whether the end of an Ogg file (RFC 3533, section 6) holds a whole last page."""
    page = end[max(end.rfind(_OGG_PAGE), 0) :]
    if len(page) < _OGG_HEADER:
        return False
    lengths = page[_OGG_HEADER : _OGG_HEADER + page[26]]
    return bool(page[5] & _OGG_LAST) and len(page) >= _OGG_HEADER + page[26] + sum(lengths)
