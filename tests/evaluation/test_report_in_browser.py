"""The page in a real browser: accessible, within its window, silent, and usable by keyboard."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import SCHEMES, WIDTHS, chromium, visit
from example_run import SENTENCES, example_run

from fairground.evaluation.report import html_report

LONG = (
    "openai:an-organisation/a-very-long-name-of-a-model-with-70b-parameters-instruct-v2.1@https://host.example:8443/v1"
)
HOSTILE = '<img src=x onerror="console.log(1)">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's page, where one model has a very long name and one answer is hostile."""
    leaderboard, samples = copy.deepcopy(example_run(per_domain=6))
    leaderboard["models"][2]["model"] = LONG
    for sample in samples:
        if sample["model"] == "smollm2#int4":
            sample["model"] = LONG
        if sample["task"] == "open":
            sample["answer"] = f"{HOSTILE} {sample['answer']}"
    leaderboard["run"]["weights"] = {"accuracy": 2, "coherence": 1}
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html_report(leaderboard, samples, SENTENCES), encoding="utf-8")
    return path


def opened(page: Any) -> None:
    """Opens an item of choices, one of written answers and the comparisons."""
    page.wait_for_selector("#items details")
    page.locator("#items summary").first.click()
    page.select_option("#task", "open")
    page.locator("#items summary").first.click()
    page.select_option("#task", "")
    page.locator("#contains").fill("antibiotics")
    page.locator("#items .cards").first.wait_for()
    page.locator("#contains").fill("")
    page.locator("#leaderboard summary").click()
    page.locator("#differences summary").click()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_accessible_within_its_window_and_silent(browser: Any, file: Path, width: int, scheme: str) -> None:
    with visit(browser, file, width, scheme) as visited:
        opened(visited.page)
        assert visited.violations() == []
        assert not visited.sticks_out()
        assert visited.requests == [file.as_uri()]
        assert visited.complaints == []


def test_what_is_asserted_can_fail(browser: Any, file: Path) -> None:
    with visit(browser, file, 390) as visited:
        visited.page.evaluate("document.querySelector('main').append(document.createElement('img'))")
        visited.page.evaluate("document.querySelector('h1').style.width = '500px'")
        assert any(found.startswith("image-alt") for found in visited.violations())
        assert visited.sticks_out()


def test_leaderboard_needs_no_sideways_scrolling_on_a_small_desk(browser: Any, file: Path) -> None:
    with visit(browser, file, 1200) as visited:
        inside = "#leaderboard .scroll"
        assert visited.page.eval_on_selector(inside, "part => part.scrollWidth <= part.clientWidth")


def test_items_by_keyboard(browser: Any, file: Path) -> None:
    with visit(browser, file) as visited:
        page = visited.page
        page.wait_for_selector("#items details")
        assert page.locator("#count").inner_text() == "58 of 58 items"
        assert page.locator("#items details").count() == 40
        page.locator("#contains").focus()
        page.keyboard.type("CAFÉ")
        assert page.locator("#count").inner_text() == "6 of 58 items"
        for _ in range(4):  # task, domain (one only, so hidden), where models differ, the first item
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                break
        page.keyboard.press("Enter")
        table = page.locator("#items details").first.locator("table.choices")
        table.wait_for()
        assert table.locator("tbody tr").count() == 4
        assert table.locator("thead th").count() == 1 + 5
        assert table.locator(".gold").count() == 1
        page.locator("#contains").fill("")
        page.locator("#more").focus()
        page.keyboard.press("Enter")
        assert page.locator("#items details").count() == 58
        # Reading goes on at the first item that came.
        assert page.evaluate("[...document.querySelectorAll('#items summary')].indexOf(document.activeElement)") == 40


def test_items_are_filtered(browser: Any, file: Path) -> None:
    with visit(browser, file) as visited:
        page = visited.page
        page.wait_for_selector("#items details")
        page.select_option("#task", "science")
        assert page.locator("#count").inner_text() == "6 of 58 items"
        page.select_option("#task", "")
        page.check("#differ")
        shown = int(page.locator("#count").inner_text().split()[0])
        assert 0 < shown < 58
        page.uncheck("#differ")
        page.fill("#contains", "no item says this")
        assert page.locator("#count").inner_text() == "0 of 58 items"


def test_what_a_model_wrote_stays_text(browser: Any, file: Path) -> None:
    with visit(browser, file) as visited:
        visited.page.wait_for_selector("#items details")
        visited.page.select_option("#task", "open")
        visited.page.locator("#items summary").first.click()
        assert HOSTILE in visited.page.locator("#items .answer").first.inner_text()
        assert visited.page.locator("img").count() == 0


def test_page_without_numbers_is_accessible_too(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(html_report({"models": [{"model": "bare"}]}, []), encoding="utf-8")
    with visit(browser, path, 390) as visited:
        assert visited.violations() == []
        assert not visited.sticks_out()
        assert visited.complaints == []
