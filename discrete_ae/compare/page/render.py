"""A page as one HTML file: styles, programs, pictures and recordings are in it, and it may load nothing."""

from markupsafe import Markup

from discrete_ae.compare.page import view
from discrete_ae.compare.page.assets import asset, environment, policy
from discrete_ae.compare.page.content import Page

SECTIONS = {
    "findings": "Differences",
    "rows": "Table",
    "figures": "Plots",
    "clips": "Listening",
    "notes": "Limits",
    "commands": "Commands",
}
"""Attributes of a page that are sections of it, in their order, by their names in the line of links."""


def render(page: Page) -> str:
    """HTML of the page, in which a section without content is left out.

    Texts may hold anything; the SVG of a figure is taken as it is.

    Raises:
        ValueError: the clips have not all the same versions, each once.
    """
    names = ["theme.js", "table.js", "pairs.js", "plots.js", *(["player.js", "grid.js"] if page.clips else [])]
    scripts = [asset(name) for name in names]
    filled = {key for key in SECTIONS if getattr(page, key)} | ({"findings"} if page.pairs else set())
    return (
        environment()
        .get_template("page.html")
        .render(
            page=page,
            sections={key: name for key, name in SECTIONS.items() if key in filled},
            columns=view.columns(page),
            heads=view.heads(page),
            rows=view.table_rows(page),
            figures=[view.drawing(f"figure-{number}", figure) for number, figure in enumerate(page.figures, 1)],
            clips=view.grid(page.clips),
            policy=policy(scripts),
            style=Markup(asset("style.css")),
            scripts=[Markup(script) for script in scripts],
        )
    )
