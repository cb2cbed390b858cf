"""The page in a real browser: wide tables and plots on screens of all widths, and on paper."""

import pytest

from discrete_ae.compare.page.content import Cell, Column, Figure, PairRow, Row
from discrete_ae.compare.page.render import render
from tests.compare.pages import page

pytestmark = pytest.mark.slow

# Of the size of the report's plots: its width in points is more than a phone has, and 10 points are 13.3 px.
PLOT = """<svg xmlns="http://www.w3.org/2000/svg" width="532.8pt" height="475.2pt" viewBox="0 0 532.8 475.2">
<text x="450" y="20" style="font: 10px sans-serif">legend</text></svg>"""
LABELS = ("mel distance", "STFT distance", "SI-SDR", "STOI", "PESQ", "entropy-coded bitrate", "usage", "perplexity")
MINOR = ("nominal bitrate", "encode RTF", "decode RTF", "parameters", "MACs/s")
WIDTHS = "e => [e.clientWidth, e.scrollWidth]"


def wide() -> str:
    """Ten methods with all columns that there may be, all pairs of them, and two plots."""
    columns = [Column(label, label, "kbps", True, "", label in MINOR) for label in (*LABELS, *MINOR)]
    cells = {column.key: Cell(1.0, "0.404 ± 0.002") for column in columns}
    rows = [Row(f"a_long_name_{number}", cells, False, "3 seeds") for number in range(10)]
    pairs = [PairRow(a.label, b.label, key, "0.4", "0.3 to 0.5", "better")
             for key in ("STOI", "PESQ") for a in rows for b in rows if a.label < b.label]  # fmt: skip
    figures = [Figure("Rate", PLOT, "In words."), Figure("Curves", PLOT, "In words.")]
    return render(page(columns=columns, rows=rows, sorted_by="STOI", pairs=pairs, figures=figures))


def test_the_main_columns_fit_and_the_others_come_on_demand(visit):
    site = visit(wide(), viewport={"width": 1440, "height": 900})
    scroller, last = site.locator("#rows .scroll"), site.locator("th[data-label='MACs/s']")
    inside, content = scroller.evaluate(WIDTHS)
    assert content <= inside
    assert site.locator(".sortable thead th:visible").count() == 1 + len(LABELS)
    more = site.get_by_role("button", name="More columns")
    assert more.get_attribute("aria-pressed") == "false"
    more.focus()
    site.keyboard.press("Enter")
    assert more.get_attribute("aria-pressed") == "true"
    assert site.locator(".sortable thead th:visible").count() == 1 + len(LABELS) + len(MINOR)
    assert site.locator(".sortable tbody tr").first.locator("td:visible").count() == len(LABELS) + len(MINOR)
    inside, content = scroller.evaluate(WIDTHS)
    assert content > inside
    more.click()
    assert not last.is_visible()


def test_without_its_programs_and_on_paper_the_table_is_whole(visit):
    site = visit(wide())
    last = site.locator("th[data-label='MACs/s']")
    site.locator(".pairs summary").click()
    site.get_by_label("Quantity").select_option("STOI")
    assert not last.is_visible()
    site.set_viewport_size({"width": 718, "height": 1047})  # A4 without its margins
    site.emulate_media(media="print")
    assert last.is_visible()
    assert site.evaluate("document.documentElement.scrollWidth") == 718
    assert site.locator(".pairs tbody tr:visible").count() == 90
    bare = visit(wide(), java_script_enabled=False)
    assert bare.locator("th[data-label='MACs/s']").is_visible()
    assert bare.locator("[data-enlarge]:visible, [data-more-columns]:visible, select:visible").count() == 0


def test_the_edge_at_which_a_table_is_cut_lies_in_shadow(visit):
    site = visit(wide(), viewport={"width": 800, "height": 900}, color_scheme="light")
    scroller = site.locator("#rows .scroll")
    scroller.evaluate("e => { for (const text of e.querySelectorAll('table *')) text.style.color = 'transparent'; }")

    def edge() -> bytes:
        scroller.scroll_into_view_if_needed()
        box = scroller.bounding_box()
        # Below the headings, right of the middle, clear of borders.
        place = {"x": box["x"] + box["width"] - 12, "y": box["y"] + box["height"] / 2, "width": 8, "height": 4}
        return site.screenshot(clip=place)

    before = edge()
    scroller.evaluate("e => e.scrollTo(e.scrollWidth, 0)")
    assert edge() != before
    scroller.evaluate("e => e.scrollTo(0, 0)")
    assert edge() == before


@pytest.mark.parametrize("width", [1440, 1280, 641, 390, 320])
def test_a_plot_is_as_wide_as_its_card(visit, width):
    site = visit(wide(), viewport={"width": width, "height": 844})
    for plot in site.locator(".plot").all():
        inside, content = plot.evaluate(WIDTHS)
        assert content == inside
        drawn = plot.locator("svg").bounding_box()
        assert drawn["width"] == pytest.approx(inside, abs=1)
        assert drawn["height"] / drawn["width"] == pytest.approx(475.2 / 532.8, abs=0.01)
    assert site.evaluate("document.documentElement.scrollWidth") == width


def test_a_plot_can_be_enlarged_until_its_text_is_legible(visit):
    site = visit(wide(), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    size = "e => e.getScreenCTM().a * 10"  # of its text in CSS pixels
    text, dialog = site.locator("#figure-2 text"), site.get_by_role("dialog", name="Curves")
    enlarge = site.get_by_role("button", name="Enlarge the plot: Curves")
    assert text.evaluate(size) < 9
    assert enlarge.bounding_box()["height"] >= 44
    height = site.evaluate("document.documentElement.scrollHeight")
    enlarge.focus()
    site.keyboard.press("Enter")
    assert dialog.is_visible()
    assert text.evaluate(size) >= 13
    assert abs(site.evaluate("document.documentElement.scrollHeight") - height) <= 1  # of rounded heights
    stage = site.locator(".stage")
    for _ in range(20):
        site.keyboard.press("ArrowRight")
        site.wait_for_timeout(30)
    seen, box = stage.bounding_box(), text.bounding_box()
    assert box["x"] + box["width"] <= seen["x"] + seen["width"]
    site.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert enlarge.evaluate("e => e === document.activeElement")
    assert site.locator(".plot > #figure-2").count() == 1
    assert text.evaluate(size) < 9
    enlarge.tap()
    site.get_by_role("button", name="Close").tap()
    assert not dialog.is_visible()
    assert [plot.locator("svg").count() for plot in site.locator(".plot").all()] == [1, 1]


def test_pairs_are_folded_up_and_shown_by_quantity(visit):
    site = visit(wide())
    rows, status = site.locator(".pairs tbody tr:visible"), site.locator(".pairs [role=status]")
    assert rows.count() == 0
    site.locator(".pairs summary").focus()
    site.keyboard.press("Enter")
    assert (rows.count(), status.text_content()) == (90, "90 of 90 shown")
    site.get_by_label("Quantity").select_option("PESQ")
    assert (rows.count(), status.text_content()) == (45, "45 of 90 shown")
    assert set(rows.locator("td:nth-child(3)").all_text_contents()) == {"PESQ"}
    site.get_by_label("Quantity").select_option("all")
    assert rows.count() == 90
