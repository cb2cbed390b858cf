"""SplitQuantizer: every integer as a sum of coarse and fine digits, by arithmetic on integers."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from discrete_ae.quantizers import ScalarQuantizer, SplitQuantizer, VectorQuantizer
from discrete_ae.rounding import StraightThrough
from tests.refusals import assert_refused

K, D = 2, 3
SPLITS = [
    (16, [4, 4]),
    (16, [2, 2, 2, 2]),
    (16, [2, 8]),
    (12, [3, 4]),
    (9, [3, 3]),
    (4, [2, 2]),
    (17, [3, 3, 3, 3]),
    (17, [5, 5]),
    (9, [3, 5]),
]
every_split = pytest.mark.parametrize(("whole", "levels"), SPLITS, ids=str)


def scalar(whole: int, **arguments) -> ScalarQuantizer:
    torch.default_generator.manual_seed(0)
    return ScalarQuantizer([whole] * D, K, StraightThrough(), "tanh", **arguments)


def latents(scale: float = 1.5) -> Tensor:
    return scale * torch.randn(4, K * D, 100, generator=torch.Generator().manual_seed(1))


def digits(codes: Tensor, level: int) -> Tensor:
    """Digits (B, K, d, T) of codes (B, K, T), the first least significant."""
    return torch.stack([codes // level**i % level for i in range(D)], dim=2)


@pytest.mark.parametrize("arguments", [{}, {"rotation": True}, {"dither": True}, {"rotation": True, "dither": True}])
@every_split
def test_all_streams_decode_to_what_the_quantizer_decodes_to(whole, levels, arguments):
    quantizer = scalar(whole, **arguments)
    split = SplitQuantizer(quantizer, levels).eval()
    assert split.codebook_sizes == tuple(level**D for level in levels for _ in range(K))
    assert split.decodable_counts == tuple(range(K, K * len(levels) + 1, K))
    z = latents().requires_grad_()
    codes, expected = split.encode(z), quantizer.decode(quantizer.encode(z))
    torch.testing.assert_close(split.decode(codes), expected, rtol=0, atol=1e-6)
    assert torch.equal(split(z).latents, split.decode(codes))
    for training in (True, False):  # the gradient is the quantizer's
        upstream = latents(1.0).flip(2)
        gradients = [torch.autograd.grad(of.train(training)(z).latents, z, upstream) for of in (split, quantizer)]
        torch.testing.assert_close(*gradients)
    for n in split.decodable_counts:
        assert torch.equal(split.encode(z, n), codes[:, :n])


@every_split
def test_digits_are_of_integers_around_the_middle(whole, levels):
    quantizer = scalar(whole)
    split = SplitQuantizer(quantizer, levels)
    apart = math.prod(levels) == whole
    less = [level if apart else level - 1 for level in levels]
    strides = [math.prod(less[i + 1 :]) for i in range(len(levels))]
    codes = torch.randint(whole**D, (2, K, 50), generator=torch.Generator().manual_seed(0))
    codes[0, 0, :whole] = torch.arange(whole) * (1 + whole + whole**2)  # every integer in all channels
    integers = digits(codes, whole)
    # Cells of a tanh bound lie around atanh of their values; those at the ends go on to infinity.
    z = torch.atanh(quantizer.decode(codes).double()).float()
    assert torch.equal(quantizer.encode(z), codes)
    streams = split.encode(z).split(K, dim=1)
    total = torch.full(integers.shape, (whole - 1) / 2)
    for i, (stream, level, stride) in enumerate(zip(streams, levels, strides, strict=True)):
        own = digits(stream, level)
        if apart:  # plain digits of a mixed radix
            assert torch.equal(own, integers // stride % level)
        total = total + stride * (own - (level - 1) / 2)
        decoded = split.decode(torch.cat(streams[: i + 1], dim=1))
        torch.testing.assert_close(decoded, (2 * total / (whole - 1) - 1).flatten(1, 2), rtol=0, atol=1e-6)
        assert (total - integers).abs().max() <= stride / 2
        if apart:  # the middle of the integers that have these digits
            first = integers // stride * stride
            assert torch.equal(total, first + (stride - 1) / 2)
    assert torch.equal(total, integers.float())


def test_by_hand():
    # 13 of 0 ... 16 is 5 above the middle. The nearest of -8, 0, 8 is 8, and then of -4, 0, 4 -4; 1 is left over, which
    # is both 2 - 1 and 0 + 1.
    quantizer = ScalarQuantizer([17], 1, StraightThrough(), "clamp")
    split = SplitQuantizer(quantizer, [3, 3, 3, 3])
    z = torch.full((1, 1, 1), 13 / 8 - 1)
    codes = split.encode(z)
    assert codes.flatten().tolist() in ([2, 0, 2, 0], [2, 0, 1, 2])
    # 6 of 16 levels of 4 coarse and 4 fine ones is 1 * 4 + 2; the coarse one alone stands for 4 ... 7.
    split = SplitQuantizer(ScalarQuantizer([16], 1, StraightThrough(), "clamp"), [4, 4])
    codes = split.encode(torch.full((1, 1, 1), 2 * 6 / 15 - 1))
    assert codes.flatten().tolist() == [1, 2]
    assert split.decode(codes[:, :1]).item() == pytest.approx(2 * 5.5 / 15 - 1, abs=1e-6)


def test_levels_that_do_not_make_up_the_whole_are_refused():
    # Of all splits in two, those that are taken decode to every integer.
    for whole in (4, 5, 9, 10, 13, 16):
        quantizer = ScalarQuantizer([whole], 1, StraightThrough(), "clamp")
        every = quantizer.decode(torch.arange(whole)[None, None])
        for levels in itertools.product(range(2, whole + 1), repeat=2):
            try:
                split = SplitQuantizer(quantizer, levels)
            except ValueError:
                assert math.prod(levels) != whole
                continue
            torch.testing.assert_close(split.decode(split.encode(every)), every, rtol=0, atol=1e-6)
    wrong = {
        "levels": ([4, 3], [17], [3, 3, 3, 3], [1, 16], [], 16, "4,4", [4, 4.5], None),
        "quantizer": (VectorQuantizer(4, 1, 2), None, ScalarQuantizer([16, 4], 1, StraightThrough())),
    }
    assert_refused(SplitQuantizer, wrong, quantizer=ScalarQuantizer([16], 1, StraightThrough()), levels=[4, 4])
    # 10 - 1 = 3 * 3, but the digits of 4 and 4 levels lie between integers, and none of their sums is that of 10.
    with pytest.raises(ValueError, match=r"^levels: expected .* whose product is the 10 levels of a channel"):
        SplitQuantizer(ScalarQuantizer([10], 1, StraightThrough()), [4, 4])
