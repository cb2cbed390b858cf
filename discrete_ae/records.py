"""Typed records of what files say: fields of anyone's file are checked here, and a fault is told in one line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ByteSize, ConfigDict, TypeAdapter, ValidationError

from discrete_ae.errors import DataError

Found = TypeVar("Found")


class Record(BaseModel):
    """Fields of a file; a subclass names them with their types and bounds (pydantic).

    Values are taken as they are: "1" is not an integer, and NaN is not a number. Fields that a later version adds are
    ignored.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return the record with these fields, as Python objects.

        Raises:
            ValueError: in one line, what is wrong with the first of them.
        """
        return _in_one_line(cls.model_validate, dict(fields))

    @classmethod
    def parse(cls, content: str | bytes) -> Self:
        """Return the record in a text of JSON; errors as `of`."""
        return _in_one_line(cls.model_validate_json, content)

    @classmethod
    def read(cls, path: str | Path, advice: str) -> Self:
        """Return the record in a file of JSON.

        Args:
            path: of the file.
            advice: what to do where it is none, such as "encode the folder again".

        Raises:
            OSError: it cannot be read.
            DataError: it is no such record.
        """
        try:
            return cls.parse(Path(path).read_bytes())
        except ValueError as error:
            raise DataError(f"{path}: {error}; {advice}") from error


def num_bytes(text: str) -> int:
    """Return a size such as 500MB (5e8 bytes), 1GB or 1GiB (2^30 bytes) in bytes.

    Raises:
        ValueError: it is none, or below 1.
    """
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        size = 0
    if size < 1:
        raise ValueError(f"expected a size such as 500MB, 1GB or 1GiB, got {text}")
    return size


def _in_one_line(validate: Callable[[Any], Found], given: Any) -> Found:
    """Validate by pydantic; raise its first fault in at most some 200 characters, since names may be anyone's text."""
    try:
        return validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")  # of our own validators
    said = f"{place}: {message}" if place else message
    raise ValueError(" ".join(said.split())[:200])
