"""Compare each rounding's surrogate gradient with the true effect of rounding on the loss.

    python benchmarks/gradients.py RUN/checkpoints/best.ckpt

Writes benchmarks/results/gradients.md and gradients.png for a trained model with a scalar quantizer.

The reference for coordinate i is the exact gradient of the loss dithered in that coordinate, all others rounded hard:
    d/du_i E[L(round(u_i + U), others hard)] = L(floor(u_i) + 1) - L(floor(u_i)),   U ~ U(-1/2, 1/2),
which takes two values of the loss and no gradient. It is constant between two integers, so a flat slope has the least
variance against it. If dL/dq were exact and u uniform, the estimate slope(u) dL/dq would have the cosine 1 / sqrt(mean
slope^2); with Fourier weights w_n, 1 / sqrt(1 + 2 sum w_n^2). `slope_cosine` measures this part alone. The rest of the
loss in cosine comes from the curvature of L between the integers and the values at which it is differentiated.

Axes: B copies of one segment, C audio channels, N samples, D latent channels, T frames; n sampled coordinates.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from _common import RESULTS, example_name, publish, table
from matplotlib.figure import Figure
from torch import Tensor

import discrete_ae
from discrete_ae.data import CropSettings, ValidationSegments, find_audio, recordings_root
from discrete_ae.errors import UserError
from discrete_ae.losses import LogSNR, MultiScaleMel, WaveformL1, WeightedLoss
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.quantizers import ScalarQuantizer
from discrete_ae.rounding import EXAMPLES, FiniteDifference, Rounding, StraightThrough

Loss = Callable[[Tensor], Tensor]
"""Losses (B,) of rounded values (B, D, T)."""

BOUND = "bound, hard forward"
"""Name of the row that bounds every hard rounding with a non-negative slope; see `hard_bound`."""

LOSS_WEIGHTS = {"mel": 1.0, "l1": 1.0, "snr": 2.0}

_COPIES = 32
_NOISE_DRAWS = 8


class Candidate(NamedTuple):
    """A rounding to compare."""

    name: str
    rounding: Rounding
    draws: int = 1
    """Forward passes whose gradients are averaged, to reduce noise; training uses 1 per crop."""


def candidates() -> list[Candidate]:
    """Return every example of a rounding (hard and soft unless its slope is 1), and one with almost no gradient."""
    found = []
    x = torch.linspace(-1.3, 1.4, 55)
    for cls, arguments in (*EXAMPLES, (FiniteDifference, {"epsilon": 0.001})):
        name, default = example_name(cls, arguments), cls(**arguments)
        if (default.slope(x) == 1).all():
            found.append(Candidate(name, default))
            if not torch.equal(default(x), default(x)):
                found.append(Candidate(f"{name}, × {_NOISE_DRAWS}", default, _NOISE_DRAWS))
        else:
            forwards = {"hard": True, "soft": False}
            found += [Candidate(f"{name}, {word}", cls(**arguments, hard=hard)) for word, hard in forwards.items()]
    return found


class Agreement(NamedTuple):
    """Agreement of an estimate with the reference on one segment; NaN for undefined values."""

    cosine: float
    """Cosine similarity; NaN if either is 0."""
    norm_ratio: float
    """|estimate| / |reference|."""
    right_sign: float
    """Share of the coordinates with non-zero reference at which the estimate has the same sign; 0 counts as wrong."""
    slope_cosine: float = math.nan
    """Cosine of slope(u) * reference, as if the loss's own derivative were exact."""


def prepare(model: DiscreteAutoencoder, audio: Tensor) -> tuple[Loss, Tensor, Tensor]:
    """Return the arguments of `compare` for audio (C, N): the training loss, u (D, T), and the highest integers.

    The loss of conf/loss/mel_l1_snr.yaml compares the audio with the reconstruction from rounded values.

    Raises:
        UserError: the model's quantizer is not a ScalarQuantizer, so it has no rounding.
    """
    quantizer = model.quantizer
    if not isinstance(quantizer, ScalarQuantizer):
        raise UserError(
            f"the checkpoint's quantizer is a {type(quantizer).__name__}, which has no rounding; "
            "give a checkpoint of a ScalarQuantizer, such as that of a run with quantizer=ste"
        )
    highest = quantizer.steps.repeat(quantizer.num_codebooks)[:, None]
    mel = MultiScaleMel(model.sample_rate, [2048, 512, 128], [80, 40, 10])
    weighted = WeightedLoss({"mel": mel, "l1": WaveformL1(), "snr": LogSNR()}, LOSS_WEIGHTS).to(audio.device)

    def loss(rounded: Tensor) -> Tensor:
        copies = model.reconstruct(rounded * 2 / highest - 1, audio.shape[-1])
        # One by one, since the terms are means over a batch.
        return torch.stack([weighted(copy[None], audio[None], {}).total for copy in copies])

    with torch.no_grad():
        return loss, quantizer.scaled(model.latents(audio[None]))[0], highest


def sample_coordinates(u: Tensor, highest: Tensor, count: int, seed: int) -> Tensor:
    """Draw n <= count distinct indices (n,) into u.flatten() at which both neighboring integers are in range."""
    inside = ((u.floor() >= 0) & (u.floor() + 1 <= highest)).flatten().nonzero()[:, 0].cpu()
    order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))
    return inside[order[:count]].to(u.device)


def reference_gradient(loss: Loss, u: Tensor, places: Tensor) -> Tensor:
    """Return L(floor(u_i) + 1) - L(floor(u_i)) at the indices i, all other coordinates rounded hard: (n,)."""
    hard, below = u.round(), u.floor().flatten()
    # round(u_i) is one of the two neighbors, so only the other one is decoded.
    up = below[places] == hard.flatten()[places]
    differences = []
    with torch.no_grad():
        base = loss(hard[None])
        for chunk, steps_up in zip(places.split(_COPIES), up.split(_COPIES), strict=True):
            copies = hard.flatten().repeat(len(chunk), 1)
            copies.scatter_(1, chunk[:, None], (below[chunk] + steps_up)[:, None])
            sign = torch.where(steps_up, 1.0, -1.0).to(u.dtype)
            differences.append((loss(copies.unflatten(1, u.shape)) - base) * sign)
    return torch.cat(differences) if differences else u.new_zeros(0)


def estimated_gradient(loss: Loss, u: Tensor, candidate: Candidate, seed: int) -> Tensor:
    """Return the rounding's dL/du in training, averaged over its draws: (D, T)."""
    rounding = candidate.rounding.to(u.device).train()
    total = torch.zeros_like(u)
    with torch.random.fork_rng([u.device] if u.is_cuda else []):
        torch.manual_seed(seed)
        for _ in range(candidate.draws):
            x = u.detach().clone().requires_grad_()
            total += torch.autograd.grad(loss(rounding(x)[None]).sum(), x)[0]
    return total / candidate.draws


def agreement(estimate: Tensor, reference: Tensor) -> Agreement:
    """Compare two gradients (n,); `slope_cosine` stays NaN."""
    norms = float(estimate.norm()), float(reference.norm())
    known = reference != 0
    return Agreement(
        cosine=float(F.cosine_similarity(estimate, reference, dim=0, eps=0)) if all(norms) else math.nan,
        norm_ratio=norms[0] / norms[1] if norms[1] else math.nan,
        right_sign=float((estimate.sign() == reference.sign())[known].double().mean()),
    )


def hard_bound(hard_gradient: Tensor, reference: Tensor) -> Agreement:
    """Return the agreement of the best k dL/dq, k >= 0 per coordinate: the reference if the signs agree, else 0.

    Every hard rounding with a non-negative slope gives some k dL/dq with the same dL/dq at the hard values (n,), so
    none exceeds this bound. It is below 1, since the derivative at an integer may differ in sign from a step of L.
    """
    return agreement(torch.where(hard_gradient * reference > 0, reference, 0.0), reference)


def compare(
    loss: Loss, u: Tensor, highest: Tensor, compared: Iterable[Candidate], count: int = 64, seed: int = 0
) -> dict[str, Agreement]:
    """Return the agreement of each candidate on one segment, and that of BOUND; deterministic for a given seed.

    Args:
        loss: maps rounded values to losses.
        u: (D, T), the values to round.
        highest: (D, 1), the highest integer of each channel.
        compared: the roundings to compare.
        count: number of coordinates to compare; fewer if u has fewer between two integers.
        seed: seed of the coordinates and of noisy forward passes.
    """
    places = sample_coordinates(u, highest, count, seed)
    reference = reference_gradient(loss, u, places)
    found = {}
    for candidate in compared:
        estimate = estimated_gradient(loss, u, candidate, seed).flatten()[places]
        slope = candidate.rounding.slope(u).flatten()[places]
        shape = agreement(slope * reference, reference).cosine
        found[candidate.name] = agreement(estimate, reference)._replace(slope_cosine=shape)
    hard = estimated_gradient(loss, u, Candidate("", StraightThrough()), seed).flatten()[places]
    return {**found, BOUND: hard_bound(hard, reference)}


class Spread(NamedTuple):
    """Mean and standard deviation over the segments; both NaN if no segment has a value."""

    mean: float
    std: float

    def __str__(self) -> str:
        return "–" if math.isnan(self.mean) else f"{self.mean:.2f} ± {self.std:.2f}"


class Summary(NamedTuple):
    """Agreement of a rounding over all segments, with the fields of `Agreement`."""

    name: str
    cosine: Spread
    norm_ratio: Spread
    right_sign: Spread
    slope_cosine: Spread


HEADINGS = ("rounding", "cosine", "norm ratio", "right sign", "slope alone")


def summarize(segments: Sequence[Mapping[str, Agreement]]) -> list[Summary]:
    """Return the agreement over the segments, sorted by cosine, with undefined cosines last.

    A segment in which a rounding's gradient is 0 counts as cosine 0, unless this holds for all segments. Segments with
    reference 0 are skipped.

    Args:
        segments: results of `compare`, at least one.
    """
    segments = [segment for segment in segments if not math.isnan(segment[BOUND].norm_ratio)] or segments
    rows = []
    for name in segments[0]:
        columns = zip(*(segment[name] for segment in segments), strict=True)
        rows.append(Summary(name, *(_spread(values) for values in columns)))
    return sorted(rows, key=lambda row: -math.inf if math.isnan(row.cosine.mean) else row.cosine.mean, reverse=True)


def cells(row: Summary) -> list[str]:
    """Return the row as text for the columns HEADINGS; a dash for NaN."""
    return [row.name, *(str(value) for value in row[1:])]


def draw_gradients(rows: Sequence[Summary], title: str) -> Figure:
    """Draw bars of the cosine with its spread over the segments, best on top, and the norm ratio beside them."""
    figure = Figure(figsize=(9.0, 0.32 * len(rows) + 1.7), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    cosines, ratios = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    places = range(len(rows))
    colors = ["0.75" if row.name == BOUND else "tab:blue" for row in rows]
    line = {"ecolor": "0.25", "elinewidth": 1, "capsize": 2}

    cosines.barh(places, [_or_0(row.cosine.mean) for row in rows], xerr=[_or_0(row.cosine.std) for row in rows],
                 color=colors, error_kw=line)  # fmt: skip
    cosines.plot([row.slope_cosine.mean for row in rows], places, "D", color="tab:orange", markeredgecolor="white",
                 label="if dL/dq were exact: the slope alone")  # fmt: skip
    cosines.set_yticks(places, [row.name for row in rows])
    cosines.set(xlabel="cosine with the loss's steps", xlim=(None, 1.05), ylim=(len(rows) - 0.4, -0.6))
    cosines.axvline(0, color="0.25", linewidth=0.8)
    cosines.legend(loc="lower right", fontsize="small")

    shown = [row.norm_ratio.mean for row in rows if row.norm_ratio.mean > 0]
    low, high = math.floor(math.log2(min([*shown, 0.5]))) - 0.5, math.ceil(math.log2(max([*shown, 2.0]))) + 0.5
    ratios.set_xscale("log", base=2)
    ratios.set(xlabel="norm ratio |estimate| / |reference|", xlim=(2**low, 2**high))
    ratios.xaxis.set_major_formatter("{x:g}")
    ratios.axvline(1, color="0.6", linewidth=0.8, linestyle="--")
    for place, row, color in zip(places, rows, colors, strict=True):
        mean, std = row.norm_ratio
        if mean > 0:
            down = min(std, mean - 2**low / 2)  # a logarithmic axis cannot show 0 or below
            ratios.errorbar(mean, place, xerr=[[down], [std]], fmt="o", color=color, **line)
    for place, row in enumerate(rows):
        if math.isnan(row.cosine.mean):
            cosines.text(0.01, place, "no gradient at any coordinate", va="center", fontsize="small", color="0.4")
    for axes in (cosines, ratios):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure


def _spread(values: Sequence[float]) -> Spread:
    if all(math.isnan(value) for value in values):
        return Spread(math.nan, math.nan)
    known = torch.tensor(values, dtype=torch.float64).nan_to_num(0.0)
    return Spread(float(known.mean()), float(known.std(correction=0)))


def _or_0(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="best.ckpt or last.ckpt of a run")
    parser.add_argument(
        "recordings", type=Path, nargs="?", default=recordings_root() / "validation", help="folder of recordings"
    )
    parser.add_argument("--segments", type=int, default=32, help="number of one-second segments")
    parser.add_argument("--coordinates", type=int, default=64, help="rounded numbers to compare per segment")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for gradients.md and gradients.png")
    given = parser.parse_args()
    try:
        model = discrete_ae.load(given.checkpoint).requires_grad_(False)
        files = find_audio(given.recordings, strict=True).files
        settings = {"sample_rate": model.sample_rate, "channels": model.channels, "crop_seconds": 1.0, "strict": True}
        chosen = ValidationSegments(files, CropSettings.of(settings), given.segments)
        prepared = (prepare(model, chosen[i]) for i in range(len(chosen)))
        rows = summarize([compare(*one, candidates(), given.coordinates, i) for i, one in enumerate(prepared)])
    except UserError as error:
        sys.exit(str(error))
    title = f"Gradients of roundings against the loss's steps, {len(chosen)} segments of 1 s"
    draw_gradients(rows, title).savefig(given.out / "gradients.png", dpi=160)
    said = "`python benchmarks/gradients.py RUN/checkpoints/best.ckpt`; mean and standard deviation over the segments."
    publish([f"# {title}", "", said, "", *table(HEADINGS, map(cells, rows))], "gradients", given.out)


if __name__ == "__main__":
    main()
