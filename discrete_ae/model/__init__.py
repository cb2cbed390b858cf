"""The autoencoder and its families of encoders and decoders."""

from discrete_ae.model.activations import Snake
from discrete_ae.model.autoencoder import AutoencoderOutput, DiscreteAutoencoder
from discrete_ae.model.base import Decoder, Encoder, Span
from discrete_ae.model.conv import ConvDecoder, ConvEncoder
from discrete_ae.model.spectral import SpectralDecoder, SpectralEncoder

__all__ = [
    "AutoencoderOutput",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "DiscreteAutoencoder",
    "Encoder",
    "Snake",
    "Span",
    "SpectralDecoder",
    "SpectralEncoder",
]
