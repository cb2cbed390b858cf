"""The test as a listener takes it, in a real browser: by mouse and keys, to the file of ratings."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from discrete_ae.compare.listening import session as session_module
from discrete_ae.compare.listening.material import REFERENCE
from discrete_ae.compare.listening.ratings import read_ratings
from discrete_ae.compare.listening.server import ListeningServer
from discrete_ae.errors import DataError
from tests.compare.browsing import wait
from tests.compare.listening.reports import METHODS

pytestmark = pytest.mark.slow

GRADES = {REFERENCE: 100, "ste": 61, "fourier": 37, "low_anchor": 8}


@pytest.fixture
def server(begin: Any) -> Iterator[ListeningServer]:
    with ListeningServer(begin()) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def visit(browser: Any, server: ListeningServer) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end nothing may have been asked of anyone else, or complained of."""
    complaints: list[str] = []
    contexts = []

    def visit(**options: Any) -> Any:
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith(server.address) or complaints.append(request.url))
        page.on("console", lambda message: "status of 500" in message.text or complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.address)
        page.evaluate("""() => {
            const load = BlindPlayer.prototype.load;
            BlindPlayer.prototype.load = function (versions) { window.heard = this; return load.call(this, versions); };
        }""")
        page.locator("#begin").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def audible(page: Any) -> list[str]:
    """Tokens of what comes out once a switch is over."""
    page.wait_for_timeout(80)
    return page.evaluate("[...heard.voices].filter(([, voice]) => voice.gain.gain.value > 0).map(([key]) => key)")


def sliders(page: Any) -> Any:
    return page.locator("#conditions input")


def click_at(page: Any, number: int, grade: int) -> None:
    """Press where a grade stands on the scale of a version, numbered from 1."""
    box = sliders(page).nth(number - 1).bounding_box()
    thumb = 20
    page.mouse.click(box["x"] + thumb / 2 + (box["width"] - thumb) * grade / 100, box["y"] + box["height"] / 2)


def rate_by_keys(page: Any, conditions: Any) -> None:
    for number, condition in enumerate(conditions, 1):
        page.keyboard.press(str(number))
        page.keyboard.press("Home")
        for _ in range(GRADES[condition] // 10):
            page.keyboard.press("PageUp")
        for _ in range(GRADES[condition] % 10):
            page.keyboard.press("ArrowRight")


def test_two_recordings_by_mouse_and_by_keys(visit, server, tmp_path):
    page = visit()
    session = server.session
    first, second = session.plan.trials
    told = session.state()["trials"]
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Play a recording").click()
    wait(page, "window.heard?.playing && heard.getContext().state === 'running'")
    assert audible(page) == [session.state()["practice"]["reference"]]
    page.get_by_role("button", name="Begin").click()

    page.get_by_role("heading", name="Recording 1 of 2").wait_for()
    following = page.get_by_role("button", name="Save, next recording")
    assert [sliders(page).nth(i).is_enabled() for i in range(4)] == [False] * 4
    assert sliders(page).nth(0).get_attribute("aria-valuetext") == "not rated"
    page.get_by_role("button", name="Reference").click()
    wait(page, "window.heard?.playing && heard.position > 0.05")
    assert audible(page) == [told[0]["reference"]]
    for number, condition in enumerate(first.conditions, 1):
        assert following.is_disabled()
        assert page.locator("#missing").text_content() == "still to be rated: " + ", ".join(map(str, range(number, 5)))
        click_at(page, number, GRADES[condition])  # what is not heard cannot be rated: the press plays it
        assert audible(page) == [told[0]["conditions"][number - 1]]
        assert page.locator(".grade").nth(number - 1).text_content() == "–"
        assert [sliders(page).nth(i).is_enabled() for i in range(4)] == [i == number - 1 for i in range(4)]
        assert page.get_by_role("button", name=f"Version {number}").get_attribute("aria-pressed") == "true"
        click_at(page, number, GRADES[condition])
        assert abs(int(sliders(page).nth(number - 1).input_value()) - GRADES[condition]) <= 1
        sliders(page).nth(number - 1).fill(str(GRADES[condition]))
        assert page.locator(".grade").nth(number - 1).text_content() == str(GRADES[condition])
    page.get_by_label("Comment").press_sequentially("a hiss, r 1 n in 3")  # in a text the keys are letters
    assert page.get_by_role("button", name="Version 4").get_attribute("aria-pressed") == "true"
    for name in (*METHODS.values(), *session.material.clips):
        assert name not in page.content()
    following.click()

    page.get_by_role("heading", name="Recording 2 of 2").wait_for()
    assert session.done == 1
    page.keyboard.press("n")  # too early
    page.keyboard.press("r")
    assert audible(page) == [told[1]["reference"]]
    rate_by_keys(page, second.conditions)
    assert audible(page) == [told[1]["conditions"][3]]
    page.keyboard.press("Space")
    assert not page.evaluate("heard.playing")
    page.keyboard.press("Space")
    assert page.evaluate("heard.playing")
    page.keyboard.press("l")
    assert page.get_by_role("button", name="Repeat").get_attribute("aria-pressed") == "false"
    page.keyboard.press("n")

    page.get_by_role("heading", name="Thank you").wait_for()
    rows = read_ratings(tmp_path / "ratings.csv")
    assert {(row.clip, row.condition): row.rating for row in rows} == {
        (trial.clip, condition): grade for trial in (first, second) for condition, grade in GRADES.items()
    }
    assert {row.listener for row in rows} == {"Ann"}
    assert {row.comment for row in rows} == {"a hiss, r 1 n in 3", ""}
    own = page.locator("#own tr").filter(has_text=METHODS["fourier"]).locator("td").all_text_contents()
    assert own == ["37", "37"]
    assert "61 (61 to 61)" in page.locator("#all tr").filter(has_text="straight-through").text_content()


def test_practice_is_not_saved_and_a_new_page_goes_on(visit, server, tmp_path):
    page = visit()
    page.get_by_role("button", name="Practice first").click()
    page.get_by_role("heading", name="Practice, not saved").wait_for()
    page.keyboard.press("9")  # there are four
    page.keyboard.press("1")
    page.keyboard.press("Enter")  # leaves the rating in the middle
    assert page.locator(".grade").all_text_contents() == ["50", "–", "–", "–"]
    page.get_by_role("button", name="End practice").click()
    # Keys that come while the sounds are on their way do nothing.
    page.evaluate("""() => {
        document.getElementById("begin").click();
        document.getElementById("trial").hidden = false;
        for (const code of ["Digit1", "Space"])
            dispatchEvent(new KeyboardEvent("keydown", { code, key: code === "Space" ? " " : "1" }));
    }""")
    page.get_by_role("heading", name="Recording 1 of 2").wait_for()
    assert not page.evaluate("heard.playing")
    assert page.locator(".grade").all_text_contents() == ["–"] * 4
    assert read_ratings(tmp_path / "ratings.csv") == []
    rate_by_keys(page, server.session.plan.trials[0].conditions)
    page.keyboard.press("n")
    page.get_by_role("heading", name="Recording 2 of 2").wait_for()
    page.reload()
    page.get_by_role("button", name="Go on with recording 2 of 2").click()
    page.get_by_role("heading", name="Recording 2 of 2").wait_for()
    assert len(read_ratings(tmp_path / "ratings.csv")) == 4


def test_what_cannot_be_saved_is_said_and_kept(visit, server, tmp_path, monkeypatch):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name="Recording 1 of 2").wait_for()
    # On a phone nothing is wider than the screen, and everything has a name.
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for role in ("button", "slider", "textbox"):
        for part in page.get_by_role(role).all():
            assert part.evaluate("part => part.ariaLabel || part.labels?.[0]?.textContent || part.textContent")
    rate_by_keys(page, server.session.plan.trials[0].conditions)

    def full(path, rows):
        raise DataError(f"{path.name}: cannot be written (No space left on device)")

    monkeypatch.setattr(session_module, "add_ratings", full)
    page.keyboard.press("n")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.text_content() == "This did not work: ratings.csv: cannot be written (No space left on device)"
    monkeypatch.undo()
    page.keyboard.press("n")
    page.get_by_role("heading", name="Recording 2 of 2").wait_for()
    assert alert.is_hidden()
    assert [row.rating for row in read_ratings(tmp_path / "ratings.csv")] == [
        GRADES[condition] for condition in server.session.plan.trials[0].conditions
    ]


def test_a_switch_fades_out_before_it_fades_in(visit):
    """BS.1534-3 §5.3, in the samples: 5 ms out, 5 ms in, each a raised cosine, and never both at once."""
    rendered = visit().evaluate("""async () => {
        const rate = 48000;
        const context = new OfflineAudioContext(2, rate / 2, rate);
        const player = new BlindPlayer(() => context);
        player.wake = () => {};
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
    import numpy as np

    one, other = (np.array(channel) / level for channel, level in zip(rendered, (0.5, 0.25), strict=True))
    assert one[0] == 1
    assert other[0] == 0
    assert one[-1] == 0
    assert other[-1] == 1
    assert not ((one > 1e-6) & (other > 1e-6)).any()
    begin = int(np.argmax(one < 1))
    time = (np.arange(len(one)) - begin) / 48000
    fall = (1 + np.cos(np.pi * np.clip(time / 0.005, 0, 1))) / 2
    rise = (1 - np.cos(np.pi * np.clip(time / 0.005 - 1, 0, 1))) / 2
    # Within two samples of 240, of which the steepest step is 0.65 % of full scale.
    np.testing.assert_allclose(one, fall, atol=0.02)
    np.testing.assert_allclose(other, rise, atol=0.02)


def test_what_is_repeated_begins_and_ends_in_a_fade(visit, server):
    page = visit()
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", name="Recording 1 of 2").wait_for()
    import numpy as np

    ends = page.evaluate("""() => [...heard.buffers.values()].map((buffer) => {
        const samples = buffer.getChannelData(0);
        return [samples.length / buffer.sampleRate, samples[0], samples[samples.length - 1], Math.max(...samples)];
    })""")
    assert len(ends) == 5
    assert len({length for length, *_ in ends}) == 1
    assert np.abs([values[1:3] for values in ends]).max() < 1e-4
    assert min(values[3] for values in ends) > 0.2
