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
    Agreement,
    boundary_distances,
    check_programs,
    digits,
    write_onnx,
    write_torch_programs,
)
from discrete_ae.model import DiscreteAutoencoder
from tests.models import RESIDUAL, config

CONV = {"channels": 1, "width": 2, "strides": [2, 5], "dim": 4, "dilations": [1]}
SPECTRAL = {"channels": 1, "hop_length": 12, "dim": 8, "depth": 1}
# Family, arguments of the encoder, of the decoder and of the quantizer.
MODELS: dict[str, tuple[str, dict, dict, dict]] = {
    "conv": (
        "Conv",
        *(2 * (CONV | {"channels": 2, "strides": [2, 3], "activation": "snake", "norm": "weight", "causal": True},)),
        {"bound": "sigmoid"},
    ),
    "lapped": ("Spectral", SPECTRAL, SPECTRAL, {}),
    "leveled to istft, stereo": (
        "Spectral",
        SPECTRAL | {"channels": 2, "front": "leveled"},
        SPECTRAL | {"channels": 2, "head": "istft"},
        {"bound": "clamp"},
    ),
    "stft to envelope": ("Spectral", SPECTRAL | {"front": "stft"}, SPECTRAL | {"head": "envelope"}, {}),
    "patch, causal": ("Spectral", *(2 * (SPECTRAL | {"causal": True},)), {}),
}


def same(found: Any) -> Any:
    return found


def model_of(name: str) -> DiscreteAutoencoder:
    family, encoder, decoder, quantizer = MODELS[name]
    rounding = {"_target_": "discrete_ae.rounding.Fourier"}
    torch.manual_seed(0)
    return build_model(
        {
            "_target_": "discrete_ae.model.DiscreteAutoencoder",
            "sample_rate": 8000,
            "encoder": {"_target_": f"discrete_ae.model.{family}Encoder", **encoder},
            "decoder": {"_target_": f"discrete_ae.model.{family}Decoder", **decoder},
            "quantizer": {
                "_target_": "discrete_ae.quantizers.ScalarQuantizer",
                "levels": [5, 4, 3],
                "num_codebooks": 2,
                "rounding": rounding,
                **quantizer,
            },
        }
    ).eval()


@pytest.mark.parametrize(
    "name", [name if name == "lapped" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_onnx_gives_the_codes_of_the_model(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(name)
    found = write_onnx(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    # Not by the check that write_onnx makes: several items at once, and a length that it does not try.
    encoder, decoder = (runtime.InferenceSession(tmp_path / f"{half}.onnx") for half in ("encoder", "decoder"))
    audio = torch.randn(3, model.channels, 1234, generator=torch.Generator().manual_seed(1))
    codes = encoder.run(["codes"], {"audio": audio.numpy()})[0]
    with torch.no_grad():
        latents = model.latents(audio)
        expected = model.quantizer.encode(latents)
        wrong = digits(model, torch.from_numpy(codes)) != digits(model, expected)
        assert not (boundary_distances(model, latents)[wrong] > 1e-4).any()
        assert wrong.float().mean() < 0.01
        reference = model.reconstruct(model.quantizer.decode(expected), 1234)
    decoded = decoder.run(["audio"], {"codes": expected.numpy()})[0]
    assert decoded.shape[-1] == -(-1234 // model.hop_length) * model.hop_length
    np.testing.assert_allclose(decoded[..., :1234], reference.numpy(), atol=1e-4)
    assert found.lengths >= 10
    assert found.furthest <= NEAR
    silence = torch.zeros(1, model.channels, 120)
    with torch.no_grad():
        np.testing.assert_array_equal(
            encoder.run(["codes"], {"audio": silence.numpy()})[0], model.quantizer.encode(model.latents(silence))
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "leveled to istft, stereo"])
def test_torch_programs_give_the_codes_of_the_model(name: str, tmp_path: Path) -> None:
    model = model_of(name).train()
    write_torch_programs(model, tmp_path)
    assert all(part.training for part in model.modules())  # left as it was
    model.eval()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.pt2", "encoder.pt2"]
    encoder, decoder = (torch.export.load(tmp_path / f"{half}.pt2").module() for half in ("encoder", "decoder"))
    audio = torch.randn(3, model.channels, 1234, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.quantizer.encode(model.latents(audio))
        reference = model.reconstruct(model.quantizer.decode(expected), 1234)
    assert torch.equal(encoder(audio), expected)
    torch.testing.assert_close(decoder(expected)[..., :1234], reference)


# What each program gets wrong, of the model's own codes and audio.
WRONG: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "one code": (lambda codes: np.where(np.arange(codes.size).reshape(codes.shape), codes, 59 - codes), same, "other"),
    "a code out of range": (lambda codes: codes + 60, same, "other codes"),
    "a frame too few": (lambda codes: codes[..., 1:], same, "of shape"),
    "codes of another kind": (lambda codes: codes.astype(np.int32), same, "gives int32"),
    "louder audio": (same, lambda audio: audio + np.float32(1e-3), "decoder differs from the model by 1.0e-03"),
    "no numbers": (same, lambda audio: audio * np.float32("nan"), "decoder differs"),
    "an error": (same, lambda audio: 1 / 0, "fails for"),
}


def checked(of_codes: Callable[[Any], Any], of_audio: Callable[[Any], Any]) -> Agreement:
    """What the check says of programs that are the model itself, but for what is done to their results."""
    model = model_of("lapped")

    def encode(audio: Any) -> Any:
        return of_codes(model.quantizer.encode(model.latents(torch.from_numpy(audio))).numpy())

    def decode(codes: Any) -> Any:
        latents = model.quantizer.decode(torch.from_numpy(codes))
        return of_audio(model.reconstruct(latents, 12 * codes.shape[-1]).numpy())

    with torch.no_grad():
        return check_programs(model, encode, decode, "test")


def test_check_lets_the_model_itself_pass() -> None:
    found = checked(same, same)
    assert (found.differing, found.furthest, found.audio_difference) == (0, 0, 0)


@pytest.mark.parametrize("wrong", WRONG)
def test_check_finds(wrong: str) -> None:
    *changes, reason = WRONG[wrong]
    with pytest.raises(DataError, match=reason) as refused:
        checked(*changes)
    assert len(str(refused.value).splitlines()) == 1


def test_distance_from_the_boundary_is_that_of_hand_arithmetic() -> None:
    # With the bound (clamp(z, -1, 1) + 1) / 2 and 5 levels, u = 2 (z + 1): z = -1, -0.75, 0, 0.3, 1 and 9 are u = 0,
    # 0.5, 2, 2.6, 4 and 4; the boundaries are 0.5, 1.5, 2.5 and 3.5.
    model = build_model(
        config(
            quantizer={
                "_target_": "discrete_ae.quantizers.ScalarQuantizer",
                "levels": [5],
                "num_codebooks": 1,
                "bound": "clamp",
                "rounding": {"_target_": "discrete_ae.rounding.StraightThrough"},
            }
        )
    )
    found = boundary_distances(model, torch.tensor([[[-1, -0.75, 0, 0.3, 1, 9]]]))[0, 0, 0]
    assert found.tolist() == pytest.approx([0.5, 0, 0.5, 0.1, 0.5, 0.5], abs=1e-6)


def test_codes_come_apart_in_mixed_radix() -> None:
    # 5, 4 and 3 levels, the first least significant: 2 + 5 (3 + 4 * 1) = 37.
    assert digits(model_of("lapped"), torch.tensor([[[37], [0]]]))[0, :, :, 0].tolist() == [[2, 3, 1], [0, 0, 0]]


@pytest.mark.parametrize("write", [write_onnx, write_torch_programs])
def test_other_quantizers_are_refused(write: Callable[..., Any], tmp_path: Path) -> None:
    model = build_model(config(quantizer=RESIDUAL))
    with pytest.raises(UsageError, match="a ResidualQuantizer cannot be exported as a program, only scalar"):
        write(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"--onnx: needs the package {name}; pip install 'discrete-ae\[onnx\]'"):
        write_onnx(model_of("lapped"), tmp_path)
