"""The page in a real browser: its table, its colors, its names, and its place on small and wide screens."""

from typing import Any

import pytest

from discrete_ae.compare.page.render import render
from tests.compare.browsing import GRID, button, wait
from tests.compare.pages import ROWS, clip, page, row

pytestmark = pytest.mark.slow


def labels(page: Any) -> list[str]:
    return page.locator(".sortable tbody th").evaluate_all("all => all.map(th => th.dataset.value)")


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
