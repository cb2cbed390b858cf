"""Audio to integers and back, whole recordings and many of them."""

from discrete_ae.codec.codec import Codec, decode_files, encode_files

__all__ = ["Codec", "decode_files", "encode_files"]
