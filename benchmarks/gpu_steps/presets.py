"""Training presets for a GPU, and tiny ones that replace them on a CPU."""

from typing import NamedTuple


class Preset(NamedTuple):
    """Named settings of `python train.py`."""

    name: str
    overrides: tuple[str, ...]
    batch_size: int
    """Number of crops; halved until the batch fits into memory."""


# Below 4 M parameters, to keep the file of weights below 16 MB.
RUN = Preset("spectral/small, 3.3 M", ("model=spectral/small", "model.encoder.dim=208", "optim.optimizer.lr=1e-3"), 64)
PRESETS = (  # most important first, since time may run out
    RUN,
    Preset("speech_16k", ("experiment=speech_16k",), 64),
    Preset("spectral/small", ("model=spectral/small",), 32),
    Preset("spectral/small, large batch", ("model=spectral/small",), 256),
    Preset("dac_like", ("experiment=dac_like",), 16),
    Preset("adversarial", ("model=spectral/small", "loss=adversarial", "loss.adversary.begin_step=0"), 32),
    Preset("spectral/small, rvq", ("model=spectral/small", "quantizer=rvq"), 32),
    Preset("encodec_like", ("experiment=encodec_like",), 32),
    Preset("the default run", (), 8),
)

SMALLEST = (
    "model.encoder.dim=16",
    "model.encoder.depth=1",
    "model.decoder.depth=1",
    "num_codebooks=2",
    "data.crop_seconds=0.2",
)
TINY_RUN = Preset("tiny", SMALLEST, 2)
TINY_PRESETS = (
    TINY_RUN,
    Preset(
        "tiny, adversarial",
        (
            *SMALLEST,
            "loss=adversarial",
            "loss.adversary.begin_step=0",
            "loss.adversary.discriminators.periods.periods=[2]",
            "loss.adversary.discriminators.periods.width=2",
            "loss.adversary.discriminators.bands.window_lengths=[256]",
            "loss.adversary.discriminators.bands.width=2",
        ),
        2,
    ),
)
