"""The mel distance and its closed gradient against torchaudio's transform and autograd."""

import warnings

import pytest
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from discrete_ae.losses import MultiScaleMel
from tests.losses.noise import noise

RATE, WINDOWS, MELS = 16000, (2048, 512, 128), (80, 40, 10)
DAC = ((32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320))


@pytest.fixture
def mel() -> MultiScaleMel:
    return MultiScaleMel(RATE, WINDOWS, MELS)


def plain_distance(reconstruction: Tensor, target: Tensor, rate: int, windows: tuple, bands: tuple) -> Tensor:
    """The distance by torchaudio's transform and autograd."""
    distances = []
    for window, num_mels in zip(windows, bands, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bands without a bin
            to_mel = torchaudio.transforms.MelSpectrogram(
                rate, n_fft=window, win_length=window, hop_length=window // 4, n_mels=num_mels, power=1
            ).to(target.dtype)
        missing = max(0, window - target.shape[-1])
        found, wanted = (
            to_mel(F.pad(audio, (0, missing))).clamp(min=1e-5).log10() for audio in (reconstruction, target)
        )
        distances.append((found - wanted).abs().mean())
    return torch.stack(distances).mean()


@pytest.mark.parametrize(
    ("rate", "windows", "bands", "shape"),
    [
        (RATE, WINDOWS, MELS, (2, 2, 4097)),
        (RATE, WINDOWS, MELS, (1, 2, 1)),
        (RATE, *DAC, (1, 1, 40)),
        (44100, *DAC, (2, 1, 3000)),
        (8000, (50, 7), (5, 2), (2, 2, 3001)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradient_equals_that_of_autograd(
    dtype: torch.dtype, shape: tuple[int, ...], rate: int, windows: tuple[int, ...], bands: tuple[int, ...]
) -> None:
    target = noise(*shape).to(dtype)
    ours = (target + 0.5 * noise(*shape, seed=1)).to(dtype)
    ours[..., 2000:2900] *= 1e-7  # below the floor, where the gradient is 0
    ours.requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    found = 3 * MultiScaleMel(rate, windows, bands)(ours, target)
    expected = 3 * plain_distance(theirs, target, rate, windows, bands)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    found.backward()
    expected.backward()
    error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
    # In float32 a sign may differ where both have almost the same magnitude.
    assert error < (1e-6 if dtype == torch.float64 else 1e-3)


def test_what_is_equal_has_no_gradient(mel: MultiScaleMel) -> None:
    target = noise(1, 1, 6000)
    reconstruction = target.clone()
    reconstruction[0, 0, 5900] += 0.1  # reaches back 2048 samples
    mel(reconstruction.requires_grad_(), target).backward()
    assert reconstruction.grad[0, 0, 5900] != 0
    assert not reconstruction.grad[0, 0, :3800].any()


def test_gradient_is_computed_only_where_it_is_needed(mel: MultiScaleMel, monkeypatch: pytest.MonkeyPatch) -> None:
    target, reconstruction = noise(2, 1, 3000), noise(2, 1, 3000, seed=1).requires_grad_()
    expected = mel(reconstruction, target)
    for scale in mel.scales:
        monkeypatch.setattr(scale.dft, "adjoint", None)  # any call would raise
    assert mel(reconstruction.detach(), target) == expected
    with torch.no_grad():
        assert mel(reconstruction, target) == expected
    with pytest.raises(TypeError):
        mel(reconstruction, target)


def test_all_that_is_kept_for_the_backward_pass_is_the_gradient(mel: MultiScaleMel) -> None:
    kept: list[Tensor] = []
    reconstruction = noise(2, 2, 3000).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        loss = mel(reconstruction, noise(2, 2, 3000, seed=1))
    (gradient,) = torch.autograd.grad(loss, reconstruction)
    assert len(kept) == 1
    assert torch.equal(kept[0], gradient)


@pytest.mark.parametrize(
    ("windows", "bands", "message"),
    [([512, 128], [40], "one num_mels"), ([], [], "one num_mels"), ([3], [1], "at least 4 samples, got 3")],
)
def test_window_and_band_mismatches_are_refused(windows: list[int], bands: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiScaleMel(RATE, windows, bands)
