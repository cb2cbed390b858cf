"""Compare one-second crops from our loader and webdataset: speed, bytes read, memory.

    python benchmarks/streaming_engines.py                          # about 10 minutes on 2 cores
    python benchmarks/streaming_engines.py --recordings 300 10 --rounds 1 --crops 500

The second form does not write benchmarks/results/streaming_engines.md. Each run is a process of its own without worker
processes; the runs are interleaved.
"""

import argparse
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
from _engines import BATCH_SIZE, ENGINES, EVERY_SECOND, OURS, RATE, SEED, SHARD_BYTES, SHUFFLED, SOUGHT, Engine, made
from _recordings import Recordings, write_all

from discrete_ae.data.shards import write_shards
from discrete_ae.paths import CACHE_VARIABLE

FORKED = multiprocessing.get_context("fork")
KIND = Recordings("FLAC, 16 kHz mono", RATE, 1)
PROCESSOR_S = 15.0
"""Limit of a run's processor time, after its first batch."""
LATENCY_S = 0.03
"""Delay before the first byte of the server's answers, as from an object store."""
REMOTE_CROPS = 128
"""Crops of our loader: so few, compared with the blocks of the corpus, that nearly each one needs a new block."""


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
    memory, start = memory_mb(), time.perf_counter()
    batches = iter(engine.load(place))
    next(batches)
    first_s, counted, read = time.perf_counter() - start, made.crops, bytes_read()
    begun, worked = time.perf_counter(), time.process_time()
    while made.crops < crops and time.process_time() - worked < PROCESSOR_S:
        next(batches)
    count = max(made.crops - counted, 1)
    return {
        "first_s": first_s,
        "per_core_s": count / (time.process_time() - worked),
        "per_s": count / (time.perf_counter() - begun),
        "kb": (bytes_read() - read) / count / 1000,
        "mb": memory_mb() - memory,
        "crops": made.crops,
    }


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


def local_rows(root: Path, crops: int, rounds: int) -> list[list[str]]:
    """Return a row per engine for one corpus on disk."""
    found: dict[str, list[dict[str, float]]] = {engine.name: [] for engine in ENGINES}
    for round_number in range(-1, rounds):  # the first, with nothing cached, is reported separately
        for engine in ENGINES:
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


def remote_rows(root: Path, crops: int) -> list[list[str]]:
    """Return a row per engine for tars over HTTP, from one run each."""
    rows = []
    for engine in (OURS, SOUGHT, EVERY_SECOND):
        with served(root / "tars") as address, tempfile.TemporaryDirectory() as cache:
            urls = [f"{address}/{tar.name}" for tar in sorted((root / "tars").glob("*.tar"))]

            def run(
                name: str, count: int, engine: Engine = engine, urls: list[str] = urls, to: str = cache
            ) -> list[str]:
                before = sent_by(urls[0])
                one = in_process(Path(to), measured, engine, urls, count)
                kb = (sent_by(urls[0]) - before) / one["crops"] / 1000
                return [name, f"{one['per_s']:,.0f}", f"{kb:,.0f}", f"{one['first_s']:.1f}"]

            if engine is not OURS:
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
    local: list[str] = []
    remote: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, corpus in corpora(counts).items():
            root = Path(folder, name)
            (root / "files").mkdir(parents=True)
            # Not in this process: the forked ones would reuse its freed memory.
            in_process(root / "cache", write_all, KIND, root / "files", corpus.durations_s)
            in_process(root / "cache", write_shards, root / "files", root / "tars", SHARD_BYTES)
            size = sum(path.stat().st_size for path in (root / "files").iterdir()) / 1e6
            title = f"{corpus.name} ({sum(corpus.durations_s) / 3600:.1f} hours, {size:,.0f} MB)"
            columns = ("way", "crops/s of a core", "kB read a crop", "first batch, s: new, again", "MB of memory")
            local += [f"### {title}", "", *table(columns, local_rows(root, crops, rounds))]
            columns = ("way", "crops/s by the clock", "kB sent a crop", "first batch, s")
            remote += [f"### {corpus.name}", "", *table(columns, remote_rows(root, crops))]
    return [
        "# Streaming engines",
        "",
        f"`python benchmarks/streaming_engines.py`; one core of {cpu_model()}; {versions('soundfile', 'webdataset')}.",
        "",
        f"Crops of one second of 16 kHz mono from FLAC of generated noise, in batches of {BATCH_SIZE}, in the "
        f"system's memory. *Seek*: one crop of each recording that passes by, found in its bytes. *Whole recording "
        "decoded*: the same, by the usual decoder, which takes all of it. *Every second*: a recording is decoded once "
        f"and gives all its seconds. webdataset shuffles {SHUFFLED:,} crops in a buffer; tars have 64 MB. *Ours* draws "
        "every crop by itself from the whole corpus.",
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
