"""Encoding and decoding of files on a GPU."""

from pathlib import Path

import numpy as np
import torch

import discrete_ae
from discrete_ae.build import build_model
from discrete_ae.codec import Codec, decode_files, encode_files
from discrete_ae.inference import Runner
from discrete_ae.streaming import Decoder, Encoder
from tests.gpu.devices import on_each_device
from tests.models import config

DETERMINISTIC = Runner(deterministic=True)


@on_each_device
def test_codes_and_audio_are_nearly_those_of_a_cpu(device: str, ste_run: Path, recordings: Path) -> None:
    checkpoint = ste_run / "checkpoints" / "best.ckpt"
    expected, found = discrete_ae.load(checkpoint), discrete_ae.load(checkpoint, device)
    for path in sorted(recordings.glob("*.wav")):
        code_file = Codec(expected).encode_file(path)
        assert (Codec(found).encode_file(path).codes != code_file.codes).mean() <= 0.01
        np.testing.assert_allclose(
            Codec(found).decode_file(code_file), Codec(expected).decode_file(code_file), atol=1e-4
        )


@on_each_device
def test_deterministic_gives_the_same_bits_twice_and_in_any_company(
    device: str, ste_run: Path, recordings: Path
) -> None:
    model = discrete_ae.load(ste_run / "checkpoints" / "best.ckpt", device)
    paths = sorted(recordings.glob("*.wav"))
    first = [found.code_file for found in encode_files(model, paths, runner=DETERMINISTIC)]
    again = [found.code_file for found in encode_files(model, paths[::-1], runner=DETERMINISTIC)][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.codes, other.codes)
    for one, other in zip(*(decode_files(model, first, runner=DETERMINISTIC) for _ in range(2)), strict=True):
        assert np.array_equal(np.concatenate(list(one.blocks), axis=1), np.concatenate(list(other.blocks), axis=1))


@on_each_device
def test_streams_stay_on_the_device_of_what_is_pushed(device: str) -> None:
    torch.manual_seed(0)
    model = build_model(config(causal=True)).to(device).eval()
    encoder, decoder = Encoder(model), Decoder(model)
    audio = 0.1 * torch.randn(1, 1, 16000, device=device)
    codes = torch.cat([*map(encoder.push, audio.split(700, dim=-1)), encoder.finish()], dim=-1)
    decoded = torch.cat([decoder.push(codes), decoder.finish()], dim=-1)
    assert (codes.device, decoded.device) == (audio.device, audio.device)
    assert (codes != model.encode(audio)).float().mean() < 0.01  # other kernels, other last bits
    assert decoded.shape == audio.shape
