"""Windows of a signal, and results that do not depend on batches, parts or threads, for every family."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_ae import Codec, inference
from discrete_ae.inference import Cutter, Runner, Window, encoder_window
from discrete_ae.model import ConvDecoder, ConvEncoder, DiscreteAutoencoder, SpectralDecoder, SpectralEncoder
from discrete_ae.quantizers import GumbelSoftmaxQuantizer, ScalarQuantizer
from discrete_ae.rounding import StraightThrough


def ste():
    return ScalarQuantizer([4, 4], 3, StraightThrough())


def spectral(channels=1, causal=False, front="leveled", head=None):
    return (
        SpectralEncoder(channels, 12, 8, 2, 3, front, causal),
        SpectralDecoder(channels, 12, 8, 2, 3, head, causal),
    )


def conv(channels=1, causal=False, **arguments):
    common = {"width": 4, "strides": [2, 3, 2], "dim": 8, "causal": causal, **arguments}
    return ConvEncoder(channels, **common), ConvDecoder(channels, **common)


FAMILIES = {
    "spectral": lambda: (spectral(), ste()),
    "spectral, causal": lambda: (spectral(causal=True), ste()),
    "spectral, stereo": lambda: (spectral(2), ste()),
    "spectral, stft": lambda: (spectral(front="stft", head="istft"), ste()),
    "spectral, gumbel": lambda: (spectral(), GumbelSoftmaxQuantizer(16, 3, 2)),
    "conv": lambda: (conv(), ste()),
    "conv, snake, weight norm": lambda: (conv(activation="snake", norm="weight", frame_dilations=[1, 3]), ste()),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def build(family):
    torch.manual_seed(0)
    (encoder, decoder), quantizer = FAMILIES[family]()
    # 12 samples a frame at 240 Hz: 20 frames a second, and windows of 40 frames or more
    return DiscreteAutoencoder(240, encoder, quantizer, decoder).eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    length=st.integers(1, 30),
    before=st.integers(0, 8),
    after=st.integers(0, 8),
    grid=st.integers(1, 4),
    unit=st.integers(1, 5),
    total=st.integers(0, 400),
    parts=st.integers(1, 80),
)
@settings(deadline=None, max_examples=150)
def test_windows_cover_every_frame_once_with_its_surroundings(length, before, after, grid, unit, total, parts):
    window = Window(grid * (length + before + after), grid * before, grid * after, grid)
    signal = torch.arange(1, total + 1)
    cutter, pieces = Cutter(window, unit), []
    for part in signal.split(parts):
        pieces += cutter.push(part)
    pieces += cutter.finish()
    frames = -(-total // unit)
    padded = torch.cat([signal, torch.zeros(frames * unit - total, dtype=torch.long)])
    done = 0
    for piece in pieces:
        begin = done - piece.first  # frame of the signal where the window begins
        size = piece.signal.shape[-1] // unit
        assert torch.equal(piece.signal, padded[begin * unit : (begin + size) * unit])
        assert begin % grid == 0
        assert min(window.length, frames) - grid < size <= window.length
        assert begin == 0 or piece.first >= window.before
        assert begin + size == frames or size - piece.stop == window.after
        assert begin + size == frames or size == window.length
        done = begin + piece.stop
    assert done == frames
    together = Cutter(window, unit)
    again = [*together.push(signal), *together.finish()] if total else []
    assert [(piece.first, piece.stop) for piece in again] == [(piece.first, piece.stop) for piece in pieces]


@every_family
def test_codes_of_windows_are_those_of_the_whole(family):
    model = build(family)
    window = encoder_window(model)
    assert window.length >= 40
    hop = model.hop_length
    for n in (1, hop, window.length * hop, window.length * hop + 1, (window.length + 7) * hop, 5 * window.length * hop):
        audio = noise(1, model.channels, n, seed=n)
        with torch.no_grad():
            whole = model(audio)
        codes = Codec(model).encode(audio)
        assert codes.shape == whole.codes.shape
        # Another order of summation moves a latent by about 1e-7: a code may differ where one lies so near a boundary.
        assert (codes != whole.codes).sum() <= 1
        decoded = Codec(model).decode(whole.codes, n)
        torch.testing.assert_close(decoded, whole.reconstruction, rtol=0, atol=1e-5)


@every_family
def test_same_bits_in_batches_and_on_threads(family):
    model = build(family)
    window = encoder_window(model).length * model.hop_length
    signals = [noise(model.channels, n, seed=n) for n in (1, window // 3, window, 4 * window - 5)]
    alone = [Codec(model).encode(signal[None])[0] for signal in signals]
    decoded = [Codec(model).decode(codes[None])[0] for codes in alone]
    batch = torch.stack([signals[-1], -signals[-1], signals[-1] / 2])
    assert torch.equal(Codec(model).encode(batch)[0], alone[-1])
    assert torch.equal(Codec(model).decode(torch.stack([alone[-1], alone[-1].flip(-1)]))[0], decoded[-1])
    threads = torch.get_num_threads()
    try:
        for count, jobs in ((1, 1), (3, 2), (2, 5)):
            torch.set_num_threads(count)
            codec = Codec(model, Runner(jobs))
            assert all(torch.equal(codec.encode(a[None])[0], b) for a, b in zip(signals, alone, strict=True))
            assert all(torch.equal(codec.decode(a[None])[0], b) for a, b in zip(alone, decoded, strict=True))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


def test_encodings_at_a_time_disturb_neither_one_another_nor_the_model():
    """In threads, of one model in training mode: the bits are those of one alone, and all is as before at the end."""
    model = build("conv")
    signals = [noise(1, 1, 3000, seed=seed) for seed in range(12)]
    alone = [Codec(model).encode(signal) for signal in signals]
    model.train().decoder.eval()
    modes = [module.training for module in model.modules()]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(Codec(model).encode, signals))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert [module.training for module in model.modules()] == modes


def test_codes_do_not_depend_on_autocast():
    codec = Codec(build("conv"))
    audio = noise(1, 1, 1000)
    with torch.autocast("cpu", torch.bfloat16):
        codes = codec.encode(audio)
        audio_again = codec.decode(codes)
    assert torch.equal(codes, codec.encode(audio))
    assert audio_again.dtype == torch.float32


@pytest.mark.parametrize(
    ("runner", "expected"),
    [
        (Runner(batch_size=3), [3, 1, 2, 3, 2]),
        (Runner(batch_size=100), [3, 1, 2, 5]),
        (Runner(batch_size=100, deterministic=True), [1] * 11),
    ],
)
def test_batches_as_on_a_gpu_keep_order_and_shapes(runner, expected):
    sizes = [12, 12, 12, 24, 12, 12, 36, 36, 36, 36, 36]
    items = [(i, torch.full((1, size), float(i))) for i, size in enumerate(sizes)]
    items[4:4] = [("end", None)]
    batches = []

    def function(windows):
        batches.append(len(windows))
        return 2 * windows

    found = list(runner._in_batches(function, items, torch.device("cpu")))
    assert batches == expected
    for (tag, result), (expected_tag, window) in zip(found, items, strict=True):
        assert tag == expected_tag
        assert result is window is None or torch.equal(result, 2 * window)


def test_deterministic_batches_as_on_a_gpu_have_the_bits_of_windows_alone():
    model = build("conv")
    items = [(i, noise(1, 120, seed=i)) for i in range(3)]
    by_batch = Runner(deterministic=True)._in_batches(model.latents, items, torch.device("cpu"))
    by_thread = Runner().map(model, model.latents, items)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(by_batch, by_thread, strict=True))


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_computes_in_full_float32(deterministic):
    """The switches that a GPU obeys; they can be set without one."""
    cudnn, before = torch.backends.cudnn, (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    assert not inference._PROCESS._users[None]  # no test before has left one running
    try:
        cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
        with inference._PROCESS.prepared(build("conv"), deterministic):
            assert (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == (False, False, deterministic)
            assert torch.get_float32_matmul_precision() == "highest"
        assert (cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "high")
    finally:
        cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def test_latents_that_are_no_numbers_have_no_code():
    model = build("conv")
    with torch.no_grad():
        model.to_latents.bias[0] = torch.nan
    with pytest.raises(ValueError, match="latents are NaN or infinite"):
        Codec(model).encode(noise(1, 1, 1000))
