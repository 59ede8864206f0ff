"""The leaderboard in a browser, with votes: filters and sorting, and every page of it by axe's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import voting
from browser import SCHEMES, WIDTHS, chromium, visit
from test_leaderboard import add_run
from visitors import Arena

PAGES = (
    "/leaderboard",
    "/leaderboard?category=code&style=1&sort=accuracy",
    "/leaderboard/record",
    "/methods",
    "/models/smollm2",
    "/models/smollm2%23int4",
    "/runs",
    "/runs/abc123",
    "/votes",
)
LOOKS = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def address(arena: Callable[..., Arena]) -> Iterator[str]:
    site = arena()
    voting.offer(site.site.ledger)
    voting.cast(site.site.ledger, 400, people=8)
    add_run(site, "abc123")
    site.app.state.live.start()
    with site.serving() as where:
        yield where
    site.app.state.live.stop()


def test_filters_show_at_once_and_heads_sort(browser: Any, address: str) -> None:
    with visit(browser, f"{address}/leaderboard", 390, "dark") as visited:
        page = visited.page
        assert page.locator("#filters button").is_hidden()  # the script shows at once what is chosen
        page.check("input[name=style]")
        page.wait_for_url("**/leaderboard?style=1")
        page.uncheck("input[name=style]")
        page.wait_for_url("**/leaderboard**")
        page.select_option("#category", "code")
        page.wait_for_url("**/leaderboard?category=code")
        page.get_by_role("link", name="Votes", exact=True).click()
        page.wait_for_url("**sort=votes&order=down")
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("Votes")
        votes = [int(text.replace(",", "")) for text in page.locator("tbody tr td:nth-child(4)").all_inner_texts()[:8]]
        assert votes == sorted(votes, reverse=True)
        assert not visited.violations()
        assert not visited.sticks_out()
        assert not visited.complaints


@pytest.mark.verify
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_page_is_sound(browser: Any, address: str, width: int, scheme: str) -> None:
    for path in PAGES:
        with visit(browser, f"{address}{path}", width, scheme) as visited:
            assert not visited.violations(), path
            assert not visited.sticks_out(), path
            assert not visited.complaints, path
            assert all(request.startswith((address, "data:")) for request in visited.requests), path
