"""Export a model with a scalar quantizer as programs for other runtimes: ONNX, or PyTorch's exported programs.

A causal model can also be exported to ONNX in steps of one frame. A step takes the state as inputs and returns the next
state as outputs (`model.base`).

Encoder and decoder are traced for any length and batch size, written as files, and compared with the model on random
signals of random lengths. Runtimes sum in different orders, so latents differ in their last bits, and a latent at a
decision boundary may be rounded to either side. Any other difference of codes is an error.

Axes: B batch, C audio channels, N samples, D latent channels, K codebooks, T frames.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from discrete_ae.errors import DataError, UsageError, counted
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.base import tensors_of, with_tensors
from discrete_ae.quantizers import ScalarQuantizer

NEAR = 1e-4
"""Tolerance: for a latent's distance from a decision boundary in steps, for decoded samples in units of full scale."""
RANDOM_LENGTHS = 8
MOST_FRAMES = 40
_REPORT = "nothing was written; export without this format, and report it"

Program = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Function that runs an exported program."""


class Agreement(NamedTuple):
    """The result of a successful check: codes differ only for latents within NEAR of a decision boundary."""

    lengths: int
    """Number of signals compared, each of a different length."""
    codes: int
    """Number of codes compared."""
    differing: int
    """Number of codes that differ."""
    furthest: float
    """Largest distance, in steps, of a latent with a differing code from the decision boundary; 0 if all are equal."""
    audio_difference: float
    """Largest difference of a decoded sample."""

    def __str__(self) -> str:
        """Return a summary."""
        differing = (
            f"{self.differing} differ, each where a latent is within {NEAR:g} of a decision boundary "
            f"({self.furthest:.1e} at most)"
            if self.differing
            else "all equal"
        )
        return (
            f"compared with the model on {self.lengths} random signals: {self.codes} codes, {differing}; decoded "
            f"samples differ by at most {self.audio_difference:.1e}"
        )


class Exported(NamedTuple):
    """Programs that were written and checked."""

    title: str
    interface: str
    """Files, inputs and outputs, for the model card."""
    agreement: Agreement

    @property
    def section(self) -> str:
        """Section of the model card."""
        return f"## {self.title}\n\n{self.interface}.\n\nWhen they were written, they were {self.agreement}."


def write_onnx(model: DiscreteAutoencoder, folder: Path) -> Exported:
    """Write encoder.onnx and decoder.onnx, and compare them with the model by onnxruntime.

    Raises:
        UsageError: the quantizer is not scalar, or the onnx packages are not installed.
        DataError: the results of the files in onnxruntime differ from the model's results.
    """
    require_scalar(model)
    title = "ONNX"
    encoder, decoder = _written_onnx(_traced(model), folder, ("encoder.onnx", "decoder.onnx"))
    agreement = check_programs(
        model,
        lambda audio: encoder.run(None, {"audio": audio})[0],
        lambda codes: decoder.run(None, {"codes": codes})[0],
        title,
    )
    return Exported(title, f"`encoder.onnx` and `decoder.onnx`: {_interface(model)}", agreement)


def write_onnx_steps(model: DiscreteAutoencoder, folder: Path) -> Exported:
    """Write encoder_step.onnx and decoder_step.onnx, for one frame each, and compare their streams with the model.

    A step takes the audio or codes of one item, and the states that the previous step returned, in the same order. The
    states of the first step are zeros.

    Raises:
        UsageError: the model is not causal; otherwise see `write_onnx`.
        DataError: the results of the files in onnxruntime differ from the model's results.
    """
    require_scalar(model)
    if not model.is_causal:
        raise UsageError("steps need a causal model; train one with model.encoder.causal=true")
    title, hop_length = "ONNX, step by step", model.hop_length
    encoder, decoder = _written_onnx(_traced_steps(model), folder, ("encoder_step.onnx", "decoder_step.onnx"))

    def streamed(session: Any, unit: int) -> Program:
        first, *states = session.get_inputs()

        def run(given: npt.NDArray[Any]) -> npt.NDArray[Any]:
            last = [np.zeros(state.shape, np.float32) for state in states]
            given = np.pad(given, ((0, 0), (0, 0), (0, -given.shape[-1] % unit)))
            found = []
            for frame in np.split(given, given.shape[-1] // unit, axis=-1):
                names = (state.name for state in states)
                output, *last = session.run(None, {first.name: frame, **dict(zip(names, last, strict=True))})
                found.append(output)
            return np.concatenate(found, axis=-1)

        return run

    interface = (
        "`encoder_step.onnx` and `decoder_step.onnx`, for streams. The encoder maps a frame of "
        f"{hop_length} samples (1, {model.channels}, {hop_length}) and states to codes (1, "
        f"{model.quantizer.num_codebooks}, 1) and the next states; the decoder maps codes and states to a frame "
        "and the next states. The inputs after the first are the states, in the order of the outputs after the "
        "first; the first step takes zeros"
    )
    return Exported(title, interface, check_programs(model, streamed(encoder, hop_length), streamed(decoder, 1), title))


def _written_onnx(
    programs: Iterator[tuple[ExportedProgram, list[str]]], folder: Path, names: Sequence[str]
) -> list[Any]:
    """Write programs, given with the names of their outputs, and return their sessions of onnxruntime."""
    try:
        runtime = [import_module(name) for name in ("onnx", "onnxscript", "onnxruntime")][-1]
    except ImportError as error:
        raise UsageError(f"--onnx: needs the package {error.name}; pip install 'discrete-ae[onnx]'") from error
    options: Any = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    sessions = []
    # optimize=False: onnxscript replaces constants up to 1e-8 by 0, which breaks the logarithm of silence. Runtimes
    # optimize the file anyway.
    settings: Any = {"dynamo": True, "external_data": False, "optimize": False, "verbose": False}
    for (program, outputs), name in zip(programs, names, strict=True):
        path = folder / name
        try:
            with _quiet():
                torch.onnx.export(program, (), path, output_names=outputs, **settings)
        except Exception as error:  # the exporter raises many kinds of errors
            raise UsageError(f"--onnx: PyTorch cannot write {name}: {_first_line(error)}; leave out --onnx") from error
        sessions.append(runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    return sessions


def write_torch_programs(model: DiscreteAutoencoder, folder: Path) -> Exported:
    """Write encoder.pt2 and decoder.pt2, read them back, and compare them with the model.

    Raises:
        UsageError: the quantizer is not scalar.
        DataError: the results of the programs differ from the model's results.
    """
    paths = [folder / "encoder.pt2", folder / "decoder.pt2"]
    for (program, _), path in zip(_traced(model), paths, strict=True):
        with _quiet():
            torch.export.save(program, path)

    def loaded(path: Path) -> Program:
        with _quiet():
            program = torch.export.load(path)
            # The guards reject a single frame, which the program itself supports; PyTorch 2.8 has no guards.
            module = program.module() if torch.__version__ < "2.9" else program.module(check_guards=False)
        return lambda given: module(torch.from_numpy(given)).numpy()

    title = "torch.export"
    files = (
        "`encoder.pt2` and `decoder.pt2`, for `torch.export.load` (a signal of a single frame needs "
        "`.module(check_guards=False)`)"
    )
    agreement = check_programs(model, loaded(paths[0]), loaded(paths[1]), title)
    return Exported(title, f"{files}: {_interface(model)}", agreement)


def _interface(model: DiscreteAutoencoder) -> str:
    return (
        f"from audio (batch, {model.channels}, samples) float32 at {model.sample_rate} Hz, of any length, to codes "
        f"(batch, {model.quantizer.num_codebooks}, frames) int64, and from codes to audio of frames times "
        f"{model.hop_length} samples; zeros pad the last frame, and the range of codes is not checked"
    )


def check_programs(model: DiscreteAutoencoder, encode: Program, decode: Program, what: str) -> Agreement:
    """Compare programs with the model on the CPU: the codes of random audio, and the audio of random codes.

    Args:
        model: model in evaluation mode, with a scalar quantizer.
        encode: program from audio (B, C, N) float32 to codes (B, K, T) int64.
        decode: program from codes to audio (B, C, T * hop_length) float32.
        what: name of the programs in messages.

    Raises:
        DataError: codes differ for a latent that is not near a decision boundary, or audio differs.
    """
    quantizer, hop = require_scalar(model), model.hop_length
    size, random = quantizer.codebook_sizes[0], np.random.default_rng(0)
    compared = differing = 0
    furthest = audio_difference = 0.0
    # One sample, and about one frame; then random lengths.
    lengths = [*dict.fromkeys((1, max(1, hop - 1), hop, hop + 1))]
    lengths += random.choice(np.arange(hop + 2, MOST_FRAMES * hop + 3), RANDOM_LENGTHS, replace=False).tolist()
    for num_samples in lengths:
        level = 10 ** random.uniform(-3, -0.3)  # from quiet to full scale
        audio = torch.from_numpy(level * random.standard_normal((1, model.channels, num_samples))).float()
        with torch.no_grad():
            latents = model.latents(audio)
            expected = quantizer.encode(latents)
            drawn = torch.from_numpy(random.integers(0, size, tuple(expected.shape)))
            reference = model.reconstruct(quantizer.decode(drawn), drawn.shape[-1] * hop)
        codes = _ran(encode, audio, expected, what, num_samples)
        if bool(((codes < 0) | (codes >= size)).any()):
            raise DataError(
                f"{what}: expected codes from 0 to {size - 1} for {num_samples} samples, got {int(codes.min())} to "
                f"{int(codes.max())} from the exported encoder; {_REPORT}"
            )
        wrong = quantizer.integers(codes) != quantizer.integers(expected)
        far = float(boundary_distances(model, latents).where(wrong, 0.0).max())
        if far > NEAR:
            raise DataError(
                f"{what}: expected the model's codes for {num_samples} samples, got other codes from the exported "
                f"encoder, at a latent {far:.1e} steps from a decision boundary (up to {NEAR:g} is rounding); {_REPORT}"
            )
        decoded = _ran(decode, drawn, reference, what, num_samples)
        difference = float((decoded - reference).abs().max())
        if not difference <= NEAR * max(1.0, float(reference.abs().max())):
            raise DataError(
                f"{what}: expected the model's audio for {counted(drawn.shape[-1], 'frame')}, got samples from the "
                f"exported decoder that differ by up to {difference:.1e}; {_REPORT}"
            )
        compared += codes.numel()
        differing += int((codes != expected).sum())
        furthest, audio_difference = max(furthest, far), max(audio_difference, difference)
    return Agreement(len(lengths), compared, differing, furthest, audio_difference)


def require_scalar(model: DiscreteAutoencoder) -> ScalarQuantizer:
    """Return the model's scalar quantizer.

    Raises:
        UsageError: the quantizer is not scalar.
    """
    if not isinstance(model.quantizer, ScalarQuantizer):
        raise UsageError(
            f"expected a scalar quantizer, such as quantizer=ste or quantizer=fourier, to export programs, got "
            f"{type(model.quantizer).__name__}; leave out --onnx and --torch-export"
        )
    return model.quantizer


def boundary_distances(model: DiscreteAutoencoder, latents: Tensor) -> Tensor:
    """Return the distances (B, K, d, T) of latents (B, K d, T) to the nearest decision boundary, in quantizer steps."""
    quantizer = require_scalar(model)
    steps = quantizer.steps.repeat(quantizer.num_codebooks)[:, None]
    scaled = quantizer.scaled(latents.double())
    nearest = (scaled.floor() + 0.5).clamp(min=torch.tensor(0.5), max=steps - 0.5)  # the first and last boundary
    return (scaled - nearest).abs().unflatten(1, (quantizer.num_codebooks, -1))


def _ran(program: Program, given: Tensor, expected: Tensor, what: str, num_samples: int) -> Tensor:
    """Run a program, and return its result, which must have the shape and type of the expected one."""
    try:
        result = program(given.numpy())
    except Exception as error:  # runtimes have their own kinds of errors
        raise DataError(
            f"{what}: the exported program fails for {num_samples} samples ({_first_line(error)}); {_REPORT}"
        ) from error
    like = expected.numpy()
    if (result.shape, result.dtype) != (like.shape, like.dtype):
        raise DataError(
            f"{what}: expected {like.dtype} of shape {like.shape} for {num_samples} samples, got {result.dtype} of "
            f"shape {result.shape} from the exported program; nothing was written"
        )
    return torch.from_numpy(result)


class _Encoder(nn.Module):
    """Audio (B, C, N) float32, any N >= 1, to codes (B, K, T) int64, T = ceil(N / hop_length)."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor) -> Tensor:
        # The same as model.latents and quantizer.encode, without their checks, which read values and fix shapes.
        hop_length, num_samples = self.model.hop_length, audio.shape[-1]
        num_frames = (num_samples + hop_length - 1) // hop_length
        hidden = self.model.encoder(F.pad(audio, (0, num_frames * hop_length - num_samples)))
        return self.model.quantizer.quantize(self.model.to_latents(hidden).contiguous()).codes


class _Decoder(nn.Module):
    """Codes (B, K, T) int64, whose range is not checked, to audio (B, C, T * hop_length) float32."""

    def __init__(self, model: DiscreteAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        return self.model.decoder(self.model.from_latents(self.model.quantizer.dequantize(codes)))


class _EncoderStep(nn.Module):
    """Audio (1, C, hop_length) and states to codes (1, K, 1) and the next states."""

    def __init__(self, model: DiscreteAutoencoder, audio: Tensor) -> None:
        super().__init__()
        self.model = model
        self.state = model.latents_step(audio, None)[1]

    def forward(self, audio: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        latents, state = self.model.latents_step(audio, with_tensors(self.state, iter(states)))
        return self.model.quantizer.quantize(latents.contiguous()).codes, *tensors_of(state)


class _DecoderStep(nn.Module):
    """Codes (1, K, 1), not checked, and states to audio (1, C, hop_length) and the next states."""

    def __init__(self, model: DiscreteAutoencoder, codes: Tensor) -> None:
        super().__init__()
        self.model = model
        self.state = model.reconstruct_step(model.quantizer.dequantize(codes), None)[1]

    def forward(self, codes: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        latents = self.model.quantizer.dequantize(codes)
        audio, state = self.model.reconstruct_step(latents, with_tensors(self.state, iter(states)))
        return audio, *tensors_of(state)


def _still(model: DiscreteAutoencoder) -> DiscreteAutoencoder:
    """Return a copy of the model on the CPU, in evaluation mode."""
    return copy.deepcopy(model).cpu().eval().requires_grad_(False)


def _traced_steps(model: DiscreteAutoencoder) -> Iterator[tuple[ExportedProgram, list[str]]]:
    """Yield the steps of encoder and decoder, with the names of their outputs."""
    quantizer, model = require_scalar(model), _still(model)
    audio = torch.zeros(1, model.channels, model.hop_length)
    codes = torch.zeros(1, quantizer.num_codebooks, 1, dtype=torch.int64)
    for program, given, output in (
        (_EncoderStep(model, audio), audio, "codes"),
        (_DecoderStep(model, codes), codes, "audio"),
    ):
        states = [torch.zeros_like(tensor) for tensor in tensors_of(program.state)]
        traced = _exported(program, (given, states), None)
        yield traced, [output, *(f"next_states_{i}" for i in range(len(states)))]


def _exported(program: nn.Module, given: tuple[Any, ...], dynamic: dict[str, Any] | None) -> ExportedProgram:
    # With this setting, a length of 1 is not special. torch 2.11 has no public name for it.
    symbolic_shapes = import_module("torch.fx.experimental._config")
    try:
        with torch.no_grad(), _quiet(), symbolic_shapes.patch(backed_size_oblivious=True):
            return torch.export.export(program, given, dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # PyTorch's exporter raises many kinds of errors
        name = type(program).__name__.strip("_")
        raise UsageError(
            f"PyTorch cannot export this {name} program: {_first_line(error)}; leave out --onnx and --torch-export"
        ) from error


def _traced(model: DiscreteAutoencoder) -> Iterator[tuple[ExportedProgram, list[str]]]:
    """Yield encoder and decoder, with the names of their outputs."""
    quantizer, model = require_scalar(model), _still(model)
    # More than one item and frame, since an exporter treats a size of 1 as a constant.
    audio = torch.zeros(2, model.channels, 7 * model.hop_length + 1)
    codes = torch.zeros(2, quantizer.num_codebooks, 7, dtype=torch.int64)
    for program, name, example, output in (
        (_Encoder(model), "audio", audio, "codes"),
        (_Decoder(model), "codes", codes, "audio"),
    ):
        yield _exported(program, (example,), {name: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}}), [output]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of exporters about missing packages and their internals."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _first_line(error: Exception) -> str:
    """Return the first line of an error of another package."""
    return str(error).strip().partition("\n")[0][:200]
