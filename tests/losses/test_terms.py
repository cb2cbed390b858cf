"""Properties of all terms of all options of conf/loss, including those with weight 0."""

from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from tests.losses.noise import noise

ROOT = Path(__file__).parents[2]


def every_term() -> dict[str, nn.Module]:
    """By name and settings."""
    configs = {}
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for path in sorted((ROOT / "conf/loss").glob("*.yaml")):
            config = hydra.compose(overrides=[f"+loss={path.stem}", "+model.sample_rate=16000"])
            for name, term in config.loss.terms.items():
                configs[f"{name} {OmegaConf.to_container(term, resolve=True)}"] = term
    return {name: hydra.utils.instantiate(term) for name, term in configs.items()}


TERMS = every_term()
for_every_term = pytest.mark.parametrize("term", TERMS.values(), ids=[name.split()[0] for name in TERMS])
SHAPES = ((1, 1, 1), (2, 1, 2), (2, 2, 3200))


@for_every_term
def test_nothing_is_better_than_a_perfect_copy(term: nn.Module) -> None:
    for shape in SHAPES:
        target = noise(*shape)
        perfect, other = term(target.clone(), target), term(2 * target + 0.1, target)
        assert perfect <= 0  # or lower, as minus 100 dB
        assert perfect <= other < 1000
        assert perfect < other or shape == (1, 1, 1)


@for_every_term
@pytest.mark.parametrize("levels", [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_loss_and_gradient_are_finite_of_silence_too(term: nn.Module, levels: tuple[int, int]) -> None:
    for shape in SHAPES:
        reconstruction = (levels[0] * noise(*shape)).requires_grad_()
        loss = term(reconstruction, levels[1] * noise(*shape, seed=1))
        loss.backward()
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert torch.isfinite(reconstruction.grad).all()


@for_every_term
def test_all_items_channels_and_samples_count_alike(term: nn.Module) -> None:
    target, reconstruction = noise(3, 2, 3200), noise(3, 2, 3200, seed=1)
    expected = term(reconstruction, target)
    for dim in (0, 1):
        torch.testing.assert_close(term(reconstruction.flip(dim), target.flip(dim)), expected)
        twice = [torch.cat([signal, signal], dim=dim) for signal in (reconstruction, target)]
        torch.testing.assert_close(term(*twice), expected)
    for part in (slice(0, 400), slice(2800, 3200)):
        better = reconstruction.clone()
        better[..., part] = target[..., part]
        assert term(better, target) < expected


@for_every_term
def test_gradient_points_to_the_target(term: nn.Module) -> None:
    target = noise(1, 1, 3200)
    reconstruction = (target + 0.02 * noise(1, 1, 3200, seed=1)).requires_grad_()
    before = term(reconstruction, target)
    (gradient,) = torch.autograd.grad(before, reconstruction)
    step = 1e-3 * reconstruction.detach().norm() * gradient / gradient.norm()
    assert term(reconstruction.detach() - step, target) < before


def test_readme_names_every_term() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in {name.split()[0] for name in TERMS} if f"`{name}`" not in readme] == []
