"""The page as a person uses it, in a real browser, from disk: reads and hears a report, and takes the blind test."""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from discrete_ae.compare.page import Cell, Row, material, render
from discrete_ae.compare.ratings import read_ratings, summarize
from discrete_ae.evaluation.scores import Quantity
from tests.compare.pages import BASE_HZ, ROWS, SECONDS, SLOPE, clip, page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GRADES = {"reference": 100, "low_anchor": 20, "ste": 61, "opus": 37}


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """An offline Chromium of the system by Playwright; the test is skipped where there is none."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context(offline=True, color_scheme="light")
        context.set_default_timeout(10_000)
        yield context
        browser.close()


@pytest.fixture
def site(context: Any, tmp_path: Any) -> Iterator[Any]:
    """A report with something in every section, opened from a file.

    It may ask for nothing beyond this file, write nothing to the console, and throw nothing.
    """
    path = tmp_path / "a page.html"
    path.write_text(render(page()), encoding="utf-8")
    complaints = []
    site = context.new_page()
    site.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url[:200]))
    site.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    site.on("pageerror", lambda error: complaints.append(str(error)))
    site.goto(path.as_uri())
    yield site
    site.close()
    assert complaints == []


def wait(site: Any, condition: str) -> None:
    """Until a condition in JavaScript holds, for 10 s at most; Playwright's own way to wait is against the policy."""
    for _ in range(500):
        if site.evaluate(condition):
            return
        site.wait_for_timeout(20)
    raise AssertionError(condition)


def listen(site: Any) -> tuple[float, float]:
    """The loudest frequency that came out of the page in the last 46 ms, or 43, and the position amid them."""
    return site.evaluate("""() => {
        window.analyser ??= new AnalyserNode(player.context, { fftSize: 2048, smoothingTimeConstant: 0 });
        player.bus?.connect(analyser);
        const levels = new Float32Array(analyser.frequencyBinCount);
        const [position, rate] = [player.position, player.context.sampleRate];
        analyser.getFloatFrequencyData(levels);
        return [levels.indexOf(Math.max(...levels)) * rate / 2048, position - 1024 / rate];
    }""")


def heard(site: Any) -> tuple[str, str]:
    """Clip and version that come out, found by the frequency; asserts that it is that of the player's position."""
    listen(site)  # from here on the analyser hears
    for _ in range(100):
        site.wait_for_timeout(80)
        hz, position = listen(site)
        if 0.05 < position < site.evaluate("player.duration") - 0.05:  # nothing of before the start or the end in it
            break
    versions = {(clip, version): hz for clip, bases in BASE_HZ.items() for version, hz in bases.items()}
    # Within 50 ms, and the width of a bin.
    (found,) = [of for of, base in versions.items() if abs(base + SLOPE * position - hz) < SLOPE * 0.05 + 24]
    return found


@pytest.mark.slow
def test_a_report_is_read_and_heard(site):
    def order() -> list[str]:
        return site.locator(".sortable tbody th").evaluate_all("all => all.map(th => th.dataset.value)")

    def press(*keys: str) -> str:
        for key in keys:
            site.keyboard.press(key)
        return site.evaluate("document.activeElement.closest('[role=row]')?.dataset.clip + ' ' + player.current")

    def play(clip: str, version: str) -> None:
        site.get_by_role("button", name=f"Play {clip}: {version.upper()}", exact=True).click()

    assert order() == [entry.label for entry in ROWS]
    site.get_by_role("button", name="SI-SDR").click()  # the best first, what has no value last both ways
    assert order() == ["bound", "Opus", "ste", "fourier", "gumbel", "Codec 2"]
    press("Enter")
    assert order() == ["gumbel", "fourier", "ste", "Opus", "bound", "Codec 2"]
    minor = site.locator("th[data-label='bitrate']")
    assert not minor.is_visible()
    site.get_by_role("button", name="More columns").click()
    assert minor.is_visible()
    pairs = site.locator(".pairs td:visible")
    shown = [["ste", f"−{i} dB", f"−{i}.5 to 0", f"verdict {i}"] for i in range(2)]
    assert pairs.all_text_contents() == shown[0]  # the first table is open
    site.get_by_text("q1", exact=True).click()
    assert pairs.all_text_contents() == [*shown[0], *shown[1]]
    width = "document.querySelector('#figure-2 svg').getBoundingClientRect().width"
    before = site.evaluate(width)
    site.get_by_role("button", name="Enlarge the plot: Curves").click()
    assert site.evaluate(width) > 1.5 * before
    ground = "getComputedStyle(document.body).backgroundColor"
    light = site.evaluate(ground)
    site.get_by_role("button", name="Dark colors").click()
    assert site.evaluate(ground) != light

    # By the mouse: switching keeps the position, and of two clips that are on their way the last one counts.
    play("long", "original")
    wait(site, "player.playing")
    site.get_by_role("button", name="Repeat").click()  # so that it does not end, however busy the machine is
    assert heard(site) == ("long", "original")
    # The audio clock goes on and the position goes on with it, so their difference stays to the sample.
    ahead = "(player.context.currentTime - player.position) % player.duration"
    before = site.evaluate(ahead)
    play("long", "opus")
    assert site.evaluate(ahead) == pytest.approx(before, abs=1e-6)
    assert heard(site) == ("long", "opus")
    play("long", "opus")
    stopped = site.evaluate("player.position")
    play("long", "ste")  # goes on from there
    assert site.evaluate("player.offset") == stopped
    picture = site.locator("[data-clip=long] td").nth(1).locator(".spectrogram")
    picture.click(position={"x": picture.bounding_box()["width"] / 2, "y": 5})
    assert site.evaluate("player.offset") == pytest.approx(2, abs=0.05)  # the middle, to a pixel's width
    site.evaluate("""() => {
        player.unload();
        for (const name of ["long", "short"]) document.querySelector(`[data-clip=${name}] [data-version=ste]`).click();
        document.querySelector("[data-clip=short] [data-version=opus]").click();
    }""")
    wait(site, f"player.playing && Math.abs(player.duration - {SECONDS['short']}) < 0.01")
    assert heard(site) == ("short", "opus")
    press("l")
    wait(site, "!player.playing && player.position === 0")  # it came to its end, and stands at its beginning

    # By keys: along what plays, the sound follows; along another clip it does not.
    site.locator("#choice summary").focus()
    press("Tab", "ArrowUp", "Home", "ArrowRight", "Enter")
    wait(site, "player.playing")
    press("L")
    assert heard(site) == ("long", "ste")
    assert press("ArrowRight") == "long opus"
    assert press("1", "9") == "long original"  # there is no ninth
    assert press("ArrowDown", "ArrowRight") == "short original"
    press("Escape")
    assert site.evaluate("[player.playing, player.position]") == [False, 0]
    site.set_viewport_size({"width": 360, "height": 800})  # of a phone: nothing is cut off
    assert site.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    # Plots scroll in their boxes. They are 7.4 in wide, so a text of 11 pt is 11 px high in 34 rem.
    assert site.evaluate("document.querySelector('#figure-1 svg').getBoundingClientRect().width") >= 34 * 16


@pytest.mark.slow
@pytest.mark.parametrize("num_columns", [4, 40])
def test_differences_are_beside_the_table_only_if_all_of_it_fits(context, tmp_path, num_columns):
    columns = [Quantity(f"q{i}", "distance", "", False, 3, "a meaning") for i in range(num_columns)]
    rows = [Row("ste", {column.name: Cell(0.5, "0.500 ± 0.100") for column in columns})]
    path = tmp_path / "page.html"
    path.write_text(render(page(columns=columns, rows=rows, sorted_by="q0", minor=[], clips=[])), encoding="utf-8")
    site = context.new_page()
    site.set_viewport_size({"width": 1920, "height": 1000})
    site.goto(path.as_uri())
    box, hidden, page_width = site.evaluate(
        "(box => [box.clientWidth, box.scrollWidth - box.clientWidth, document.documentElement.scrollWidth])"
        "(document.querySelector('#rows .scroll'))"
    )
    top, beside = (site.locator(f"#{name}-heading").bounding_box()["y"] for name in ("rows", "findings"))
    assert (hidden == 0, beside == top) == ((True, True) if num_columns == 4 else (False, False))
    assert page_width == 1920
    if num_columns == 40:  # as wide as the page allows, and the names of the methods stay in place
        assert box > 1700
        site.evaluate("document.querySelector('#rows .scroll').scrollLeft = 500")
        name = site.locator(".sortable tbody th").bounding_box()["x"]
        assert name == pytest.approx(site.locator("#rows .scroll").bounding_box()["x"] + 1, abs=1)
    site.close()


@pytest.mark.slow
def test_a_switch_fades_out_before_it_fades_in(site):
    """BS.1534-3 §5.3, in the samples: 5 ms out, 5 ms in, each a raised cosine, and never both at once."""
    rendered = site.evaluate("""async () => {
        const context = player.audio = new OfflineAudioContext(2, 24000, 48000);
        player.onchange = player.wake = () => {};
        for (const key of [0, 1]) {
            player.buffers.set(key, context.createBuffer(2, 48000, 48000));
            player.buffers.get(key).getChannelData(key).fill(0.5);
        }
        context.suspend(0.2).then(() => { player.switchTo(1); context.resume(); });
        player.play(0);
        const result = await context.startRendering();
        return [0, 1].map((channel) => [...result.getChannelData(channel)].slice(7200, 14400));
    }""")
    one, other = 2 * np.array(rendered)
    assert not ((one > 1e-6) & (other > 1e-6)).any()
    time = (np.arange(len(one)) - int(np.argmax(one < 1))) / 48000
    # Within two samples of 240, of which the steepest step is 0.65 % of full scale.
    np.testing.assert_allclose(one, (1 + np.cos(np.pi * np.clip(time / 0.005, 0, 1))) / 2, atol=0.02)
    np.testing.assert_allclose(other, (1 - np.cos(np.pi * np.clip(time / 0.005 - 1, 0, 1))) / 2, atol=0.02)


def rank(*words: str) -> int:
    """FNV-1a of 32 bits, then the last steps of MurmurHash3."""
    number = 0x811C9DC5
    for byte in "\n".join(words).encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        number = (number ^ (number >> shift)) * factor % 2**32
    return number


def plan_of(listener: str, *, of: str) -> list[tuple[str, list[str]]]:
    """The clips and their conditions, as a listener hears them."""
    trials = sorted(BASE_HZ, key=lambda name: rank(of, listener, name))
    return [(name, sorted(GRADES, key=lambda key: rank(of, listener, name, key))) for name in trials]


def rate(site: Any, conditions: list[str]) -> None:
    for number, condition in enumerate(conditions, 1):
        site.keyboard.press(str(number))
        wait(site, f"player.playing && player.current === {number}")
        for key in ("Home", *["PageUp"] * (GRADES[condition] // 10), *["ArrowRight"] * (GRADES[condition] % 10)):
            site.keyboard.press(key)


def begin(site: Any, listener: str) -> None:
    site.get_by_label("Your name").fill(listener)
    site.keyboard.press("Enter")


@pytest.mark.slow
def test_two_recordings_are_rated_after_a_practice_and_with_a_reload_amid_them(site, tmp_path):
    site.locator("#choice summary").click()
    site.get_by_role("link", name="Go to the test").click()
    site.get_by_label("Your name").fill("Ann Ü")
    site.get_by_role("button", name="Practice first").click()
    site.get_by_role("button", name="Version 2").click()
    wait(site, "player.playing")
    site.keyboard.press("Enter")
    site.get_by_role("button", name="End practice").click()

    plan = plan_of("Ann Ü", of=material([clip("long"), clip("short")]))
    (first, conditions), (_, others) = plan
    begin(site, " Ann  Ü")
    site.get_by_role("heading", name="Recording 1 of 2").wait_for()
    assert site.locator(".grade").all_text_contents() == ["–"] * 4  # nothing of the practice
    following, sliders = site.get_by_role("button", name="Next recording"), site.get_by_role("slider", name="Rating")
    assert [slider.is_enabled() for slider in sliders.all()] == [False] * 4  # what is not heard cannot be rated
    sliders.nth(1).locator("..").click()  # the press plays it
    assert [slider.is_enabled() for slider in sliders.all()] == [False, True, False, False]
    rate(site, conditions[:3])
    assert following.is_disabled()
    site.get_by_label("Comment").press_sequentially('hiss, r 1 n "3"')  # in a text the keys are letters
    labels = [*(key.upper() for key in BASE_HZ["long"]), "hidden reference", "anchor", first, "Three quantizers"]
    named = "|".join(rf">[^<]*{label}|=\"[^\"]*{label}" for label in labels)
    assert not re.search(named, site.locator("body").inner_html())
    site.reload()
    begin(site, "Ann Ü")
    assert site.locator(".grade").all_text_contents() == [*(str(GRADES[key]) for key in conditions[:3]), "–"]
    assert site.get_by_label("Comment").input_value() == 'hiss, r 1 n "3"'
    rate(site, conditions)
    following.click()

    site.get_by_role("heading", name="Recording 2 of 2").wait_for()
    rate(site, others)
    site.keyboard.press("n")
    assert site.locator("td").count() == 0
    with site.expect_download() as download:
        site.get_by_role("button", name="Save the ratings").click()
    assert download.value.suggested_filename == "ratings-Ann-Ü.csv"
    download.value.save_as(tmp_path / "ratings.csv")
    texts = site.locator("td").all_text_contents()
    assert texts[texts.index("STE") :][:3] == ["STE", "61", "61"]

    rows = list(csv.DictReader((tmp_path / "ratings.csv").read_text("utf-8").splitlines()))
    assert [(row["clip"], row["condition"]) for row in rows] == [(name, key) for name, keys in plan for key in keys]
    assert [(row["trial"], row["position"]) for row in rows] == [(t, p) for t in "12" for p in "1234"]
    assert [row["comment"] for row in rows] == ['hiss, r 1 n "3"'] * 4 + [""] * 4
    summary = summarize(read_ratings([tmp_path / "ratings.csv"]))
    assert {entry.key: entry.mean.mean for entry in summary.conditions} == GRADES


def test_every_condition_comes_at_every_place_equally_often():
    plans = [plan_of(f"listener {number}", of="m") for number in range(2000)]
    places = Counter((clip, key, keys.index(key)) for plan in plans for clip, keys in plan for key in keys)
    # Binomial with 1/4: mean 500, standard deviation 19.4. Five of them leave 32 counts a chance of 2e-5 in all.
    assert len(places) == 2 * 4 * 4
    assert all(abs(count - 500) < 5 * 19.4 for count in places.values())
    assert abs(sum(plan[0][0] == "long" for plan in plans) - 1000) < 5 * 22.4
