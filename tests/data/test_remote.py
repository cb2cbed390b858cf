"""Reading by URL against a server of this process, which counts what it gives, and fails in the ways of servers."""

import io
import itertools
import json
import os
import re
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from discrete_ae.cli.main import main
from discrete_ae.data import AudioDataModule, TrainingCrops, headers, read_audio, read_manifest, remote
from discrete_ae.data.crops import CropSettings
from discrete_ae.data.files import AudioFile, probe
from discrete_ae.data.index import index
from discrete_ae.data.remote import open_at, stamp_of
from discrete_ae.errors import DataError, UsageError

RATE = 16000


class Server(ThreadingHTTPServer):
    """Serves what is in `contents`, with ranges, and notes which."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.ranges: list[tuple[int, int]] = []
        self.given = 0
        """Bytes of contents that went out."""
        self.status: int | None = None
        """Status of every answer; None for the usual ones."""
        self.drops = 0
        """Number of the next answers that are cut off in the middle."""
        self.failures = 0
        """Number of the next answers that are 503."""
        self.has_ranges = True
        self.goes_on = threading.Event()
        """While it is not set, requests for contents wait."""
        self.goes_on.set()
        self.version = '"1"'

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing if a client has disconnected."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def answer(self, with_content: bool) -> None:
        server = self.server
        content = server.contents.get(self.path.removeprefix("/"))
        status = server.status or (404 if content is None else 200)
        if with_content and server.failures:
            server.failures, status = server.failures - 1, 503
        if status != 200 or content is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and server.has_ranges:
            start, stop = int(asked[1]), int(asked[2]) + 1
            server.ranges.append((start, stop))
            content = content[start:stop]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.version)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not with_content:
            return
        server.goes_on.wait(60)
        if server.drops:
            server.drops -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        try:
            self.wfile.write(content)
        except OSError:  # nobody waits for it any more
            return
        server.given += len(content)


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """Blocks are 4 KiB, and their folder holds 1 MiB at least; there is no wait between attempts."""
    monkeypatch.setenv("DISCRETE_AE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0, 0.0))
    remote._remote_stamp.cache_clear()
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.goes_on.set()
    serving.shutdown()
    thread.join()
    serving.server_close()


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def encoded(seconds: float, format: str, seed: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)), RATE, format=format)
    return content.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, part in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(part)
            archive.addfile(info, io.BytesIO(part))
    return content.getvalue()


def read(url: str, start: int, count: int) -> bytes:
    with open_at(url) as file:
        file.seek(start)
        return file.read(count)


def test_any_stretch_is_read_once_and_kept(server):
    content = server.contents["x"] = noise(100_000)
    for start, count in ((0, 10), (4000, 200), (8192, 4096), (99_990, 100), (50_000, 20_000), (100_000, 5)):
        assert read(server.url("x"), start, count) == content[start : start + count]
    assert all(start % 4096 == 0 for start, _ in server.ranges)
    assert len(set(server.ranges)) == len(server.ranges)  # no block twice
    given = server.given
    assert read(server.url("x"), 50_000, 20_000) == content[50_000:70_000]
    assert server.given == given
    with open_at(server.url("x")) as file:
        assert file.seek(-10, os.SEEK_END) == 99_990
        assert file.read() == content[-10:]


def test_a_crop_of_a_tar_of_100_megabytes_reads_a_few_blocks(server, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 2**20)
    audio = encoded(60, "FLAC", 1)
    half = bytes(50 * 2**20)
    server.contents["x.tar"] = tar_of({"a.bin": half, "b.flac": audio, "c.bin": half})
    (file,) = index(server.url("x.tar")).files
    assert file.name == server.url("x.tar") + "/b.flac"
    crops = TrainingCrops([file], CropSettings(sample_rate=RATE, channels=1, crop_seconds=1.0))
    listing = server.given
    assert listing < 8 * 2**20
    crops[0]
    assert server.given - listing <= 3 * 2**20


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_recordings_by_url_and_in_tars_there_are_those_of_the_disk(server, tmp_path, format):
    name = f"a.{format.lower()}"
    content = encoded(3, format, 1)
    if format == "MP3":
        content = content[content.index(content[:2], 4) :]  # without the frame that counts the others
    (tmp_path / name).write_bytes(content)
    server.contents |= {name: content, "x.tar": tar_of({"one.txt": b"words", name: content})}
    on_disk = probe(tmp_path / name)
    for file in (probe(server.url(name)), *index(server.url("x.tar")).files):
        assert (file.num_frames, file.doubt) == (on_disk.num_frames, on_disk.doubt)
        for start_s, duration_s in ((0, None), (1.3, 0.5)):
            expected = read_audio(on_disk, RATE, None, start_s, duration_s)
            assert np.array_equal(read_audio(file, RATE, None, start_s, duration_s), expected)


def test_a_tar_by_url_is_indexed_trained_on_and_refused_when_it_is_another(server, tmp_path, capsys):
    server.contents["x.tar"] = tar_of({f"{k}.flac": encoded(1, "FLAC", k) for k in range(3)})
    url, out = server.url("x.tar"), tmp_path / "m.jsonl"
    with pytest.raises(SystemExit) as ended:
        main(["index", url, "-o", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{out}: 3 recordings, 0.00 h\n"
    files = read_manifest(out)
    assert files == index(url).files
    assert [file.name for file in files] == [f"{url}/{k}.flac" for k in range(3)]
    given = {"root": None, "validation_root": None, "sample_rate": RATE, "channels": 1, "crop_seconds": 0.1}
    data = AudioDataModule(**given, batch_size=2, manifest=str(out), validation_manifest=str(out))
    with pytest.raises(DataError, match="every file is also a validation file"):  # it is known by its URL
        data.setup()
    data = AudioDataModule(**given, batch_size=2, manifest=str(out))
    data.setup()
    assert (len(data.train_files), len(data.validation_files)) == (2, 1)
    assert [name for name, _ in data.clips(1)] == [data.validation_files[0].name]
    server.version = '"2"'
    remote._remote_stamp.cache_clear()  # as in another process
    with pytest.raises(
        DataError, match=rf"^{out}:1: path: {url} is not the file that was indexed; index it again; 2 more"
    ):
        read_manifest(out)
    server.contents.clear()
    remote._remote_stamp.cache_clear()
    with pytest.raises(DataError, match=rf"^{out}:1: path: {url}: no such file"):
        read_manifest(out)


def test_a_failure_of_the_network_is_not_kept_as_one_of_the_recording(server, monkeypatch):
    server.contents["x.tar"] = tar_of({f"{k}.flac": encoded(1, "FLAC", k) for k in range(3)})
    url, found = server.url("x.tar"), headers.audio_members

    def then_busy(tar):
        members = found(tar)
        server.status = 503
        return members

    monkeypatch.setattr(headers, "audio_members", then_busy)
    errors = index(url).errors
    assert errors
    assert all("tried 4 times" in str(error) for error in errors.values())
    server.status = None
    monkeypatch.setattr(headers, "audio_members", found)
    assert len(index(url).files) == 3


def test_loading_processes_read_the_same_crops(server):
    files = {f"{k}.flac": encoded(1, "FLAC", k) for k in range(3)}
    server.contents["x.tar"] = tar_of(files)
    found = index(server.url("x.tar")).files
    crops = TrainingCrops(found, CropSettings(sample_rate=RATE, channels=1, crop_seconds=0.1))
    alone = [crops[number] for number in range(12)]
    folder = remote.cache_folder() / "blocks"
    for block in [path for path in folder.rglob("*") if path.is_file()]:
        block.unlink()  # a block that vanishes is fetched again
    loader = torch.utils.data.DataLoader(crops, batch_sampler=[[k] for k in range(12)], num_workers=2)
    assert all(torch.equal(one, other[0]) for one, other in zip(alone, loader, strict=True))


def test_dropped_connections_and_busy_servers_are_tried_again(server):
    content = server.contents["x"] = noise(50_000)
    server.drops = 2
    assert read(server.url("x"), 0, 9000) == content[:9000]
    server.failures = 3
    assert read(server.url("x"), 20_000, 100) == content[20_000:20_100]
    server.drops = 4
    with pytest.raises(DataError, match=rf"^{server.url('x')}: cannot be read, tried 4 times \(.+\); check") as caught:
        read(server.url("x"), 40_000, 100)
    assert "\n" not in str(caught.value)
    assert read(server.url("x"), 40_000, 100) == content[40_000:40_100]


def test_a_server_that_does_not_answer_is_given_up(server, monkeypatch):
    server.contents["x"] = noise(10_000)
    monkeypatch.setattr(remote, "TIME_LIMIT_S", 0.2)
    server.goes_on.clear()
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"/x: cannot be read, tried 4 times \(.*Timeout"):
        read(server.url("x"), 0, 10)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "no such file; check the name"),
        (403, "access denied by the server; check its permissions"),
        (401, "access denied by the server; check its permissions"),
        (400, r"rejected by the server \(HTTP 400\)"),
    ],
)
def test_refusals_are_told_at_once(server, status, words):
    server.contents["x"] = noise(10_000)
    stamp_of(server.url("x"))
    server.status = status
    for url in (server.url("x"), server.url("other")):  # when it is read, and when it is asked for
        with pytest.raises(DataError, match=rf"^{url}: {words}"):
            read(url, 0, 10)


def test_a_server_without_ranges_is_refused(server):
    server.contents["x.tar"] = tar_of({"a.wav": encoded(1, "WAV", 0), "b.wav": encoded(1, "WAV", 1)})
    server.has_ranges = False
    with pytest.raises(DataError, match=r"x\.tar: the server does not support range requests; copy"):
        index(server.url("x.tar"))


def test_what_fails_below_libsndfile_is_told_by_the_url(server, caplog):
    server.contents["x.tar"] = tar_of({"a.flac": encoded(1, "FLAC", 0), "b.flac": encoded(5, "FLAC", 1)})
    files = index(server.url("x.tar")).files
    server.status = 403
    for block in [path for path in (remote.cache_folder() / "blocks").rglob("*") if path.is_file()]:
        block.unlink()
    with pytest.raises(DataError, match=rf"^{server.url('x.tar')}: access denied by the server"):
        read_audio(files[1], RATE)


def test_the_folder_of_blocks_is_bounded_and_the_oldest_go(server, monkeypatch, tmp_path):
    monkeypatch.setattr(remote, "_FOLDERS", 1)
    monkeypatch.setenv("DISCRETE_AE_CACHE_SIZE", "20KiB")  # five blocks
    server.contents["x"] = noise(40 * 4096)
    folder = tmp_path / "cache/blocks"
    ticks = itertools.count(1)
    for number in range(40):
        read(server.url("x"), number * 4096, 10)
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_mtime > 10**9:  # made or used since
                os.utime(path, ns=(0, next(ticks) * 10**9))
        read(server.url("x"), 0, 10)  # used again and again: it stays
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 20 * 1024
    assert server.ranges.count((0, 4096)) == 1
    read(server.url("x"), 4096, 10)
    assert server.ranges.count((4096, 8192)) == 2


@pytest.mark.parametrize("size", ["lots", "100MB", "-1GB"])
def test_sizes_that_cannot_be_are_refused(monkeypatch, size):
    monkeypatch.setenv("DISCRETE_AE_CACHE_SIZE", size)
    with pytest.raises(UsageError, match=r"^DISCRETE_AE_CACHE_SIZE: expected"):
        stamp_of("http://127.0.0.1:1/x")


def test_a_block_that_was_cut_off_is_fetched_again_and_no_folder_is_needed(server, tmp_path):
    content = server.contents["x"] = noise(5000)
    url = server.url("x")
    assert read(url, 0, 5000) == content
    blocks = [path for path in (tmp_path / "cache/blocks").rglob("*") if path.is_file()]
    assert len(blocks) == 2
    blocks[0].write_bytes(b"")
    assert read(url, 0, 5000) == content
    for path in blocks:
        path.unlink()
    (tmp_path / "cache").rename(tmp_path / "other")
    (tmp_path / "cache").write_text("a file")
    assert read(url, 0, 5000) == content


def test_on_a_full_disk_no_file_is_left(server, monkeypatch, tmp_path):
    content = server.contents["x"] = noise(5000)
    url = server.url("x")
    stamp_of(url)

    def full(handle, mode):
        os.close(handle)
        return Path("/dev/full").open(mode)

    monkeypatch.setattr(os, "fdopen", full)
    assert read(url, 0, 5000) == content
    assert not [path for path in (tmp_path / "cache/blocks").rglob("*") if path.is_file()]


def test_what_changed_at_the_server_is_not_taken_from_the_folder_of_blocks(server):
    server.contents["x"] = noise(5000)
    noted = stamp_of(server.url("x"))
    assert read(server.url("x"), 0, 5000) == server.contents["x"]
    server.contents["x"], server.version = noise(5000, 1), '"2"'
    remote._remote_stamp.cache_clear()  # as in another process
    assert read(server.url("x"), 0, 5000) == server.contents["x"]
    assert stamp_of(server.url("x")) != noted


@pytest.mark.parametrize(
    ("url", "words"),
    [("s3://bucket/x.tar", "s3fs"), ("gs://bucket/x.tar", "gcsfs")],
)
def test_missing_packages_are_named(url, words, monkeypatch):
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"^{url}: .*{words}"):
        probe(url)


@pytest.mark.parametrize(
    "url",
    [
        "nothing://x",
        "ssh://host/x.wav",
        "file:///x.wav",
        "reference::http://host/x.json",
        "simplecache::s3://bucket/x.wav",
        "https://host/x::file:///x.wav",
    ],
)
def test_other_urls_are_refused_before_anything_is_opened(url, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"path": url}))
    for read_it in (lambda: probe(url), lambda: read_manifest(path)):
        with pytest.raises(UsageError) as refused:
            read_it()
        expected = f"{url}: expected a URL of http, https, s3, gs, az or hf without ::; give such a URL, or a file"
        assert str(refused.value) == expected


def test_a_url_is_a_text_and_a_path_is_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    for path in (tmp_path / "x", str(tmp_path / "x")):
        with open_at(path) as file:
            assert file.read() == b"abc"
        assert stamp_of(path) == (3, str((tmp_path / "x").stat().st_mtime_ns))
    assert AudioFile("https://host//a//b.flac?key=1%2F2", RATE, 1, 10).name == "https://host//a//b.flac?key=1%2F2"
