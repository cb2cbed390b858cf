"""Convert codes to sequences of tokens for a language model, and back, exactly. No torch here.

| pattern | tokens | the order of K codebooks and T frames |
| --- | --- | --- |
| `Flat` | (K T,) | frame by frame, within a frame from the first codebook to the last |
| `CoarseFirst` | (K T,) | codebook by codebook: all frames of the first, then all of the second, … |
| `Parallel` | (K, T) | all codes of a frame at one position |
| `Delay` | (K, T + K - 1) | codebook k is k positions later than codebook 0 |

Flat, parallel and delay are the interleaving patterns of MusicGen (Copet et al. 2023, arXiv:2306.05284, section 2.2).
Coarse first is the order of AudioLM (Borsos et al. 2022, arXiv:2209.03143) and VALL-E (Wang et al. 2023,
arXiv:2301.02111), here with one codebook per stage. Ids of tokens, for codebooks of n_0, n_1, … entries:

| | `Flat`, `CoarseFirst` | `Parallel`, `Delay`, in every row |
| --- | --- | --- |
| code c of codebook k | n_0 + … + n_{k-1} + c | c |
| `pad_id` | N = n_0 + n_1 + … | N = max(n_0, n_1, …) |
| `begin_id`, `end_id`, `vocabulary_size` | N + 1, N + 2, N + 3 | the same |

Axes: K codebooks, T frames, L positions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from discrete_ae import checks

__all__ = ["PATTERNS", "CoarseFirst", "Delay", "Flat", "Parallel", "Pattern"]

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pattern(ABC):
    """An order of the codes of one stream, with the ids of their tokens.

    Args:
        codebook_sizes: number of entries of each of the K codebooks, such as `model.quantizer.codebook_sizes` or
            `CodesDataset.codebook_sizes`.

    Raises:
        ValueError: there are no sizes, or a size is not a whole number of at least 1.
    """

    codebook_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if isinstance(self.codebook_sizes, str) or not np.iterable(self.codebook_sizes):
            raise ValueError(f"codebook_sizes: expected a list such as [256, 256], got {self.codebook_sizes!r:.60}")
        sizes = tuple(checks.whole_number("codebook_sizes", size, 1) for size in self.codebook_sizes)
        object.__setattr__(self, "codebook_sizes", sizes)
        if not sizes or self.vocabulary_size >= 2**63:
            raise ValueError(
                f"codebook_sizes: expected at least one size and fewer than 2^63 ids in total, got {sizes!r:.60}"
            )

    @property
    def num_codebooks(self) -> int:
        """K."""
        return len(self.codebook_sizes)

    @property
    def pad_id(self) -> int:
        """Id of positions without a code, to be ignored in a loss."""
        return max(self.ids(codebook).stop for codebook in range(self.num_codebooks))

    @property
    def begin_id(self) -> int:
        """Id placed before the tokens, which serves as the prompt of a model."""
        return self.pad_id + 1

    @property
    def end_id(self) -> int:
        """Id placed after the tokens."""
        return self.pad_id + 2

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, including padding, begin and end; ids are 0 to `vocabulary_size` - 1."""
        return self.pad_id + 3

    def ids(self, codebook: int) -> range:
        """Return the ids of the codes of a codebook; at its positions, a model may choose only these ids.

        Raises:
            ValueError: there is no such codebook.
        """
        if not 0 <= codebook < self.num_codebooks:
            raise ValueError(f"codebook: expected 0 to {self.num_codebooks - 1}, got {codebook}")
        return self._ids(codebook)

    @abstractmethod
    def _ids(self, codebook: int) -> range:
        """Return the ids of the codes of a codebook, whose number was checked."""

    @abstractmethod
    def shape(self, frames: int) -> tuple[int, ...]:
        """Return the shape of the tokens of `frames` frames, without begin and end: (L,) or (K, L)."""

    def apply(self, codes: npt.ArrayLike, *, begin: bool = False, end: bool = False) -> Tokens:
        """Return the tokens of codes, int64.

        Args:
            codes: integers (K, T) of one stream, 0 <= codes[k] < codebook_sizes[k].
            begin: True to put `begin_id` before the tokens.
            end: True to put `end_id` after the tokens.

        Raises:
            ValueError: the codes do not fit these codebooks.
        """
        tokens = self._apply(self._checked_codes(codes))
        first, last = (np.full((*tokens.shape[:-1], int(wanted)), 0) for wanted in (begin, end))
        return np.concatenate([first + self.begin_id, tokens, last + self.end_id], axis=-1)

    def invert(self, tokens: npt.ArrayLike, num_codebooks: int | None = None) -> Tokens:
        """Return the codes (K, T) int64 of the complete frames in tokens, even if the sequence was truncated.

        The sequence may begin with `begin_id`. It may end with `end_id` and padding, or with padding alone.

        Args:
            tokens: tokens of one stream, as returned by `apply`.
            num_codebooks: number of codebooks to return, from 1 to K; None for all. For fewer codebooks, a truncated
                sequence may have more complete frames, above all with `CoarseFirst`.

        Raises:
            ValueError: a token belongs to the wrong codebook; the message gives its position.
        """
        count = self.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= count <= self.num_codebooks:
            raise ValueError(f"num_codebooks: expected 1 to {self.num_codebooks}, got {num_codebooks}")
        found = self._invert(*self._body(self._checked_tokens(tokens)))[:count]
        frames = min(len(codes) for codes in found)
        return np.stack([codes[:frames] for codes in found])

    @abstractmethod
    def _apply(self, codes: Tokens) -> Tokens:
        """Return the tokens of checked codes."""

    @abstractmethod
    def _invert(self, tokens: Tokens, start: int) -> list[Tokens]:
        """Return the codes of each codebook in tokens that begin at position `start`; their numbers may differ."""

    def _checked_codes(self, codes: npt.ArrayLike) -> Tokens:
        found = _array("codes", codes)
        if found.ndim != 2 or len(found) != self.num_codebooks or found.dtype.kind not in "iu":
            raise ValueError(
                f"codes: expected integers of shape ({self.num_codebooks}, frames), of one stream, got "
                f"{found.dtype} of shape {found.shape}; use a pattern with the codebook_sizes of the codes"
            )
        outside = (found < 0) | (found >= np.array(self.codebook_sizes)[:, None])
        if outside.any():
            codebook, frame = np.argwhere(outside)[0]
            raise ValueError(
                f"codes: codebook {codebook}, frame {frame}: expected 0 to {self.codebook_sizes[codebook] - 1}, got "
                f"{found[codebook, frame]}; use a pattern with the codebook_sizes of the codes"
            )
        return found.astype(np.int64)

    def _checked_tokens(self, tokens: npt.ArrayLike) -> Tokens:
        found = _array("tokens", tokens)
        rows = self.shape(0)[:-1]
        if found.ndim != len(rows) + 1 or found.shape[:-1] != rows or found.dtype.kind not in "iu":
            expected = f"({', '.join([*map(str, rows), 'positions'])}{'' if rows else ','})"
            raise ValueError(
                f"tokens: expected integers of shape {expected}, of one stream, got {found.dtype} of shape "
                f"{found.shape}; give the tokens of apply or of a model"
            )
        outside = (found < 0) | (found >= self.vocabulary_size)
        if outside.any():
            place = np.argwhere(outside)[0]
            raise ValueError(
                f"tokens: {_at(place)}: expected an id from 0 to {self.vocabulary_size - 1}, got "
                f"{found[tuple(place)]}; use the pattern, with the codebook_sizes, that made the tokens"
            )
        return found.astype(np.int64)

    def _body(self, tokens: Tokens) -> tuple[Tokens, int]:
        """Return the tokens between begin and end, without padding at the end, and their first position."""
        columns = np.atleast_2d(tokens)
        start = int(columns.shape[1] > 0 and bool((columns[:, 0] == self.begin_id).all()))
        ends = np.flatnonzero((columns == self.end_id).all(axis=0))
        stop = int(ends[0]) if len(ends) else columns.shape[1]
        if len(after := np.argwhere(columns.T[stop + 1 :] != self.pad_id)):
            position, row = after[0] + [stop + 1, 0]
            raise ValueError(
                f"tokens: position {position}: expected padding ({self.pad_id}) after the end at {stop}, got "
                f"{columns[row, position]}; give one sequence at a time"
            )
        filled = np.flatnonzero((columns[:, start:stop] != self.pad_id).any(axis=0))
        return tokens[..., start : start + (int(filled[-1]) + 1 if len(filled) else 0)], start

    def _refuse(self, token: int, codebook: int, place: Sequence[int]) -> ValueError:
        names = {self.pad_id: "padding", self.begin_id: "begin", self.end_id: "end"}
        ids = self.ids(codebook)
        return ValueError(
            f"tokens: {_at(place)}: expected codebook {codebook} ({ids.start} to {ids.stop - 1}), got {token}"
            f"{f' ({names[token]})' if token in names else ''}; give the tokens before this position for the frames "
            "in them"
        )


class _Offset(Pattern):
    """A single sequence in which every codebook has its own ids."""

    @property
    def _offsets(self) -> list[int]:
        """First id of each codebook, and the end of the last."""
        return [0, *accumulate(self.codebook_sizes)]

    def _ids(self, codebook: int) -> range:
        return range(*self._offsets[codebook : codebook + 2])

    def shape(self, frames: int) -> tuple[int, ...]:
        return (self.num_codebooks * frames,)

    def _add_offsets(self, codes: Tokens) -> Tokens:
        return codes + np.array(self._offsets)[:-1, None]

    def _codes_of(self, tokens: Tokens, due: Tokens, start: int) -> Tokens:
        """Return the codes of tokens, given the expected codebook `due` of each."""
        offsets = np.array(self._offsets)
        wrong = np.flatnonzero((tokens < offsets[due]) | (tokens >= offsets[due + 1]))
        if len(wrong):
            raise self._refuse(int(tokens[wrong[0]]), int(due[wrong[0]]), [start + int(wrong[0])])
        return tokens - offsets[due]


class Flat(_Offset):
    """A single sequence, frame by frame.

    >>> pattern = Flat([4, 8])
    >>> pattern.apply([[0, 1, 2], [5, 6, 7]]).tolist()
    [0, 9, 1, 10, 2, 11]
    >>> pattern.pad_id, pattern.begin_id, pattern.end_id, pattern.vocabulary_size
    (12, 13, 14, 15)
    >>> pattern.invert([13, 0, 9, 1, 10, 2]).tolist()  # cut within the third frame
    [[0, 1], [5, 6]]
    >>> pattern.invert([0, 9, 1, 2])
    Traceback (most recent call last):
    ValueError: tokens: position 3: expected codebook 1 (4 to 11), got 2; give the tokens before this position for the \
frames in them
    """

    def _apply(self, codes: Tokens) -> Tokens:
        return self._add_offsets(codes).T.reshape(-1)

    def _invert(self, tokens: Tokens, start: int) -> list[Tokens]:
        codes = self._codes_of(tokens, np.arange(len(tokens)) % self.num_codebooks, start)
        return [codes[codebook :: self.num_codebooks] for codebook in range(self.num_codebooks)]


class CoarseFirst(_Offset):
    """A single sequence, codebook by codebook.

    A frame is complete once its code of the last codebook is present. If a sequence was truncated earlier, `invert`
    with `num_codebooks` returns only the first codebooks, which some models can decode
    (`model.quantizer.decodable_counts`).

    >>> pattern = CoarseFirst([4, 8])
    >>> pattern.apply([[0, 1, 2], [5, 6, 7]]).tolist()
    [0, 1, 2, 9, 10, 11]
    >>> pattern.invert([0, 1, 2, 9]).tolist()  # cut
    [[0], [5]]
    >>> pattern.invert([0, 1, 2, 9], num_codebooks=1).tolist()
    [[0, 1, 2]]
    """

    def _apply(self, codes: Tokens) -> Tokens:
        return self._add_offsets(codes).reshape(-1)

    def _invert(self, tokens: Tokens, start: int) -> list[Tokens]:
        others = np.flatnonzero(tokens >= self.codebook_sizes[0])
        # The start of the second codebook gives the number of frames. With one codebook, all tokens must belong to it.
        frames = int(others[0]) if len(others) and self.num_codebooks > 1 else len(tokens)
        if len(tokens) and not frames:
            raise self._refuse(int(tokens[0]), 0, [start])
        whole = frames * self.num_codebooks
        codes = self._codes_of(tokens[:whole], np.arange(min(len(tokens), whole)) // max(frames, 1), start)
        if len(tokens) > whole:
            raise ValueError(
                f"tokens: position {start + whole}: expected the end, after {self.num_codebooks} codebooks of {frames} "
                f"frames, got {tokens[whole]}; give the tokens before this position"
            )
        return [codes[frames * k : frames * (k + 1)] for k in range(self.num_codebooks)]


class _Rows(Pattern):
    """One row per codebook, in which ids are the codes themselves."""

    def _ids(self, codebook: int) -> range:
        return range(self.codebook_sizes[codebook])

    def _check_row(self, tokens: Tokens, codebook: int, start: int) -> Tokens:
        """Return the codes of a row that began at position `start`, without the padding at its end."""
        wrong = np.flatnonzero(tokens >= self.codebook_sizes[codebook])
        filled = np.flatnonzero(tokens != self.pad_id)
        frames = int(filled[-1]) + 1 if len(filled) else 0
        if len(wrong) and wrong[0] < frames:
            raise self._refuse(int(tokens[wrong[0]]), codebook, [codebook, start + int(wrong[0])])
        return tokens[:frames]


class Parallel(_Rows):
    """One row per codebook, with all codes of a frame at one position.

    >>> Parallel([4, 8]).apply([[0, 1, 2], [5, 6, 7]], begin=True, end=True).tolist()
    [[9, 0, 1, 2, 10], [9, 5, 6, 7, 10]]
    """

    def shape(self, frames: int) -> tuple[int, ...]:  # noqa: D102  as that of Pattern
        return self.num_codebooks, frames

    def _apply(self, codes: Tokens) -> Tokens:
        return codes

    def _invert(self, tokens: Tokens, start: int) -> list[Tokens]:
        return [self._check_row(row, codebook, start) for codebook, row in enumerate(tokens)]


class Delay(_Rows):
    """One row per codebook, each one position later than the row before; empty positions are padding.

    A frame is complete once its code in the last row is present. Earlier rows may continue with tokens of incomplete
    frames, or with padding; both are ignored.

    >>> pattern = Delay([4, 8, 8])
    >>> tokens = pattern.apply([[0, 1, 2], [5, 6, 7], [3, 3, 4]])
    >>> print(tokens)
    [[0 1 2 8 8]
     [8 5 6 7 8]
     [8 8 3 3 4]]
    >>> print(pattern.invert(tokens[:, :4]))  # cut: the third row has two frames
    [[0 1]
     [5 6]
     [3 3]]
    """

    def shape(self, frames: int) -> tuple[int, ...]:  # noqa: D102  as that of Pattern
        return self.num_codebooks, frames + self.num_codebooks - 1

    def _apply(self, codes: Tokens) -> Tokens:
        frames = codes.shape[1]
        tokens = np.full(self.shape(frames), self.pad_id)
        for codebook, row in enumerate(codes):
            tokens[codebook, codebook : codebook + frames] = row
        return tokens

    def _invert(self, tokens: Tokens, start: int) -> list[Tokens]:
        early = np.tril(tokens != self.pad_id, -1)
        if early.any():
            codebook, position = map(int, np.argwhere(early)[0])
            raise ValueError(
                f"tokens: {_at([codebook, start + position])}: expected padding ({self.pad_id}), since codebook "
                f"{codebook} is delayed by {codebook}, got {tokens[codebook, position]}; give tokens of the "
                "delay pattern"
            )
        return [self._check_row(row[codebook:], codebook, start + codebook) for codebook, row in enumerate(tokens)]


PATTERNS: dict[str, type[Pattern]] = {
    "flat": Flat,
    "coarse_first": CoarseFirst,
    "parallel": Parallel,
    "delay": Delay,
}
"""Patterns by the names that `CodesDataset` accepts."""


def _at(place: Any) -> str:
    *row, position = map(int, place)
    return f"row {row[0]}, position {position}" if row else f"position {position}"


def _array(name: str, given: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        found = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name}: expected rows of the same length; cut all rows at the same position") from error
    return found if found.size else found.astype(np.int64)  # an empty list becomes an array of floats
