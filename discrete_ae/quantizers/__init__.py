"""Quantizers: latents to integer codes and back, under one contract (base.py)."""

from discrete_ae.quantizers.base import Quantized, Quantizer
from discrete_ae.quantizers.gumbel import GumbelSoftmaxQuantizer
from discrete_ae.quantizers.identity import IdentityQuantizer
from discrete_ae.quantizers.scalar import ScalarQuantizer

__all__ = ["GumbelSoftmaxQuantizer", "IdentityQuantizer", "Quantized", "Quantizer", "ScalarQuantizer"]
