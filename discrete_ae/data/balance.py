"""How often each recording is drawn, where that is not by its duration."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from discrete_ae.data.files import AudioFile


def folder_weights(files: Sequence[AudioFile], root: str | Path) -> list[float]:
    """Weights by which every folder right below `root` is drawn equally often, and the files within it by duration.

    Files at any depth belong to the folder right below `root`; those in `root` itself are one group more. The weights
    of a group add up to 1.
    """
    root = Path(root).expanduser()
    groups = [file.path.relative_to(root).parts[:-1][:1] for file in files]
    durations_s: dict[tuple[str, ...], float] = defaultdict(float)
    for file, group in zip(files, groups, strict=True):
        durations_s[group] += file.duration_s
    return [file.duration_s / durations_s[group] for file, group in zip(files, groups, strict=True)]
