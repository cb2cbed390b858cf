"""A model over signals of any length, in windows: with bits that depend on the signal alone."""

from discrete_ae.inference.runner import Runner
from discrete_ae.inference.windows import Cutter, Piece, Window, decoder_window, encoder_window, window_codes

__all__ = ["Cutter", "Piece", "Runner", "Window", "decoder_window", "encoder_window", "window_codes"]
