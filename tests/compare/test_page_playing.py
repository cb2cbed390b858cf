"""The page in a real browser, from disk: by mouse and keys, and by the sound that comes out."""

from typing import Any

import pytest

from discrete_ae.compare.page.render import render
from tests.compare.browsing import GRID, button, playing, wait
from tests.compare.pages import BASE_HZ, SECONDS, SLOPE, clip, page

pytestmark = pytest.mark.slow


def listen(page: Any) -> tuple[float, float]:
    """The loudest frequency that came out of the page in the last 46 ms, or 43, and the position amid them."""
    hz, position = page.evaluate("""() => {
        window.analyser ??= (() => {
            const node = new AnalyserNode(audioContext, { fftSize: 2048, smoothingTimeConstant: 0 });
            player.output.connect(node);
            return node;
        })();
        const levels = new Float32Array(analyser.frequencyBinCount);
        const position = player.position;
        analyser.getFloatFrequencyData(levels);
        const loudest = levels.indexOf(Math.max(...levels));
        const bin = audioContext.sampleRate / analyser.fftSize;
        return [loudest * bin, position - analyser.fftSize / 2 / audioContext.sampleRate];
    }""")
    return hz, position


def heard(page: Any) -> tuple[str, str]:
    """Clip and version that come out, found by the frequency; asserts that it is that of the player's position."""
    listen(page)  # from here on the analyser hears
    for _ in range(100):
        page.wait_for_timeout(60)
        hz, position = listen(page)
        if 0.05 < position < page.evaluate("player.duration") - 0.05:  # nothing of before the start or the end in it
            break
    found = [
        (clip, version)
        for clip, bases in BASE_HZ.items()
        for version, base in bases.items()
        if abs(base + SLOPE * position - hz) < SLOPE * 0.05 + 24  # 50 ms, and the width of a bin
    ]
    assert len(found) == 1, (hz, position)
    return found[0]


def test_a_version_is_heard_and_switching_keeps_the_position(visit, html):
    site = visit(html)
    button(site, "long", "original").click()
    wait(site, "player.position > 0.2")
    assert playing(site)
    assert heard(site) == ("long", "original")
    assert button(site, "long", "original").get_attribute("aria-pressed") == "true"

    # The audio clock goes on and the position goes on with it, so their difference stays to the sample.
    ahead = "player.position - audioContext.currentTime"
    before = site.evaluate(ahead)
    button(site, "long", "opus").click()
    assert site.evaluate(ahead) == pytest.approx(before, abs=1e-6)
    assert heard(site) == ("long", "opus")
    gains = "[...player.voices].map(([key, { gain }]) => [key, gain.gain.value])"
    assert dict(site.evaluate(gains)) == pytest.approx({"original": 0, "ste": 0, "opus": 1}, abs=1e-3)
    assert button(site, "long", "opus").get_attribute("aria-pressed") == "true"
    assert button(site, "long", "original").get_attribute("aria-pressed") == "false"
    assert site.locator(".transport [role=status]").text_content() == "Playing: long, OPUS"

    button(site, "long", "opus").click()
    assert not playing(site)
    stopped = site.evaluate("player.position")
    site.wait_for_timeout(100)
    assert site.evaluate("player.position") == stopped
    button(site, "long", "ste").click()  # goes on from there
    assert site.evaluate("player.position") == pytest.approx(stopped, abs=0.15)
    assert heard(site) == ("long", "ste")


def test_another_clip_takes_the_place_of_the_one_before(visit, html):
    site = visit(html)
    button(site, "long", "ste").click()
    wait(site, "player.playing")
    button(site, "short", "opus").click()
    wait(site, f"player.playing && Math.abs(player.duration - {SECONDS['short']}) < 0.01")
    assert site.evaluate("player.buffers.size") == 3  # the samples of the other clip are gone
    site.keyboard.press("l")  # it is short
    assert heard(site) == ("short", "opus")
    site.keyboard.press("l")
    wait(site, "!player.playing")  # it came to its end, and stands at its beginning
    assert site.evaluate("player.position") == 0
    assert site.locator(".transport").get_by_role("button", name="Play").is_visible()


PRESS = "names => { for (const name of names) document.querySelector(name).click(); }"


def test_the_last_of_two_quick_presses_counts(visit, html):
    site = visit(html)
    # The first clip takes longer to decode than the second.
    site.evaluate("""() => {
        const decode = AudioContext.prototype.decodeAudioData;
        let calls = 0;
        AudioContext.prototype.decodeAudioData = async function (file) {
            const slow = ++calls <= 3;
            const buffer = await decode.call(this, file);
            if (slow) await new Promise((done) => setTimeout(done, 300));
            window.slow = slow;
            return buffer;
        };
    }""")
    site.evaluate(PRESS, ["[data-clip=long] [data-version=ste]", "[data-clip=short] [data-version=ste]"])
    wait(site, "window.slow")
    assert site.evaluate("player.duration") == pytest.approx(SECONDS["short"], abs=0.01)
    assert site.locator("tr.loaded").get_attribute("data-clip") == "short"


def test_of_a_clip_that_is_being_loaded_the_version_pressed_last_plays(visit, html):
    site = visit(html)
    site.evaluate(PRESS, ["[data-clip=long] [data-version=ste]", "[data-clip=long] [data-version=opus]"])
    wait(site, "player.playing")
    assert heard(site) == ("long", "opus")


def test_everything_can_be_heard_by_keys(visit, html):
    site = visit(html)
    focused = (
        "document.activeElement.closest('[data-clip]').dataset.clip + ' ' + document.activeElement.dataset.version"
    )
    site.locator(".figures button").last.focus()
    site.keyboard.press("Tab")
    assert site.evaluate(focused) == "long original"
    site.keyboard.press("ArrowDown")
    site.keyboard.press("End")
    assert site.evaluate(focused) == "short opus"
    site.keyboard.press("ArrowUp")
    site.keyboard.press("ArrowLeft")
    assert site.evaluate(focused) == "long ste"
    assert not site.evaluate("player.playing")
    site.keyboard.press("Enter")
    wait(site, "player.playing")
    assert heard(site) == ("long", "ste")

    site.keyboard.press("ArrowRight")  # along what plays, the sound follows
    assert heard(site) == ("long", "opus")
    site.keyboard.press("1")
    assert site.evaluate(focused) == "long original"
    assert heard(site) == ("long", "original")
    site.keyboard.press("9")  # there is no ninth
    assert site.evaluate("player.current") == "original"
    site.keyboard.press("ArrowDown")  # along another clip it does not
    site.keyboard.press("ArrowRight")
    assert site.evaluate(focused) == "short ste"
    assert heard(site) == ("long", "original")
    site.keyboard.press("ArrowUp")
    site.keyboard.press("ArrowLeft")
    site.keyboard.press("Space")
    assert not playing(site)
    site.keyboard.press("L")
    assert site.get_by_role("button", name="Repeat").get_attribute("aria-pressed") == "true"
    site.keyboard.press("Enter")
    site.keyboard.press("Escape")
    assert (playing(site), site.evaluate("player.position")) == (False, 0)
    # The grid is one stop: the next one is behind it.
    site.keyboard.press("Tab")
    assert not site.evaluate(f"document.querySelector('{GRID}').contains(document.activeElement)")


def test_keys_outside_of_the_grid_do_nothing_to_the_sound(visit, html):
    site = visit(html)
    button(site, "long", "original").click()
    wait(site, "player.playing")
    site.get_by_role("button", name="mel distance").focus()
    for key in ("2", "l", "Escape"):
        site.keyboard.press(key)
    assert site.evaluate("[player.playing, player.current, player.loop]") == [True, "original", False]


def test_repeating_begins_again(visit, html):
    site = visit(html)
    button(site, "short", "ste").click()
    wait(site, "player.playing")
    site.get_by_role("button", name="Repeat").click()
    began = site.evaluate("audioContext.currentTime")
    wait(site, f"audioContext.currentTime > {began + 2.5 * SECONDS['short']}")
    assert playing(site)
    assert heard(site)[1] == "ste"  # and at the right position after two rounds


def test_pictures_and_the_slider_seek(visit, html):
    site = visit(html)
    picture = site.locator("[data-clip=long] td").nth(1).locator(".spectrogram")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] / 2, "y": 5})
    wait(site, "player.playing")
    assert site.evaluate("player.current") == "ste"
    # 2 s, to a pixel's width and the time that passed.
    assert 1.9 < site.evaluate("player.position") < 3
    assert heard(site) == ("long", "ste")
    lines = site.locator("[data-clip=long] .playhead")
    left, width = lines.nth(1).evaluate("e => [parseFloat(getComputedStyle(e).left), e.parentElement.clientWidth]")
    assert left / width == pytest.approx(site.evaluate("player.position / player.duration"), abs=0.1)

    site.get_by_role("button", name="Pause").click()
    slider = site.get_by_role("slider", name="Position")
    slider.evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')); }")
    assert (site.evaluate("player.position"), playing(site)) == (1, False)
    assert slider.get_attribute("aria-valuetext") == "1 of 4.0 seconds"
    site.get_by_role("button", name="Play", exact=True).click()
    assert heard(site) == ("long", "ste")


def test_a_recording_that_is_damaged_is_said_and_leaves_the_others(visit):
    long, short = clip("long"), clip("short")
    damaged = short.versions[1]._replace(flac=short.versions[1].flac[:40])
    site = visit(render(page(clips=[long, short._replace(versions=(short.versions[0], damaged, short.versions[2]))])))
    button(site, "long", "ste").click()
    wait(site, "player.playing")
    button(site, "short", "original").click()
    status = site.locator(".transport [role=status]")
    wait(site, "document.querySelector('.transport [role=status]').textContent.includes('not play')")
    assert "ste cannot be decoded" in status.text_content()
    assert site.evaluate("[player.playing, player.buffers.size]") == [False, 0]
    button(site, "long", "ste").click()
    wait(site, "player.playing")
    assert heard(site) == ("long", "ste")
