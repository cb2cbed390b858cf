"""Quantizers: continuous latents to integer codes and back, each with a gradient."""

from discrete_ae.quantizers.base import IdentityQuantizer, Quantized, Quantizer
from discrete_ae.quantizers.gumbel import GumbelSoftmaxQuantizer
from discrete_ae.quantizers.lookup_free import LookupFreeQuantizer
from discrete_ae.quantizers.product import ProductQuantizer
from discrete_ae.quantizers.residual import ResidualQuantizer
from discrete_ae.quantizers.scalar import ScalarQuantizer
from discrete_ae.quantizers.split import SplitQuantizer
from discrete_ae.quantizers.vector import FactorizedVectorQuantizer, SimVectorQuantizer, VectorQuantizer

__all__ = [
    "FactorizedVectorQuantizer",
    "GumbelSoftmaxQuantizer",
    "IdentityQuantizer",
    "LookupFreeQuantizer",
    "ProductQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "ScalarQuantizer",
    "SimVectorQuantizer",
    "SplitQuantizer",
    "VectorQuantizer",
]
