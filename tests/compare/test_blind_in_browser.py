"""The blind test as a listener takes it, in a real browser, from disk: to the file of ratings and its summary."""

import csv
import re
from collections import Counter
from typing import Any

import pytest

from discrete_ae.compare.page import material
from discrete_ae.compare.ratings import read_ratings, summarize
from tests.compare.pages import BASE_HZ, clip, wait

pytestmark = pytest.mark.slow

GRADES = {"reference": 100, "low_anchor": 20, "ste": 61, "opus": 37}


def rank(*words: str) -> int:
    """FNV-1a of 32 bits, then the last steps of MurmurHash3."""
    number = 0x811C9DC5
    for byte in "\n".join(words).encode():
        number = (number ^ byte) * 0x01000193 % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        number = (number ^ (number >> shift)) * factor % 2**32
    return number


def order(listener: str, *, of: str) -> list[tuple[str, list[str]]]:
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


def test_two_recordings_are_rated_with_a_reload_amid_them(visit, html, tmp_path):
    site = visit(html)
    plan = order("Ann Ü", of=material([clip("long"), clip("short")]))
    (first, conditions), (_, others) = plan
    site.locator("#choice summary").click()
    site.get_by_role("link", name="To the test").click()
    begin(site, " Ann  Ü")
    site.get_by_role("heading", name="Recording 1 of 2").wait_for()

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
    site.keyboard.press("4")
    wait(site, "player.playing")
    site.keyboard.press("Enter")  # leaves the rating where it stands
    rate(site, conditions)
    following.click()

    site.get_by_role("heading", name="Recording 2 of 2").wait_for()
    rate(site, others)
    site.keyboard.press("n")
    own = site.locator("td")
    assert own.count() == 0
    with site.expect_download() as download:
        site.get_by_role("button", name="Save the ratings").click()
    assert download.value.suggested_filename == "ratings-Ann-Ü.csv"
    download.value.save_as(tmp_path / "ratings.csv")
    texts = own.all_text_contents()
    assert texts[texts.index("STE") :][:3] == ["STE", "61", "61"]
    site.get_by_role("link", name="To the report").click()
    assert site.get_by_role("heading", name="Three quantizers").is_visible()

    rows = list(csv.DictReader((tmp_path / "ratings.csv").read_text("utf-8").splitlines()))
    assert [(row["clip"], row["condition"]) for row in rows] == [(name, key) for name, keys in plan for key in keys]
    assert [(row["trial"], row["position"]) for row in rows] == [(t, p) for t in "12" for p in "1234"]
    assert [row["comment"] for row in rows] == ['hiss, r 1 n "3"'] * 4 + [""] * 4
    summary = summarize(read_ratings([tmp_path / "ratings.csv"]))
    assert {entry.key: entry.mean.mean for entry in summary.conditions} == GRADES
    assert (summary.listeners, summary.excluded) == (1, {})


def test_practice_is_not_saved_and_what_is_chosen_is_rated_on_a_phone(visit, html):
    site = visit(html, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, is_mobile=True)
    site.locator("#choice summary").tap()
    site.get_by_role("checkbox", name="STE").uncheck()
    site.get_by_role("link", name="To the test").tap()
    site.get_by_label("Your name").fill("bob")
    site.get_by_role("button", name="Practice first").tap()
    site.get_by_role("heading", name="Practice").wait_for()
    assert site.get_by_role("slider", name="Rating").count() == 3  # hidden reference, anchor, and one method
    assert site.evaluate("document.documentElement.scrollWidth") == 390
    site.get_by_role("button", name="Version 2").tap()
    wait(site, "player.playing")
    site.keyboard.press("Enter")
    site.get_by_role("button", name="End practice").tap()
    site.reload()  # the address keeps the choice
    begin(site, "bob")
    site.get_by_role("heading", name="Recording 1 of 2").wait_for()
    assert site.locator(".grade").all_text_contents() == ["–"] * 3
    assert site.get_by_role("button", name="Save what is rated").is_disabled()


def test_every_condition_comes_at_every_place_equally_often():
    plans = [order(f"listener {number}", of="m") for number in range(2000)]
    places = Counter((clip, key, keys.index(key)) for plan in plans for clip, keys in plan for key in keys)
    # Binomial with 1/4: mean 500, standard deviation 19.4. Five of them leave 32 counts a chance of 2e-5 in all.
    assert len(places) == 2 * 4 * 4
    assert all(abs(count - 500) < 5 * 19.4 for count in places.values())
    assert abs(sum(plan[0][0] == "long" for plan in plans) - 1000) < 5 * 22.4
