"""A model as programs for other runtimes: ONNX, and PyTorch's own exported programs. Scalar quantizers only."""

from discrete_ae.export.checking import Agreement
from discrete_ae.export.programs import write_onnx, write_torch_programs

__all__ = ["Agreement", "write_onnx", "write_torch_programs"]
