"""Two processes of b items are one process of 2 b: sums over ranks, codebooks, and losses of the whole batch."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from discrete_ae.losses import LossBalancer
from discrete_ae.quantizers import (
    FactorizedVectorQuantizer,
    GumbelSoftmaxQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from discrete_ae.quantizers.codebooks import k_means, nearest, replacements
from discrete_ae.ranks import mean_over_ranks, num_ranks, rank, sum_over_ranks
from discrete_ae.rounding import StraightThrough

S, K, D, STEPS = 16, 3, 4, 3
MOVING = functools.partial(VectorQuantizer, S, K, D, ema_decay=0.5)
CASES: dict[str, Callable[[], Quantizer]] = {
    "vq": functools.partial(VectorQuantizer, S, K, D),
    "vq-ema": MOVING,
    "rvq": functools.partial(ResidualQuantizer, functools.partial(VectorQuantizer, S, 1, K * D, ema_decay=0.5), 3),
    "simvq": functools.partial(SimVectorQuantizer, S, K, D),
    "lfq": functools.partial(LookupFreeQuantizer, S, K, inverse_temperature=1.0),
    "bsq": functools.partial(LookupFreeQuantizer, S, K, spherical=True, inverse_temperature=1.0),
    "scalar": functools.partial(ScalarQuantizer, [S], K * D, StraightThrough()),
    "gumbel": functools.partial(GumbelSoftmaxQuantizer, S, K, D),
    "mste": functools.partial(VectorQuantizer, S, K, D, "mste"),
    "factorized": functools.partial(FactorizedVectorQuantizer, S, K, 2, D),
    "dropout": functools.partial(ScalarQuantizer, [S], K * D, StraightThrough(), dropout=0.5),
}
COMPILED = ("vq-ema", "lfq", "scalar", "mste")
# Those that draw from each rank's own latents.
DEAD: dict[str, Callable[[], Quantizer]] = {
    "dead": functools.partial(VectorQuantizer, S, K, D, dead_code_threshold=1),
    "dead-ema": functools.partial(MOVING, dead_code_threshold=4),
    "k-means": functools.partial(VectorQuantizer, S, K, D, k_means_steps=5),
    "ema-rvq": functools.partial(
        ResidualQuantizer,
        functools.partial(VectorQuantizer, S, 1, K * D, ema_decay=0.5, dead_code_threshold=1, k_means_steps=5),
        3,
    ),
}


class Scaled(nn.Module):
    """A quantizer of scaled latents; the scales stand for an encoder."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.ones(quantizer.dim, 1))
        self.quantizer = quantizer

    def forward(self, latents: Tensor) -> Tensor:
        out = self.quantizer(self.scales * latents)
        # What Gumbel noise and dropout draw differs from rank to rank, and by design.
        draws = isinstance(self.quantizer, GumbelSoftmaxQuantizer) or self.quantizer.drops
        value = 0.0 if draws else (out.latents + 1).square().mean()
        return value + sum(out.losses.values())


def batch(step: int) -> Tensor:
    """The whole batch; each rank takes its share."""
    latents = torch.randn(4, K * D, 30, generator=torch.Generator().manual_seed(step))
    return latents.chunk(num_ranks())[rank()]


def trained(name: str, compiled: bool = False) -> dict[str, Any]:
    """State, losses and gradients of some steps of gradient descent, with noise that differs from rank to rank."""
    torch.manual_seed(0)
    module: nn.Module = Scaled((CASES | DEAD)[name]())
    state = module.state_dict()
    if num_ranks() > 1:
        module = DistributedDataParallel(module, broadcast_buffers=False)
    forward = torch.compile(module.module.forward, backend="aot_eager", fullgraph=True) if compiled else module
    torch.manual_seed(rank())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = forward(batch(step))
        loss.backward()
        if compiled:  # past DistributedDataParallel
            for parameter in module.parameters():
                parameter.grad = mean_over_ranks(parameter.grad)
        optimizer.step()
        losses.append(sum_over_ranks(loss) / num_ranks())
    gradients = [parameter.grad for parameter in module.parameters()]
    return {"state": state, "losses": torch.stack(losses), "gradients": gradients}


def balanced() -> Tensor:
    balancer = LossBalancer({"a": 1.0, "b": 2.0}, ema_decay=0.5)
    torch.stack([balancer({"a": batch(step), "b": batch(step) ** 2}) for step in range(2)])
    return torch.stack([balancer.norm_of_a, balancer.norm_of_b])


def few_vectors() -> Tensor:
    return torch.randn(K, 6, D, generator=torch.Generator().manual_seed(0)).chunk(num_ranks(), dim=1)[rank()]


def batch_of_vectors() -> Tensor:
    return torch.randn(K, 80, D, generator=torch.Generator().manual_seed(0)).chunk(num_ranks(), dim=1)[rank()]


def results() -> dict[str, Any]:
    return {name: trained(name) for name in CASES | DEAD} | {
        "compiled": {name: trained(name, compiled=True) for name in COMPILED},
        "replacements": replacements(few_vectors(), torch.ones(K, S, dtype=torch.bool)),
        "k_means": k_means(batch_of_vectors(), torch.zeros(K, 5, D), 60),
        "balancer": balanced(),
        "sum": sum_over_ranks(torch.tensor([1.0, 2.0]) + rank()),
        "mean": mean_over_ranks(torch.tensor([1.0, 2.0]) + rank()),
    }


def run_rank(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=number, world_size=2)
    torch.save(results(), f"{folder}/{number}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of each of two processes."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES | DEAD)
def test_two_ranks_train_as_one_process_of_the_whole_batch(name: str, two: list[dict[str, Any]]) -> None:
    first, second = (found[name] for found in two)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    if name in CASES:  # each rank replaces dead entries by latents of its own
        torch.testing.assert_close(first, trained(name), rtol=1e-4, atol=1e-5)
    if name in COMPILED:
        for found in two:
            torch.testing.assert_close(found["compiled"][name], first, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_replacements_are_latents_of_all_ranks_each_taken_once(two: list[dict[str, Any]]) -> None:
    values, replaced = two[0]["replacements"]
    torch.testing.assert_close(two[0]["replacements"], two[1]["replacements"], rtol=0, atol=0)
    # All are dead, and the ranks have 2 x 3 vectors, which they give in turn.
    assert replaced.sum(dim=1).tolist() == [6] * K
    for k, given in enumerate(few_vectors().unflatten(1, (2, -1))):
        for giver in range(2):
            found = values[k, replaced[k]][giver::2]
            assert sorted(found.tolist()) == sorted(given[giver].tolist())


@pytest.mark.slow
def test_k_means_is_of_the_vectors_of_all_ranks(two: list[dict[str, Any]]) -> None:
    entries, counts = two[0]["k_means"]
    torch.testing.assert_close(two[0]["k_means"], two[1]["k_means"], rtol=0, atol=0)
    vectors = batch_of_vectors()  # here of both
    codes = nearest(vectors, entries)
    for k in range(K):  # at rest, each entry is the mean of those that chose it
        assert counts[k].tolist() == torch.bincount(codes[k], minlength=5).tolist()
        means = torch.stack([vectors[k, codes[k] == entry].mean(dim=0) for entry in range(5)])
        torch.testing.assert_close(entries[k], means)


@pytest.mark.slow
def test_sums_means_and_balanced_norms_are_of_all_ranks(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["sum"].tolist() == [1 + 2, 2 + 3]
        assert found["mean"].tolist() == [1.5, 2.5]
        torch.testing.assert_close(found["balancer"], balanced())
    assert torch.equal(*(found["balancer"] for found in two))


def test_a_single_process_is_its_own_sum_and_mean() -> None:
    x = torch.ones(3, requires_grad=True)
    assert (num_ranks(), rank()) == (1, 0)
    assert mean_over_ranks(x) is x
    assert torch.equal(sum_over_ranks(x), x)
    assert not sum_over_ranks(x).requires_grad
