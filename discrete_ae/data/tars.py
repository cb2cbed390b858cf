"""Recordings in tars such as those of WebDataset: found by the headers, read where they lie.

A member of a tar is a stretch of it, which libsndfile takes for a file; nothing is unpacked. Sidecars of the same key,
such as .json and .txt, are passed over.
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
"""Those of tars; all but the first are of compressed ones, which are refused in words."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


def members(path: Path | str) -> Iterator[Member]:
    """Yield the files in a tar, in its order, by their headers alone.

    Args:
        path: a text is a URL.

    Raises:
        DataError: it is missing, compressed, cut off, or no tar.
        OSError: it cannot be read.
    """
    if not is_url(path) and kind_of(path) is not Kind.FILE:
        raise DataError(f"{path}: no such file; give a tar")
    size = stamp_of(path).num_bytes
    with open_at(path) as file:
        if file.read(6).startswith(_COMPRESSED):
            raise DataError(
                f"{path}: compressed, so that recordings cannot be read in place; decompress it, as by gunzip, and "
                "give the .tar"
            )
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for info in iter(archive.next, None):
                    if info.offset_data + info.size > size:
                        raise DataError(f"{path}: cut off in {info.name}; fetch or write it anew")
                    if info.issparse():
                        raise DataError(f"{path}: {info.name} is stored with holes; write it anew without --sparse")
                    if info.isfile():
                        stop = info.offset_data + info.size
                        yield Member(PurePosixPath(info.name).as_posix(), Piece(b"", info.offset_data, stop))
                    archive.members = []  # type: ignore[attr-defined]  # which may be millions
                end = archive.offset
        except tarfile.TarError as error:
            raise DataError(f"{path}: no tar, or cut off ({error}); fetch or write it anew") from error
        # tarfile takes a header that it does not understand for the end, unless it is the first.
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise DataError(f"{path}: damaged or cut off at byte {end}; fetch or write it anew")


def is_tar(place: Path | str) -> bool:
    """Return whether a file, or a URL, is a tar by its suffix; whether it is compressed is seen when it is read."""
    name = str(place).partition("?")[0] if is_url(place) else str(place)
    return name.lower().endswith(TAR_SUFFIXES)


def audio_members(path: Path | str) -> list[Member]:
    """Return the recordings in a tar by their suffixes, hidden names left out, sorted by their names in the tar.

    Of two with one name it is the last, as unpacking would leave it.

    Raises:
        DataError: as `members`, or no recording is in it.
        OSError: it cannot be read.
    """
    found = list(members(path))
    if not found:
        raise DataError(f"{path}: an empty tar; remove it, or write it anew")
    audio = {one.name: one for one in sorted(found) if _is_audio(PurePosixPath(one.name))}
    if not audio:
        raise DataError(
            f"{path}: none of the {len(found)} files in it is audio (.wav, .flac, .ogg, .opus, .mp3, …), e.g. "
            f"{found[0].name}; give another tar"
        )
    return list(audio.values())


def _is_audio(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)
