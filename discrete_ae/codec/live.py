"""Encode live signals to streams of codes, and back. Axes: S streams, C channels, n samples, t frames."""

from collections.abc import Callable, Iterator
from io import BufferedIOBase

import torch

from discrete_ae.codec.files import check_model, finite
from discrete_ae.codes.stream import StreamInfo, frames_bytes, head_bytes, read_frames, read_head
from discrete_ae.data.live import LiveAudio, resampled
from discrete_ae.data.reading import match_channels
from discrete_ae.data.resampling import Audio
from discrete_ae.errors import DataError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.streaming import Decoder, Encoder


def encode_live(model: DiscreteAutoencoder, audio: LiveAudio, num_codebooks: int | None = None) -> Iterator[bytes]:
    """Yield a stream of codes: first its header line, then each frame as soon as its samples have arrived.

    Channels are treated as in a file. A mono model codes each channel separately. For any other model, a mono signal is
    copied into all channels.

    Args:
        model: a causal model from `discrete_ae.load`.
        audio: the signal to encode.
        num_codebooks: number of codebooks to use; None for all.

    Raises:
        UsageError: the model is not causal.
        DataError: the channels do not fit the model, or the signal cannot be coded.
    """
    channels = audio.channels
    if model.channels != 1:
        if channels not in (1, model.channels):
            raise DataError(f"-: expected {model.channels} channels, got {channels}; convert it, or use another model")
        channels = model.channels
    said = {
        "discrete_ae_codes": 1,
        "sample_rate": audio.sample_rate,
        "model_sample_rate": model.sample_rate,
        "streams": channels // model.channels,
        "codebook_sizes": model.quantizer.codebook_sizes[:num_codebooks],
        "model_hash": model.codes_hash,
        "quantizer": type(model.quantizer).__name__,
    }
    try:
        encoder, info = Encoder(model, num_codebooks), StreamInfo.of(said)
        yield head_bytes(info)
        for block in resampled(audio, model.sample_rate):
            samples = torch.from_numpy(match_channels(block, channels)).unflatten(0, (-1, model.channels))
            yield frames_bytes(info, encoder.push(samples).numpy())
        yield frames_bytes(info, encoder.finish().numpy())
    except ValueError as error:
        raise DataError(f"-: {error}") from error


def decode_live(
    model: DiscreteAutoencoder,
    stream: BufferedIOBase,
    doubted: Callable[[str], None] = lambda doubt: None,
    *,
    force: bool = False,
) -> LiveAudio:
    """Read the first line of a stream of codes, and return the audio of its complete frames.

    Args:
        model: the model that made the codes.
        stream: stream of codes, at its beginning.
        doubted: called with a message after the last block if the stream ends within a frame; that frame is skipped.
        force: True to decode even if the model has another hash than the codes.

    Raises:
        UsageError: the model is not causal.
        DataError: the input is not a stream of codes, or does not fit the model. The returned blocks raise it if frames
            are damaged, or decode to NaN or infinity.
    """
    info = read_head(stream)
    check_model(model, info, force=force)
    decoder = Decoder(model)
    channels = info.streams * model.channels

    def blocks() -> Iterator[Audio]:
        for codes in read_frames(stream, info, doubted):
            yield finite(decoder.push(torch.from_numpy(codes)).flatten(0, 1).numpy())

    at_model_rate = LiveAudio(model.sample_rate, channels, blocks())
    return LiveAudio(info.sample_rate, channels, resampled(at_model_rate, info.sample_rate))
