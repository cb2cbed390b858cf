"""The page in a real browser, from disk and without a network: by mouse and keys, and by the sound that comes out."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from discrete_ae.report.page.render import render
from tests.report.pages import BASE_HZ, ROWS, SECONDS, SLOPE, clip, page, row

pytestmark = pytest.mark.slow

GRID = "#clips [role=grid]"


@pytest.fixture(scope="module")
def html() -> str:
    return render(page())


def button(page: Any, clip: str, version: str) -> Any:
    return page.get_by_role("button", name=f"Play {clip}: {version.upper()}", exact=True)


def labels(page: Any) -> list[str]:
    return page.locator(".sortable tbody th").evaluate_all("all => all.map(th => th.dataset.value)")


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


def playing(page: Any) -> bool:
    return page.evaluate("player.playing && audioContext.state === 'running'")


def wait(page: Any, condition: str) -> None:
    """Until a condition in JavaScript holds, for 10 s at most; Playwright's own way to wait is against the policy."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def test_the_table_sorts_by_clicks_and_cells_without_value_come_last_both_ways(visit, html):
    site = visit(html)
    assert labels(site) == [entry.label for entry in ROWS]
    heading = site.locator("th[data-label='SI-SDR']")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"  # higher is better: the best first
    assert labels(site) == ["bound", "Opus", "ste", "fourier", "gumbel", "Codec 2"]
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert labels(site) == ["gumbel", "fourier", "ste", "Opus", "bound", "Codec 2"]
    assert site.locator("th[aria-sort]").count() == 1
    assert site.locator("#rows [role=status]").text_content() == "Sorted by SI-SDR, ascending"


def test_the_table_sorts_by_keys_and_by_names(visit, html):
    site = visit(html)
    heading = site.locator("th[data-label='mel distance']")
    heading.get_by_role("button").focus()
    site.keyboard.press("Enter")  # it came sorted by this column
    assert heading.get_attribute("aria-sort") == "descending"
    assert labels(site) == [entry.label for entry in reversed(ROWS)]
    site.keyboard.press("Shift+Tab")
    site.keyboard.press("Space")
    assert site.locator("th[data-label='method']").get_attribute("aria-sort") == "ascending"
    assert labels(site) == ["bound", "Codec 2", "fourier", "gumbel", "Opus", "ste"]


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
    site.locator(".figures .plot").last.focus()
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


# Contrast by WCAG 2.2: of the luminances of a text and of the nearest background behind it that is not transparent.
CONTRASTS = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const luminance = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const linear = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
            .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const color = getComputedStyle(e).backgroundColor;
            if (color !== "rgba(0, 0, 0, 0)") return color;
        }
        return "white";
    };
    const found = [];
    for (const element of document.querySelectorAll("body *:not(script, svg *)")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort((a, b) => b - a);
        found.push([(pair[0] + 0.05) / (pair[1] + 0.05), element.outerHTML.slice(0, 100)]);
    }
    return found;
}"""


def test_texts_are_legible_in_light_and_dark(visit, html):
    grounds = []
    for scheme in ("light", "dark"):
        site = visit(html, color_scheme=scheme)
        button(site, "long", "ste").click()
        site.get_by_text("What the columns mean").click()
        for _ in range(2):  # by the system, and by the button
            found = site.evaluate(CONTRASTS)
            assert len(found) > 60
            assert [entry for entry in found if entry[0] < 4.5] == []
            grounds.append(site.evaluate("getComputedStyle(document.body).backgroundColor"))
            site.locator("[data-theme-button]").click()
    light, dark, *others = grounds
    assert light != dark
    assert others == [dark, light]


def test_contrast_is_that_of_known_colors(visit):
    # Of #767676 on white WCAG says 4.54; white on white has 1, white on black 21.
    site = visit("<body style='background: #fff'><p style='color: #767676'>a<p style='color: #fff'>b"
                 "<p style='background: #000; color: #fff'>c<link rel=icon href='data:,'>")  # fmt: skip
    assert [entry[0] for entry in site.evaluate(CONTRASTS)] == pytest.approx([4.54, 1, 21], abs=0.005)


def test_the_chosen_colors_stay(visit, html):
    site = visit(html, color_scheme="light")
    site.get_by_role("button", name="Dark colors").click()
    assert site.evaluate("document.documentElement.dataset.theme") == "dark"
    site.reload()
    assert site.evaluate("document.documentElement.dataset.theme") == "dark"
    assert site.get_by_role("button", name="Light colors").is_visible()


def test_everything_that_takes_the_focus_has_a_name_of_its_own(visit, html):
    site = visit(html)
    button(site, "long", "original").click()
    session = site.context.new_cdp_session(site)
    nodes = [node for node in session.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = ("button", "slider", "link", "image", "img", "figure", "table", "grid", "region", "navigation", "heading")
    named = [(node["role"]["value"], node["name"]["value"]) for node in nodes if node["role"]["value"] in roles]
    assert {role for role, _ in named} >= set(roles) - {"img"}
    assert [role for role, name in named if not name.strip()] == []
    buttons = [name for role, name in named if role == "button"]
    assert len(set(buttons)) == len(buttons)
    assert "Play long: OPUS" in buttons
    assert [node["role"]["value"] for node in nodes].count("gridcell") == 6
    assert [node["role"]["value"] for node in nodes].count("rowheader") == 2 + len(ROWS)


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_nothing_is_cut_off(visit, width):
    long = clip("long")
    many = [long._replace(name="a_long_name_of_a_recording_" + "x" * 40, versions=tuple(
        version._replace(key=f"{version.key}{number}", label=f"{version.label} of_a_long_name {number}")
        for number in range(6) for version in long.versions))]  # fmt: skip
    rows = [*ROWS, row("a_method_of_a_very_long_name_" + "y" * 40, 1.0, 2.0, 3.0)]
    content = page(title="Comparison_" + "z" * 60, clips=many, rows=rows, findings=["word" * 30], commands=["c" * 200])
    site = visit(render(content), viewport={"width": width, "height": 844}, has_touch=True, is_mobile=True)
    assert site.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    pictures = site.locator(".spectrogram:visible")
    assert pictures.count() == 1  # that of the chosen version
    fourth = site.locator(f"{GRID} button[data-version]").nth(4)
    fourth.tap()
    wait(site, "player.playing")
    assert pictures.count() == 1
    assert pictures.get_by_role("img").get_attribute("alt").endswith("STE of_a_long_name 1")
    assert site.evaluate("document.documentElement.scrollWidth") == width
    for box in site.locator(f"{GRID} button, .transport button").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect()).map((box) => [box.left, box.right, box.height])"
    ):
        assert box[0] >= 0
        assert box[1] <= width
        assert box[2] >= 44  # of a finger


def test_on_a_wide_screen_the_names_of_the_clips_stay_in_sight(visit):
    long = clip("long")
    versions = tuple(long.versions[0]._replace(key=f"v{number}", label=f"v{number}") for number in range(16))
    site = visit(render(page(clips=[long._replace(versions=versions)])), viewport={"width": 1280, "height": 720})
    site.locator(f"{GRID} button").first.focus()
    site.keyboard.press("End")
    name = site.locator(f"{GRID} tbody th").bounding_box()
    last = site.locator(f"{GRID} button").last.bounding_box()
    scroller = site.locator(".scroll").last.bounding_box()
    assert name["x"] == pytest.approx(scroller["x"], abs=2)
    assert last["x"] + last["width"] <= scroller["x"] + scroller["width"]
    for _ in range(8):
        site.keyboard.press("ArrowLeft")
    focused = site.evaluate("document.activeElement.getBoundingClientRect().left")
    assert focused >= name["x"] + name["width"]  # and not below the name
    assert site.evaluate("document.documentElement.scrollWidth") == 1280


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A port of this machine that waits for somebody to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.3)
        yield listening


LOADS = {
    "picture": "new Image().src = '{}'",
    "fetch": "fetch('{}').catch(() => 0)",
    "sound": "new Audio('{}').load()",
    "beacon": "navigator.sendBeacon('{}', 'text')",
    "frame": "document.body.append(Object.assign(document.createElement('iframe'), {{ src: '{}' }}))",
    "style": "document.body.style.backgroundImage = 'url({})'",
}


def sent(page: Any, server: socket.socket) -> bytes:
    """What reaches the server if the page tries to load from it in all ways.

    Chromium opens a connection for a frame before it asks whether the frame is allowed, and then sends nothing.
    """
    address = "http://{}:{}/".format(*server.getsockname())
    for attack in LOADS.values():
        page.evaluate(f"() => {{ {attack.format(address)} }}")
    page.wait_for_timeout(200)
    content = b""
    with contextlib.suppress(TimeoutError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(0.3)
                content += connection.recv(1000)
    return content


def test_no_request_leaves_the_page(visit, html, complaints: list[str], server):
    site = visit(html, offline=False)
    button(site, "long", "ste").click()
    wait(site, "player.playing")
    assert complaints == []
    assert sent(site, server) == b""
    assert sum("violates" in complaint for complaint in complaints) >= len(LOADS)
    complaints.clear()


def test_a_request_would_be_noticed(visit, complaints: list[str], server):
    site = visit("<link rel=icon href='data:,'>", offline=False)
    assert b"GET / HTTP/1.1" in sent(site, server)
    assert sum(complaint.startswith("http://127.0.0.1") for complaint in complaints) >= len(LOADS)
    site.goto("about:blank")
    complaints.clear()


def test_no_program_runs_but_its_own(visit, html, complaints: list[str]):
    site = visit(html)
    site.evaluate("""() => {
        document.body.append(Object.assign(document.createElement("script"), { textContent: "window.hacked = 1" }));
        document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.hacked = 1'>");
    }""")
    wait(site, "document.images[document.images.length - 1].complete")
    site.wait_for_timeout(50)
    assert site.evaluate("window.hacked") is None
    assert len(complaints) == 2
    complaints.clear()
