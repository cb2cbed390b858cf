"""Parameters, work, and rates of a model, against arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from discrete_ae.model import ConvDecoder, ConvEncoder, DiscreteAutoencoder
from discrete_ae.model.summary import multiply_accumulates, summarize
from discrete_ae.quantizers import IdentityQuantizer, ScalarQuantizer
from discrete_ae.rounding import StraightThrough

# Layer, input, and the product of its output's size with the terms summed for each output (for a transposed
# convolution: of its input's size with the terms that each input goes to).
COUNTED = {
    "convolution": (lambda: nn.Conv1d(6, 4, 3, padding=1), (1, 6, 10), 4 * 10 * 6 * 3),
    "grouped": (lambda: nn.Conv1d(6, 4, 3, padding=1, groups=2), (1, 6, 10), 4 * 10 * 3 * 3),
    "strided": (lambda: nn.Conv1d(6, 4, 4, stride=2, padding=1), (1, 6, 10), 4 * 5 * 6 * 4),
    "transposed": (lambda: nn.ConvTranspose1d(6, 4, 4, stride=2), (1, 6, 10), 6 * 10 * 4 * 4),
    "linear": (lambda: nn.Linear(6, 4), (2, 10, 6), 2 * 10 * 6 * 4),
    "einsum": (lambda: lambda x: torch.einsum("bdt,dk->bkt", x, torch.ones(6, 4)), (2, 6, 10), 2 * 10 * 6 * 4),
    # Four gates, each a product with the input and one with the state.
    "recurrent": (lambda: nn.LSTM(6, 6), (10, 1, 6), 10 * 4 * (6 * 6 + 6 * 6)),
    # Scores, and the values that they weigh.
    "attention": (lambda: lambda x: F.scaled_dot_product_attention(x, x, x), (1, 2, 10, 6), 2 * 2 * 10 * 10 * 6),
}


@pytest.mark.parametrize(("make", "shape", "expected"), COUNTED.values(), ids=COUNTED)
def test_multiply_accumulates(make, shape, expected):
    layer, x = make(), torch.ones(shape)
    assert multiply_accumulates(lambda: layer(x) is None) == (False, expected)


def test_counting_leaves_the_backends_as_they_were():
    before = torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()
    with pytest.raises(ZeroDivisionError):
        multiply_accumulates(lambda: 1 / 0)
    assert (torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()) == before


def model(quantizer):
    """4 ms hops at 1 kHz, no dilated units."""
    return DiscreteAutoencoder(
        1000,
        ConvEncoder(1, width=2, strides=[2, 2], dim=8, dilations=[]),
        quantizer,
        ConvDecoder(1, width=2, strides=[2, 2], dim=8, dilations=[]),
    )


def test_summary_by_hand():
    quantizer = ScalarQuantizer([4, 2], num_codebooks=3, rounding=StraightThrough())
    network = model(quantizer).train()
    network.decoder.eval()
    found = summarize(network)
    assert (found.sample_rate, found.channels, found.hop_length, found.frame_rate_hz) == (1000, 1, 4, 250)
    assert (found.codebook_sizes, found.bits_per_frame, found.bitrate_bps) == ((8, 8, 8), 9, 9 * 250)
    assert found.receptive_field_s == network.receptive_field_samples / 1000
    assert found.look_ahead_s == network.look_ahead_samples / 1000
    assert found.model_hash is found.codes_hash is None
    # The modes are those before.
    assert (network.training, network.encoder.training, network.decoder.training) == (True, True, False)

    encoder, quantized, decoder = found.costs
    # Kernel, channels in and out of each convolution, and the rate of its outputs in Hz.
    layers = [(7, 1, 2, 1000), (4, 2, 4, 500), (4, 4, 8, 250), (3, 8, 8, 250), (1, 8, 6, 250)]
    assert encoder.parameters == sum(kernel * channels * out + out for kernel, channels, out, _ in layers)
    assert encoder.macs_per_second == sum(math.prod(layer) for layer in layers)
    assert (quantized.parameters, quantized.macs_per_second) == (0, 0)
    assert decoder.part == "decoder"
    total = sum(parameter.numel() for parameter in network.parameters())
    assert found.total == ("total", total, encoder.macs_per_second + decoder.macs_per_second)


def test_frozen_parameters_do_not_count_and_there_may_be_no_codes():
    network = model(IdentityQuantizer(6))
    network.encoder.requires_grad_(False)
    found = summarize(network)
    assert found.costs[0].parameters == 6 * 8 + 6  # the map to latents
    assert (found.codebook_sizes, found.bits_per_frame, found.bitrate_bps) == ((), math.inf, math.inf)
