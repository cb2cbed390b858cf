"""Measurements of codes and of reconstructed audio."""

from discrete_ae.metrics.audio_quality import si_sdr_db
from discrete_ae.metrics.code_usage import CodeUsage

__all__ = ["CodeUsage", "si_sdr_db"]
