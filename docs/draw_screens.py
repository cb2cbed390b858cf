"""Screenshots of TensorBoard, of a report, and of the listening page: docs/tensorboard.png, report.png, listening.png.

    python docs/draw_screens.py [tensorboard|report|listening]...

The first two show five runs below logs/pictures, which are trained if they are missing: about a quarter of an hour on
two cores. The third makes docs/listening.html first, with the included model. Needs Chromium, opus-tools and codec2.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent
RUNS = REPOSITORY / "logs" / "pictures"
QUANTIZERS = "ste,custom_gradient,sigmoid,fourier,gumbel"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TITLE = "A speech codec at 1.6, 3.2 and 6.4 kbps, beside Opus and Codec 2"
CLIPS = (
    *("validation/speech_lj001_0006", "validation/speech_librivox_0890", "train/speech_lj001_0004"),
    *("train/speech_librivox_0920", "train/speech_librivox_0880", "train/speech_librivox_0930"),
)
"""Recordings of data/ in English, a language on which the included model was not trained."""
CUSTOM_SCALARS = "#custom_scalars&_smoothingWeight=0"


def trained() -> Path:
    """Return the folder with the runs, after training them if it does not exist."""
    if not RUNS.exists():
        command = [sys.executable, "train.py", "-m", f"quantizer={QUANTIZERS}", f"hydra.sweep.dir={RUNS}"]
        subprocess.run(command, cwd=REPOSITORY, check=True)
    return RUNS


@contextmanager
def page(width: int, height: int) -> Iterator[Any]:
    """Yield a page of a headless browser."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        sys.exit(f"expected one of {', '.join(BROWSERS)} on the path; run: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        browser.close()


def tensorboard() -> None:
    """Show the curves of all runs together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"http://localhost:{free.getsockname()[1]}/"
    program = Path(sys.executable).with_name("tensorboard")
    server = subprocess.Popen([program, "--logdir", trained(), "--port", address[:-1].rpartition(":")[2]])
    try:
        for _ in range(60):
            time.sleep(1)
            try:
                urllib.request.urlopen(address).close()
                break
            except OSError:
                continue
        with page(1480, 640) as shown:
            shown.goto(address + CUSTOM_SCALARS)
            shown.get_by_text("mel distance").first.wait_for()
            shown.wait_for_timeout(5000)  # the curves are drawn one after another
            shown.screenshot(path=DOCS / "tensorboard.png")
    finally:
        server.terminate()
        server.wait()


def compare(*arguments: str | Path) -> None:
    """Run discrete-ae compare."""
    subprocess.run([sys.executable, "-m", "discrete_ae.cli.main", "compare", *arguments], cwd=REPOSITORY, check=True)


def report() -> None:
    """Show the first screen of a report of all runs."""
    out = REPOSITORY / "logs" / "pictures_report"
    shutil.rmtree(out, ignore_errors=True)
    compare(trained(), "-o", out)
    with page(1440, 810) as shown:
        shown.goto((out / "index.html").as_uri())
        shown.screenshot(path=DOCS / "report.png")


def listening() -> None:
    """Make docs/listening.html, and show its clips."""
    out = REPOSITORY / "logs" / "listening"
    shutil.rmtree(out, ignore_errors=True)
    compare(
        *("pretrained", "-o", out, "--title", TITLE, "--codebooks", "4,8,16", "--opus", "6,8", "--clip-seconds", "4.5"),
        *("--metrics", "mel_distance,si_sdr_db,stoi,pesq"),
        *(argument for name in CLIPS for argument in ("--data", f"data/{name}.flac")),
    )
    shutil.copy(out / "index.html", DOCS / "listening.html")
    with page(1280, 720) as shown:
        shown.goto((DOCS / "listening.html").as_uri() + "#clips")
        shown.wait_for_timeout(1000)
        shown.screenshot(path=DOCS / "listening.png")


def main() -> None:
    """Take the pictures that are named, or all."""
    pictures = {"tensorboard": tensorboard, "report": report, "listening": listening}
    for name in sys.argv[1:] or pictures:
        if name not in pictures:
            sys.exit(f"expected names of {', '.join(pictures)}, got {name}")
        pictures[name]()


if __name__ == "__main__":
    main()
