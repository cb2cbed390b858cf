"""Convert the values of a configuration to the annotated types of their components.

A component is a mapping whose `_target_` names a class or function. The types of its arguments come only from the
annotations of this class or function.
"""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from discrete_ae.errors import UsageError

_OF_EVERY_COMPONENT = {"_target_": str, "_partial_": bool}
# Descriptions by the first word of pydantic's error types.
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "names with values",
}
# Descriptions of limits by pydantic's error types.
_BOUNDS = {
    "greater_than": "above",
    "greater_than_equal": "of at least",
    "less_than": "below",
    "less_than_equal": "of at most",
}


def typed(value: Any, key: str = "", wanted: Any = Any, settings: Mapping[str, Any] | None = None) -> Any:
    """Return nested plain data with every value converted to its expected type.

    An integer may be written 2.0 or 1e1, a boolean yes, no, on or off, and a string as a number. A value without an
    annotation in its component's signature is not changed.

    Args:
        value: plain data.
        key: dotted key of the value, for errors; "" for the whole configuration.
        wanted: expected type of `value`.
        settings: types by dotted key, which override those of the components.

    Raises:
        UsageError: a value has the wrong type, or a component does not accept an argument; the message names the key of
            the first such value.
    """
    settings = settings or {}
    if isinstance(value, Mapping) and (
        wanted is Any or _type_of_items(wanted) or _record_in(wanted) or _holds_component(value)
    ):
        types = _types_in(value, key, _record_in(wanted))
        rest = _type_of_items(wanted) or Any
        return {
            name: typed(inner, place, settings.get(place, types.get(name, rest)), settings)
            for name, inner in value.items()
            for place in [f"{key}.{name}" if key else str(name)]
        }
    if isinstance(value, list) and _holds_component(value):
        return [typed(inner, f"{key}.{place}", settings=settings) for place, inner in enumerate(value)]
    return _converted(value, key, wanted)


def argument_types(target: str) -> dict[str, Any]:
    """Return the types of the named arguments of a class or function, given by its dotted name.

    Return {} if the target does not exist or has no signature; calling it reports the error.
    """
    return _signature(target)[0]


def not_taken(target: str, name: str, key: str) -> str:
    """Return an error message if a class or function does not accept the argument `name`, given as `key`; else ""."""
    return _refusal(target.rpartition(".")[2], *_signature(target), name, key)


def _refusal(taker: str, types: Mapping[str, Any], takes_any: bool, name: str, key: str) -> str:
    if takes_any or name in types or name.startswith("_"):
        return ""
    return f"{key}: {taker} has no such argument; its arguments are {', '.join(types) or 'none'}"


def _signature(target: str) -> tuple[dict[str, Any], bool]:
    """Return the types of the named arguments, and True if arguments with other names are accepted too."""
    try:
        found = pkgutil.resolve_name(target)
    except Exception:  # a user's module may raise any error
        return {}, True
    return _arguments(found) if callable(found) else ({}, True)


@cache
def _arguments(taker: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    try:
        try:
            parameters = inspect.signature(taker, eval_str=True).parameters
        except NameError:  # some annotations exist only for type checkers
            parameters = inspect.signature(taker).parameters
    except (TypeError, ValueError):  # written in C
        return {}, True
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    types = {
        name: Any if isinstance(each.annotation, str) or each.annotation is each.empty else each.annotation
        for name, each in parameters.items()
        if each.kind not in unnamed
    }
    return types, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())


def _types_in(value: Mapping[str, Any], key: str, record: type[BaseModel] | None) -> dict[str, Any]:
    if record:
        taker, (types, takes_any) = record.__name__, _arguments(record)
    elif "_target_" in value:
        target = _converted(value["_target_"], f"{key}._target_", str)
        taker, (types, takes_any) = target.rpartition(".")[2], _signature(target)
    else:
        return {}
    for name in value:
        if refusal := _refusal(taker, types, takes_any, str(name), f"{key}.{name}"):
            raise UsageError(refusal)
    return types | _OF_EVERY_COMPONENT


def _type_of_items(wanted: Any) -> Any:
    """Return the type of a mapping's values; None if the type is not a mapping."""
    for each in (wanted, *get_args(wanted)):  # members of a union
        origin = get_origin(each)
        if inspect.isclass(origin) and issubclass(origin, Mapping):
            return get_args(each)[1]
    return None


def _record_in(wanted: Any) -> type[BaseModel] | None:
    """Return the record in a type; None if there is no record."""
    of_union = (wanted, *get_args(wanted))
    return next((each for each in of_union if inspect.isclass(each) and issubclass(each, BaseModel)), None)


def _holds_component(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_holds_component, value.values()))
    return isinstance(value, list) and any(map(_holds_component, value))


def _converted(value: Any, key: str, wanted: Any) -> Any:
    # A number becomes a string only if the type allows no number: a trainer's `devices` may be 2, "2" or "auto".
    try:
        return _validated(value, wanted, numbers_as_text=False)
    except ValidationError as error:
        refused = error
    try:
        return _validated(value, wanted, numbers_as_text=True)
    except ValidationError:
        raise UsageError(f"{key}: {_told(refused, value)}") from refused


def _validated(value: Any, wanted: Any, *, numbers_as_text: bool) -> Any:
    adapter = _adapter(wanted, numbers_as_text)
    if adapter is None:
        return value
    found = adapter.validate_python(value)
    if _loses_boolean(value, found):  # pydantic accepts true as the number 1
        adapter.validate_python(value, strict=True)
    return found if _is_plain(found) else value


@cache
def _adapter(wanted: Any, numbers_as_text: bool) -> TypeAdapter[Any] | None:
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, coerce_numbers_to_str=numbers_as_text)
    try:
        return TypeAdapter(wanted, config=config)
    except (
        PydanticUserError,
        PydanticUndefinedAnnotation,
    ):  # a third-party type that cannot be resolved at run time
        return None


def _loses_boolean(before: Any, after: Any) -> bool:
    if isinstance(before, list) and isinstance(after, list | tuple):
        return any(map(_loses_boolean, before, after))
    return isinstance(before, bool) and after is not before


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping | list | tuple):
        return all(map(_is_plain, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, bool | int | float | str | None)


def _told(error: ValidationError, given: Any) -> str:
    faults = error.errors(include_url=False)
    faults = [fault for fault in faults if fault["input"] is not given] or faults  # errors inside a list are more exact
    expected, advice = zip(*map(_expected, faults), strict=True)
    told = f"expected {' or '.join(dict.fromkeys(expected))}, got {faults[0]['input']!r:.80}"
    return "; ".join([told, *dict.fromkeys(filter(None, advice))])


def _expected(fault: ErrorDetails) -> tuple[str, str]:
    """Describe the expected value, and return the advice of a validator of this package; "" without advice."""
    said = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, expected ")
    if fault["type"] in _BOUNDS:
        return f"a number {_BOUNDS[fault['type']]} {said.split()[-1]}", ""
    if said.startswith("an instance of "):
        name = said.removeprefix("an instance of ")
        return "a list" if name == "Sequence" else f"a component with its _target_ ({name})", ""
    if said == "callable":
        return "a component with its _target_", ""
    said, _, rest = said.partition(", got")
    return _EXPECTED.get(fault["type"].partition("_")[0], said), rest.partition("; ")[2]
