"""The page in a real browser, from disk: by mouse and keys, and by the sound that comes out."""

from typing import Any

import numpy as np
import pytest

from discrete_ae.compare.page import render
from tests.compare.pages import BASE_HZ, ROWS, SECONDS, SLOPE, button, clip, page, row, wait

pytestmark = pytest.mark.slow


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


def test_a_report_is_read(visit, html):
    """Sort the table, unfold the rest of it, look at pairs, enlarge a plot, change the colors."""
    site = visit(html, color_scheme="light")

    def order() -> list[str]:
        return site.locator(".sortable tbody th").evaluate_all("all => all.map(th => th.dataset.value)")

    assert order() == [entry.label for entry in ROWS]
    site.get_by_role("button", name="SI-SDR").click()  # the best first, what has no value last both ways
    assert order() == ["bound", "Opus", "ste", "fourier", "gumbel", "Codec 2"]
    site.keyboard.press("Enter")
    assert order() == ["gumbel", "fourier", "ste", "Opus", "bound", "Codec 2"]
    assert site.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
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
    for _ in range(20):  # on a busy machine the browser may keep the choice later than it reloads
        site.reload()
        if site.evaluate(ground) == dark != light:
            return
        site.wait_for_timeout(100)
    raise AssertionError((light, dark))


def test_versions_are_heard_and_switching_keeps_the_position(visit, html):
    site = visit(html)
    button(site, "long", "original").click()
    wait(site, "player.playing")
    site.get_by_role("button", name="Repeat").click()  # so that it does not end, however busy the machine is
    assert heard(site) == ("long", "original")
    # The audio clock goes on and the position goes on with it, so their difference stays to the sample.
    ahead = "(player.context.currentTime - player.position) % player.duration"
    before = site.evaluate(ahead)
    button(site, "long", "opus").click()
    assert site.evaluate(ahead) == pytest.approx(before, abs=1e-6)
    assert heard(site) == ("long", "opus")
    assert site.locator(".transport [role=status]").text_content() == "Playing: long, OPUS"
    button(site, "long", "opus").click()
    stopped = site.evaluate("player.position")
    button(site, "long", "ste").click()  # goes on from there
    assert site.evaluate("player.offset") == stopped
    assert heard(site) == ("long", "ste")

    picture = site.locator("[data-clip=long] td").nth(1).locator(".spectrogram")
    picture.click(position={"x": picture.bounding_box()["width"] / 2, "y": 5})
    assert site.evaluate("player.offset") == pytest.approx(2, abs=0.05)  # the middle, to a pixel's width

    # Of two clips that are pressed while they are on their way, the last one counts.
    site.evaluate("""() => {
        player.unload();
        for (const name of ["long", "short"]) document.querySelector(`[data-clip=${name}] [data-version=ste]`).click();
        document.querySelector("[data-clip=short] [data-version=opus]").click();
    }""")
    wait(site, f"player.playing && Math.abs(player.duration - {SECONDS['short']}) < 0.01")
    began = site.evaluate("player.context.currentTime")
    wait(site, f"player.context.currentTime > {began + 2.5 * SECONDS['short']}")
    assert heard(site) == ("short", "opus")
    site.keyboard.press("l")
    wait(site, "!player.playing && player.position === 0")  # it came to its end, and stands at its beginning


def test_everything_is_heard_by_keys(visit, html):
    site = visit(html)

    def press(*keys: str) -> str:
        for key in keys:
            site.keyboard.press(key)
        return site.evaluate("document.activeElement.closest('[role=row]')?.dataset.clip + ' ' + player.current")

    site.locator("#choice summary").focus()
    assert press("Tab", "ArrowDown", "End") == "short null"
    press("ArrowUp", "ArrowLeft", "Enter")
    wait(site, "player.playing")
    press("L")
    assert heard(site) == ("long", "ste")
    assert press("ArrowRight") == "long opus"  # along what plays, the sound follows
    assert press("1", "9") == "long original"  # there is no ninth
    assert press("ArrowDown", "ArrowRight") == "short original"  # along another clip it does not
    press("Escape")
    assert site.evaluate("[player.playing, player.position, player.looping]") == [False, 0, True]


def test_a_recording_that_is_damaged_is_said_and_leaves_the_others(visit):
    long, short = clip("long"), clip("short")
    damaged = short.versions[1]._replace(flac=short.versions[1].flac[:40])
    site = visit(render(page(clips=[long, short._replace(versions=(short.versions[0], damaged))])))
    button(site, "short", "original").click()
    wait(site, "document.querySelector('.transport strong').innerText.includes('ste cannot be decoded')")
    button(site, "long", "ste").click()
    wait(site, "player.playing")


def test_a_switch_fades_out_before_it_fades_in(visit, html):
    """BS.1534-3 §5.3, in the samples: 5 ms out, 5 ms in, each a raised cosine, and never both at once."""
    rendered = visit(html).evaluate("""async () => {
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


def test_on_a_phone_nothing_is_cut_off_and_on_paper_nothing_is_missing(visit):
    long = clip("long")
    many = [v._replace(key=f"{v.key}{i}", label=f"{v.label} of_{i}") for i in range(6) for v in long.versions]
    clips = [long._replace(name="a_long_name_of_a_recording_" + "x" * 40, versions=tuple(many))]
    rows = [*ROWS, row("a_method_of_a_very_long_name_" + "y" * 40, 1.0, 2.0, 3.0)]
    content = page(title="Comparison_" + "z" * 60, clips=clips, rows=rows, findings=["word" * 30], command="c" * 200)
    site = visit(render(content), viewport={"width": 360, "height": 800}, has_touch=True, is_mobile=True)
    site.locator("[role=grid] button").nth(4).tap()
    wait(site, "player.playing")
    assert site.locator(".spectrogram:visible").count() == 1  # that of the chosen version
    assert site.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    boxes = [tapped.bounding_box() for tapped in site.locator("[role=grid] button, .transport button").all()]
    assert all(0 <= box["x"] < box["x"] + box["width"] <= 360 for box in boxes)
    assert all(box["height"] >= 44 for box in boxes)  # of a finger
    last = site.locator("th[data-label='bitrate']")
    assert not last.is_visible()
    site.emulate_media(media="print")
    assert last.is_visible()
