"""The page in a real browser, from disk: by mouse and keys, and by the sound that comes out."""

from typing import Any

import numpy as np
import pytest

from discrete_ae.compare.page.render import render
from tests.compare.pages import BASE_HZ, ROWS, SECONDS, SLOPE, button, clip, page, row, wait

pytestmark = pytest.mark.slow


def listen(site: Any) -> tuple[float, float]:
    """The loudest frequency that came out of the page in the last 46 ms, or 43, and the position amid them."""
    hz, position = site.evaluate("""() => {
        window.analyser ??= new AnalyserNode(player.context, { fftSize: 2048, smoothingTimeConstant: 0 });
        player.bus?.connect(analyser);
        const levels = new Float32Array(analyser.frequencyBinCount);
        const position = player.position;
        analyser.getFloatFrequencyData(levels);
        const loudest = levels.indexOf(Math.max(...levels));
        const bin = player.context.sampleRate / analyser.fftSize;
        return [loudest * bin, position - analyser.fftSize / 2 / player.context.sampleRate];
    }""")
    return hz, position


def heard(site: Any) -> tuple[str, str]:
    """Clip and version that come out, found by the frequency; asserts that it is that of the player's position."""
    listen(site)  # from here on the analyser hears
    for _ in range(100):
        site.wait_for_timeout(80)
        hz, position = listen(site)
        if 0.05 < position < site.evaluate("player.duration") - 0.05:  # nothing of before the start or the end in it
            break
    found = [
        (clip, version)
        for clip, bases in BASE_HZ.items()
        for version, base in bases.items()
        if abs(base + SLOPE * position - hz) < SLOPE * 0.05 + 24  # 50 ms, and the width of a bin
    ]
    assert len(found) == 1, (hz, position)
    return found[0]


def test_a_report_is_read(visit, html):
    """Sort the table, unfold the rest of it, filter the pairs, enlarge a plot, change the colors."""
    site = visit(html, color_scheme="light")

    def labels() -> list[str]:
        return site.locator(".sortable tbody th").evaluate_all("all => all.map(th => th.dataset.value)")

    assert labels() == [entry.label for entry in ROWS]
    heading = site.locator("th[data-label='SI-SDR']")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"  # higher is better: the best first
    assert labels() == ["bound", "Opus", "ste", "fourier", "gumbel", "Codec 2"]  # no value comes last both ways
    site.keyboard.press("Enter")
    assert labels() == ["gumbel", "fourier", "ste", "Opus", "bound", "Codec 2"]
    assert site.locator("th[aria-sort]").count() == 1
    site.get_by_role("button", name="method").click()
    assert labels() == ["bound", "Codec 2", "fourier", "gumbel", "Opus", "ste"]

    minor = site.locator("th[data-label='bitrate']")
    assert not minor.is_visible()
    site.get_by_role("button", name="More columns").click()
    assert minor.is_visible()

    pairs = site.locator(".pairs td:visible")
    assert pairs.count() == 0
    site.get_by_text("All pairs: q1").click()
    assert pairs.all_text_contents() == ["ste", "−1 dB", "−1.5 to 0", "verdict 1"]

    width = "document.querySelector('#figure-2 svg').getBoundingClientRect().width"
    before = site.evaluate(width)
    site.get_by_role("button", name="Enlarge the plot: Curves").click()
    assert site.evaluate(width) > 1.5 * before

    ground = "getComputedStyle(document.body).backgroundColor"
    light = site.evaluate(ground)
    site.get_by_role("button", name="Dark colors").click()
    dark = site.evaluate(ground)
    site.reload()
    assert site.evaluate(ground) == dark != light


def test_versions_are_heard_and_switching_keeps_the_position(visit, html):
    site = visit(html)
    button(site, "long", "original").click()
    wait(site, "player.position > 0.2")
    assert heard(site) == ("long", "original")
    # The audio clock goes on and the position goes on with it, so their difference stays to the sample.
    ahead = "player.position - player.context.currentTime"
    before = site.evaluate(ahead)
    button(site, "long", "opus").click()
    assert site.evaluate(ahead) == pytest.approx(before, abs=1e-6)
    assert heard(site) == ("long", "opus")
    gains = "[...player.voices].map(([key, { gain }]) => [key, gain.gain.value])"
    assert dict(site.evaluate(gains)) == pytest.approx({"original": 0, "ste": 0, "opus": 1}, abs=1e-3)
    assert button(site, "long", "opus").get_attribute("aria-pressed") == "true"
    assert site.locator(".transport [role=status]").text_content() == "Playing: long, OPUS"
    button(site, "long", "opus").click()
    stopped = site.evaluate("player.position")
    button(site, "long", "ste").click()  # goes on from there
    assert site.evaluate("player.position") == pytest.approx(stopped, abs=0.15)
    assert heard(site) == ("long", "ste")

    picture = site.locator("[data-clip=long] td").nth(1).locator(".spectrogram")
    picture.click(position={"x": picture.bounding_box()["width"] / 2, "y": 5})
    assert 1.9 < site.evaluate("player.position") < 3  # 2 s, to a pixel's width and the time that passed
    site.get_by_role("button", name="Pause").click()
    site.get_by_role("slider", name="Position").evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')); }")
    assert site.evaluate("[player.position, player.playing]") == [1, False]

    # Of two clips that are pressed while they are on their way, the last one counts.
    site.evaluate("""() => {
        player.unload();
        for (const name of ["long", "short"]) document.querySelector(`[data-clip=${name}] [data-version=ste]`).click();
        document.querySelector("[data-clip=short] [data-version=opus]").click();
    }""")
    wait(site, f"player.playing && Math.abs(player.duration - {SECONDS['short']}) < 0.01")
    site.keyboard.press("l")  # it is short
    began = site.evaluate("player.context.currentTime")
    wait(site, f"player.context.currentTime > {began + 2.5 * SECONDS['short']}")
    assert heard(site) == ("short", "opus")
    site.keyboard.press("l")
    wait(site, "!player.playing")  # it came to its end, and stands at its beginning
    assert site.evaluate("player.position") == 0


def test_everything_is_heard_by_keys(visit, html):
    site = visit(html)

    def press(*keys: str) -> str:
        for key in keys:
            site.keyboard.press(key)
        at = "document.activeElement"
        return site.evaluate(f"{at}.closest('[data-clip]')?.dataset.clip + ' ' + {at}.dataset.version")

    site.locator("#choice summary").focus()
    assert press("Tab") == "long original"
    assert press("ArrowDown", "End") == "short opus"
    assert press("ArrowUp", "ArrowLeft") == "long ste"
    press("Enter")
    wait(site, "player.playing")
    assert heard(site) == ("long", "ste")
    press("ArrowRight")  # along what plays, the sound follows
    assert heard(site) == ("long", "opus")
    assert press("1", "9") == "long original"  # there is no ninth
    assert heard(site) == ("long", "original")
    assert press("ArrowDown", "ArrowRight") == "short ste"  # along another clip it does not
    press("L", "Escape")
    assert site.evaluate("[player.playing, player.position, player.looping, player.current]") == [
        False,
        0,
        True,
        "original",
    ]
    press("Tab")  # the grid is one stop
    assert not site.evaluate("document.querySelector('[role=grid]').contains(document.activeElement)")
    site.get_by_role("button", name="SI-SDR").focus()
    press("2", "l")  # outside of the grid keys do nothing to the sound
    assert site.evaluate("[player.looping, player.current]") == [True, "original"]


def test_a_recording_that_is_damaged_is_said_and_leaves_the_others(visit):
    long, short = clip("long"), clip("short")
    damaged = short.versions[1]._replace(flac=short.versions[1].flac[:40])
    site = visit(render(page(clips=[long, short._replace(versions=(short.versions[0], damaged, short.versions[2]))])))
    button(site, "short", "original").click()
    wait(site, "document.querySelector('.transport [role=status]').textContent.includes('ste cannot be decoded')")
    button(site, "long", "ste").click()
    wait(site, "player.playing")
    assert heard(site) == ("long", "ste")


def test_a_switch_fades_out_before_it_fades_in(visit, html):
    """BS.1534-3 §5.3, in the samples: 5 ms out, 5 ms in, each a raised cosine, and never both at once."""
    rendered = visit(html).evaluate("""async () => {
        const rate = 48000;
        const context = player.audio = new OfflineAudioContext(2, rate / 2, rate);
        player.onchange = player.wake = () => {};
        for (const [key, level] of [["one", 0.5], ["other", 0.25]]) {
            const buffer = context.createBuffer(2, rate, rate);
            buffer.getChannelData(key === "one" ? 0 : 1).fill(level);
            player.buffers.set(key, buffer);
        }
        context.suspend(0.2).then(() => { player.switchTo("other"); context.resume(); });
        player.play("one");
        const result = await context.startRendering();
        return [0, 1].map((channel) => [...result.getChannelData(channel)].slice(0.15 * rate, 0.3 * rate));
    }""")
    one, other = (np.array(channel) / level for channel, level in zip(rendered, (0.5, 0.25), strict=True))
    assert (one[0], other[0], one[-1], other[-1]) == (1, 0, 0, 1)
    assert not ((one > 1e-6) & (other > 1e-6)).any()
    time = (np.arange(len(one)) - int(np.argmax(one < 1))) / 48000
    fall = (1 + np.cos(np.pi * np.clip(time / 0.005, 0, 1))) / 2
    rise = (1 - np.cos(np.pi * np.clip(time / 0.005 - 1, 0, 1))) / 2
    # Within two samples of 240, of which the steepest step is 0.65 % of full scale.
    np.testing.assert_allclose(one, fall, atol=0.02)
    np.testing.assert_allclose(other, rise, atol=0.02)


def test_on_a_phone_nothing_is_cut_off_and_on_paper_nothing_is_missing(visit):
    long = clip("long")
    versions = [
        version._replace(key=f"{version.key}{number}", label=f"{version.label} of_a_long_name {number}")
        for number in range(6)
        for version in long.versions
    ]
    many = [long._replace(name="a_long_name_of_a_recording_" + "x" * 40, versions=tuple(versions))]
    rows = [*ROWS, row("a_method_of_a_very_long_name_" + "y" * 40, 1.0, 2.0, 3.0)]
    content = page(title="Comparison_" + "z" * 60, clips=many, rows=rows, findings=["word" * 30], commands=["c" * 200])
    site = visit(render(content), viewport={"width": 360, "height": 800}, has_touch=True, is_mobile=True)
    assert site.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    pictures = site.locator(".spectrogram:visible")
    site.locator("[role=grid] button").nth(4).tap()
    wait(site, "player.playing")
    assert pictures.count() == 1  # that of the chosen version
    assert pictures.get_by_role("img").get_attribute("alt").endswith("STE of_a_long_name 1")
    assert site.evaluate("document.documentElement.scrollWidth") == 360
    for box in site.locator("[role=grid] button, .transport button").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect()).map((box) => [box.left, box.right, box.height])"
    ):
        assert 0 <= box[0] < box[1] <= 360
        assert box[2] >= 44  # of a finger
    last = site.locator("th[data-label='bitrate']")
    assert not last.is_visible()
    site.emulate_media(media="print")
    assert last.is_visible()


def test_nothing_leaves_the_page_and_no_program_runs_but_its_own(visit, html, complaints: list[str]):
    site = visit(html)
    site.evaluate("""() => {
        const address = "http://127.0.0.1:9/";
        new Image().src = address;
        fetch(address).catch(() => 0);
        navigator.sendBeacon(address, "text");
        document.body.append(Object.assign(document.createElement("iframe"), { src: address }));
        document.body.append(Object.assign(document.createElement("script"), { textContent: "window.hacked = 1" }));
        document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.hacked = 1'>");
    }""")
    wait(site, "document.images[document.images.length - 1].complete")
    site.wait_for_timeout(100)
    assert site.evaluate("window.hacked") is None
    assert sum("violates" in complaint for complaint in complaints) >= 6
    complaints.clear()
