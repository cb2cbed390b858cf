"""Checks what a user wrote on the command line before Hydra runs, so that a slip is named with its mend."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.errors import UsageError


def check_overrides(config_dir: Path, config_name: str, overrides: list[str]) -> None:
    """Compose the configuration with every override, each value of a sweep by itself.

    Raises:
        UsageError: for the first that does not parse, names no key or option, or has a value of the wrong type.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        first, *_ = str(error).splitlines()
        raise UsageError(f"cannot read {first.removeprefix('Error parsing override ')}; write key=value") from error
    plain = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    swept = [
        f"{override.get_key_element()}={value}"
        for override in parsed
        if override.is_sweep_override()
        for value in override.sweep_string_iterator()
    ]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        for overrides_together in [plain, *([*plain, value] for value in swept)]:
            try:
                compose(config_name, overrides_together, return_hydra_config=True)
            except (HydraException, OmegaConfBaseException) as error:
                raise _explained(error, config_dir, config_name) from error


def _explained(error: Exception, config_dir: Path, config_name: str) -> UsageError:
    """Hydra's refusal in one line, with the nearest name that exists."""
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        nearest = _nearest(found[1], _keys(compose(config_name)))
        return UsageError(f"there is no key {found[1]!r}{nearest}; --help lists all")
    if found := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, option = found[1].partition("/")
        options = _options(config_dir / group)
        return UsageError(
            f"there is no option {option!r} of {group!r}{_nearest(option, options)}; there are: {', '.join(options)}"
        )
    return UsageError(" ".join(text.split()))


def _nearest(name: str, choices: list[str]) -> str:
    # A name may be right but for its place, as lr is for optim.optimizer.lr and tiny for spectral/tiny.
    found = [choice for choice in choices if re.split(r"[./]", choice)[-1] == name]
    found = found or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f", did you mean {found[0]!r}?" if found else ""


def _options(group_dir: Path) -> list[str]:
    return sorted(path.relative_to(group_dir).with_suffix("").as_posix() for path in group_dir.rglob("*.yaml"))


def _keys(config: DictConfig) -> list[str]:
    def walk(node: object, prefix: str) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{prefix}{key}"
                yield from walk(value, f"{prefix}{key}.")

    return list(walk(OmegaConf.to_container(config, resolve=False), ""))
