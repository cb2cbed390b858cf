"""Initial weights of a run: all weights of a checkpoint to resume from, or those layers of an old model that fit."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
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
"""Parts of a model that determine its codes; when both are frozen, the codes do not change."""

_NAMED = 4
"""Largest number of changed settings that a message names."""

Tensors = Mapping[str, Tensor]

log = logging.getLogger("discrete_ae")


class Beginning(NamedTuple):
    """The saved model that a run starts from."""

    path: str
    """Path of its checkpoint or bundle, as given by the user."""
    saved: SavedModel
    is_continued: bool
    """True if the run is resumed; Lightning then restores the rest of its state."""


def beginning(continued: str | None, init_from: str | None) -> Beginning | None:
    """Read the checkpoint to resume from, or the checkpoint or bundle to initialize from; None if neither is given.

    Raises:
        DataError: the file cannot be read.
    """
    path = continued or init_from
    return Beginning(path, read_saved(path), bool(continued)) if path else None


def with_frozen(config: Mapping[str, Any], begun: Beginning, frozen: Sequence[str]) -> dict[str, Any]:
    """Return a model's configuration with the saved settings of its frozen parts, so that their hash stays the same.

    Settings of frozen parts that the saved configuration lacks, such as those of a later version, are dropped.

    Raises:
        UsageError: the configuration sets one of the saved settings to another value.
    """
    for part in ("sample_rate", *frozen) if frozen else ():
        key = part if part == "quantizer" else f"model.{part}"
        if found := next(_unlike(key, config[part], begun.saved.config.get(part)), None):
            changed, own, old = found
            raise UsageError(
                f"freeze: {changed} is {old} in {begun.path}, but {own} here; a frozen part keeps its settings: use "
                "the same model= and quantizer= settings as its run"
            )
    return {**config, **{part: begun.saved.config[part] for part in frozen}}


def _unlike(key: str, own: Any, old: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, new value and old value of each old setting that has changed; of another component, only its class."""
    if isinstance(own, Mapping) and isinstance(old, Mapping):
        names = ["_target_"] if own.get("_target_") != old.get("_target_") else old
        for name in names:
            yield from _unlike(f"{key}.{name}", own.get(name), old.get(name))
    elif own != old:
        yield key, own, old


def begin_with(
    model: DiscreteAutoencoder,
    config: Mapping[str, Any],
    adversary: Adversary | None,
    begun: Beginning | None,
    frozen: Sequence[str],
) -> None:
    """Load the initial weights of a run into its model and discriminators.

    If encoder and quantizer are frozen, the model also gets the old entropy model, which is needed to read files coded
    with it.

    Args:
        model: model with random weights.
        config: configuration of the model.
        adversary: the discriminators of an adversarial run.
        begun: the saved model to start from; None to start from random weights.
        frozen: parts of the model that are not trained.

    Raises:
        DataError: the weights do not fit.
        UsageError: the weights of a frozen part do not fit, or all parts are frozen.
    """
    if all(part_of(name) in frozen for name, _ in model.named_parameters()):
        raise UsageError(f"freeze: nothing is left to train besides {', '.join(frozen)}; freeze fewer parts")
    taken: Collection[str] = ()
    if begun:
        taken = (
            _load_all(model, config, begun) if begun.is_continued else _load_what_fits(model, config, adversary, begun)
        )
        if set(frozen) >= MAKES_CODES:
            model.entropy_model = begun.saved.entropy_model
    random = [part for part in frozen if any(part_of(name) == part for name in model.state_dict().keys() - {*taken})]
    if random and begun:
        raise UsageError(
            f"freeze: the {random[0]} of {begun.path} does not fit and would stay frozen at random weights; use the "
            "same model=, quantizer= and num_codebooks= as its run, or freeze other parts"
        )
    if begun and _is_replaced(model, begun, taken):
        rank_zero_only(log.warning)(
            "init_from: the trained quantizer does not fit, and a new one is trained; to keep it, repeat the "
            "num_codebooks= and quantizer= of its run"
        )
    if random:
        rank_zero_only(log.warning)(
            "freeze: the %s keeps its random weights; init_from= starts from those of a trained model", random[0]
        )


def _load_all(model: DiscreteAutoencoder, config: Mapping[str, Any], begun: Beginning) -> Collection[str]:
    state = begun.saved.state
    if _differences(model.state_dict(), state):
        raise DataError(
            f"{begun.path}: its run had another model ({_changes(config, model.state_dict(), begun)}); to resume it, "
            "repeat the overrides of its run; to start a new run from the layers that fit, use init_from= instead of "
            "ckpt_path="
        )
    model.load_state_dict(state)
    return state.keys()


def _changes(config: Mapping[str, Any], own: Tensors, begun: Beginning) -> str:
    """Return the settings of the model that differ from the saved ones; the tensors that differ if no setting does."""
    old = begun.saved.config
    found = [
        f"{key.removesuffix('._target_')} is {_short(new)}, in its run {_short(given)}"
        for part in old
        for key, new, given in _unlike(part if part == "quantizer" else f"model.{part}", config.get(part), old[part])
    ]
    more = f"; {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + more or _differences(own, begun.saved.state)


def _short(value: Any) -> str:
    """Return a setting in few words: a component as the name of its class."""
    value = value.get("_target_", value) if isinstance(value, Mapping) else value
    return value.rpartition(".")[2] if isinstance(value, str) else str(value)


def _load_what_fits(
    model: DiscreteAutoencoder, config: Mapping[str, Any], adversary: Adversary | None, begun: Beginning
) -> Collection[str]:
    """Load the layers that fit, log which in one line, and return the names of their tensors."""
    path, saved, _ = begun
    own, old = model.state_dict(), dict(saved.state)
    if kind_of(path) is Kind.FILE:  # a bundle holds no discriminators
        old |= read_adversary(path)
    if adversary is not None:
        own |= adversary.state_dict()
    taken = _fitting(own, old)
    if not {"encoder", "decoder"} & set(map(part_of, taken)):
        raise DataError(
            f"{path}: its weights fit neither encoder nor decoder of this model ({_changes(config, own, begun)}); "
            "repeat the model settings of its run"
        )
    fitting = {name: old[name] for name in taken}
    for module in (model, adversary):
        if module is not None:
            module.load_state_dict(fitting, strict=False)
    told = _told(own, old, taken, type(model.quantizer).__name__, _quantizer_of(saved.config))
    rank_zero_only(log.info)("init_from: %s", told)
    return taken


def _is_replaced(model: DiscreteAutoencoder, begun: Beginning, taken: Collection[str]) -> bool:
    """Return whether the model has a quantizer of the old one's class, but none of its tensors."""
    has_tensors = any(part_of(name) == "quantizer" for name in model.state_dict())
    is_same = _quantizer_of(begun.saved.config) == type(model.quantizer).__name__
    return has_tensors and is_same and "quantizer" not in map(part_of, taken)


def _quantizer_of(config: Mapping[str, Any]) -> str:
    """Return the class of a configuration's quantizer."""
    said = config.get("quantizer")
    return str(said.get("_target_") if isinstance(said, Mapping) else said).rpartition(".")[2]


def _fitting(own: Tensors, old: Tensors) -> list[str]:
    """Return the names of the tensors to load: those of layers whose tensors have equal names and shapes in both.

    A quantizer counts as one layer, since its tensors depend on each other: codebook entries and their usage counts.
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
    """Return a line that lists, by part, the tensors taken from the old model, left in it, and new in this one."""
    of_own, of_old, of_taken = (Counter(map(part_of, names)) for names in (own, old, taken))
    left, new = of_old - of_taken, of_own - of_taken
    if own_quantizer != old_quantizer and not of_taken["quantizer"]:  # list quantizers without tensors too
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
    """Return a description of the first few tensors in which two models differ; "" if there are none."""
    expected, given = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (own, old))
    other = [name for name in expected | given if expected.get(name) != given.get(name)]
    told = [f"{name} is {given.get(name, 'missing')}, not {expected.get(name, 'expected')}" for name in other[:3]]
    return f"{'; '.join(told)}; {counted(len(other), 'tensor')} in all" if other else ""
