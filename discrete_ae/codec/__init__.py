"""Audio to integers and back, whole recordings and many of them."""

from discrete_ae.codec.codec import decode_file, decode_files, encode_file, encode_files

__all__ = ["decode_file", "decode_files", "encode_file", "encode_files"]
