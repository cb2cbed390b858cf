"""What a file says, as one typed record each: what is read from anyone's file is checked here, and told in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from discrete_ae.errors import DataError


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
        """The record with these fields, as Python objects.

        Raises:
            ValueError: in one line, what is wrong with the first of them.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise ValueError(_line(error)) from None

    @classmethod
    def parse(cls, content: str | bytes) -> Self:
        """The record in a text of JSON.

        Raises:
            ValueError: in one line, what is wrong with it.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(_line(error)) from None

    @classmethod
    def read(cls, path: str | Path, advice: str) -> Self:
        """The record in a file of JSON.

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


def _line(error: ValidationError) -> str:
    """The first fault, in at most some 200 characters, since names of fields may be anyone's text."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")  # of our own validators
    said = f"{place}: {message}" if place else message
    return " ".join(said.split())[:200]
