"""What the tests of the pages do in a browser, and ask of it."""

from typing import Any

GRID = "#clips [role=grid]"


def button(page: Any, clip: str, version: str) -> Any:
    return page.get_by_role("button", name=f"Play {clip}: {version.upper()}", exact=True)


def playing(page: Any) -> bool:
    return page.evaluate("player.playing && audioContext.state === 'running'")


def wait(page: Any, condition: str) -> None:
    """Until a condition in JavaScript holds, for 10 s at most; Playwright's own way to wait is against the policy."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)
