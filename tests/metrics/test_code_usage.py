"""Code usage against counts and entropies done by hand."""

import math

import pytest
import torch
from torch import Tensor

from discrete_ae.metrics import CodeUsage


def measured(sizes: tuple[int, ...], *batches: Tensor) -> dict[str, float]:
    usage = CodeUsage(sizes)
    for codes in batches:
        usage.update(codes)
    return {name: value.item() for name, value in usage.compute().items()}


def test_codebooks_of_different_sizes_by_hand() -> None:
    # Codebook 0: entries 0, 0, 1, 3 of 4: shares 1/2, 1/4, 1/4, so 1.5 bits and perplexity 2^1.5. Codebook 1: 1 of 2.
    codes = torch.tensor([[[0, 1], [1, 1]], [[3, 0], [1, 1]]])
    found = measured((4, 2), codes)
    assert found["usage"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["perplexity"] == pytest.approx((2**1.5 + 1) / 2)
    assert found["entropy_bits"] == pytest.approx(1.5 + 0)


@pytest.mark.parametrize("size", [2, 5, 256, 1000])
def test_uniform_codes_have_the_size_as_perplexity(size: int) -> None:
    codes = torch.arange(size).repeat(3)[None, None, :]
    found = measured((size,), codes)
    assert found["usage"] == 1
    assert found["perplexity"] == size
    assert found["entropy_bits"] == pytest.approx(math.log2(size), rel=1e-7)


def test_one_code_has_perplexity_one_and_no_entropy() -> None:
    found = measured((256, 256), torch.full((2, 2, 50), 255))
    assert found == {"usage": pytest.approx(1 / 256), "perplexity": 1, "entropy_bits": 0}


def test_before_any_update_all_is_zero() -> None:
    usage = CodeUsage((4, 8))
    usage.update(torch.zeros((0, 2, 0), dtype=torch.int64))
    assert {value.item() for value in usage.compute().values()} == {0}


def test_entropies_of_codebooks_add_up_and_the_others_are_means() -> None:
    # Perplexities 2 and 4; 1 + 2 bits. The codebooks are told apart: both use entry 0 and 1.
    codes = torch.tensor([[[0, 1, 0, 1], [0, 1, 2, 3]]])
    assert measured((4, 4), codes) == {
        "usage": pytest.approx((2 / 4 + 4 / 4) / 2),
        "perplexity": pytest.approx(3),
        "entropy_bits": pytest.approx(3),
    }


def test_codes_are_counted_over_all_batches_not_in_each() -> None:
    # Each batch has one code of two: usage 1/2 and perplexity 1 as a mean of batches, 1 and 2 over the whole.
    found = measured((2,), torch.zeros((1, 1, 8), dtype=torch.int64), torch.ones((1, 1, 8), dtype=torch.int64))
    assert found == {"usage": 1, "perplexity": 2, "entropy_bits": 1}
    # A small batch counts by its frames: shares 3/4 and 1/4.
    found = measured((2,), torch.zeros((1, 1, 6), dtype=torch.int64), torch.ones((1, 1, 2), dtype=torch.int64))
    assert found["entropy_bits"] == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)


def test_counts_of_ranks_are_added_before_anything_is_computed() -> None:
    # Two ranks with one code each, as above; the real thing over processes is in tests/training/test_module.py.
    ranks = [CodeUsage((2,)) for _ in range(2)]
    for code, rank in enumerate(ranks):
        rank.update(torch.full((1, 1, 8), code))
    ranks[0].merge_state(ranks[1])
    assert ranks[0].counts.tolist() == [[8, 8]]
    assert ranks[0].compute()["perplexity"] == 2


def test_reset_forgets() -> None:
    usage = CodeUsage((2,))
    usage.update(torch.zeros((1, 1, 8), dtype=torch.int64))
    usage.reset()
    usage.update(torch.ones((1, 1, 4), dtype=torch.int64))
    assert usage.counts.tolist() == [[0, 4]]


def test_many_counts_keep_their_precision() -> None:
    # 2^24 + 1 is the first whole number that float32 cannot hold.
    usage = CodeUsage((2,))
    usage.counts += torch.tensor([[2**24, 0]])
    usage.update(torch.tensor([[[0, 1]]]))
    assert usage.counts.tolist() == [[2**24 + 1, 1]]
    share = 1 / (2**24 + 2)
    expected = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert usage.compute()["entropy_bits"].item() == pytest.approx(expected, rel=1e-3)
