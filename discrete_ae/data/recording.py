"""Audio to files.

Axes: C channels, n samples.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from discrete_ae.data.channels import Audio
from discrete_ae.errors import DataError
from discrete_ae.writing import unwritable, written_whole


@contextmanager
def recorded_whole(
    target: Path, sample_rate: int, channels: int, audio_format: str = "WAV"
) -> Iterator[Callable[[Audio], None]]:
    """Give what writes blocks (C, n), in 16 bits, to a file that is there at the end of the block, or not at all.

    What lies beyond full scale is clipped.

    Args:
        target: the file.
        sample_rate: in Hz.
        channels: C.
        audio_format: a name of libsndfile's.

    Raises:
        DataError: the format cannot hold so many channels or such a sample rate, or the disk is full.
    """
    with written_whole(target) as temporary:
        try:
            file = soundfile.SoundFile(temporary, "w", sample_rate, channels, format=audio_format, subtype="PCM_16")
        except soundfile.LibsndfileError as error:
            name = audio_format.lower()
            raise DataError(
                f"{channels} channels at {sample_rate} Hz cannot be written as {name}; use another --format"
            ) from error
        count = 0

        def write(block: Audio) -> None:
            nonlocal count
            file.write(block.T.clip(-1, 1))
            count += block.shape[1]

        try:
            with file:
                yield write
            complete = soundfile.info(temporary).frames == count
        except soundfile.LibsndfileError:
            complete = False
        if not complete:
            raise unwritable(target, "the disk is full, or failing")
