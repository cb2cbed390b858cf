"""Commands as documents write them: taken apart and parsed, not run."""

import argparse
import functools
import itertools
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import typer
from hydra.core.override_parser.overrides_parser import OverridesParser

from discrete_ae.cli.main import app
from discrete_ae.cli.overrides import compose_config

ROOT = Path(__file__).parents[1]
COMMANDS = typer.main.get_command(app)
FOREIGN = {"cat", "ffmpeg", "hf", "tensorboard", "versa/bin/scorer.py"}
"""Programs of others, whose options are not looked at."""
STARTERS = {"srun", "torchrun"}
"""Programs that start the command which follows their options."""


class Parsed(Exception):  # noqa: N818
    """A script has parsed its arguments."""


def jobs(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of runs which together have every value of a multirun, without ranges of a sweeper."""
    given = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [each.input_line]
        for each in given
        if not each.is_sweep_override() or each.is_discrete_sweep()
    ]
    count = max(map(len, values), default=1)
    return [[each[min(job, len(each) - 1)] for each in values] for job in range(count)]


@functools.cache
def check_train(words: tuple[str, ...], own: Path | None = None) -> None:
    """Compose the overrides of a training command.

    Args:
        words: behind `train` or `train.py`.
        own: what `--config-dir` stands for.
    """
    given = list(words)
    config_dir = None
    if "--config-dir" in given:
        place = given.index("--config-dir")
        config_dir = own
        del given[place : place + 2]
    flags = {word for word in given if word.startswith("-")}
    assert flags <= {"-m", "--help"}, flags
    overrides = [word for word in given if word not in flags]
    for job in jobs(overrides) if "-m" in flags else [overrides]:
        compose_config(job, config_dir)


def check_script(script: Path, words: list[str]) -> None:
    """Parse the options of a script by its own parser; overrides are composed."""
    assert script.is_file(), f"there is no {script}"
    parse = argparse.ArgumentParser.parse_known_args
    overrides: list[str] = []

    def parse_and_leave(parser: argparse.ArgumentParser, *_: object) -> None:
        given, rest = parse(parser)
        overrides.extend([*rest, *getattr(given, "train", [])])
        raise Parsed

    with (
        mock.patch.object(sys, "argv", [script.name, *words]),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse_and_leave),
        pytest.raises(Parsed),
    ):
        runpy.run_path(str(script), run_name="__main__")
    check_train(tuple(overrides))


def check_discrete_ae(words: list[str], own: Path | None = None) -> None:
    """Parse the arguments of `discrete-ae` by the command's own parser."""
    if words[0] == "train":
        return check_train(tuple(words[1:]), own)
    if words == ["--version"]:
        return None
    context = COMMANDS.commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False)
    if words[0] == "info":
        overrides = [word for word in words[1:] if "=" in word]
        check_train(tuple(overrides))
    return context.close()


def check_install(words: list[str]) -> None:
    """Look for the extras of this package that pip is to install."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if found := re.fullmatch(r"discrete-ae\[([\w,]+)\]", word):
            assert set(found[1].split(",")) <= set(extras), word


def check_make(words: list[str]) -> None:
    """Look for a target of the Makefile, and compose its ARGS."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words[0] in targets, words[0]
    for word in words[1:]:
        name, _, value = word.partition("=")
        assert name == "ARGS", word
        check_train(tuple(shlex.split(value)))


def simple_commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, apart at pipes, semicolons and ends of lines."""
    for line in re.sub(r"\\\n|(?<=\|)\n", " ", block).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&><")
        lexer.whitespace_split = True
        words = list(lexer)
        for is_end, group in itertools.groupby(words, lambda word: word in ("|", "||", ";", "&&")):
            command = list(group)
            if not is_end:
                yield command[: next((at for at, word in enumerate(command) if word in (">", "<")), None)]


def check(command: list[str], own: Path | None = None) -> None:
    """Check a command, as far as that goes without running it.

    Args:
        command: its words.
        own: what `--config-dir` stands for.

    Raises:
        AssertionError: for a program, option or setting that does not exist.
    """
    program, *words = command
    if program in STARTERS:
        start = next(at for at, word in enumerate(command) if word in ("discrete-ae", "python"))
        check(command[start:], own)
    elif program == "python" and words[0] == "-c":
        compile(words[1], "-c", "exec")
    elif program == "python" and words[0] == "train.py":
        check_train(tuple(words[1:]), own)
    elif program == "python" and words[0] not in FOREIGN:
        check_script(ROOT / words[0], words[1:])
    elif program == "discrete-ae":
        check_discrete_ae(words, own)
    elif program == "make":
        check_make(words)
    elif program == "pip":
        check_install(words)
    elif program == "pytest":
        markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
        assert words[:1] == ["-m"]
        assert words[1] in {marker.split(":")[0] for marker in markers}
    elif program == ".":
        assert words == [".venv/bin/activate"]
    else:
        assert (words[0] if program == "python" else program) in FOREIGN, program
