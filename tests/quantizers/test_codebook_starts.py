"""Codebooks that k-means makes of the latents of a first training forward, against scipy."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from discrete_ae.quantizers import Quantizer, ResidualQuantizer, VectorQuantizer
from discrete_ae.quantizers.codebooks import k_means
from tests.refusals import assert_refused

S, K, D = 8, 3, 4  # entries, codebooks, channels of one codebook


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clustered(vectors: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    torch.default_generator.manual_seed(1)
    return k_means(vectors, torch.zeros(len(vectors), S, D), steps)


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_k_means_is_scipys_from_the_same_first_entries(steps):
    vectors = noise(K, 200, D)
    drawn, _ = clustered(vectors, 0)
    for k in range(K):  # each a vector, and another one
        assert (drawn[k][:, None] == vectors[k]).all(-1).sum() == S
        assert len(drawn[k].unique(dim=0)) == S
    entries, counts = clustered(vectors, steps)
    for k in range(K):
        data = vectors[k].double().numpy()
        expected, _ = kmeans2(data, drawn[k].double().numpy(), iter=steps, minit="matrix")
        np.testing.assert_allclose(entries[k].numpy(), expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(counts[k].numpy(), np.bincount(vq(data, expected)[0], minlength=S))


def test_entries_without_a_vector_keep_what_they_had():
    # Three vectors for eight entries: each is its own mean; the others stay, and no vector is nearest to them.
    vectors, before = 5 + noise(1, 3, D), noise(1, S, D, seed=1)
    entries, counts = k_means(vectors, before, 4)
    chosen = counts[0] > 0
    assert sorted(entries[0, chosen].tolist()) == sorted(vectors[0].tolist())
    assert torch.equal(entries[0, ~chosen], before[0, ~chosen])
    assert counts.sum() == 3
    # Of entries that are the same only one is chosen.
    entries, counts = clustered(torch.full((1, 20, D), 5.0), 4)
    assert torch.equal(entries, torch.full((1, S, D), 5.0))
    assert sorted(counts[0].tolist()) == [0] * (S - 1) + [20]


@pytest.mark.parametrize("ema_decay", [None, 0.0, 0.9])
@pytest.mark.parametrize("k_means_steps", [0, 4])
def test_entries_that_nobody_chooses_stay(ema_decay, k_means_steps):
    torch.default_generator.manual_seed(0)
    quantizer = VectorQuantizer(S, 1, D, ema_decay=ema_decay, k_means_steps=k_means_steps)
    before, latents = quantizer.codebooks.detach().clone(), 5 + noise(1, D, 3)
    others = torch.ones(S, dtype=torch.bool)
    for _ in range(3):  # the first with the codebooks before k-means
        others[quantizer(latents).codes.flatten()] = False
    assert others.sum() >= S - 6
    assert torch.equal(quantizer.codebooks[0, others], before[0, others])


BUILDERS = {
    "vq": functools.partial(VectorQuantizer, S, K, D, k_means_steps=40),
    "vq-ema": functools.partial(VectorQuantizer, S, K, D, k_means_steps=40, ema_decay=0.9),
    "vq-dead": functools.partial(VectorQuantizer, S, K, D, k_means_steps=40, dead_code_threshold=0.1),
    "diveq": functools.partial(VectorQuantizer, S, K, D, "diveq", k_means_steps=40, dead_code_threshold=0.1),
    "ema-rvq": lambda: ResidualQuantizer(
        functools.partial(
            VectorQuantizer, S, 1, K * D, "straight_through", ema_decay=0.9, dead_code_threshold=0.1, k_means_steps=40
        ),
        3,
    ),
    "nsvq-rvq": lambda: ResidualQuantizer(
        functools.partial(VectorQuantizer, S, K, D, "nsvq", k_means_steps=40, dead_code_threshold=0.1), 2, scale=2.0
    ),
}
every = pytest.mark.parametrize("name", BUILDERS)


def build(name: str) -> Quantizer:
    torch.default_generator.manual_seed(0)
    return BUILDERS[name]()


def stages(quantizer: Quantizer) -> list[tuple[VectorQuantizer, float]]:
    """Vector quantizers and the factor of what each is given."""
    if not isinstance(quantizer, ResidualQuantizer):
        return [(quantizer, 1.0)]
    return [(stage, quantizer.scale**k) for k, stage in enumerate(quantizer.stages)]


@every
def test_the_first_training_forward_emits_what_the_codebooks_were_and_then_makes_them(name):
    quantizer = build(name)
    before, latents = copy.deepcopy(quantizer), noise(4, K * D, 30).requires_grad_()
    assert quantizer.needs_start
    torch.default_generator.manual_seed(1)
    out = quantizer(latents)
    assert torch.equal(out.codes, before.encode(latents))
    if quantizer.matches_evaluation:
        torch.testing.assert_close(out.latents, before.decode(out.codes), rtol=0, atol=1e-5)
    (out.latents.square().mean() + sum(out.losses.values())).backward()  # of the entries before, too
    assert latents.grad.isfinite().all()
    assert not quantizer.needs_start

    # k-means has come to rest: every entry is the mean of the vectors that are nearest to it, of those that the stages
    # before leave now.
    left = latents.detach()
    for stage, factor in stages(quantizer):
        given = (factor * left).unflatten(1, (stage.num_codebooks, -1)).permute(1, 0, 3, 2).flatten(1, 2)
        for k, data in enumerate(given.detach().double().numpy()):
            entries = stage.codebooks[k].detach().double().numpy()
            codes, _ = vq(data, entries)
            counts = np.bincount(codes, minlength=S)
            assert (counts > 0).all()
            means = np.stack([data[codes == entry].mean(axis=0) for entry in range(S)])
            np.testing.assert_allclose(entries, means, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(stage.counts[k].numpy(), counts)
            if stage.ema_decay is not None:
                sums = stage.sums[k].numpy()
                np.testing.assert_allclose(sums, means * counts[:, None], rtol=0, atol=1e-4)
        left = left - stage.decode(stage.encode(factor * left)) / factor


@every
def test_codebooks_start_once_and_not_in_evaluation_or_without_frames(name):
    quantizer, latents = build(name), noise(4, K * D, 30)
    state = copy.deepcopy(quantizer.state_dict())
    quantizer.encode(latents)
    quantizer.eval()(latents)
    quantizer.train()(latents[..., :0])
    assert quantizer.needs_start
    torch.testing.assert_close(quantizer.state_dict(), state, rtol=0, atol=0)
    quantizer(latents)
    started = copy.deepcopy(quantizer)
    quantizer(latents + 100)
    # Then averages move by a tenth at most, and an entry becomes a latent only if few chose it: not all are far away.
    for (stage, _), (first, _) in zip(stages(quantizer), stages(started), strict=True):
        stayed = (stage.codebooks - first.codebooks).abs().amax(dim=-1) < 20
        assert stayed.any(dim=-1).all()


@every
def test_a_state_says_whether_the_codebooks_have_started(name):
    quantizer, latents = build(name), noise(4, K * D, 30)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(latents)
    after = copy.deepcopy(quantizer.state_dict())
    resumed = build(name)
    resumed.load_state_dict(after)
    assert not resumed.needs_start
    assert torch.equal(resumed.encode(latents), quantizer.encode(latents))
    torch.default_generator.manual_seed(2)
    one = quantizer(latents)
    torch.default_generator.manual_seed(2)
    other = resumed(latents)
    torch.testing.assert_close(other.latents, one.latents, rtol=0, atol=0)
    torch.testing.assert_close(resumed.state_dict(), quantizer.state_dict(), rtol=0, atol=0)
    resumed.load_state_dict(before)
    assert resumed.needs_start
    resumed(latents)
    assert not resumed.needs_start


def test_wrong_arguments_are_refused_by_name():
    wrong = {
        "k_means_steps": (-1, 1.5, math.nan, "few", None),
        "gradient": ("x", "", None, 1),
        "ema_decay": (1.0, -0.1, "slow"),
    }
    assert_refused(VectorQuantizer, wrong, codebook_size=S, num_codebooks=K, codebook_dim=D)
    for gradient in ("diveq", "nsvq"):
        with pytest.raises(ValueError, match=f"^ema_decay: expected null with gradient={gradient}"):
            VectorQuantizer(S, K, D, gradient, ema_decay=0.9)
