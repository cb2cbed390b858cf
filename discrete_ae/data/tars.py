"""Find recordings in tars such as those of WebDataset, to be read in place.

A member is a range of the tar's bytes, which libsndfile reads as a file; nothing is unpacked. Other files with the same
key, such as .json and .txt, are ignored.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from discrete_ae.data.containers import Piece
from discrete_ae.data.files import SUFFIXES, Member
from discrete_ae.data.remote import is_url, open_at, stamp_of
from discrete_ae.errors import DataError
from discrete_ae.paths import Kind, kind_of

TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar.zst", ".tar.lz4")
"""Suffixes of tars; all but the first are of compressed tars, which are rejected with a message."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


def members(path: Path | str) -> Iterator[Member]:
    """Yield the files in a tar, in the order of the tar; only their headers are read.

    Args:
        path: path or URL of the tar.

    Raises:
        DataError: the tar is missing, compressed, truncated, or not a tar.
        OSError: the tar cannot be read.
    """
    if not is_url(path) and kind_of(path) is not Kind.FILE:
        raise DataError(f"{path}: no such file; give a tar")
    size = stamp_of(path).num_bytes
    with open_at(path) as file:
        if file.read(6).startswith(_COMPRESSED):
            raise DataError(
                f"{path}: compressed, so recordings cannot be read in place; decompress it, for example by gunzip, and "
                "give the .tar"
            )
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for info in iter(archive.next, None):
                    if info.size < 0 or info.offset_data + info.size > size:
                        raise DataError(f"{path}: damaged or truncated in {info.name}; fetch or write it again")
                    if info.issparse():
                        raise DataError(f"{path}: {info.name} is a sparse file; write the tar again without --sparse")
                    if info.isfile():
                        stop = info.offset_data + info.size
                        yield Member(PurePosixPath(info.name).as_posix(), Piece(b"", info.offset_data, stop))
                    archive.members = []  # type: ignore[attr-defined]  # there may be millions
                end = archive.offset
        # tarfile raises the last three if an extended header has an impossible size.
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
            reason = str(error) or "a size is too large"
            raise DataError(f"{path}: not a tar, or truncated ({reason}); fetch or write it again") from error
        # tarfile mistakes an invalid header for the end of the tar, unless it is the first header.
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise DataError(f"{path}: damaged or truncated at byte {end}; fetch or write it again")


def is_tar(place: Path | str) -> bool:
    """Return whether a file or URL has the suffix of a tar, compressed or not."""
    name = str(place).partition("?")[0] if is_url(place) else str(place)
    return name.lower().endswith(TAR_SUFFIXES)


def audio_members(path: Path | str) -> list[Member]:
    """Return the members of a tar with the suffix of an audio file, sorted by name, without hidden names.

    If several members have the same name, the last of them is returned, since unpacking would keep that one.

    Raises:
        DataError: as in `members`, or there is no recording in the tar.
        OSError: the tar cannot be read.
    """
    found = list(members(path))
    if not found:
        raise DataError(f"{path}: an empty tar; remove it, or write it again")
    audio = {one.name: one for one in sorted(found) if _is_audio(PurePosixPath(one.name))}
    if not audio:
        raise DataError(
            f"{path}: none of the {len(found)} files in it is audio (.wav, .flac, .ogg, .opus, .mp3, …), e.g. "
            f"{found[0].name}; give another tar"
        )
    return list(audio.values())


def _is_audio(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)
