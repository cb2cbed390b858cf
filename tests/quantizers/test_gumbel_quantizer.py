"""GumbelSoftmaxQuantizer against torch's gumbel_softmax, numpy, and the law of the Gumbel-max trick."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.quantizers import GumbelSoftmaxQuantizer
from tests.refusals import assert_refused

S, K, D = 16, 3, 4  # entries, codebooks, channels of one codebook


def build(seed: int = 0, **arguments) -> GumbelSoftmaxQuantizer:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return GumbelSoftmaxQuantizer(codebook_size=S, num_codebooks=K, codebook_dim=D, **arguments)


def some_latents(batch: int = 2, frames: int = 50) -> Tensor:
    return torch.randn(batch, K * D, frames, generator=torch.Generator().manual_seed(1))


def reference_logits(quantizer: GumbelSoftmaxQuantizer, latents: Tensor) -> Tensor:
    """Minus precision times the squared distance (B, K, T, S), codebook by codebook."""
    blocks = latents.split(D, dim=1)
    distances = [torch.cdist(block.mT, quantizer.codebooks[k]).square() for k, block in enumerate(blocks)]
    return -torch.stack(distances, dim=1) * quantizer.log_precision.exp()[:, None, None]


def reference_mix(quantizer: GumbelSoftmaxQuantizer, choice: Tensor) -> Tensor:
    return torch.cat([(choice[:, k] @ quantizer.codebooks[k]).mT for k in range(K)], dim=1)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_training_forward_and_gradient_are_torchs_gumbel_softmax(temperature, hard):
    quantizer = build(temperature=temperature, hard=hard)
    ours, theirs = some_latents().requires_grad_(), some_latents().requires_grad_()
    torch.default_generator.manual_seed(7)
    out = quantizer(ours)
    torch.default_generator.manual_seed(7)
    logits = reference_logits(quantizer, theirs)
    expected = reference_mix(quantizer, F.gumbel_softmax(logits, tau=temperature, hard=hard))
    torch.testing.assert_close(out.latents, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(out.codes, logits.argmax(-1))

    upstream = some_latents().flip(2)
    inputs = (quantizer.log_precision, quantizer.codebooks)
    gradients = torch.autograd.grad(out.latents, (ours, *inputs), upstream)
    references = torch.autograd.grad(expected, (theirs, *inputs), upstream)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-4)


def test_training_draws_an_entry_with_the_probability_of_its_softmax():
    # Gumbel-max: arg max(logits + g) has the distribution softmax(logits), whatever the temperature.
    quantizer = GumbelSoftmaxQuantizer(4, num_codebooks=1, codebook_dim=1, temperature=3.0, precision=0.5)
    with torch.no_grad():
        quantizer.codebooks.copy_(torch.tensor([[[0.0], [1.0], [2.0], [3.0]]]))
    count = 20_000
    torch.default_generator.manual_seed(11)
    # Squared distances of 0.5 from the entries: 0.25, 0.25, 2.25, 6.25; the channel names the entry that was drawn.
    drawn = quantizer(torch.full((1, 1, count), 0.5)).latents[0, 0].round().long()
    e = np.exp(-0.5 * np.array([0.25, 0.25, 2.25, 6.25]))
    p = e / e.sum()
    frequency = torch.bincount(drawn, minlength=4).numpy() / count
    assert (np.abs(frequency - p) < 4.5 * np.sqrt(p * (1 - p) / count)).all()


def test_temperature_goes_from_one_entry_to_the_mean_of_all():
    cold, hot = build(temperature=1e-4, hard=False), build(temperature=1e6, hard=False)
    latents = some_latents()
    out = cold(latents).latents.detach()[:, :D].mT.flatten(0, 1)
    nearest = (out[:, None] - cold.codebooks[0].detach()).norm(dim=-1).amin(1)
    assert nearest.quantile(0.95) < 1e-3
    mean = hot.codebooks.detach().mean(1).flatten()[None, :, None]
    torch.testing.assert_close(hot(latents).latents.detach(), mean.expand(2, K * D, 50), rtol=0, atol=1e-4)


def test_evaluation_takes_the_arg_max_without_noise():
    quantizer = build().eval()
    latents = some_latents()
    entries, blocks = quantizer.codebooks.detach().double().numpy(), latents.double().numpy().reshape(2, K, D, 50)
    logits = -((blocks.transpose(0, 1, 3, 2)[:, :, :, None] - entries[:, None]) ** 2).sum(-1)
    ranked = np.sort(logits, axis=-1)
    assert (ranked[..., -1] - ranked[..., -2] > 1e-5).all()  # no near tie among these
    out = quantizer(latents)
    np.testing.assert_array_equal(out.codes.numpy(), logits.argmax(-1))
    for k in range(K):
        # The latents of codebook k are rows of its codebook, bit for bit.
        assert torch.equal(out.latents[:, k * D : (k + 1) * D].mT, quantizer.codebooks[k][out.codes[:, k]])


def test_evaluation_gradient_is_that_of_the_noiseless_softmax():
    quantizer = build(temperature=0.8).eval()
    ours, theirs = some_latents().requires_grad_(), some_latents().requires_grad_()
    upstream = some_latents().flip(2)
    (gradient,) = torch.autograd.grad(quantizer(ours).latents, ours, upstream)
    soft = reference_mix(quantizer, torch.softmax(reference_logits(quantizer, theirs) / 0.8, dim=-1))
    (expected,) = torch.autograd.grad(soft, theirs, upstream)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_saturated_scores_stay_finite():
    quantizer = build(temperature=0.01, hard=False)
    latents = (some_latents() * 1e4).requires_grad_()
    out = quantizer(latents).latents
    out.sum().backward()
    assert out.isfinite().all()
    assert latents.grad.isfinite().all()


def test_kl_is_the_divergence_from_the_uniform_distribution():
    quantizer = build(kl_to_uniform=True)
    latents = some_latents().requires_grad_()
    logits = reference_logits(quantizer, latents.detach()).detach().double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    kl = quantizer(latents).losses["kl"]
    # sum p log(p / (1/S)), mean over items, codebooks and frames
    assert kl.item() == pytest.approx((p * np.log(p * S)).sum(-1).mean(), rel=1e-5)
    kl.backward()
    assert latents.grad.abs().amax(dim=(0, 2)).min() > 0
    # Latents amid equal entries choose none of them: the divergence is 0. One entry at no distance: it is log S.
    with torch.no_grad():
        quantizer.codebooks.zero_()
        assert quantizer(latents).losses["kl"].item() == pytest.approx(0, abs=1e-6)
        quantizer.codebooks[:, 1:] = 100.0
        assert quantizer(latents).losses["kl"].item() == pytest.approx(math.log(S), rel=1e-6)
    assert quantizer.eval()(latents).losses == {}
    assert set(build()(latents).losses) == {"code_entropy"}


def test_code_entropy_is_that_of_the_mean_choice_in_bits_summed_over_codebooks():
    quantizer = build()
    latents = some_latents()
    logits = reference_logits(quantizer, latents).detach().double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = p.mean(axis=(0, 2))
    expected = -(mean * np.log2(mean)).sum()
    assert quantizer(latents).losses["code_entropy"].item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        quantizer.codebooks.zero_()  # nothing tells entries apart: all of log2 S bits
        assert quantizer(latents).losses["code_entropy"].item() == pytest.approx(K * math.log2(S), rel=1e-5)
        quantizer.codebooks[:, 1:] = 100.0  # one entry is chosen always
        assert quantizer(latents).losses["code_entropy"].item() == pytest.approx(0, abs=1e-4)
    assert quantizer.eval()(latents).losses == {}


def test_code_entropy_has_the_gradient_of_finite_differences():
    quantizer = build().double()
    latents = some_latents(frames=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: quantizer.quantize(z).losses["code_entropy"], latents)


WRONG = {
    "precision": (0, -1.0, math.nan, math.inf, "sharp"),
    "temperature": (0, -1.0, math.nan, math.inf, "warm"),
    "codebook_size": (1, 0, -4, 2.5, "many"),
    "num_codebooks": (0, -1, 1.5, "eight"),
    "codebook_dim": (0, -1, 1.5, "wide"),
}


def test_wrong_arguments_are_refused_by_name():
    assert_refused(GumbelSoftmaxQuantizer, WRONG, codebook_size=S, num_codebooks=K, codebook_dim=D)
