"""Hydra's and OmegaConf's errors in plain words: what was expected, what came, and the most similar existing name."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from discrete_ae.arguments import argument_types, not_taken
from discrete_ae.cli.usage import nearest
from discrete_ae.errors import UsageError

_FEW = 15
"""Largest number of arguments that a message lists."""
_REWORDED = {
    r"Could not append to config\. An item is already at '(.+?)'.*": r"\1: is set already; leave out the +",
    r".*Could not (?:delete|override) .*?'(.+?)'.*": r"\1: no such setting; --help lists all",
    r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)' .*": r"\1: expected one value, got several; "
    "for one run each, add -m (--multirun)",
    r"Config group override must be .*": "expected the name of an option, got null; only "
    "experiment, debug, logger and callbacks may be null",
    r"Cannot find primary config '(.+?)'.*": r"--config-name: there is no \1.yaml in conf/; leave this flag out",
    r"Additional config directory '(.+)' not found": r"--config-dir: \1: no such folder; check the name",
    r"Interpolation key '(.+?)' not found": r"refers to \1, which is not set",
    r".*Key '(.+?)' is not in struct": r"needs \1, which is not set",
}
"""Texts of errors that carry no data, as patterns, with the words to print instead."""


def explained(error: Exception, config_dir: Path, *, multirun: bool = False) -> UsageError:
    """Convert an error of Hydra or OmegaConf to a message of one line.

    Args:
        error: the error.
        config_dir: folder of the configuration, whose subfolders are the groups.
        multirun: True if the overrides describe several runs.
    """
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, OverrideParseException):
        told = f"cannot read {error.override!r}; write key=value, or 'key=\"value (1)\"'"
    elif isinstance(error, MissingConfigException) and "/" in str(error.missing_cfg_file):
        told = _no_option(str(error.missing_cfg_file), error.options or (), config_dir)
    elif isinstance(cause, ValidationError):
        told = f"{cause.full_key}: {str(cause).splitlines()[0]}"
    elif error is not cause and isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        told = _no_key(cause, str(error), multirun=multirun)
    elif isinstance(cause, OmegaConfBaseException):
        told = f"{cause.full_key}: {_reworded(str(cause).splitlines()[0])}"
    else:
        told = _reworded(" ".join(str(error).split()))
    return UsageError(told)


def keys(node: object, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested plain data."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from keys(value, f"{prefix}{key}.")


def _no_option(missing: str, found: Sequence[str], config_dir: Path) -> str:
    """Return the message for an option that its group lacks.

    Args:
        missing: the group and the option, such as "model/spectral/tny".
        found: the options of the group's own folder that Hydra found, also in folders of --config-dir.
        config_dir: folder of the configuration; options may be in subfolders of the group.
    """
    of_hydra = missing.startswith("hydra/")
    group, _, option = missing.rpartition("/") if of_hydra else missing.partition("/")
    folder = config_dir / group
    below = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}
    options = sorted(below | ({*found} if option.count("/") == 0 else set()))
    told = f"{group}: expected one of {', '.join(options)}, got {option!r}{_asked(nearest(option, options))}"
    if group in ("hydra/launcher", "hydra/sweeper"):
        told += f"; is it installed? pip install 'discrete-ae[{'ray' if 'ray' in option else 'sweeps'}]'"
    return told


def _no_key(error: OmegaConfBaseException, said: str, *, multirun: bool) -> str:
    """Return the message for a key that its parent lacks.

    Args:
        error: the error of OmegaConf, which has the parent.
        said: the text of Hydra's error, which has the override.
        multirun: True if another choice of the group may accept the key.
    """
    key, full_key = str(error.key), str(error.full_key)
    parent = OmegaConf.to_container(error.parent_node)
    target = str(parent.get("_target_")) if isinstance(parent, dict) else ""
    accepted = argument_types(target)
    if key in accepted:
        return f"{full_key}: not set here; to set it, use {said.rpartition('use ')[2]}: {target} accepts it"
    taker = f" of {target.rpartition('.')[2]}" if accepted else ""
    told = f"{full_key}: no such setting{taker}"
    if found := nearest(key, [*keys(parent), *accepted]):
        told += _asked(full_key.removesuffix(key) + found)
    elif not multirun and len(accepted) <= _FEW:
        told = not_taken(target, key, full_key) or told
    told += "; --help lists all keys"
    if multirun:
        told += "; in a multirun write ++key=value where the default has no such key"
    return told


def _asked(found: str | None) -> str:
    return f"; did you mean '{found}'?" if found else ""


def _reworded(said: str) -> str:
    for pattern, words in _REWORDED.items():
        if match := re.fullmatch(pattern, said):
            return match.expand(words)
    return said
