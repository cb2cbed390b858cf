"""Codes as tokens for a language model: the patterns, which live with the files of codes and know no model."""

from discrete_ae.codes.patterns import *  # noqa: F403
