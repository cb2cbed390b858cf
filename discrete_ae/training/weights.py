"""The weights that a run begins with: all of a checkpoint to go on from, or what fits of an old model."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from discrete_ae.build import read_saved
from discrete_ae.errors import DataError, UsageError, counted
from discrete_ae.losses import Adversary
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.autoencoder import part_of
from discrete_ae.paths import Kind, kind_of
from discrete_ae.saving.checkpoint import read_adversary
from discrete_ae.saving.saved import SavedModel

MAKES_CODES = {"encoder", "quantizer"}
"""Parts of a model; where both are frozen, codes stay what they are."""

Tensors = Mapping[str, Tensor]

log = logging.getLogger("discrete_ae")


class Beginning(NamedTuple):
    """The model that a run begins with."""

    path: str
    """Of a checkpoint or a bundle, as it was given."""
    saved: SavedModel
    is_continued: bool
    """Whether its run goes on; Lightning then restores the rest of its state."""


def beginning(continued: str | None, init_from: str | None) -> Beginning | None:
    """Read the checkpoint whose run goes on, or the checkpoint or bundle of which a new run takes what fits, if any.

    Raises:
        DataError: it cannot be read.
    """
    path = continued or init_from
    return Beginning(path, read_saved(path), bool(continued)) if path else None


def with_frozen(config: Mapping[str, Any], begun: Beginning, frozen: Sequence[str]) -> dict[str, Any]:
    """Return a model's configuration in which frozen parts have the settings that they had, and so their codes' hash.

    What the configuration says beyond them, as that of a later version may, is left out: it was not there.

    Raises:
        UsageError: it has another value for one of the settings.
    """
    for part in ("sample_rate", *frozen) if frozen else ():
        key = part if part == "quantizer" else f"model.{part}"
        if found := _unlike(key, config[part], begun.saved.config.get(part)):
            key, own, old = found
            raise UsageError(
                f"freeze: {key} is {old} in {begun.path}, and {own} here; a frozen part keeps its settings: give the "
                "same model=, quantizer= and others as its run"
            )
    return {**config, **{part: begun.saved.config[part] for part in frozen}}


def _unlike(key: str, own: Any, old: Any) -> tuple[str, Any, Any] | None:
    """Return the first of the old settings that is another one now, by its key, and both values."""
    if isinstance(own, Mapping) and isinstance(old, Mapping):
        found = (_unlike(f"{key}.{name}", own.get(name), value) for name, value in old.items())
        return next(filter(None, found), None)
    return None if own == old else (key, own, old)


def begin_with(
    model: DiscreteAutoencoder, adversary: Adversary | None, begun: Beginning | None, frozen: Sequence[str]
) -> None:
    """Give a model, and the discriminators of an adversarial run, the weights that a run begins with.

    Where all that makes codes is frozen, the model gets the old entropy model too: what was coded with it is read with
    no other.

    Args:
        model: with random weights.
        adversary: the discriminators, if the run has any.
        begun: what it begins with, if anything.
        frozen: the parts of the model that will not be trained.

    Raises:
        DataError: the weights do not fit.
        UsageError: a part that is to be frozen does not fit, or nothing is left to be trained.
    """
    if all(part_of(name) in frozen for name, _ in model.named_parameters()):
        raise UsageError(f"freeze: nothing is left to train beside {', '.join(frozen)}; freeze fewer parts")
    taken: Collection[str] = ()
    if begun:
        taken = _load_all(model, begun) if begun.is_continued else _load_what_fits(model, adversary, begun)
        if set(frozen) >= MAKES_CODES:
            model.entropy_model = begun.saved.entropy_model
    random = [part for part in frozen if any(part_of(name) == part for name in model.state_dict().keys() - {*taken})]
    if random and begun:
        raise UsageError(
            f"freeze: the {random[0]} of {begun.path} is another one, and this one would stay random; give the same "
            "model=, quantizer= and num_codebooks= as its run, or freeze other parts"
        )
    if random:
        rank_zero_only(log.warning)(
            "freeze: the %s stays random; init_from= begins with that of a trained model", random[0]
        )


def _load_all(model: DiscreteAutoencoder, begun: Beginning) -> Collection[str]:
    state = begun.saved.state
    if told := _differences(model.state_dict(), state):
        raise DataError(
            f"{begun.path}: its weights do not fit this model ({told}); give the same model=, quantizer= and "
            "num_codebooks= as its run, or start a new run from what fits with init_from="
        )
    model.load_state_dict(state)
    return state.keys()


def _load_what_fits(model: DiscreteAutoencoder, adversary: Adversary | None, begun: Beginning) -> Collection[str]:
    """Load the layers that fit, say which in a line, and return the names of their tensors."""
    path, saved, _ = begun
    own, old = model.state_dict(), dict(saved.state)
    if kind_of(path) is Kind.FILE:  # no bundle
        old |= read_adversary(path)
    if adversary is not None:
        own |= adversary.state_dict()
    taken = _fitting(own, old)
    if not {"encoder", "decoder"} & set(map(part_of, taken)):
        raise DataError(
            f"{path}: its weights do not fit this model ({_differences(own, old)}), neither those of its encoder nor "
            "of its decoder; give the same model= as its run"
        )
    fitting = {name: old[name] for name in taken}
    for module in (model, adversary):
        if module is not None:
            module.load_state_dict(fitting, strict=False)
    said = saved.config.get("quantizer")
    old_quantizer = str(said.get("_target_") if isinstance(said, Mapping) else said).rpartition(".")[2]
    told = _told(own, old, taken, type(model.quantizer).__name__, old_quantizer)
    rank_zero_only(log.info)("init_from: %s", told)
    return taken


def _fitting(own: Tensors, old: Tensors) -> list[str]:
    """Return the names of the tensors that can be taken: of layers that have the same ones in both, of equal shapes.

    A quantizer counts as one layer, for its tensors describe one another, as entries and how often each was chosen.
    """

    def by_layer(tensors: Tensors) -> dict[str, dict[str, torch.Size]]:
        layers: dict[str, dict[str, torch.Size]] = defaultdict(dict)
        for name, tensor in tensors.items():
            layer = "quantizer" if part_of(name) == "quantizer" else name.rpartition(".")[0]
            layers[layer][name] = tensor.shape
        return layers

    there = by_layer(old)
    return [name for layer, shapes in by_layer(own).items() if there.get(layer) == shapes for name in shapes]


def _told(own: Tensors, old: Tensors, taken: Sequence[str], own_quantizer: str, old_quantizer: str) -> str:
    """Return in words what was taken by part, what of the old model was left, and what is new."""
    of_own, of_old, of_taken = (Counter(map(part_of, names)) for names in (own, old, taken))
    left, new = of_old - of_taken, of_own - of_taken
    if own_quantizer != old_quantizer and not of_taken["quantizer"]:  # which may have no tensors
        left["quantizer"], new["quantizer"] = of_old["quantizer"], of_own["quantizer"]

    def listed(counts: Mapping[str, int], quantizer: str) -> str:
        names = {"quantizer": f"{quantizer}, "}
        return ", ".join(f"{part} ({names.get(part, '')}{counted(count, 'tensor')})" for part, count in counts.items())

    took = [
        f"{part} ({counted(count, 'tensor')})"
        if count == of_own[part]
        else f"{part} ({count} of {of_own[part]} tensors)"
        for part, count in of_taken.items()
    ]
    said = [f"took {', '.join(took)}"]
    said += [f"left {listed(left, old_quantizer)}"] if left else []
    return "; ".join(said + ([f"new: {listed(new, own_quantizer)}"] if new else []))


def _differences(own: Tensors, old: Tensors) -> str:
    """Return in words in which tensors two models differ, the first few; empty where in none."""
    expected, given = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (own, old))
    other = [name for name in expected | given if expected.get(name) != given.get(name)]
    told = [f"{name} is {given.get(name, 'not there')}, not {expected.get(name, 'there')}" for name in other[:3]]
    return f"{'; '.join(told)}; {counted(len(other), 'tensor')} in all" if other else ""
