"""Patterns against loops written from their definitions, by hand, and cut off anywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_ae.codec import patterns
from discrete_ae.codes.patterns import PATTERNS, CoarseFirst, Delay, Flat, Parallel, Pattern
from tests.codes.made import assert_refused

FLAT, IN_ROWS = (Flat, CoarseFirst), (Parallel, Delay)
every_pattern = pytest.mark.parametrize("kind", PATTERNS.values(), ids=PATTERNS)


def expected_ids(kind, sizes):
    """(pad, begin, end), by the table of the module."""
    first = sum(sizes) if kind in FLAT else max(sizes)
    return first, first + 1, first + 2


def expected_tokens(kind, sizes, codes):
    """One code after the other: where it goes, and the id that it has there."""
    codebooks, frames = len(codes), len(codes[0])
    if kind in FLAT:
        order = [(k, t) for t in range(frames) for k in range(codebooks)]
        return [sum(sizes[:k]) + codes[k][t] for k, t in (order if kind is Flat else sorted(order))]
    late = int(kind is Delay)
    rows = [[max(sizes)] * (frames + late * (codebooks - 1)) for _ in range(codebooks)]
    for k in range(codebooks):
        for t in range(frames):
            rows[k][t + late * k] = codes[k][t]
    return rows


def known(kind, codes, length, codebook):
    """Return the number of frames of a codebook in the first `length` positions of a sequence."""
    frames = len(codes[0])
    place = {
        Flat: lambda t: t * len(codes) + codebook,
        CoarseFirst: lambda t: codebook * frames + t,
        Parallel: lambda t: t,
        Delay: lambda t: t + codebook,
    }[kind]
    return sum(place(t) < length for t in range(frames))


@st.composite
def sizes_and_codes(draw):
    sizes = draw(st.lists(st.integers(1, 300), min_size=1, max_size=5))
    frames = draw(st.integers(0, 7))
    return sizes, [draw(st.lists(st.integers(0, n - 1), min_size=frames, max_size=frames)) for n in sizes]


@every_pattern
@settings(deadline=None)
@given(made=sizes_and_codes(), begin=st.booleans(), end=st.booleans(), padding=st.integers(0, 3))
def test_tokens_are_those_of_the_definition_and_come_back(kind, made, begin, end, padding):
    sizes, codes = made
    pattern = kind(sizes)
    ids = expected_ids(kind, sizes)
    assert (pattern.pad_id, pattern.begin_id, pattern.end_id) == ids
    assert pattern.vocabulary_size == ids[0] + 3
    body = expected_tokens(kind, sizes, codes)
    assert pattern.shape(len(codes[0])) == np.shape(body)

    def framed(row):
        return [ids[1]] * begin + row + [ids[2]] * end

    tokens = pattern.apply(np.array(codes).astype(np.uint16), begin=begin, end=end)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == (framed(body) if kind in FLAT else [framed(row) for row in body])
    tokens = np.pad(tokens, [(0, 0)] * (tokens.ndim - 1) + [(0, padding)], constant_values=ids[0])
    assert pattern.invert(tokens).tolist() == codes


@every_pattern
@settings(deadline=None)
@given(made=sizes_and_codes(), begin=st.booleans(), data=st.data())
def test_a_sequence_cut_anywhere_gives_the_frames_that_are_complete(kind, made, begin, data):
    sizes, codes = made
    pattern = kind(sizes)
    tokens = pattern.apply(np.array(codes, np.int64), begin=begin, end=True)
    length = data.draw(st.integers(0, tokens.shape[-1]))
    count = data.draw(st.integers(1, len(sizes)))
    frames = min(known(kind, codes, length - begin, k) for k in range(count))
    found = pattern.invert(tokens[..., :length], num_codebooks=count)
    assert found.tolist() == [row[:frames] for row in codes[:count]]
    assert found.shape == (count, frames)


@every_pattern
@settings(deadline=None)
@given(made=sizes_and_codes(), data=st.data())
def test_a_wrong_token_is_refused_or_read_as_the_code_that_it_is(kind, made, data):
    sizes, codes = made
    pattern = kind(sizes)
    tokens = pattern.apply(np.array(codes, np.int64), end=True)
    place = tuple(data.draw(st.integers(0, n - 1)) for n in tokens.shape)
    tokens[place] = data.draw(st.integers(-1, pattern.vocabulary_size))
    try:
        found = pattern.invert(tokens)
    except ValueError as error:
        if str(error).startswith("tokens: "):
            return
        raise
    again = pattern.apply(found, begin=bool((tokens[..., 0] == pattern.begin_id).all()))
    if kind in (Flat, Parallel):  # in the others, a later codebook may lack the last frames that an earlier one has
        assert np.array_equal(tokens[..., : again.shape[-1]], again)


@every_pattern
def test_the_ids_of_a_codebook_are_those_that_its_codes_have(kind):
    sizes = (3, 5, 2)
    pattern = kind(sizes)
    for k, size in enumerate(sizes):
        for code in range(size):
            column = [[code if j == k else 0] for j in range(3)]
            tokens = pattern.apply(column)
            assert pattern.ids(k)[code] == (tokens[k] if kind in FLAT else tokens[k, k * (kind is Delay)])
        assert len(pattern.ids(k)) == size


def test_the_codec_has_them_too():
    assert patterns.Delay is Delay
    assert set(PATTERNS.values()) == {*FLAT, *IN_ROWS}


@every_pattern
def test_what_are_no_codebooks_or_codes_is_refused(kind):
    for sizes in ((), (4, 0), (4, -1), (2.5,), "44", 4, (2**62, 2**62, 2**62, 2**63)):
        assert_refused(lambda sizes=sizes: kind(sizes), "codebook_sizes: expected", error=ValueError)
    pattern = kind((4, 8))
    for codes, words in (
        ([[0, 1], [8, 0]], "codebook 1, frame 0: expected 0 to 7, got 8"),
        ([[0, -1], [0, 0]], "codebook 0, frame 1: expected 0 to 3, got -1"),
        ([[0, 1]], "expected integers of shape (2, frames), of one stream, got int64 of shape (1, 2)"),
        (np.zeros((1, 2, 5), int), "of one stream, got int64 of shape (1, 2, 5)"),
        (np.zeros((2, 5)), "got float64"),
    ):
        assert_refused(lambda codes=codes: pattern.apply(codes), f"codes: {words}"[:7], words, error=ValueError)
    for count in (0, 3):
        assert_refused(
            lambda count=count: pattern.invert(pattern.apply([[0], [0]]), num_codebooks=count),
            "num_codebooks: expected 1 to 2",
            error=ValueError,
        )


# For codebooks of 4 and 8 entries: in one sequence ids 0 to 3 and 4 to 11, padding 12, begin 13, end 14; in rows
# padding 8, begin 9, end 10.
@pytest.mark.parametrize(
    ("kind", "tokens", "words"),
    [
        (Flat, [0, 4, 1, 2], "position 3: expected codebook 1 (4 to 11), got 2; "),
        (Flat, [4, 0, 4], "position 0: expected codebook 0 (0 to 3), got 4; "),  # cut at its front, within a frame
        (Flat, [13, 0, 4, 12, 5], "position 3: expected codebook 0 (0 to 3), got 12 (padding); "),
        (Flat, [13, 0, 13, 4], "position 2: expected codebook 1 (4 to 11), got 13 (begin); "),
        (Flat, [0, 4, 15], "position 2: expected an id from 0 to 14, got 15; use the pattern"),
        (Flat, [0, 4, -100], "position 2: expected an id from 0 to 14, got -100; use the pattern"),
        (Flat, [0, 4, 14, 12, 0], "position 4: expected padding (12) after the end at 2, got 0; "),
        (Flat, [[0, 4]], "expected integers of shape (positions,), of one stream, got int64 of shape (1, 2)"),
        (Flat, [0.0, 4.0], "got float64"),
        (CoarseFirst, [4, 5], "position 0: expected codebook 0 (0 to 3), got 4; "),
        (CoarseFirst, [0, 1, 4, 0, 5], "position 3: expected codebook 1 (4 to 11), got 0; "),
        (CoarseFirst, [0, 1, 4, 5, 6], "position 4: expected the end, after 2 codebooks of 2 frames, got 6; "),
        (CoarseFirst, [0, 12, 1, 4, 5], "position 1: expected codebook 1 (4 to 11), got 12 (padding); "),
        (Parallel, [[0, 4], [7, 7]], "row 0, position 1: expected codebook 0 (0 to 3), got 4; "),
        (Parallel, [[0, 1], [7, 11]], "row 1, position 1: expected an id from 0 to 10, got 11; "),
        (Parallel, [[0, 10], [7, 7]], "row 0, position 1: expected codebook 0 (0 to 3), got 10 (end); "),
        (Parallel, [[0, 8, 1], [7, 7, 7]], "row 0, position 1: expected codebook 0 (0 to 3), got 8 (padding); "),
        (Parallel, [0, 1], "expected integers of shape (2, positions), of one stream, got int64 of shape (2,)"),
        (Parallel, [[0, 1], [7]], "expected rows of the same length"),
        (Parallel, [[9, 0, 10, 0], [9, 7, 10, 8]], "position 3: expected padding (8) after the end at 2"),
        (Delay, [[0, 1], [7, 7]], "row 1, position 0: expected padding (8), since codebook 1 is delayed by 1"),
        (Delay, [[9, 0, 1], [9, 7, 7]], "row 1, position 1: expected padding (8)"),
        (Delay, [[0, 1, 8], [8, 9, 7]], "row 1, position 1: expected codebook 1 (0 to 7), got 9 (begin); "),
    ],
)
def test_tokens_that_no_codes_have_are_refused_with_their_position(kind, tokens, words):
    assert_refused(lambda: kind([4, 8]).invert(tokens), "tokens: ", words, error=ValueError)


def test_an_empty_sequence_has_no_frames():
    for tokens in ([], [13], [13, 14], [13, 14, 12], [12, 12]):
        assert Flat([4, 8]).invert(tokens).shape == (2, 0)


def test_delay_by_hand():
    """The figure of MusicGen, section 2.2, with four codebooks: P is 9, the number of entries of the largest."""
    delay: Pattern = Delay([9, 9, 9, 9])
    codes = [[1, 2, 3], [4, 5, 6], [7, 8, 0], [1, 1, 1]]
    tokens = [[1, 2, 3, 9, 9, 9], [9, 4, 5, 6, 9, 9], [9, 9, 7, 8, 0, 9], [9, 9, 9, 1, 1, 1]]
    assert delay.apply(codes).tolist() == tokens
    # A model that goes on in the rows that are through, rather than write padding.
    tokens[0][3:], tokens[1][4:] = [4, 4, 4], [4, 9]
    assert delay.invert(tokens).tolist() == codes


@pytest.mark.parametrize("pattern", [kind([4, 8]) for kind in PATTERNS.values()], ids=[*PATTERNS])
@pytest.mark.parametrize("codebook", [-1, 2])
def test_ids_of_a_codebook_that_is_not_there_are_refused(pattern: Pattern, codebook: int) -> None:
    with pytest.raises(ValueError, match=f"codebook: expected 0 to 1, got {codebook}"):
        pattern.ids(codebook)
