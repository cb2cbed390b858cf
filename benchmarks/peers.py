"""Codecs of a comparison, ours and others, with random weights and one interface.

The others are no dependencies of this project, since descript-audiotools needs a protobuf from before Python 3.11. They
go into a separate environment, which takes torch and other shared packages from that of `make install`:

    python3.11 -m venv /tmp/peers
    echo "import site; site.addsitedir('$PWD/.venv/lib/python3.11/site-packages')" \\
        > /tmp/peers/lib/python3.11/site-packages/main.pth
    /tmp/peers/bin/pip install --no-deps -r benchmarks/peers.txt
    /tmp/peers/bin/python benchmarks/coding_speed.py

Only packages are downloaded: weights are random, which does not affect speed.
"""

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from discrete_ae.cli.info import model_of
from discrete_ae.losses import MultiScaleMel

# The multi-scale mel loss of DAC (arXiv:2306.06546, section 3.5), as in its published training configuration.
MEL_WINDOWS = [32, 64, 128, 256, 512, 1024, 2048]
MEL_COUNTS = [5, 10, 20, 40, 80, 160, 320]
MEL_WEIGHT = 15.0

INSTALL = "the docstring of benchmarks/peers.py says how to install it"
PACKAGES = ("descript-audio-codec", "descript-audiotools", "encodec", "transformers")


class Codec(nn.Module, ABC):
    """A neural codec, audio (B, 1, N) in and out."""

    sample_rate: int

    @abstractmethod
    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction, which may be slightly shorter, and the weighted sum of the quantizer's losses."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Return the codes of audio."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return the audio of codes."""

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a multi-scale mel distance of (reconstruction, target): ours, unless the codec's package has one."""
        device = next(self.parameters()).device
        return MultiScaleMel(self.sample_rate, window_lengths=MEL_WINDOWS, num_mels=MEL_COUNTS).to(device)


class Ours(Codec):
    """The model of a configuration of this project."""

    def __init__(self, overrides: Sequence[str]) -> None:
        super().__init__()
        self.model = model_of(overrides)
        self.sample_rate = self.model.sample_rate

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """See Codec."""
        output = self.model(audio)
        return output.reconstruction, sum(output.losses.values(), audio.new_zeros(()))

    def encode(self, audio: Tensor) -> Tensor:
        """See Codec."""
        return self.model.encode(audio)

    def decode(self, codes: Tensor) -> Tensor:
        """See Codec."""
        return self.model.decode(codes)


class Dac(Codec):
    """DAC's 16 kHz configuration in its authors' code, with their loss."""

    sample_rate = 16000

    def __init__(self) -> None:
        super().__init__()
        dac = quietly_imported("dac", "descript-audio-codec")
        with _quiet():
            self.codec = dac.model.DAC(
                encoder_dim=64,
                encoder_rates=[2, 4, 5, 8],
                decoder_dim=1536,
                decoder_rates=[8, 5, 4, 2],
                n_codebooks=12,
                codebook_size=1024,
                codebook_dim=8,
                quantizer_dropout=0.5,
                sample_rate=self.sample_rate,
            )

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """See Codec."""
        found = self.codec(audio)
        return found["audio"], found["vq/codebook_loss"] + 0.25 * found["vq/commitment_loss"]

    def encode(self, audio: Tensor) -> Tensor:
        """See Codec."""
        return self.codec.encode(audio)[1]

    def decode(self, codes: Tensor) -> Tensor:
        """See Codec."""
        return self.codec.decode(self.codec.quantizer.from_codes(codes)[0])

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return DAC's own MelSpectrogramLoss."""
        from audiotools import AudioSignal
        from dac.nn.loss import MelSpectrogramLoss

        scales = len(MEL_WINDOWS)
        distance = MelSpectrogramLoss(
            MEL_COUNTS, MEL_WINDOWS, pow=1.0, mag_weight=0.0, mel_fmin=[0.0] * scales, mel_fmax=[None] * scales
        )

        def loss(reconstruction: Tensor, target: Tensor) -> Tensor:
            with _quiet():
                return distance(AudioSignal(reconstruction, 16000), AudioSignal(target, 16000))

        return loss


class Encodec(Codec):
    """EnCodec's 24 kHz model in its authors' code, at 6 kbps.

    Training would initialize the codebooks from the first batch by k-means; here they are random from the start.
    """

    sample_rate = 24000
    bandwidth_kbps = 6.0

    def __init__(self) -> None:
        super().__init__()
        encodec = quietly_imported("encodec", "encodec")
        with _quiet():
            self.codec = encodec.EncodecModel.encodec_model_24khz(pretrained=False)
        self.codec.set_target_bandwidth(self.bandwidth_kbps)
        for layer in self.codec.quantizer.vq.layers:
            layer._codebook.inited.fill_(1)
            nn.init.normal_(layer._codebook.embed)
            layer._codebook.embed_avg.copy_(layer._codebook.embed)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """See Codec."""
        codec = self.codec
        quantized = codec.quantizer(codec.encoder(audio), codec.frame_rate, self.bandwidth_kbps)
        return codec.decoder(quantized.quantized)[..., : audio.shape[-1]], quantized.penalty

    def encode(self, audio: Tensor) -> Tensor:
        """See Codec."""
        return self.codec.encode(audio)[0][0]

    def decode(self, codes: Tensor) -> Tensor:
        """See Codec."""
        return self.codec.decode([(codes, None)])


class Mimi(Codec):
    """Mimi, 24 kHz, with 8 codebooks, from transformers."""

    sample_rate = 24000

    def __init__(self) -> None:
        super().__init__()
        transformers = quietly_imported("transformers", "transformers")
        with _quiet():
            self.codec = transformers.MimiModel(transformers.MimiConfig())

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """See Codec; transformers' Mimi cannot be trained, since it lacks a straight-through gradient."""
        raise NotImplementedError

    def encode(self, audio: Tensor) -> Tensor:
        """See Codec."""
        return self.codec.encode(audio, num_quantizers=8).audio_codes

    def decode(self, codes: Tensor) -> Tensor:
        """See Codec."""
        return self.codec.decode(codes).audio_values


class MissingPeerError(Exception):
    """Raised if a peer's package is not installed or cannot be imported."""


def available(codecs: dict[str, Callable[[], Codec]]) -> dict[str, Codec]:
    """Build the codecs whose packages are available; print the reason for the others."""
    built = {}
    for name, build in codecs.items():
        try:
            built[name] = build()
        except MissingPeerError as error:
            print(f"{name} is left out: {error}", flush=True)
    return built


def quietly_imported(module: str, package: str) -> Any:
    """Import a module of a peer without warnings.

    Raises:
        MissingPeerError: the module cannot be imported.
    """
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{package} does not import ({error}); {INSTALL}") from error


def _quiet() -> warnings.catch_warnings:
    return warnings.catch_warnings(action="ignore")
