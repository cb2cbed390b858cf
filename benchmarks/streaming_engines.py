"""Compare one-second crops from our loader, webdataset, litdata and Lhotse shar: speed, bytes, memory, repeatability.

    /tmp/peers/bin/python benchmarks/streaming_engines.py                          # about 25 minutes on two busy cores
    /tmp/peers/bin/python benchmarks/streaming_engines.py --recordings 300 10 --rounds 1 --crops 500

benchmarks/peers.py describes the environment of the engines. An engine that is missing is skipped with a message. The
second form does not write benchmarks/results/streaming_engines.md. Each run is a process of its own without worker
processes; the runs are interleaved.
"""

import argparse
import hashlib
import importlib
import logging
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _common import cpu_model, publish, table, versions
from _engines import BATCH_SIZE, ENGINES, RATE, SEED, SHUFFLED, STORES, Engine, made
from _recordings import Recordings, write_all
from peers import MissingPeerError, quietly_imported

from discrete_ae.paths import CACHE_VARIABLE

FORKED = multiprocessing.get_context("fork")
KIND = Recordings("FLAC, 16 kHz mono", RATE, 1)
PROCESSOR_S = 15.0
"""Limit of a run's processor time, after its first batch."""
COMPARED = 4
"""Number of batches in which two streams of crops are compared."""
LATENCY_S = 0.03
"""Delay before the first byte of the server's answers, as from an object store."""
REMOTE = ("ours, tars", "webdataset, seek in its bytes", "webdataset, every second of it")
REMOTE_CROPS = 128
"""Crops of our loader: so few, compared with the blocks of the corpus, that nearly each one needs a new block."""

# From the packages' own documentation, for the versions measured.
PROMISES = {
    None: "exact: a crop follows from the seed and its number",
    "webdataset": "none: the stream has no state",
    "litdata": "exact for the order of the recordings, by its loader's `state_dict`, with any number of workers; what "
    "a transform draws is not part of it",
    "lhotse": "exact by its sampler's `state_dict`, which reads all again up to there; none in loading processes, "
    "where the sampler of shar belongs",
}


class Corpus(NamedTuple):
    """A corpus of recordings of similar length."""

    name: str
    durations_s: list[float]


def corpora(counts: list[int]) -> dict[str, Corpus]:
    """Return the two corpora by name."""
    short = np.random.default_rng(0).uniform(4, 12, counts[0]).tolist()
    return {
        "short": Corpus(f"{counts[0]:,} recordings of 4 to 12 seconds", short),
        "long": Corpus(f"{counts[1]:,} recordings of 5 minutes", [300.0] * counts[1]),
    }


def memory_mb() -> float:
    """Return this process's anonymous memory in MB, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000


def bytes_read() -> int:
    """Return the bytes that this process has read from files, cached or not, without mapped files."""
    return int(Path("/proc/self/io").read_text().split()[1])


def measured(engine: Engine, place: Path | list[str], crops: int) -> dict[str, float]:
    """Load crops in this process, and return the figures."""
    if engine.package:
        importlib.import_module(engine.package)
    memory, start = memory_mb(), time.perf_counter()
    batches = iter(engine.load(place, 0))
    next(batches)
    first_s, counted, handed, read = time.perf_counter() - start, made.crops, made.num_bytes, bytes_read()
    begun, worked = time.perf_counter(), time.process_time()
    while made.crops < crops and time.process_time() - worked < PROCESSOR_S:
        next(batches)
    count = max(made.crops - counted, 1)
    mapped = made.num_bytes - handed if engine.package == "litdata" else 0  # litdata maps its chunks
    return {
        "first_s": first_s,
        "per_core_s": count / (time.process_time() - worked),
        "per_s": count / (time.perf_counter() - begun),
        "kb": (bytes_read() - read + mapped) / count / 1000,
        "mb": memory_mb() - memory,
        "crops": made.crops,
    }


def digests(engine: Engine, place: Path, workers: int) -> list[str]:
    """Return the hashes of the first crops."""
    batches = iter(engine.load(place, workers))
    return [hashlib.sha256(crop.numpy().tobytes()).hexdigest() for _ in range(COMPARED) for crop in next(batches)]


def in_process(cache: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a forked process with its own cache folder, and return the result."""

    def forked(answer: Connection) -> None:
        os.environ[CACHE_VARIABLE] = str(cache)
        torch.manual_seed(SEED)
        random.seed(SEED)
        answer.send(work(*arguments))
        os._exit(0)  # threads of some engines do not end

    here, there = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=forked, args=(there,))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise SystemExit(f"{arguments}: failed, as told above") from None
    finally:
        process.join()


class Handler(SimpleHTTPRequestHandler):
    """A handler that serves files and byte ranges after a delay, and counts the bytes sent."""

    protocol_version = "HTTP/1.1"
    sent = 0

    def do_HEAD(self) -> None:
        """Answer with the headers only."""
        self._answer(content=False)

    def do_GET(self) -> None:
        """Answer with a file, a range of it, or the count of bytes sent."""
        if self.path == "/sent":
            text = str(Handler.sent).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        else:
            self._answer(content=True)

    def _answer(self, *, content: bool) -> None:
        time.sleep(LATENCY_S)
        path = Path(self.translate_path(self.path))
        size = path.stat().st_size
        asked = self.headers.get("Range", "")
        first, last = (int(part) for part in asked.removeprefix("bytes=").split("-")) if asked else (0, size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if not content:
            return
        with path.open("rb") as file:
            file.seek(first)
            left = last - first + 1
            while left:
                part = file.read(min(left, 2**18))
                try:
                    self.wfile.write(part)
                except OSError:  # the reader closed the connection
                    self.close_connection = True
                    return
                Handler.sent += len(part)
                left -= len(part)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def serve(folder: Path, port: Connection) -> None:
    """Send the port, then serve a folder forever."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Handler(*given, directory=str(folder)))
    port.send(server.server_port)
    server.serve_forever()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder from a separate process, and yield its address."""
    here, there = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=serve, args=(folder, there))
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()


def sent_by(url: str) -> int:
    """Return the bytes of files that the server of a URL has sent."""
    with urllib.request.urlopen(f"{url.rpartition('/')[0]}/sent") as answer:
        return int(answer.read())


def local_rows(engines: list[Engine], root: Path, crops: int, rounds: int) -> list[list[str]]:
    """Return a row per engine for one corpus on disk."""
    found: dict[str, list[dict[str, float]]] = {engine.name: [] for engine in engines}
    for round_number in range(-1, rounds):  # the first, with nothing cached, is reported separately
        for engine in engines:
            count = crops if round_number >= 0 else 1
            one = in_process(root / f"cache of {engine.store}", measured, engine, root / engine.store, count)
            found[engine.name].append(one)
    rows = []
    for name, (new, *runs) in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in new}
        count = f" (after {middle['crops']:,.0f})" if middle["crops"] < crops else ""
        rows.append(
            [
                name,
                f"{middle['per_core_s']:,.0f}",
                f"{middle['kb']:,.0f}",
                f"{new['first_s']:.1f}, {middle['first_s']:.1f}",
                f"{middle['mb']:,.0f}{count}",
            ]
        )
    return rows


def repeated_rows(engines: list[Engine], root: Path) -> list[list[str]]:
    """Return a row per engine: are its crops the same in a second run, and with other numbers of worker processes?"""
    rows = []
    for engine in engines:
        cache = root / f"cache of {engine.store}"
        once, again, two = (in_process(cache, digests, engine, root / engine.store, workers) for workers in (0, 0, 2))
        answers = ["yes" if same else "no" for same in (once == again, once == two)]
        rows.append([engine.name, *answers, PROMISES[engine.package]])
    return rows


def remote_rows(engines: list[Engine], root: Path, crops: int) -> list[list[str]]:
    """Return a row per engine for tars over HTTP, from one run each."""
    rows = []
    for engine in (engine for engine in engines if engine.name in REMOTE):
        with served(root / "tars") as address, tempfile.TemporaryDirectory() as cache:
            urls = [f"{address}/{tar.name}" for tar in sorted((root / "tars").glob("*.tar"))]

            def run(
                name: str, count: int, engine: Engine = engine, urls: list[str] = urls, to: str = cache
            ) -> list[str]:
                before = sent_by(urls[0])
                one = in_process(Path(to), measured, engine, urls, count)
                kb = (sent_by(urls[0]) - before) / one["crops"] / 1000
                return [name, f"{one['per_s']:,.0f}", f"{kb:,.0f}", f"{one['first_s']:.1f}"]

            if engine.package:
                rows.append(run(engine.name, crops))
                continue
            run("", 1)  # reads and caches the headers
            for block in Path(cache, "blocks").glob("*/*"):
                block.unlink()
            rows.append(run(f"{engine.name}, blocks not read before", REMOTE_CROPS))
            run("", crops)
            rows.append(run(f"{engine.name}, blocks kept on its disk", crops))
    return rows


def report(counts: list[int], crops: int, rounds: int) -> list[str]:
    """Measure, and return the lines of the report."""
    packages = {"webdataset", "litdata", "lhotse"}
    for package in sorted(packages):
        try:
            quietly_imported(package, package)
        except MissingPeerError as error:
            print(f"{package} is left out: {error}", flush=True)
            packages.remove(package)
    engines = [engine for engine in ENGINES if engine.package in {None, *packages}]
    local: list[str] = []
    remote: list[str] = []
    from_disk: dict[str, list[list[str]]] = {}
    by_http: dict[str, list[list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, corpus in corpora(counts).items():
            root = Path(folder, name)
            (root / "files").mkdir(parents=True)
            # Not in this process: the forked ones would reuse its freed memory.
            in_process(root / "cache", write_all, KIND, root / "files", corpus.durations_s)
            for store, (package, write) in STORES.items():
                if package in {None, *packages}:
                    in_process(root / "cache", write, root / "files", root / store)
            size = sum(path.stat().st_size for path in (root / "files").iterdir()) / 1e6
            title = f"{corpus.name} ({sum(corpus.durations_s) / 3600:.1f} hours, {size:,.0f} MB)"
            columns = ("way", "crops/s of a core", "kB read a crop", "first batch, s: new, again", "MB of memory")
            from_disk[name] = local_rows(engines, root, crops, rounds)
            local += [f"### {title}", "", *table(columns, from_disk[name])]
            columns = ("way", "crops/s by the clock", "kB sent a crop", "first batch, s")
            by_http[name] = remote_rows(engines, root, crops)
            remote += [f"### {corpus.name}", "", *table(columns, by_http[name])]
        columns = ("way", "same again", "same with two workers", "resumed, by its documentation")
        repeated = table(columns, repeated_rows(engines, Path(folder, "short")))
    return [
        "# Streaming engines",
        "",
        f"`python benchmarks/streaming_engines.py`; one core of {cpu_model()}, busy with other work; "
        f"{versions('soundfile', 'webdataset', 'litdata', 'lhotse')}.",
        "",
        f"Crops of one second of 16 kHz mono from FLAC of generated noise, in batches of {BATCH_SIZE}, in the "
        f"system's memory. *Seek*: one crop of each recording that passes by, found in its bytes. *Whole recording "
        "decoded*: the same, by the usual decoder, which takes all of it. *Every second*: a recording is decoded once "
        f"and gives all its seconds. Those that read in sequence shuffle {SHUFFLED:,} crops, or cuts, in a "
        "buffer (Lhotse, where it seeks, no more than there are recordings, since a cut holds its recording's bytes); "
        "tars, and what is in their place, have 64 MB. *Ours* draws every crop by itself from the whole corpus.",
        "",
        "## From a disk",
        "",
        f"Medians of {rounds} interleaved runs of {crops:,} crops, or of {PROCESSOR_S:g} s of the processor where that "
        "is less. Crops a second of one core's time, of making crops and batches, after the first batch; bytes read "
        "from files, whether the system had them in memory or not; seconds by the clock to the first batch, at the "
        "first start and at a later one, which ours begins with kept "
        "headers; memory at the end, above that after the imports.",
        "",
        *local,
        "## By HTTP",
        "",
        f"The same tars from a server that answers each request after {1000 * LATENCY_S:g} ms, as an object store "
        "does; one loading process; one run of each. Ours reads blocks of 1 MiB by ranges and keeps them on the "
        "local disk.",
        "",
        *remote,
        "## The same crops again",
        "",
        f"The first {COMPARED} batches of two runs from one seed, to the last bit; then those with other numbers of "
        "loading processes, in their order.",
        "",
        *repeated,
        *(conclusion(from_disk, by_http, counts[1]) if len(packages) == 3 else []),
    ]


def conclusion(from_disk: dict[str, list[list[str]]], by_http: dict[str, list[list[str]]], long_ones: int) -> list[str]:
    """Return the advice on when to use which engine, based on the first figure of each row."""
    disk, http = (
        {(name, row[0]): row[1] for name, rows in found.items() for row in rows} for found in (from_disk, by_http)
    )
    new, every = "ours, tars, blocks not read before", "webdataset, every second of it"
    chunks, windows = "litdata, seek in its bytes", "lhotse shar, every second of it"
    recordings_a_batch = long_ones * (1 - (1 - 1 / long_ones) ** BATCH_SIZE)
    return [
        "## Which to take",
        "",
        f"- **Tars in an object store, more than the local disk can keep: webdataset.** It reads a tar in one request "
        f"and decodes a recording once for all its seconds: {http['short', every]} crops a second of one process from "
        f"short recordings and {http['long', every]} from long ones, where ours waits for a block of 1 MiB at each "
        f"crop: {http['short', new]} and {http['long', new]}. Once ours has its blocks on the local disk, it gives "
        f"{http['short', 'ours, tars, blocks kept on its disk']} and "
        f"{http['long', 'ours, tars, blocks kept on its disk']}.",
        f"- **Decoding that bounds the training: webdataset, every second.** {disk['short', every]} and "
        f"{disk['long', every]} crops for a second of a core beside ours, {disk['short', 'ours, tars']} and "
        f"{disk['long', 'ours, tars']}, since it seeks nowhere. The price is the mixture of a batch: its buffer holds "
        f"the seconds of {SHUFFLED / 300:.1f} long recordings, where {BATCH_SIZE} crops of ours come from "
        f"{recordings_a_batch:.0f} of the {long_ones}; and neighbours in a tar stay neighbours in the training.",
        "- **Chunks kept on the local disks of many machines, and an order that is resumed exactly: litdata**, for "
        f"short recordings ({disk['short', chunks]} crops for a second of a core). Its chunks are "
        "a second copy of the corpus in a form that nothing else reads. Recordings of minutes are to be cut into "
        f"pieces first: as they are, it gave {disk['long', chunks]}.",
        f"- **A corpus that is described in Lhotse already: its shar**, by windows "
        f"({disk['short', windows]} and {disk['long', windows]}); with one crop of each recording, memory "
        "holds all bytes of those in its buffer.",
        "- **Everything else: ours.** Recordings of any length and format where they lie, without a copy and without "
        "loading more than the crop; every second as likely as any other, whatever its recording's length; and a crop "
        "that is the same for every quantizer that is compared, after a resumption, and with any number of processes, "
        "which none of the others gives. It wants storage that reads at any place, and the headers of all recordings "
        "before the first crop.",
        "",
    ]


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recordings", type=int, nargs=2, default=[3000, 100], help="numbers of short and of long recordings"
    )
    parser.add_argument("--crops", type=int, default=5000, help="crops per run")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    lines = report(given.recordings, given.crops, given.rounds)
    defaults = [parser.get_default(name) for name in ("recordings", "crops", "rounds")]
    if [given.recordings, given.crops, given.rounds] == defaults:
        publish(lines, "streaming_engines")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
