"""Integers to few bytes and back, exactly: packing, mixed radix, and range coding with a model of the codes.

A leaf: numpy and the range coder of `constriction`, no torch.
"""

from discrete_ae.codes.entropy.model import MAX_CODEBOOKS, PREDICTORS, EntropyModel
from discrete_ae.codes.entropy.packing import BITS, RADIX, Packing

__all__ = ["BITS", "MAX_CODEBOOKS", "PREDICTORS", "RADIX", "EntropyModel", "Packing"]
