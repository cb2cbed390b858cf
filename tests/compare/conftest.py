"""A headless Chromium, and pages opened in it from disk without a network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from discrete_ae.compare.page import render
from tests.compare.pages import page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of the system by Playwright; the test is skipped where there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def html() -> str:
    """A page with something in every section."""
    return render(page())


@pytest.fixture
def complaints() -> list[str]:
    """What the pages of this test asked for beyond their own file, wrote to the console, or threw."""
    return []


@pytest.fixture
def visit(browser: Any, complaints: list[str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Function that opens HTML from a file, offline, with options of Playwright's `new_context`.

    At the end of the test there must be no complaints.
    """
    contexts = []

    def visit(html: str, **options: Any) -> Any:
        path = tmp_path / "a page.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(offline=True, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        site = context.new_page()
        site.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url[:200]))
        site.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        site.on("pageerror", lambda error: complaints.append(str(error)))
        site.goto(path.as_uri())
        return site

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
