"""The entropy model against frequencies counted by hand, and arrays that it must refuse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_ae.codes.entropy import PREDICTORS, EntropyModel, context_sizes
from tests.codes.made import assert_refused

SIZES = (8, 30, 256)


def correlated(seed, streams=1, frames=500, sizes=SIZES):
    """Codes that mostly stay, and otherwise follow the codebook before."""
    random = np.random.default_rng(seed)
    codes = np.zeros((streams, len(sizes), frames), np.int64)
    for t in range(1, frames):
        for k, size in enumerate(sizes):
            near = 3 * codes[:, k - 1, t] if k else 0
            fresh = (near + random.geometric(0.2, streams)) % size
            codes[:, k, t] = np.where(random.random(streams) < 0.4, codes[:, k, t - 1], fresh)
    return codes


@pytest.fixture(scope="module")
def model():
    return EntropyModel.fit([correlated(seed) for seed in range(6)], SIZES)


def probability(model, codes, s, k, t, lane):
    """By the description of the arrays, in floating point."""
    arrays = model.to_arrays()
    start = sum(SIZES[:k])
    table = arrays["base"][start : start + SIZES[k]].astype(float)
    contexts = {"frame": codes[s, k, t - 1] if t % lane else None, "book": codes[s, k - 1, t] if k else None}
    for weight, (kind, given_code) in zip(arrays["weights"][2 * k : 2 * k + 2], contexts.items(), strict=True):
        first = arrays[f"{kind}_lengths"][:k].sum()
        part = slice(first, first + arrays[f"{kind}_lengths"][k])
        before, entry = np.divmod(arrays[f"{kind}_cells"][part], SIZES[k])
        if given_code is not None:
            chosen = before == given_code
            table[entry[chosen]] += weight * arrays[f"{kind}_counts"][part][chosen]
    assert table.max() < 7 / 8 * table.sum()
    return table[codes[s, k, t]] / table.sum()


def test_payload_is_as_long_as_its_bits(model):
    codes = correlated(99, streams=2, frames=300)  # five lanes of 60 frames
    base = np.split(model.to_arrays()["base"], np.cumsum(SIZES)[:-1])
    bits = {
        "order0": -sum(np.log2(base[k][codes[:, k]] / base[k].sum()).sum() for k in range(len(SIZES))),
        "context": -sum(math.log2(probability(model, codes, *at, lane=60)) for at in np.ndindex(codes.shape)),
    }
    # Contexts help where codes depend on one another.
    assert bits["context"] < 0.8 * bits["order0"] < 0.8 * codes[:, 0].size * sum(map(math.log2, SIZES))
    for predictor in PREDICTORS:
        payload = model.encode(codes, predictor)
        assert bits[predictor] - 1 < 8 * len(payload) < 1.001 * bits[predictor] + 64
        for k in (1, 3):  # also of the first codebooks alone
            fewer = model.decode(model.encode(codes[:, :k], predictor), 2, 300, predictor, num_codebooks=k)
            assert fewer.dtype == np.uint8
            assert np.array_equal(fewer, codes[:, :k])


def test_contexts_are_left_out_where_codes_are_independent():
    codes = np.random.default_rng(0).integers(0, 64, (1, 2, 4000))
    weights = EntropyModel.fit([codes], (64, 64)).to_arrays()["weights"]
    # A weight of 16 is a prior of 4096 pseudo-counts: the some 60 counts of a context hardly matter.
    assert weights.max() <= 16


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([2, 3, 16, 17, 100, 1000, 1024, 1025, 5000, 65536]), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 600),
    st.integers(0, 2**32),
)
def test_any_codes_make_the_round_trip(sizes, streams, frames, seed):
    random = np.random.default_rng(seed)
    bound = np.maximum(1, np.array(sizes) // random.choice([1, 2, 1000]))[None, :, None]
    seen, codes = (random.integers(0, bound, (streams, len(sizes), frames)) for _ in range(2))
    codes[:, 0, frames // 2 :] = sizes[0] - 1  # which may never have been seen
    model = EntropyModel.fit([seen], sizes)
    same = EntropyModel.from_arrays(model.to_arrays())
    assert same.fingerprint == model.fingerprint
    for predictor in PREDICTORS:
        payload = model.encode(codes, predictor)
        assert codes.size <= 42 * (len(payload) + 8)
        assert np.array_equal(same.decode(payload, streams, frames, predictor), codes)


def test_constant_codes_cost_what_the_cap_makes_them_cost():
    codes = np.zeros((1, 2, 2000), np.int64)
    model = EntropyModel.fit([codes], (256, 2))
    for predictor in PREDICTORS:
        bits = 8 * len(model.encode(codes, predictor))
        assert bits == pytest.approx(codes.size * math.log2(8 / 7), rel=5e-2)


def test_codebooks_that_are_too_large_are_not_modelled():
    model = EntropyModel.fit([], (4, 65537))
    assert not model.available
    assert EntropyModel.from_arrays(model.to_arrays()).codebook_sizes == (4, 65537)
    codes = np.zeros((1, 2, 3), int)
    assert_refused(lambda: model.encode(codes, "order0"), "at most 65536 entries", error=ValueError)


def test_tables_together_stay_bounded():
    found = context_sizes((1024,) * 40)
    assert found[0] == (1024, 0)
    assert found[1] == (1024, 1024)
    assert found[-1] == (0, 0)
    assert sum(1024 * sum(contexts) for contexts in found) <= 2**25
    assert context_sizes((2000, 8)) == [(0, 0), (8, 0)]


def test_claims_that_the_payload_cannot_hold_are_refused(model):
    payload = model.encode(correlated(1), "context")
    assert_refused(lambda: model.decode(payload, 2**30, 2**30, "context"), "cannot hold", error=ValueError)
    for wrong in (payload[:-1], b"", payload + bytes(400)):
        assert_refused(lambda wrong=wrong: model.decode(wrong, 1, 500, "context"), error=ValueError)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_bytes_that_no_encoder_writes_are_refused(model, predictor):
    # All ones are the end of the coder's interval, which the integer frequencies do not reach.
    assert_refused(lambda: model.decode(b"\xff" * 400, 1, 500, predictor), "not codes of this", error=ValueError)


def test_codes_of_other_codebooks_are_refused(model):
    wrong = np.full((1, 3, 4), 8)
    for use in (lambda: EntropyModel.fit([wrong], SIZES), lambda: model.encode(wrong, "order0")):
        assert_refused(use, "code < 8 in codebook 0", error=ValueError)


def test_fingerprint_follows_the_numbers_alone(model):
    arrays = model.to_arrays()
    assert EntropyModel.from_arrays({n: a.astype(np.int64) for n, a in arrays.items()}).fingerprint == model.fingerprint
    arrays["base"][0] += 1
    assert EntropyModel.from_arrays(arrays).fingerprint != model.fingerprint


def put(name, at, value):
    def apply(arrays):
        arrays[name][at] = value

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda arrays: arrays.pop("base"), "expected the arrays base, "),
        (lambda arrays: arrays.pop("codebook_sizes"), "1 to 1024 codebooks, got 0"),
        (put("codebook_sizes", 0, 9), "base: expected 295 numbers"),
        (put("base", 3, 0), "base: expected 1 to"),
        (lambda arrays: arrays.update(base=arrays["base"].astype(float)), "base: expected integers with one axis"),
        (lambda arrays: arrays.update(weights=arrays["weights"][:-1]), "powers of two"),
        (put("weights", 0, 3), "powers of two"),
        (put("weights", 0, 0), "frame_counts: expected pairs"),
        (put("frame_cells", 0, 10), "frame_cells: expected ascending"),
        (put("book_cells", -1, 30 * 256), "book_cells: expected ascending numbers below 7680 in codebook 2"),
        (put("frame_counts", 0, 2**22), "frame_counts: expected at most 4194304 in a context"),
        (put("frame_lengths", 0, 2**19), "frame_cells: expected"),
    ],
)
def test_arrays_that_no_model_has_are_refused(model, apply, message):
    arrays = model.to_arrays()
    apply(arrays)
    assert_refused(lambda: EntropyModel.from_arrays(arrays), message, error=ValueError)
