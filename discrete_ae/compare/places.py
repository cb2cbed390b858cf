"""Short forms of paths, so that a report that is sent to others does not show the folders of this machine."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from discrete_ae.paths import real


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return a short name of each path: its last part, if no other path has the same last part.

    Otherwise the name is the path relative to the folder that all paths have in common.
    """
    names = [path.name or "root" for path in paths]
    root = os.path.commonpath(paths) if len(set(names)) < len(names) else ""
    return [
        name if names.count(name) == 1 else path.relative_to(root).as_posix()
        for name, path in zip(names, paths, strict=True)
    ]


def with_short_paths(flats: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return flat configurations with a short name in place of every absolute path; different paths stay different."""
    paths = sorted(paths_in(flats))
    short = dict(zip(paths, short_names(list(map(Path, paths))), strict=True))
    return [{key: short[value] if _is_absolute(value) else value for key, value in flat.items()} for flat in flats]


def hiding(places: Iterable[str | Path]) -> Callable[[str], str]:
    """Return a function that shortens paths in a text.

    The function removes the working folder, the home folder, and the folders above each place. With the place
    "/home/ann/corpus" or "/home/ann/corpus/**/*.wav", "/home/ann/corpus/bad.wav: cannot be read" becomes
    "corpus/bad.wav: cannot be read".
    """
    folders = [Path(str(place).partition("*")[0]) for place in places]
    everywhere = [*folders, Path.cwd() / "any", Path.home() / "any"]
    parents = {str(path.parent) for place in everywhere for path in (place.expanduser(), real(place))}
    above = sorted((one for one in parents if one.startswith((os.sep, "..")) and one != os.sep), key=len, reverse=True)
    begins = r"(?<![^\s'\"=(\[,:])"  # not in the middle of another path
    pattern = re.compile(f"{begins}(?:{'|'.join(map(re.escape, above))}){re.escape(os.sep)}")
    return lambda text: pattern.sub("", text)


def paths_in(flats: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the absolute paths among the values of flat configurations."""
    return {value for flat in flats for value in flat.values() if _is_absolute(value)}


def _is_absolute(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()
