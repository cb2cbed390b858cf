"""Audio files in, batches out."""

from typing import TYPE_CHECKING

from discrete_ae.data.crops import CropSettings, TrainingCrops, ValidationSegments
from discrete_ae.data.files import AudioFile, recordings_root
from discrete_ae.data.index import find_audio
from discrete_ae.data.manifest import read_manifest, write_manifest
from discrete_ae.data.reading import match_channels, read_audio, stream_audio
from discrete_ae.data.splitting import split_by_hash

if TYPE_CHECKING:
    from discrete_ae.data.lightning_module import AudioDataModule

__all__ = [
    "AudioDataModule",
    "AudioFile",
    "CropSettings",
    "TrainingCrops",
    "ValidationSegments",
    "find_audio",
    "match_channels",
    "read_audio",
    "read_manifest",
    "recordings_root",
    "split_by_hash",
    "stream_audio",
    "write_manifest",
]


def __getattr__(name: str) -> object:
    """Import the data module on first access, since reading audio needs no Lightning."""
    if name == "AudioDataModule":
        from discrete_ae.data.lightning_module import AudioDataModule

        return AudioDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
