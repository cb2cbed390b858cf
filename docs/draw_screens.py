"""Screenshots of TensorBoard, of a report, and of the listening page: docs/tensorboard.png, report.png, listening.png.

    python docs/draw_screens.py [tensorboard|report|listening]...
    python docs/draw_screens.py --runs logs/comparison --report report tensorboard report

The first two show five runs below logs/pictures, which are trained if they are missing: about a quarter of an hour on
two cores. --runs takes them from a sweep with three seeds instead, --report takes its report. The third makes
docs/listening.html first, with the included model. Needs Chromium, opus-tools and codec2.
"""

import argparse
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
QUANTIZERS = ("ste", "custom_gradient", "sigmoid", "fourier", "gumbel")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TITLE = "A speech codec at 1.6, 3.2 and 6.4 kbps, beside Opus and Codec 2"
CLIPS = (
    *("validation/speech_lj001_0006", "validation/speech_librivox_0890", "train/speech_lj001_0004"),
    *("train/speech_librivox_0920", "train/speech_librivox_0880", "train/speech_librivox_0930"),
)
"""Recordings of data/ in English, a language on which the included model was not trained."""
CUSTOM_SCALARS = "#custom_scalars&_smoothingWeight=0"


def trained(runs: Path | None) -> Path:
    """Return a folder with a run of every quantizer.

    Args:
        runs: folder of a sweep; None for runs in logs/pictures, which are trained if the folder does not exist.
    """
    if runs is not None:
        chosen = REPOSITORY / "logs" / "pictures_of_sweep"
        shutil.rmtree(chosen, ignore_errors=True)
        for quantizer in QUANTIZERS:
            (run,) = runs.glob(f"{quantizer}-*-seed1")
            shutil.copytree(run, chosen / run.name, ignore=shutil.ignore_patterns("checkpoints"))
        return chosen
    if not RUNS.exists():
        swept = [f"quantizer={','.join(QUANTIZERS)}", f"hydra.sweep.dir={RUNS}"]
        subprocess.run([sys.executable, "train.py", "-m", *swept], cwd=REPOSITORY, check=True)
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


def tensorboard(runs: Path) -> None:
    """Show the curves of all runs in a folder together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"http://localhost:{free.getsockname()[1]}/"
    program = Path(sys.executable).with_name("tensorboard")
    server = subprocess.Popen([program, "--logdir", runs, "--port", address[:-1].rpartition(":")[2]])
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


def report(out: Path) -> None:
    """Show the first screen of a report."""
    with page(1440, 810) as shown:
        shown.goto((out / "index.html").resolve().as_uri())
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
    pictures = ("tensorboard", "report", "listening")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"one of {', '.join(pictures)}")
    parser.add_argument("--runs", type=Path, help="folder of a sweep")
    parser.add_argument("--report", type=Path, help="folder of its report")
    given = parser.parse_args()
    if unknown := [name for name in given.pictures if name not in pictures]:
        parser.error(f"expected pictures of {', '.join(pictures)}, got {', '.join(unknown)}")
    for name in given.pictures or pictures:
        if name == "tensorboard":
            tensorboard(trained(given.runs))
        elif name == "listening":
            listening()
        elif given.report:
            report(given.report)
        else:
            out = REPOSITORY / "logs" / "pictures_report"
            compare(trained(given.runs), "-o", out, "--force")
            report(out)


if __name__ == "__main__":
    main()
