"""The page read back by a parser of HTML and compared with what went in; what it does is tested in a browser."""

import base64
import hashlib
from html.parser import HTMLParser

import pytest

from discrete_ae.compare.page import SECTIONS, Clip, material, render
from tests.compare.pages import COLUMNS, clip, page, row

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


def test_everything_given_is_on_the_page_recordings_and_pictures_to_the_byte(whole):
    text = " ".join("".join(texts) for _, _, texts in whole.elements)
    content = page()
    for given in (
        *(content.title, content.version, content.headline, *content.findings, *content.notes, content.command),
        *(*content.facts, *content.facts.values(), *content.method),
        *(column.meaning for column in content.columns),
        *(cell.text for entry in content.rows for cell in entry.cells.values()),
        *(figure.description for figure in content.figures),
        *(version.note for entry in content.clips for version in entry.versions),
        *(text for pairs in content.pairs.values() for pair in pairs for text in pair),
    ):
        assert given in text
    sounds = {(a["data-of"], a["data-key"]): text for a, text in whole.of("script") if a.get("type")}
    expected = {
        (str(i), version.key): version.flac
        for i, entry in enumerate(content.clips)
        for version in (*entry.versions, *entry.anchors)
    }
    assert len(expected) == 2 * 4  # at 16 kHz there is one anchor
    assert {place: base64.b64decode(text, validate=True) for place, text in sounds.items()} == expected
    pictures = [base64.b64decode(a["src"].removeprefix("data:image/png;base64,")) for a, _ in whole.of("img")]
    assert pictures == [version.spectrogram_png for entry in content.clips for version in entry.versions]


def test_the_policy_names_its_own_programs_alone(whole):
    (policy,) = (a["content"] for a, _ in whole.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    digests = [hashlib.sha256(text.encode()).digest() for a, text in whole.of("script") if "type" not in a]
    assert rules["script-src"].split() == [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")


def test_drawings_do_not_meddle_with_one_another(whole):
    ids = [attributes["id"] for _, attributes, _ in whole.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {"figure-1-m1", "figure-2-m1", "figure-1-p1", "figure-2-p1"} <= set(ids)
    for _, attributes, _ in whole.elements:
        for name in ("href", "xlink:href", "aria-labelledby", "aria-describedby"):
            for reference in (attributes.get(name) or "").split():
                assert reference.removeprefix("#") in ids or reference == "data:,"
    clipped = [attributes["clip-path"] for attributes, _ in whole.of("g")]
    assert clipped == ["url(#figure-1-p1)", "url(#figure-2-p1)"]
    styles = [text for _, text in whole.of("style")[1:]]
    assert styles == [f"#figure-{number} *{{stroke-linejoin: round}}" for number in (1, 2)]


@pytest.mark.parametrize(("sorted_by", "minor"), [("mel", "rate"), ("rate", "mel")])
def test_columns_shown_on_demand_are_behind_the_others_unless_the_rows_are_sorted_by_one(sorted_by, minor):
    values = {"mel": 0.1 + 0.2, "sdr": -1e-9, "rate": 12345678.0}
    content = page(sorted_by=sorted_by, minor=["mel", "rate"], rows=[row("a", *values.values())], clips=[])
    reader = Reader(render(content))
    names = {column.label: column.name for column in COLUMNS}
    heads = {names[a["data-label"]]: a for a, _ in reader.of("th") if a.get("data-label") in names}
    assert list(heads)[2] == minor
    assert [name for name, a in heads.items() if a.get("class") == "minor"] == [minor]
    assert {name: a["aria-sort"] for name, a in heads.items() if "aria-sort" in a} == {sorted_by: "ascending"}
    cells = [attributes for attributes, _ in reader.of("td") if "data-value" in attributes]
    assert [float(a["data-value"]) for a in cells] == [values[name] for name in heads]  # all digits
    assert [a.get("class") for a in cells] == [None, None, "minor"]


def test_sections_without_content_are_left_out():
    empty = {name: type(getattr(page(), name))() for name in (*SECTIONS, "headline", "facts", "pairs", "method")}
    for name in ("rows", "command"):
        reader = Reader(render(page(**(empty | {name: getattr(page(), name)}))))
        assert [a["id"] for a, _ in reader.of("section") if "id" in a] == [name]
        assert [a["href"] for a, _ in reader.of("a") if "class" not in a] == [f"#{name}"]


def named(name: str) -> Reader:
    """A page on which everything that can be named has this name."""
    version = clip("short").versions[0]._replace(key=name, label=name, note=name)
    return Reader(
        render(
            page(
                **dict.fromkeys(("title", "version", "command", "headline"), name),
                **{key: [name] for key in ("findings", "notes", "method")},
                facts={name: name},
                rows=[row(name, 1.0, 2.0, 3.0)._replace(note=name)],
                clips=[Clip(name, 1.0, (version, version), (version,))],
                pairs={name: [(name,) * 5]},
            )
        )
    )


def test_texts_from_outside_stay_texts():
    name = """</script><script>alert(1)</script>"><img src=x onerror=alert(1)>{{ 7 * 7 }} &amp; 'it'</td>"""
    hostile, harmless = named(name), named("harmless")
    assert [text for _, text in hostile.of("title") + hostile.of("h1")] == [name, name, "Blind listening"]

    def shape(reader: Reader) -> list[tuple[str, set[str]]]:
        return [(tag, set(attributes)) for tag, attributes, _ in reader.elements if tag != "wbr"]

    assert shape(hostile) == shape(harmless)


def test_material_is_of_what_is_heard():
    long, short = clip("long"), clip("short")
    spoilt = short._replace(versions=(*short.versions[:2], short.versions[2]._replace(flac=short.versions[1].flac)))
    assert len({material(clips) for clips in ([long, short], [short, long], [long], [long, spoilt])}) == 4
