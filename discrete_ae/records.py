"""Typed records for data in files: their fields are validated, and errors are reported in one line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ByteSize, ConfigDict, TypeAdapter, ValidationError

from discrete_ae.errors import DataError

Found = TypeVar("Found")


class Record(BaseModel):
    """Base class of records: a subclass declares its fields with types and bounds (pydantic).

    Values are not converted: the string "1" is not accepted as an integer. NaN and infinity are rejected. Unknown
    fields, such as those of later versions, are ignored.
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
        """Return the record with these fields, given as Python objects.

        Raises:
            ValueError: a field is invalid; the message describes the first one in one line.
        """
        return _in_one_line(cls.model_validate, dict(fields))

    @classmethod
    def parse(cls, content: str | bytes) -> Self:
        """Return the record in JSON text; errors as in `of`."""
        return _in_one_line(cls.model_validate_json, content)

    @classmethod
    def read(cls, path: str | Path, advice: str) -> Self:
        """Return the record in a JSON file.

        Args:
            path: path of the file.
            advice: advice for an invalid file, such as "encode the folder again".

        Raises:
            OSError: the file cannot be read.
            DataError: the file is not a valid record.
        """
        try:
            return cls.parse(Path(path).read_bytes())
        except ValueError as error:
            raise DataError(f"{path}: {error}; {advice}") from error


def num_bytes(text: str) -> int:
    """Parse a size such as 500MB (5e8 bytes), 1GB or 1GiB (2^30 bytes), and return it in bytes.

    Raises:
        ValueError: the text is not a size, or the size is below 1.
    """
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        size = 0
    if size < 1:
        raise ValueError(f"expected a size such as 500MB, 1GB or 1GiB, got {text}")
    return size


def _in_one_line(validate: Callable[[Any], Found], given: Any) -> Found:
    """Validate by pydantic; raise its first error in at most 200 characters, since names may be arbitrary text."""
    try:
        return validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")  # pydantic's prefix for errors of our own validators
    said = f"{place}: {message}" if place else message
    raise ValueError(" ".join(said.split())[:200])
