"""Checks what a user wrote on the command line before Hydra runs, so that a slip is named with its mend."""

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.errors import UsageError

PACKAGE_DIR = Path(__file__).parents[1]
# Inside an installed package the configuration lies beside the modules, in a checkout beside the package.
CONFIG_DIR = next(path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir())
CONFIG_NAME = "train"
PLUGINS = ("hydra/launcher/", "hydra/sweeper/")


class Sweep(NamedTuple):
    """What a multirun varies."""

    varied: list[str]
    """Keys and groups of which there are several values."""
    is_grid: bool
    """Whether every combination comes once; otherwise the sweeper chooses."""


def check_overrides(config_dir: Path, config_name: str, overrides: list[str], *, multirun: bool) -> Sweep:
    """Compose the configuration with every override, in a multirun that of every job.

    Raises:
        UsageError: for the first that does not parse, names no key or option, or has a value of the wrong type; and
            for several values outside a multirun.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        try:
            given = parser.parse_overrides(overrides)
        except OverrideParseException as error:
            raise UsageError(f"cannot read {error.override!r}; write key=value, or 'key=\"value (1)\"'") from error
        several = [override for override in given if override.is_sweep_override()]
        if several and not multirun:
            raise UsageError(
                f"{several[0].input_line} has several values: add -m for one run each; a list is written "
                "key=[a,b], a comma in a name is written \\,"
            )

        def composed(job: Sequence[str]) -> DictConfig:
            try:
                return compose(config_name, list(job), return_hydra_config=True)
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                raise _explained(error, job, config_dir, config_name) from error

        # Hydra composes a multirun once with what all its jobs share, which may be an experiment that varies more.
        shared = [str(override.input_line) for override in given if override not in several]
        try:
            sweeper = composed(shared).hydra.sweeper
        except UsageError as error:
            if not several:
                raise
            for job in _jobs(config_dir, given):
                composed(job)  # whose refusal is the plainer one
            raise UsageError(f"{error}; in a multirun write ++key=value where the default has no such key") from error
        parameters = sweeper.get("params") or {}
        if not multirun:
            if parameters:
                raise UsageError(f"this varies {', '.join(parameters)}: add -m for one run each")
            return Sweep([], is_grid=True)
        named = {override.get_key_element() for override in given}
        added = [f"{key}={value}" for key, value in parameters.items() if key not in named]
        varied = parser.parse_overrides(added) + given
        # A key may be there with one quantizer and not with another, so only whole jobs can be checked.
        for job in _jobs(config_dir, varied):
            composed(job)
        return Sweep(
            [override.get_key_element() for override in varied if override.is_sweep_override()],
            is_grid=sweeper._target_.endswith("BasicSweeper"),
        )


def _jobs(config_dir: Path, overrides: Sequence[Override]) -> Iterator[tuple[str, ...]]:
    """The overrides of as many jobs as tell whether all can be composed, without values a sweeper draws from a range.

    These are all combinations of options, since they decide on the keys that there are, and every other value once.
    """
    listed = [override for override in overrides if not override.is_sweep_override() or override.is_discrete_sweep()]
    choices = [_choices(override) for override in listed]
    are_options = [(config_dir / override.get_key_element()).is_dir() for override in listed]
    jobs = itertools.product(
        *(each if of_group else each[:1] for each, of_group in zip(choices, are_options, strict=True))
    )
    for number, job in enumerate(jobs):
        yield job
        if number == 0:
            for place, (each, of_group) in enumerate(zip(choices, are_options, strict=True)):
                if not of_group:
                    yield from ((*job[:place], value, *job[place + 1 :]) for value in each[1:])


def _choices(override: Override) -> list[str]:
    """An override as it stands, or those of the jobs of a sweep."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _explained(error: Exception, job: Sequence[str], config_dir: Path, config_name: str) -> UsageError:
    """Hydra's refusal in one line, with the nearest name that exists."""
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        # The keys that there are depend on the options chosen.
        options = [override for override in job if (config_dir / override.partition("=")[0]).is_dir()]
        keys = _keys(compose(config_name, options))
        if found[1] in keys:
            return UsageError(f"{found[1]} has no such entries; to add some, write +{found[1]}={{name: value}}")
        nearest = _nearest(found[1], keys)
        return UsageError(f"there is no key {found[1]!r}{nearest}; --help lists all")
    if found := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, option = found[1].partition("/")
        if found[1].startswith(PLUGINS):
            extra = "ray" if "ray" in option else "sweeps"
            return UsageError(f"{found[1]} is not installed, or no such thing: pip install 'discrete-ae[{extra}]'")
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
