"""The page read back by a parser of HTML and compared with what went in; what it does is tested in a browser."""

import base64
import hashlib
from html.parser import HTMLParser

import pytest

from discrete_ae.compare.page.content import Cell, Clip, PairRow, Row
from discrete_ae.compare.page.render import render
from discrete_ae.compare.page.view import table_rows
from tests.compare.pages import COLUMNS, ROWS, SVG, clip, page, row

VOID = {"meta", "link", "img", "input", "path", "rect", "use", "wbr"}


class Reader(HTMLParser):
    """Every element as (tag, attributes, the text right in it), and a complaint where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(html)
        self.close()
        assert not self.open, [self.elements[at][0] for at in self.open]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert tag == self.elements[self.open.pop()][0]

    def handle_data(self, data):
        if self.open:
            self.elements[self.open[-1]][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(texts)) for name, attributes, texts in self.elements if name == tag]


@pytest.fixture(scope="module")
def whole() -> Reader:
    return Reader(render(page()))


def test_everything_given_is_on_the_page(whole):
    text = " ".join("".join(texts) for _, _, texts in whole.elements)
    content = page()
    for given in (
        content.title,
        *content.summary,
        *content.findings,
        *content.notes,
        *content.commands,
        *(column.meaning for column in content.columns),
        *(cell.text for entry in content.rows for cell in entry.cells.values()),
        *(figure.description for figure in content.figures),
        *(version.note for entry in content.clips for version in entry.versions),
        content.version,
    ):
        assert given in text


def test_recordings_and_pictures_are_in_it_to_the_byte(whole):
    sounds = {attributes["id"]: text for attributes, text in whole.of("script") if attributes.get("type")}
    buttons = [attributes for attributes, _ in whole.of("button") if "data-version" in attributes]
    pictures = [attributes["src"] for attributes, _ in whole.of("img")]
    versions = [version for entry in page().clips for version in entry.versions]
    assert len(buttons) == len(pictures) == len(sounds) == 6
    for button, picture, version in zip(buttons, pictures, versions, strict=True):
        assert button["data-version"] == version.key
        assert base64.b64decode(sounds[button["data-audio"]], validate=True) == version.flac
        assert (
            base64.b64decode(picture.removeprefix("data:image/png;base64,"), validate=True) == version.spectrogram_png
        )


def test_only_its_own_programs_may_run(whole):
    (policy,) = (a["content"] for a, _ in whole.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    programs = [text for attributes, text in whole.of("script") if "type" not in attributes]
    digests = [base64.b64encode(hashlib.sha256(program.encode()).digest()).decode() for program in programs]
    assert len(programs) == 6
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert not any(attribute.startswith("on") for _, attributes, _ in whole.elements for attribute in attributes)


def test_ids_are_unique_and_what_refers_to_them_finds_them(whole):
    ids = [attributes["id"] for _, attributes, _ in whole.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {"figure-1-m1", "figure-2-m1", "figure-1-p1", "figure-2-p1"} <= set(ids)
    for _, attributes, _ in whole.elements:
        for name in ("href", "xlink:href", "aria-labelledby", "aria-describedby", "data-audio"):
            for reference in (attributes.get(name) or "").split():
                assert reference.removeprefix("#") in ids or reference == "data:,"
    clipped = [attributes["clip-path"] for attributes, _ in whole.of("g")]
    assert clipped == ["url(#figure-1-p1)", "url(#figure-2-p1)"]


def test_the_styles_of_a_drawing_stay_in_it(whole):
    assert [text for _, text in whole.of("style")[1:]] == [
        f"#figure-{number} *{{stroke-linejoin: round}}" for number in (1, 2)
    ]


def test_the_best_of_a_column_is_a_method_and_only_where_one_way_is_better():
    best = {(entry.label, at) for entry in table_rows(page()) for at, cell in enumerate(entry.cells) if cell.is_best}
    # Not the bound with 0.1 and 20, nor Opus with 12; of bitrates none is better.
    assert best == {("fourier", 0), ("ste", 1)}


def test_what_is_best_can_be_given():
    given = [Cell(0.5, "0.5", is_best=False), Cell(0.6, "0.6", is_best=True), Cell(0.7, "0.7")]
    rows = [Row(cell.text, {"mel": cell}, False, "") for cell in given]
    assert [entry.cells[0].is_best for entry in table_rows(page(rows=rows))] == [False, True, False]


@pytest.mark.parametrize(("sorted_by", "order", "minor"), [("sdr", ["sdr", "rate", "mel"], "mel"), ("mel", None, None)])
def test_columns_shown_on_demand_are_behind_the_others_unless_the_rows_are_sorted_by_one(sorted_by, order, minor):
    columns = [COLUMNS[0]._replace(is_minor=True), *COLUMNS[1:]]
    content = page(columns=columns, sorted_by=sorted_by, rows=[row("a", 1.0, 2.0, 3.0)])
    reader = Reader(render(content))
    names = {column.label: column.key for column in columns}
    heads = [attributes for attributes, _ in reader.of("th") if attributes.get("data-label") in names]
    assert [names[attributes["data-label"]] for attributes in heads] == (order or ["mel", "sdr", "rate"])
    assert [names[a["data-label"]] for a in heads if a.get("class") == "minor"] == ([minor] if minor else [])
    cells = {text: attributes.get("class") for attributes, text in reader.of("td") if "data-value" in attributes}
    assert cells == {"1": "minor" if minor else None, "2": None, "3": None}
    assert any("data-more-columns" in attributes for attributes, _ in reader.of("button")) == (minor is not None)


def test_all_pairs_are_on_the_page_below_the_findings_or_without_any():
    pairs = [PairRow(f"a{i}", f"b{i}", f"q{i % 2}", f"−{i} dB", f"−{i}.5 to 0", f"verdict {i}") for i in range(3)]
    reader = Reader(render(page(findings=[], pairs=pairs)))
    assert next(a["id"] for a, _ in reader.of("section")) == "findings"
    assert [text for a, text in reader.of("a") if a["href"] == "#findings"] == ["Differences"]
    texts = [text for tag, _, found in reader.elements if tag in ("th", "td") if (text := "".join(found))]
    assert texts[6 : 6 + 18] == [text for pair in pairs for text in pair]
    assert [a["value"] for a, _ in reader.of("option")] == ["", "q0", "q1"]


def test_nothing_is_best_of_one_and_equals_are_best_together():
    def best(*values: float | None) -> list[bool]:
        rows = [row(str(value), value, None, None) for value in values]
        return [entry.cells[0].is_best for entry in table_rows(page(rows=rows))]

    assert best(0.5) == [False]
    assert best(0.5, None) == [False, False]
    assert best(0.5, float("nan")) == [False, False]
    assert best(0.7, 0.5, 0.5) == [False, True, True]


def test_a_cell_that_is_not_there_or_no_number_is_a_cell_without_value():
    rows = [Row("a", {"mel": Cell(float("nan"), "?")}, False, "")]
    (entry,) = table_rows(page(rows=rows))
    assert [(cell.value, cell.text) for cell in entry.cells] == [("", "?"), ("", "–"), ("", "–")]


def test_values_are_sorted_by_all_their_digits():
    (entry,) = table_rows(page(rows=[row("a", 0.1 + 0.2, -1e-9, 12345678.0)]))
    assert [float(cell.value) for cell in entry.cells] == [0.1 + 0.2, -1e-9, 12345678.0]


@pytest.mark.parametrize(
    ("key", "rows", "order"),
    [
        ("mel", ROWS, "ascending"),
        ("mel", ROWS[::-1], "descending"),
        ("sdr", [ROWS[1]], "descending"),  # one row has both orders: that in which the best comes first
        ("mel", [ROWS[1]], "ascending"),
    ],
)
def test_the_heading_says_how_the_rows_come_sorted(key, rows, order):
    headings = Reader(render(page(rows=rows, sorted_by=key, clips=[]))).of("th")
    assert {a["data-label"]: a["aria-sort"] for a, _ in headings if "aria-sort" in a} == {
        next(column.label for column in COLUMNS if column.key == key): order
    }


def test_sections_without_content_are_left_out():
    empty = {"findings": [], "rows": [], "figures": [], "clips": [], "notes": [], "commands": [], "summary": []}
    reader = Reader(render(page(**empty)))
    assert not reader.of("section")
    assert not [a for a, _ in reader.of("a") if a.get("class") != "skip"]
    assert all(text for _, text in reader.of("script"))
    for name in set(empty) - {"summary"}:
        reader = Reader(render(page(**(empty | {name: getattr(page(), name)}))))
        assert [a["id"] for a, _ in reader.of("section")] == [name]
        assert [a["href"] for a, _ in reader.of("a") if a.get("class") != "skip"] == [f"#{name}"]


HOSTILE = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }} &amp; 'it'", "a_b</td>")


def named(name: str) -> Reader:
    """A page on which everything that can be named has this name."""
    version = clip("short").versions[0]._replace(key=name, label=name, note=name)
    return Reader(
        render(
            page(
                title=name,
                summary=[name],
                findings=[name],
                notes=[name],
                commands=[name],
                version=name,
                columns=[COLUMNS[0]._replace(label=name, unit=name, meaning=name), *COLUMNS[1:]],
                rows=[row(name, 1.0, 2.0, 3.0)._replace(note=name)],
                clips=[Clip(name, 1.0, (version,))],
                pairs=[PairRow(*[name] * 6)],
            )
        )
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_from_outside_stay_texts(name):
    hostile, harmless = named(name), named("harmless")
    assert [text for _, text in hostile.of("title") + hostile.of("h1")] == [name, name]
    assert [text for _, text in hostile.of("li")] == [name, name]

    def shape(reader: Reader) -> list[tuple[str, set[str]]]:
        """All elements but those that follow from the words of a name."""
        found = [(tag, attributes) for tag, attributes, _ in reader.elements if tag != "wbr"]
        return [(tag, set(attributes)) for tag, attributes in found if attributes.get("class") != "word"]

    assert shape(hostile) == shape(harmless)


def test_clips_of_unlike_versions_are_refused():
    long, short = clip("long"), clip("short")
    for versions in (short.versions[:2], short.versions[::-1], (*short.versions, short.versions[0])):
        with pytest.raises(ValueError, match="same versions"):
            render(page(clips=[long, short._replace(versions=versions)]))
    twice = long._replace(versions=(*long.versions, long.versions[0]))
    with pytest.raises(ValueError, match="once"):
        render(page(clips=[twice]))


def test_svg_of_the_tests_has_what_the_tests_look_for():
    assert all(part in SVG for part in ('id="m1"', '"#m1"', "url(#p1)", "<style", "*{"))
