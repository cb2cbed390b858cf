"""FactorizedVectorQuantizer and its residual quantizer against DAC's, derived anew from the paper."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.quantizers import FactorizedVectorQuantizer, ResidualQuantizer
from tests.refusals import assert_refused

S, D, C, N = 16, 3, 6, 4  # entries, their channels, channels of the latents, stages


def build(num_codebooks: int = 1, seed: int = 0, **arguments) -> FactorizedVectorQuantizer:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        quantizer = FactorizedVectorQuantizer(S, num_codebooks, D, C, **arguments)
        with torch.no_grad():  # the biases start at 0, and the projections as transposes
            for weights in (quantizer.inward, quantizer.outward):
                weights += torch.rand_like(weights) - 0.5
        return quantizer


def residual() -> ResidualQuantizer:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        stage = functools.partial(FactorizedVectorQuantizer, S, 1, D, C)
        return ResidualQuantizer(stage, N, chain_rule=True)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolved(x: Tensor, weights: Tensor) -> Tensor:
    """A convolution of width 1, whose bias is the last column."""
    return F.conv1d(x, weights[:, :-1, None], weights[:, -1])


def reference(stage: FactorizedVectorQuantizer, x: Tensor, k: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Codebook k as Kumar et al. 2023 have it, for x (B, C, T): emitted, codes (B, T), codebook + commitment / 4."""
    inner, entries = convolved(x, stage.inward[k]), stage.codebooks[k]
    codes = F.cosine_similarity(inner.mT[:, :, None], entries, dim=-1).argmax(dim=-1)
    chosen = entries[codes].mT
    loss = (chosen - inner.detach()).square().mean() + 0.25 * (chosen.detach() - inner).square().mean()
    return convolved(inner + (chosen - inner).detach(), stage.outward[k]), codes, loss


@pytest.mark.parametrize("num_codebooks", [1, 3])
def test_each_codebook_is_projected_compared_by_angle_and_projected_back(num_codebooks):
    quantizer = build(num_codebooks)
    latents, upstream = noise(2, C * num_codebooks, 40).requires_grad_(), noise(2, C * num_codebooks, 40, seed=1)
    out = quantizer(latents)
    emitted, codes, losses = zip(
        *(reference(quantizer, part, k) for k, part in enumerate(latents.split(C, dim=1))), strict=True
    )
    assert torch.equal(out.codes, torch.stack(codes, dim=1))
    torch.testing.assert_close(out.latents, torch.cat(emitted, dim=1), rtol=0, atol=1e-5)
    expected_loss = sum(losses) / num_codebooks
    torch.testing.assert_close(out.losses["commitment"], expected_loss)
    torch.testing.assert_close(out.latents, quantizer.decode(out.codes))
    inputs = [latents, *quantizer.parameters()]
    found = torch.autograd.grad((out.latents * upstream).sum() + 100 * out.losses["commitment"], inputs)
    expected = torch.autograd.grad((torch.cat(emitted, dim=1) * upstream).sum() + 100 * expected_loss, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_starts_as_the_orthogonal_projection_to_the_channels_that_it_codes():
    for channels in (6, 3, 2):
        quantizer = FactorizedVectorQuantizer(S, 2, 3, channels)
        there, back = quantizer.inward.detach(), quantizer.outward.detach()
        assert not there[..., -1].any()
        assert not back[..., -1].any()
        projection = back[..., :-1] @ there[..., :-1]
        torch.testing.assert_close(projection @ projection, projection, atol=1e-5, rtol=0)
        torch.testing.assert_close(projection.mT, projection)
        assert torch.linalg.matrix_rank(projection).tolist() == [min(3, channels)] * 2


def test_the_length_of_an_entry_or_a_latent_chooses_nothing():
    quantizer = build()
    with torch.no_grad():
        quantizer.inward[..., -1] = 0  # without a bias the length of the projection is that of the latents
    latents = noise(2, C, 40)
    codes = quantizer.encode(latents)
    assert codes.unique().numel() > S / 2
    with torch.no_grad():
        quantizer.codebooks *= torch.linspace(0.1, 10, S)[:, None]
    assert torch.equal(quantizer.encode(100 * latents), codes)


def test_stages_with_the_chain_rule_are_the_residual_quantizer_of_dac():
    quantizer = residual()
    latents, upstream = noise(3, C, 30).requires_grad_(), noise(3, C, 30, seed=1)
    out = quantizer(latents)
    left, emitted, codes, losses = latents, 0, [], []
    for stage in quantizer.stages:
        decoded, code, loss = reference(stage, left)
        left, emitted = left - decoded, emitted + decoded
        codes.append(code)
        losses.append(loss)
    assert torch.equal(out.codes, torch.stack(codes, dim=1))
    torch.testing.assert_close(out.latents, emitted, rtol=0, atol=1e-5)
    # DAC adds up the losses of the stages; ours has their mean for its value, and the gradient of the sum.
    torch.testing.assert_close(out.losses["commitment"], sum(losses) / N)
    inputs = [latents, *quantizer.parameters()]
    for ours, theirs in (
        ((out.latents * upstream).sum(), (emitted * upstream).sum()),
        (out.losses["commitment"], sum(losses)),
    ):
        settings = {"retain_graph": True, "allow_unused": True}
        found, expected = (torch.autograd.grad(of, inputs, **settings) for of in (ours, theirs))
        for one, another in zip(found, expected, strict=True):
            assert (one is None) == (another is None)
            if one is not None:
                torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)


def test_fewer_codebooks_leave_the_channels_of_the_others_0_without_their_bias():
    quantizer = build(3, dropout=0.5)
    latents = noise(2, 3 * C, 10)
    codes, whole = quantizer.encode(latents), quantizer.decode(quantizer.encode(latents))
    for n in (1, 2):
        decoded = quantizer.decode(codes[:, :n])
        torch.testing.assert_close(decoded[:, : n * C], whole[:, : n * C])
        assert not decoded[:, n * C :].any()


WRONG = {
    "codebook_size": (1, 0, 2.5, math.nan, "many"),
    "num_codebooks": (0, -1, 1.5, "eight"),
    "codebook_dim": (0, -1, 1.5, "wide"),
    "channels": (0, -1, 1.5, "wide"),
    "gradient": ("x", "", None),
    "dropout": (-0.1, 1.1, "some"),
}


def test_wrong_arguments_are_refused_by_name():
    assert_refused(FactorizedVectorQuantizer, WRONG, codebook_size=S, num_codebooks=1, codebook_dim=D, channels=C)
