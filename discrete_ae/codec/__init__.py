"""Encode audio to integers and back: tensors, recordings and corpora."""

from discrete_ae.codec.codec import Codec
from discrete_ae.codec.corpus import decode_corpus, encode_corpus
from discrete_ae.codec.files import decode_files, encode_files
from discrete_ae.codec.jobs import Share

__all__ = ["Codec", "Share", "decode_corpus", "decode_files", "encode_corpus", "encode_files"]
