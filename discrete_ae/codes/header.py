"""The header of a `.daec` file: what it holds beside the codes, as compact JSON, checked when it is read."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from discrete_ae.codes.code_file import check_description
from discrete_ae.codes.entropy.arrays import MAX_CODEBOOKS
from discrete_ae.codes.entropy.tables import SYMBOLS_PER_BYTE

CODINGS = ("packed", "radix", "order0", "context")
ENTROPY_CODINGS = ("order0", "context")

# Names in the file of the fields that are plain numbers or texts there.
_INTEGERS = {
    "sample_rate": "sample_rate",
    "model_sample_rate": "model_sample_rate",
    "samples": "num_samples",
    "streams": "num_streams",
    "frames": "num_frames",
    "payload": "payload_bytes",
}
_TEXTS = {"model": "model_hash", "quantizer": "quantizer", "coding": "coding", "entropy_model": "entropy_model"}


@dataclass(frozen=True, kw_only=True)
class DaecHeader:
    """What a `.daec` file says of its codes (S, K, T).

    Raises:
        ValueError: if the fields do not fit one another, as when the payload is too short for the codes.
    """

    model_hash: str
    """As the further fields of the same names, see `CodeFile`."""
    quantizer: str = ""
    sample_rate: int
    model_sample_rate: int
    num_samples: int
    num_streams: int
    """S."""
    num_frames: int
    """T."""
    codebook_sizes: tuple[int, ...]
    """(K,)"""
    gain_db: float = 0.0
    coding: str
    """One of `CODINGS`."""
    entropy_model: str = ""
    """Fingerprint of the entropy model that the payload was coded with, empty where none was."""
    payload_bytes: int

    def __post_init__(self) -> None:
        check_description(
            self.sample_rate,
            self.num_samples,
            self.model_sample_rate,
            self.codebook_sizes,
            self.model_hash,
            self.gain_db,
            self.quantizer,
        )
        if self.coding not in CODINGS:
            raise ValueError(f"coding: expected one of {', '.join(CODINGS)}, got {self.coding[:80]!r}")
        fingerprint = "[0-9a-f]{16}" if self.coding in ENTROPY_CODINGS else ""
        if not re.fullmatch(fingerprint, self.entropy_model):
            raise ValueError(
                "entropy_model: expected 16 hexadecimal digits where the coding needs one, otherwise nothing, "
                f"got {self.entropy_model[:80]!r} with coding {self.coding!r}"
            )
        if not self.codebook_sizes or min(self.num_streams, self.num_frames) < 1:
            raise ValueError(
                "expected at least one stream, codebook and frame, "
                f"got {self.num_streams}, {len(self.codebook_sizes)} and {self.num_frames}"
            )
        if len(self.codebook_sizes) > MAX_CODEBOOKS:
            raise ValueError(f"expected at most {MAX_CODEBOOKS} codebooks, got {len(self.codebook_sizes)}")
        # Packed codes take at least a bit each; a range coder holds back up to 8 bytes.
        if self.num_streams * len(self.codebook_sizes) * self.num_frames > SYMBOLS_PER_BYTE * (self.payload_bytes + 8):
            raise ValueError(
                f"{self.payload_bytes} bytes of payload cannot hold {self.num_frames} frames of "
                f"{len(self.codebook_sizes)} codebooks and {self.num_streams} streams"
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def bits_per_frame(self) -> float:
        """Nominal, of all streams together."""
        return self.num_streams * sum(math.log2(size) for size in self.codebook_sizes)

    def to_json(self) -> bytes:
        """Compact JSON in UTF-8; fields that have their defaults are left out."""
        plain = {key: getattr(self, name) for key, name in (_TEXTS | _INTEGERS).items()}
        runs = [[size, len(list(run))] for size, run in itertools.groupby(self.codebook_sizes)]
        written = plain | {"codebooks": runs, "gain_db": self.gain_db}
        said = {key: value for key, value in written.items() if value not in ("", 0.0)}
        return json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes, payload_bytes: int) -> "DaecHeader":
        """Of what `to_json` wrote, before as many bytes of payload.

        Raises:
            ValueError: it is no such JSON, says something else of the payload, or see `DaecHeader`.
        """
        try:
            said = json.loads(content.decode(), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ValueError("its header is no JSON") from error
        if not isinstance(said, dict):
            raise ValueError("its header is no JSON object")
        if unknown := set(said) - {*_INTEGERS, *_TEXTS, "codebooks", "gain_db"}:
            raise ValueError(f"its header has the unknown entry {min(unknown)[:80]!r}")
        found: dict[str, Any] = {}
        found |= {name: _typed(said, key, int, "an integer") for key, name in _INTEGERS.items() if key in said}
        found |= {name: _typed(said, key, str, "a text") for key, name in _TEXTS.items() if key in said}
        if found.get("payload_bytes") != payload_bytes:
            raise ValueError(f"{payload_bytes} bytes of payload, where its header says {found.get('payload_bytes')}")
        if "gain_db" in said:
            found["gain_db"] = float(_typed(said, "gain_db", (int, float), "a number"))
        found["codebook_sizes"] = _run_lengths(said.get("codebooks"))
        required = {"model_hash", "coding", *_INTEGERS.values()}
        if missing := required - set(found):
            raise ValueError(f"its header lacks {', '.join(sorted(missing))}")
        return cls(**found)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"expected a finite number, got {constant}")


def _typed(said: Mapping[str, Any], key: str, kind: type | tuple[type, ...], expected: str) -> Any:
    value = said[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key}: expected {expected}, got {repr(value)[:80]}")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{key}: expected a number below 2^63")
    return value


def _run_lengths(runs: Any) -> tuple[int, ...]:
    """[[size, count], ...] to the sizes, so few that a short text cannot ask for much memory."""
    valid = isinstance(runs, list) and all(
        isinstance(run, list) and len(run) == 2 and all(type(number) is int and number > 0 for number in run)
        for run in runs
    )
    if not valid:
        raise ValueError("codebooks: expected pairs of positive numbers, a size and how often it comes")
    if (number := sum(count for _, count in runs)) > MAX_CODEBOOKS:
        raise ValueError(f"codebooks: expected at most {MAX_CODEBOOKS} of them, got {number}")
    return tuple(size for size, count in runs for _ in range(count))
