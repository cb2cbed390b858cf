"""Codes as tokens for a language model: the patterns of discrete_ae.codes.patterns."""

from discrete_ae.codes.patterns import *  # noqa: F403
