"""Errors of Typer's parser of the command line, in the form of all errors: what was expected, what came, what to do.

Only the names of the error classes are used, because the classes are from Click or Typer, depending on Typer's version.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NUMBERS = {int: "a whole number", float: "a number"}


def in_words(error: Any, group: Any, given: Sequence[str], program: str) -> str:
    """Return an error of the parser as one line.

    Args:
        error: exception of Click or Typer.
        group: the commands, from `typer.main.get_command`.
        given: arguments of the program.
        program: name of the program.
    """
    name = next((word for word in given if not word.startswith("-")), "")
    command, kind = group.commands.get(name), type(error).__name__
    if kind == "NoSuchOption":
        options = [option for parameter in (command or group).params for option in parameter.opts]
        see = f"{program} {name} --help" if command else f"{program} --help"
        return f"{error.option_name}: no such option; {_advice(error.option_name, options, see)}"
    if kind == "BadOptionUsage":
        if any(word.startswith(f"{error.option_name}=") for word in given):
            value = _value_of([error.option_name], given)
            return f"{error.option_name}: expected no value, got {value or 'an empty one'}; leave the value out"
        parameter = next(each for each in command.params if error.option_name in each.opts)
        expected = _expected(command.callback, parameter)
        return f"{error.option_name}: expected {expected} after it, got none; see {program} {name} --help"
    if command is None:
        return f"{name}: no such command; {_advice(name, list(group.commands), f'{program} --help')}"
    see = f"see {program} {name} --help"
    if kind == "MissingParameter":
        example = re.search(rf"{program} .*", command.epilog or "")
        return f"{name}: expected {_label(error.param)}, got none; {f'for example: {example[0]}' if example else see}"
    if kind == "BadParameter":
        return f"{error.param.opts[0]}: expected {_expected(command.callback, error.param)}, got " + (
            f"{_value_of(error.param.opts, given)}; {see}"
        )
    if extra := re.search(r"extra arguments?(?:\(s\))? \((.*)\)", error.format_message()):
        taken = " ".join(_label(each) for each in command.params if each.param_type_name == "argument")
        return f"{name}: expected only {taken}, got also {extra[1]}; {see}"
    return f"{error.format_message().rstrip('.')}; {see}"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the most similar of some commands, options or dotted keys, or None.

    Perhaps only the prefix is missing, such as in `lr` for `optim.optimizer.lr`, or the end, such as in `dac`.
    """
    name = name.lower()
    last = {re.split(r"[./]", each)[-1]: each for each in reversed(names)}
    known = last | {each: each for each in names}
    if near := difflib.get_close_matches(name, known, 1):
        return known[near[0]]
    return next((each for each in names if name and each.startswith(name)), None)


def _advice(name: str, names: Sequence[str], see: str) -> str:
    near = nearest(name, names)
    return f"did you mean {near}?" if near else f"see {see}"


def _label(parameter: Any) -> str:
    """Return the name of an argument, or an option with the name of its value, such as "-o OUT"."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    return f"{parameter.opts[-1]} {parameter.metavar or 'VALUE'}"


def _expected(callback: Callable[..., Any], parameter: Any) -> str:
    """Describe the values of a command's parameter by the annotation of the command's argument."""
    annotation, option = get_args(get_type_hints(callback, include_extras=True)[parameter.name])
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    kind = next(member for member in members if member is not NoneType)
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}"
    if kind not in _NUMBERS:
        return str(parameter.metavar)
    if option.min is not None and option.max is not None:
        return f"{_NUMBERS[kind]} from {option.min:g} to {option.max:g}"
    return _NUMBERS[kind] + (f" of at least {option.min:g}" if option.min is not None else "")


def _value_of(names: Sequence[str], given: Sequence[str]) -> str:
    """Return the last value of an option."""
    found = ""
    for word, following in zip(given, [*given[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in names:
            found = value if "=" in word else following
    return found
