"""Exported programs give the model's codes and audio for any length; what they cannot do is refused in a line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discrete_ae.build import build_model
from discrete_ae.errors import DataError, UsageError
from discrete_ae.export import (
    NEAR,
    boundary_distances,
    check_programs,
    write_onnx,
    write_onnx_steps,
    write_torch_programs,
)
from discrete_ae.model import DiscreteAutoencoder
from tests.models import RESIDUAL, config

CONV = {"width": 2, "strides": [2, 3], "dim": 4, "dilations": [1], "activation": "snake", "norm": "weight"}
SPECTRAL = {"hop_length": 12, "dim": 8, "depth": 1}
# Family, channels, and what encoder, decoder and quantizer have beside that.
MODELS: dict[str, tuple[str, int, dict, dict, dict]] = {
    "conv, stereo": ("Conv", 2, CONV | {"causal": True}, CONV | {"causal": True}, {"bound": "sigmoid"}),
    "lapped": ("Spectral", 1, SPECTRAL, SPECTRAL, {}),
    "leveled to istft, stereo": (
        "Spectral",
        2,
        SPECTRAL | {"front": "leveled"},
        SPECTRAL | {"head": "istft"},
        {"bound": "clamp"},
    ),
    "stft to envelope": ("Spectral", 1, SPECTRAL | {"front": "stft"}, SPECTRAL | {"head": "envelope"}, {}),
    "patch, causal": ("Spectral", 1, SPECTRAL | {"causal": True}, SPECTRAL | {"causal": True}, {}),
}


def scalar(levels: list[int], **settings: Any) -> dict[str, Any]:
    rounding = {"_target_": "discrete_ae.rounding.Fourier"}
    target = "discrete_ae.quantizers.ScalarQuantizer"
    return {"_target_": target, "levels": levels, "num_codebooks": 2, "rounding": rounding, **settings}


def model_of(name: str) -> DiscreteAutoencoder:
    family, channels, encoder, decoder, quantizer = MODELS[name]
    torch.manual_seed(0)
    coders = {"encoder": encoder, "decoder": decoder}
    return build_model(
        {
            "_target_": "discrete_ae.model.DiscreteAutoencoder",
            "sample_rate": 8000,
            "quantizer": scalar([5, 4, 3], **quantizer),
            **{
                part: {"_target_": f"discrete_ae.model.{family}{part.title()}", "channels": channels, **arguments}
                for part, arguments in coders.items()
            },
        }
    ).eval()


def of_three_signals(model: DiscreteAutoencoder) -> tuple[torch.Tensor, ...]:
    """Audio of several items, of a length that the check of the export does not try; its latents, codes and audio."""
    audio = torch.randn(3, model.channels, 1234, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = model.latents(audio)
        codes = model.quantizer.encode(latents)
        return audio, latents, codes, model.reconstruct(model.quantizer.decode(codes), 1234)


# The others are exported by tests/cli/test_export.py, and compared by the same check.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv, stereo", "leveled to istft, stereo", "stft to envelope"])
def test_onnx_gives_the_codes_of_the_model(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(name)
    found = write_onnx(model, tmp_path).agreement
    assert found.lengths >= 10
    assert found.furthest <= NEAR
    encoder, decoder = (runtime.InferenceSession(tmp_path / f"{half}.onnx") for half in ("encoder", "decoder"))
    audio, latents, expected, reference = of_three_signals(model)
    codes = torch.from_numpy(encoder.run(["codes"], {"audio": audio.numpy()})[0])
    wrong = model.quantizer.integers(codes) != model.quantizer.integers(expected)
    assert not (boundary_distances(model, latents)[wrong] > 1e-4).any()
    assert wrong.float().mean() < 0.01
    decoded = decoder.run(["audio"], {"codes": expected.numpy()})[0]
    assert decoded.shape[-1] == -(-1234 // model.hop_length) * model.hop_length
    np.testing.assert_allclose(decoded[..., :1234], reference.numpy(), atol=1e-4)
    silence = torch.zeros(1, model.channels, 120)
    with torch.no_grad():
        of_silence = model.quantizer.encode(model.latents(silence))
    np.testing.assert_array_equal(encoder.run(["codes"], {"audio": silence.numpy()})[0], of_silence)


@pytest.mark.slow
def test_onnx_steps_give_the_codes_of_the_whole_signal(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = model_of("conv, stereo")
    found = write_onnx_steps(model, tmp_path).agreement
    assert found.lengths >= 10
    assert found.furthest <= NEAR
    audio, latents, expected, reference = of_three_signals(model)
    hop = model.hop_length
    for half, given, unit, output in (("encoder", audio, hop, "codes"), ("decoder", expected, 1, "audio")):
        session = runtime.InferenceSession(tmp_path / f"{half}_step.onnx")
        first, *states = session.get_inputs()
        next_states = [one.name for one in session.get_outputs()][1:]
        assert len(states) == len(next_states) > 0
        last = {state.name: np.zeros(state.shape, np.float32) for state in states}
        frames = []
        for frame in torch.nn.functional.pad(given[1:2], (0, -given.shape[-1] % unit)).split(unit, dim=-1):
            one, *after = session.run([output, *next_states], {first.name: frame.numpy(), **last})
            frames.append(one)
            last = dict(zip(last, after, strict=True))
        streamed = torch.from_numpy(np.concatenate(frames, axis=-1))
        if output == "audio":
            torch.testing.assert_close(streamed[..., :1234], reference[1:2], rtol=0, atol=1e-4)
        else:
            wrong = model.quantizer.integers(streamed) != model.quantizer.integers(expected[1:2])
            assert not (boundary_distances(model, latents[1:2])[wrong] > 1e-4).any()
            assert wrong.float().mean() < 0.01


def test_steps_of_a_model_that_is_not_causal_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.encoder\.causal=true"):
        write_onnx_steps(model_of("lapped"), tmp_path)


@pytest.mark.slow
def test_torch_programs_give_the_codes_of_the_model(tmp_path: Path) -> None:
    model = model_of("leveled to istft, stereo").train()
    write_torch_programs(model, tmp_path)
    assert all(part.training for part in model.modules())  # left as it was
    encoder, decoder = (torch.export.load(tmp_path / f"{half}.pt2").module() for half in ("encoder", "decoder"))
    audio, _, expected, reference = of_three_signals(model.eval())
    assert torch.equal(encoder(audio), expected)
    torch.testing.assert_close(decoder(expected)[..., :1234], reference)


def same(found: Any) -> Any:
    return found


# What each program makes of the model's own codes and audio, and what the check says of it.
CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "nothing": (same, same, ""),
    "one code": (lambda codes: np.where(np.arange(codes.size).reshape(codes.shape), codes, 59 - codes), same, "other"),
    "a code out of range": (lambda codes: codes + 60, same, "expected codes from 0 to 59 for 1 sample"),
    "a frame too few": (lambda codes: codes[..., 1:], same, "of shape"),
    "codes of another kind": (lambda codes: codes.astype(np.int32), same, "got int32"),
    "louder audio": (same, lambda audio: audio + np.float32(1e-3), "decoder that differ by up to 1.0e-03"),
    "no numbers": (same, lambda audio: audio * np.float32("nan"), "decoder that differ"),
    "an error": (same, lambda audio: 1 / 0, "fails for"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_check_finds_what_differs_and_nothing_else(change: str) -> None:
    of_codes, of_audio, reason = CHANGES[change]
    model = model_of("lapped")

    def encode(audio: Any) -> Any:
        return of_codes(model.quantizer.encode(model.latents(torch.from_numpy(audio))).numpy())

    def decode(codes: Any) -> Any:
        latents = model.quantizer.decode(torch.from_numpy(codes))
        return of_audio(model.reconstruct(latents, 12 * codes.shape[-1]).numpy())

    with torch.no_grad():
        if reason:
            with pytest.raises(DataError, match=reason) as refused:
                check_programs(model, encode, decode, "test")
            assert len(str(refused.value).splitlines()) == 1
        else:
            found = check_programs(model, encode, decode, "test")
            assert (found.differing, found.furthest, found.audio_difference) == (0, 0, 0)


def test_distance_from_the_boundary_is_that_of_hand_arithmetic() -> None:
    # With the bound (clamp(z, -1, 1) + 1) / 2 and 5 levels, u = 2 (z + 1): z = -1, -0.75, 0, 0.3, 1 and 9 are u = 0,
    # 0.5, 2, 2.6, 4 and 4; the boundaries are 0.5, 1.5, 2.5 and 3.5.
    model = build_model(config(quantizer=scalar([5], num_codebooks=1, bound="clamp")))
    found = boundary_distances(model, torch.tensor([[[-1, -0.75, 0, 0.3, 1, 9]]]))[0, 0, 0]
    assert found.tolist() == pytest.approx([0.5, 0, 0.5, 0.1, 0.5, 0.5], abs=1e-6)


def test_rotation_and_dither_count_in_the_distance() -> None:
    # -z gives u = 2 (1 - z) + 0.2: z = -0.75, 0.3 and 1 are u = 3.7, 1.6 and 0.2; above 3.5 no boundary is left.
    quantizer = scalar([5], bound="clamp", rotation=True, dither=True) | {"num_codebooks": 1}
    model = build_model(config(quantizer=quantizer))
    model.quantizer.rotation.fill_(-1)
    model.quantizer.dither.fill_(0.2)
    found = boundary_distances(model, torch.tensor([[[-0.75, 0.3, 1]]]))[0, 0, 0]
    assert found.tolist() == pytest.approx([0.2, 0.1, 0.3], abs=1e-6)


def test_codes_come_apart_in_mixed_radix() -> None:
    # 5, 4 and 3 levels, the first least significant: 2 + 5 (3 + 4 * 1) = 37.
    integers = model_of("lapped").quantizer.integers(torch.tensor([[[37], [0]]]))
    assert integers[0, :, :, 0].tolist() == [[2, 3, 1], [0, 0, 0]]


def test_what_cannot_be_exported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    residual = build_model(config(quantizer=RESIDUAL))
    for write in (write_onnx, write_torch_programs):
        with pytest.raises(UsageError, match=r"expected a scalar quantizer.*got ResidualQuantizer"):
            write(residual, tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"--onnx: needs the package onnxscript; pip install 'discrete-ae\[onnx\]'"):
        write_onnx(model_of("lapped"), tmp_path)
    assert not list(tmp_path.iterdir())
