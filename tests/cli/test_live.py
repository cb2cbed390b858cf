"""`encode --format stream` and `decode` of such a stream: through pipes, frame by frame; each mistake is one line."""

import io
import json
import os
import signal
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import discrete_ae
from discrete_ae.codec import Codec
from discrete_ae.codes.stream import StreamInfo, frames_bytes, head_bytes, read_frames, read_head
from discrete_ae.data.live import wav_stream
from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError
from tests.models import RESIDUAL, save_checkpoint
from tests.processes import COMMAND, Process
from tests.recordings import write_noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def causal(folder):
    return save_checkpoint(folder / "causal.ckpt", causal=True)


@pytest.fixture(scope="module")
def stereo(folder):
    return save_checkpoint(folder / "stereo.ckpt", causal=True, channels=2, quantizer=RESIDUAL)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def piped(command, monkeypatch):
    """Run a command on the CPU with standard input; its status, standard output and lines of stderr."""

    def run(*arguments, given=b""):
        stdout = io.TextIOWrapper(io.BytesIO())
        with monkeypatch.context() as streams:
            streams.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(given))))
            streams.setattr(sys, "stdout", stdout)
            status, _, err = command(*arguments, "--device", "cpu")
        return status, stdout.buffer.getvalue(), err

    return run


def codes_in(content):
    """The first line, and the codes (S, K, T), read by what the help says of them."""
    line, _, frames = content.partition(b"\n")
    said = json.loads(line)
    dtype = "<u1" if max(said["codebook_sizes"]) <= 256 else "<u2"
    shape = (-1, said["streams"], len(said["codebook_sizes"]))
    return said, np.frombuffer(frames, dtype).reshape(shape).transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(16000, 1, "PCM_16"), (44100, 2, "PCM_24"), (8000, 1, "FLOAT"), (16000, 2, "PCM_U8")],
)
def test_streams_hold_the_codes_of_files_and_become_their_audio(piped, causal, rate, channels, subtype):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (9001, channels))
    soundfile.write("x.wav", noise, rate, subtype=subtype)
    status, content, err = piped(
        "encode", "-", "-o", "-", "--format", "stream", "-c", causal, given=Path("x.wav").read_bytes()
    )
    assert (status, err) == (0, [])
    said, codes = codes_in(content)
    model = discrete_ae.load(causal)
    expected = Codec(model).encode_file("x.wav")
    assert np.array_equal(codes, expected.codes)
    assert (said["sample_rate"], said["streams"], said["model_hash"]) == (rate, channels, model.codes_hash)
    status, decoded, err = piped("decode", "-", "-o", "-", "-c", causal, given=content)
    assert (status, err) == (0, [])
    assert decoded[4:8] == decoded[40:44] == b"\xff" * 4  # a length that nobody knows
    samples = np.frombuffer(decoded[44:], "<i2").reshape(-1, channels).T
    assert samples.shape[1] == -(-codes.shape[2] * 320 * rate // 16000)  # of whole frames
    reference = Codec(model).decode_file(expected)
    # In 16 bits, and what the resampler sees after the recording's end differs.
    before = 9001 - rate // 20
    np.testing.assert_allclose(samples[:, :before] / 2**15, reference[:, :before], atol=1.1 / 2**15)
    assert piped("decode", "-", "-o", "y.wav", "-c", causal, given=content)[0] == 0
    assert np.array_equal(soundfile.read("y.wav", dtype="int16", always_2d=True)[0].T, samples)
    status, _, (line,) = piped("decode", "-", "-o", "y.wav", "-c", causal, given=content)
    assert (status, "already exists" in line) == (2, True)


def test_a_stereo_model_takes_mono_and_stereo_and_fewer_codebooks(piped, stereo):
    model = discrete_ae.load(stereo)
    for channels in (1, 2):
        path = write_noise("x.wav", 3000, 16000, channels)
        options = ("--format", "stream", "--codebooks", 3, "-c", stereo)
        status, content, _ = piped("encode", "-", "-o", "-", *options, given=path.read_bytes())
        assert status == 0
        assert np.array_equal(codes_in(content)[1], Codec(model).encode_file(path, 3).codes)
        assert piped("decode", "-", "-o", "-", "-c", stereo, given=content)[::2] == (0, [])
    status, _, (line,) = piped(
        "encode", "-", "-o", "-", *options, given=write_noise("y.wav", 3000, 16000, 3).read_bytes()
    )
    assert (status, "expected 2 channels, got 3" in line) == (1, True)


@pytest.mark.slow
def test_a_first_code_leaves_before_the_last_sample_has_come(causal):
    noise = (np.random.default_rng(0).uniform(-0.5, 0.5, 16000) * 2**15).astype("<i2")
    soundfile.write("x.wav", noise, 16000)
    recording, codes = Path("x.wav").read_bytes(), Codec(discrete_ae.load(causal)).encode_file("x.wav").codes[0]
    options = ["-", "-o", "-", "-c", causal, "--device", "cpu"]
    encoding = Piped("encode", *options, "--format", "stream")
    decoding = Piped("decode", *options)
    watchdog = threading.Timer(
        100, lambda: [piped.process.send_signal(signal.SIGKILL) for piped in (encoding, decoding)]
    )
    watchdog.start()
    encoding.stdin.write(recording[: 44 + 2 * 8000])  # 25 frames of 320 samples
    encoding.stdin.flush()
    line = encoding.stdout.readline()
    first = encoding.stdout.read(25 * 8)  # of 8 codebooks of 256 entries
    assert np.array_equal(np.frombuffer(first, np.uint8).reshape(-1, 8).T, codes[:, :25])
    decoding.stdin.write(line + first)
    decoding.stdin.flush()
    heard = decoding.stdout.read(44 + 2 * 8000)
    assert len(heard) == 44 + 2 * 8000
    rest = encoding.end(recording[44 + 2 * 8000 :])
    assert np.array_equal(np.frombuffer(rest, np.uint8).reshape(-1, 8).T, codes[:, 25:])
    assert len(decoding.end(rest)) == 2 * 8000
    watchdog.cancel()


class Piped:
    """A command that runs, with its standard streams as pipes."""

    def __init__(self, *arguments: object) -> None:
        (reading, stdin), (stdout, writing) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
        with os.fdopen(reading, "rb") as its_stdin, os.fdopen(writing, "wb") as its_stdout:
            self.process = Process(COMMAND, *arguments, stdin=its_stdin, stdout=its_stdout)

    def end(self, rest: bytes) -> bytes:
        """Write the rest, and return the rest of what is written."""
        with self.stdin:
            self.stdin.write(rest)
        with self.stdout:
            found = self.stdout.read()
        assert self.process.wait() == 0
        return found


def wav(*changes, subtype="PCM_16", name="WAV"):
    """A recording of 1000 samples as bytes, with parts replaced."""
    stream = io.BytesIO()
    soundfile.write(stream, np.arange(1000) / 2000, 16000, format=name, subtype=subtype)
    content = stream.getvalue()
    for old, new in changes:
        assert content.count(old) == 1
        content = content.replace(old, new)
    return content


LENGTH = b"data" + (2000).to_bytes(4, "little")
PROMISES = {
    "its length": ((), 1000),
    "no length": (((LENGTH, b"data" + bytes(4)),), 1000),
    "ffmpeg's": (((LENGTH, b"data" + b"\xff" * 4),), 1000),
    "too much": (((LENGTH, b"data" + b"\x00\xff\xff\x7f"),), 1000),
    "less, for something follows": (((LENGTH, b"data" + (1600).to_bytes(4, "little")),), 800),
    "something before": (((LENGTH, b"LIST\x03\0\0\0abc\0" + LENGTH),), 1000),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_lengths_that_a_wav_stream_may_promise(promise):
    changes, expected = PROMISES[promise]
    audio = wav_stream(io.BufferedReader(io.BytesIO(wav(*changes))))
    found = np.concatenate(list(audio.blocks), axis=1)
    assert np.array_equal(found[0], (np.arange(expected) * 16384 // 1000 / 32768).astype(np.float32))


def test_a_stream_is_read_to_its_end_if_its_length_is_the_largest_or_nearly_that(monkeypatch):
    """SoX writes 2 GiB less 4 KiB to a pipe; here a length of 1600 bytes counts as so large."""
    monkeypatch.setattr("discrete_ae.data.containers.UNKNOWN_BYTES", 1600)
    monkeypatch.setattr("discrete_ae.data.live.UNKNOWN_BYTES", 1600, raising=False)
    content = wav((LENGTH, b"data" + (1600).to_bytes(4, "little")))
    assert sum(block.shape[1] for block in wav_stream(io.BufferedReader(io.BytesIO(content))).blocks) == 1000


class Slow(io.RawIOBase):
    """Gives a few bytes at a time, so that samples arrive in pieces."""

    def __init__(self, content, most):
        self.content, self.most = content, most

    def readable(self):
        return True

    def readinto(self, into):
        count = min(len(into), self.most, len(self.content))
        into[:count], self.content = self.content[:count], self.content[count:]
        return count


def test_samples_that_arrive_in_pieces_are_put_together():
    path = write_noise("x.wav", 5000, 44100, 2)
    whole = np.concatenate(list(wav_stream(io.BufferedReader(Slow(path.read_bytes(), 7))).blocks), axis=1)
    assert np.array_equal(whole, read_audio(path, 44100))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "expected a WAV stream"),
        (b"fLaC" + bytes(100), "expected a WAV stream"),
        (wav()[:30], "damaged WAV stream"),
        (wav((b"fmt ", b"fmx ")), "of uncompressed samples"),
        (wav(subtype="MS_ADPCM"), "of uncompressed samples"),
        (wav((b"fmt \x10\0\0\0", b"fmt \xff\xff\xff\xff")), "damaged WAV stream"),
        (wav(subtype="FLOAT")[:-4] + np.float32(np.nan).tobytes(), "NaN or infinite"),
    ],
)
def test_what_is_no_wav_stream_is_refused_in_a_line(piped, causal, given, words):
    status, _, (line,) = piped("encode", "-", "-o", "-", "--format", "stream", "-c", causal, given=given)
    assert (status, words in line) == (1, True), line


SIZES = (5, 300)
INFO = {
    "discrete_ae_codes": 1,
    "sample_rate": 8000,
    "model_sample_rate": 16000,
    "streams": 2,
    "codebook_sizes": SIZES,
    "model_hash": "ab" * 32,
    "quantizer": "ScalarQuantizer",
}


@pytest.mark.parametrize("most", [1, 7, 8, 1000])
def test_frames_are_read_however_they_arrive(most):
    info = StreamInfo.of(INFO)
    codes = np.random.default_rng(0).integers(0, np.array(SIZES)[:, None], (2, 2, 9))
    stream = io.BufferedReader(Slow(head_bytes(info) + frames_bytes(info, codes), most))
    assert read_head(stream) == info
    parts = list(read_frames(stream, info))
    assert np.array_equal(np.concatenate(parts, axis=2), codes)
    assert len(parts) == {1: 9, 7: 9, 8: 9, 1000: 1}[most]


def test_a_frame_is_streams_by_codebooks_of_the_smallest_type():
    # 300 entries want two bytes: 2 streams of 2 codebooks, little-endian, frame after frame.
    codes = [[[1, 2], [256, 4]], [[3, 0], [5, 299]]]
    assert frames_bytes(StreamInfo.of(INFO), np.array(codes)) == bytes(
        [1, 0, 0, 1, 3, 0, 5, 0, 2, 0, 4, 0, 0, 0, 299 - 256, 1]
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not a stream of codes"),
        (json.dumps(INFO | {"discrete_ae_codes": 2}).encode(), "discrete_ae_codes"),
        (json.dumps(INFO | {"codebook_sizes": []}).encode(), "codebook_sizes"),
        (json.dumps(INFO | {"streams": 2**40}).encode(), "at most"),
        (json.dumps(INFO | {"quantizer": "a\nb"}).encode(), "printable"),
        (b"[" * 2**21, "not a stream of codes"),
    ],
)
def test_a_first_line_that_cannot_be_is_refused(content, words):
    with pytest.raises(DataError, match=words) as refused:
        read_head(io.BufferedReader(io.BytesIO(content)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("frames", "words"),
    [(b"\5" + bytes(7), "0 <= code < 5"), (bytes(6) + b"\0\2", "0 <= code < 300")],
)
def test_damaged_frames_are_refused(frames, words):
    with pytest.raises(DataError, match=words):
        list(read_frames(io.BufferedReader(io.BytesIO(frames)), StreamInfo.of(INFO)))


@pytest.mark.parametrize("length", [16000 * 2, 0])
def test_a_recording_that_is_cut_off_is_coded_with_a_warning_or_strictly_an_error(piped, causal, length):
    write_noise("x.wav", 16000)  # a header of 44 bytes, and 32000 of samples
    whole = Path("x.wav").read_bytes()
    cut = whole[:40] + length.to_bytes(4, "little") + whole[44:20045]  # 10000 samples, and half of one
    options = ("encode", "-", "-o", "-", "--format", "stream", "-c", causal)
    status, content, said = piped(*options, given=cut)
    strict_status, strict_content, strictly_said = piped(*options, "--strict", given=cut)
    assert content == strict_content
    assert codes_in(content)[1].shape[2] == 32  # 10000 / 320 = 31.25
    if length != 32000:  # nobody knew it
        assert (status, strict_status, said, strictly_said) == (0, 0, [], [])
        return
    assert (status, strict_status) == (0, 1)
    numbers = "-: its header says 32000 bytes of samples, the file holds 20001"
    assert said[0].startswith(f"warning: {numbers}")
    assert strictly_said[0].startswith(f"error: {numbers}")
    assert len(said) == len(strictly_said) == 1


def test_codes_that_are_cut_off_in_a_frame_are_decoded_up_to_there(piped, causal):
    recording = write_noise("x.wav", 3200).read_bytes()
    _, content, _ = piped("encode", "-", "-o", "-", "--format", "stream", "-c", causal, given=recording)
    status, decoded, (line,) = piped("decode", "-", "-o", "-", "-c", causal, given=content[:-1])
    assert (status, line.startswith("error: -: ")) == (1, True)
    assert "frame 10, after 7 of its 8 bytes" in line  # of 8 codebooks of 256 entries; 3200 / 320 = 10
    assert len(decoded) == 44 + 2 * 9 * 320
    status, _, (same,) = piped("decode", "-", "-o", "y.wav", "-c", causal, given=content[:-1])
    assert (status, same) == (1, line)
    assert np.array_equal(soundfile.read("y.wav", dtype="int16")[0], np.frombuffer(decoded[44:], "<i2"))


def test_a_stream_that_was_saved_is_named(piped, causal, command):
    info = StreamInfo.of(INFO)
    Path("x y.codes").write_bytes(head_bytes(info) + frames_bytes(info, np.zeros((2, 2, 7), int)) + b"\0")
    status, _, (line,) = piped("decode", "x y.codes", "-o", "y.wav", "-c", causal)
    assert (status, "discrete-ae decode - -o y.wav -c CHECKPOINT < 'x y.codes'" in line) == (1, True), line
    status, rows, _ = command("info", "x y.codes")
    said = [" ".join(row.split()) for row in rows]
    assert status == 0
    for words in (
        "-o y.wav -c CHECKPOINT < 'x y.codes'",
        "8000 Hz",
        "16000 Hz",
        "streams │ 2",
        "frames │ 7, and 1 of 8 bytes",
        "ab" * 32,
    ):
        assert any(words in row for row in said), said
    Path("x.codes").write_text("{}")
    status, _, (line,) = command("info", "x.codes")
    assert (status, "expected a checkpoint" in line) == (1, True)


@pytest.mark.parametrize("more", [(), ("--speaker",)])
def test_an_encoder_that_wrote_nothing_is_said(piped, causal, more):
    status, out, (line,) = piped("decode", "-", "-o", "-", "-c", causal, *more)
    assert (status, out, "standard input was empty" in line) == (1, b"", True), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "x.wav", "-o", "-", "--format", "stream"), "encode - -o -"),
        (("encode", "-", "-o", "out", "--format", "stream"), "encode - -o -"),
        (("encode", "-", "-o", "-", "--format", "stream", "--loudness-lufs", "-20"), "whole recordings"),
        (("encode", "-", "-o", "-", "--format", "npz", "--microphone"), "leave out --format"),
        (("encode", "-", "-o", "-", "--format", "stream", "--codebooks", "2"), "codebooks"),
        (("encode", "-", "-o", "-", "--format", "stream", "--skip-existing"), "--skip-existing: not for a stream"),
        (("encode", "-", "-o", "-", "--microphone", "--jobs", "2", "--deterministic"), "--jobs, --deterministic: not"),
        (("decode", "-", "-o", "x.wav", "--batch-seconds", "9"), "--batch-seconds: not for a stream"),
        (("decode", "x.npz", "-o", "-", "--speaker"), "give - -o -"),
        (("decode", "-", "-o", "x.wav", "--speaker"), "give - -o -"),
        (("decode", "-", "-o", "-", "--format", "flac"), "become WAV"),
    ],
)
def test_options_that_do_not_fit_are_refused(piped, causal, arguments, words):
    status, out, (line,) = piped(*arguments, "-c", causal, given=head_bytes(StreamInfo.of(INFO)))
    assert (status, out, words in line) == (2, b"", True), line


def test_other_models_are_refused(piped, causal, folder):
    centred = save_checkpoint(folder / "centred.ckpt")
    recording = write_noise("x.wav", 3000).read_bytes()
    options = ("-", "-o", "-", "--format", "stream", "-c")
    status, _, (line,) = piped("encode", *options, centred, given=recording)
    assert (status, "train one with model.encoder.causal=true" in line) == (2, True)
    _, content, _ = piped("encode", *options, causal, given=recording)
    assert "codes of another model" in piped("decode", "-", "-o", "-", "-c", centred, given=content)[2][0]
    assert "causal=true" in piped("decode", "-", "-o", "-", "-c", centred, "--force", given=content)[2][0]
    other = save_checkpoint(folder / "other.ckpt", seed=1, causal=True)
    status, _, (line,) = piped("decode", "-", "-o", "-", "-c", other, given=content)
    assert (status, "codes of another model" in line) == (1, True)
    Path("old.wav").touch()
    assert piped("decode", "-", "-o", "old.wav", "-c", other, given=content)[::2] == (1, [line])
    assert piped("decode", "-", "-o", "-", "-c", other, "--force", given=content)[0] == 0


class Sound:
    """Stands in for sounddevice: a microphone that hears a signal, then Ctrl-C; a loudspeaker that keeps it."""

    class PortAudioError(Exception):
        pass

    def __init__(self, heard=None):
        self.heard, self.played, self.opened = heard, [], []
        sound = self

        class Stream:
            def __init__(self, **options):
                sound.opened.append(options)
                if sound.heard is None and "blocksize" in options:
                    raise sound.PortAudioError("no input device")

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            start = stop = close = __exit__

            def read(self, count):
                block, sound.heard = sound.heard[:count], sound.heard[count:]
                if not len(sound.heard):
                    signal.raise_signal(signal.SIGINT)
                return block, False

            def write(self, block):
                assert block.dtype == np.float32
                assert block.flags.c_contiguous
                sound.played.append(block)

        self.InputStream = self.OutputStream = Stream


def test_microphone_and_loudspeaker(piped, causal, monkeypatch):
    heard = np.random.default_rng(0).uniform(-0.5, 0.5, (320 * 5, 1)).astype(np.float32)
    sound = Sound(heard)
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    status, content, err = piped("encode", "-", "-o", "-", "--microphone", "-c", causal)
    assert (status, err) == (0, [])
    model = discrete_ae.load(causal)
    expected = Codec(model).encode(torch.from_numpy(heard.T)[None])
    assert np.array_equal(codes_in(content)[1], expected)
    assert piped("decode", "-", "-o", "-", "--speaker", "-c", causal, given=content)[::2] == (0, [])
    assert all((one["samplerate"], one["channels"]) == (16000, 1) for one in sound.opened)
    played = np.concatenate(sound.played).T
    np.testing.assert_allclose(played, Codec(model).decode(expected)[0].clip(-1, 1), atol=1e-5)


def test_sound_that_cannot_be_had_is_said_in_a_line(piped, causal, monkeypatch):
    options = ("-", "-o", "-", "-c", causal)
    monkeypatch.setitem(sys.modules, "sounddevice", Sound())
    status, _, (line,) = piped("encode", *options, "--microphone")
    assert (status, "no input device" in line) == (1, True)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    status, _, (line,) = piped("encode", *options, "--microphone")
    assert (status, "discrete-ae[live]" in line) == (2, True)
    # Without PortAudio the import itself fails so.
    finder = types.SimpleNamespace(find_spec=lambda name, *_: _without_portaudio(name))
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    status, _, (line,) = piped("encode", *options, "--microphone")
    assert (status, "PortAudio library not found" in line) == (2, True)


def _without_portaudio(name):
    if name == "sounddevice":
        raise OSError("PortAudio library not found")
