"""The whole way in a browser: sign up, battle, watch, vote, reveal, leaderboard, own leaderboard, export; and every
page by axe's rules at 390 and 1,400 pixels, light and dark."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser import SCHEMES, WIDTHS, Visit, chromium, visit
from fake_models import Writer
from visitors import PASSWORD, Arena

ANSWER = """Rain is **water** that falls from clouds.

## Why

- it cools
- it falls

```python
print("drip")
```"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def arena_in_browser(arena: Callable[..., Arena]) -> Iterator[tuple[Arena, str]]:
    gate = threading.Semaphore(0)
    site = arena(*(Writer(name, ANSWER, gate=gate) for name in ("oak-1b", "elm-2b", "fir-3b")))
    site.app.state.live.start()
    with site.serving() as address:
        yield site, address
    site.app.state.live.stop()


def sound(visited: Visit, where: str) -> None:
    """Asserts that the page is as it should be: nothing that axe finds, nothing that sticks out, no complaint."""
    assert not visited.violations(), where
    assert not visited.sticks_out(), where
    assert not visited.complaints, where


@pytest.mark.parametrize(
    ("width", "scheme"), [(WIDTHS[0], "dark"), pytest.param(WIDTHS[1], "light", marks=pytest.mark.verify)]
)
def test_the_whole_way(browser: Any, arena_in_browser: tuple[Arena, str], width: int, scheme: str) -> None:
    site, address = arena_in_browser
    with visit(browser, f"{address}/sign-up", width, scheme) as visited:
        page = visited.page
        page.fill("#name", "Ada")
        page.fill("#password", PASSWORD)
        page.click("main button.primary")
        page.wait_for_url(f"{address}/")
        sound(visited, "battle")

        page.fill("#prompt", "Why does it rain?")
        page.press("#prompt", "Enter")
        gate = site.writers["oak-1b"].gate
        assert gate
        gate.release(6)
        page.wait_for_selector(".pane[aria-busy=true] .answer.raw:not(:empty)")  # while it is being written
        assert page.locator("#vote").is_hidden()
        assert page.input_value("#prompt") == ""
        gate.release(100)
        page.wait_for_selector("#vote:not([hidden])")
        assert page.locator("#status").inner_text() == "Both answers are whole."
        assert {"oak", "elm", "fir"}.isdisjoint(page.content().replace("-", " ").split())
        sound(visited, "before the vote")
        page.locator(".chip", has_text="Clearer").click()
        page.keyboard.press("1")
        page.wait_for_selector("#reveal:not([hidden])")
        assert page.evaluate("document.activeElement.textContent").startswith("You chose ")
        sound(visited, "after the vote")
        (vote,) = site.votes()
        assert vote["winner"] == "model_a"
        assert vote["reasons"] == ["clearer"]
        assert page.locator(".pane.won h2").inner_text() == vote["model_a"]

        with page.expect_download() as download:
            page.click("#json")
        exported = json.loads(download.value.path().read_text(encoding="utf-8"))
        assert exported["models"] == [vote["model_a"], vote["model_b"]]
        assert exported["turns"][0]["prompt"] == "Why does it rain?"

        page.click("#share")
        page.click("#shared button")
        page.wait_for_selector("#link")
        sound(visited, "shared box")
        page.goto(page.input_value("#link"))
        sound(visited, "shared conversation")

        winner = vote["model_a"]
        for _ in range(50):
            page.goto(f"{address}/leaderboard")
            if winner in page.locator("main").inner_text():
                break
            page.wait_for_timeout(100)
        assert winner in page.locator("main tbody tr").first.inner_text()
        sound(visited, "leaderboard")
        page.goto(f"{address}/votes")
        assert winner in page.locator("main").inner_text()
        sound(visited, "my votes")


@pytest.mark.verify
@pytest.mark.parametrize(("width", "scheme"), list(zip(WIDTHS, SCHEMES, strict=True)))
def test_every_page_is_sound(browser: Any, arena_in_browser: tuple[Arena, str], width: int, scheme: str) -> None:
    site, address = arena_in_browser
    link = site.site.people.first_steward_link()
    with visit(browser, f"{address}/join/{link}", width, scheme) as visited:
        page = visited.page
        sound(visited, "join")
        page.fill("#name", "Stella")
        page.fill("#password", PASSWORD)
        page.click("main button.primary")
        page.wait_for_url(f"{address}/")
        stella = site.site.people.find("Stella")
        assert stella
        site.site.ledger.quarantine(stella.pseudonym, "a-test", stella.pseudonym)
        pages = (
            "side-by-side",
            "chat",
            "settings",
            "sign-in",
            "methods",
            "runs",
            "leaderboard/record",
            "models/oak-1b",
        )
        stewards = ("steward", "steward/limits", "steward/people", "steward/quarantine", "steward/log")
        for path in (*pages, *stewards):
            page.goto(f"{address}/{path}")
            sound(visited, path)
        page.goto(f"{address}/nowhere")
        assert not visited.violations(), "nowhere"


@pytest.mark.verify
def test_scripts_run_nowhere_and_nothing_is_fetched_from_elsewhere(browser: Any, arena: Callable[..., Arena]) -> None:
    attack = (
        "<script>window.hit=1</script><img src=x onerror='window.hit=1'>\n\n[x](javascript:window.hit=1) "
        "![p](http://127.0.0.1:9/p.png) <svg onload='window.hit=1'>"
    )
    site = arena(Writer("oak-1b", attack), Writer("elm-2b", attack))
    with site.serving() as address, visit(browser, f"{address}/side-by-side") as visited:
        page = visited.page
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.fill("#prompt", attack)
        page.press("#prompt", "Enter")
        page.wait_for_selector("#vote:not([hidden])")
        for anchor in page.locator(".answer a").all():
            assert anchor.get_attribute("href").startswith("http://")
        page.fill("#comment", attack)
        page.click("[data-winner=tie]")
        page.wait_for_selector("#reveal:not([hidden])")
        assert page.evaluate("window.hit") is None
        assert all(request.startswith(address) for request in visited.requests)
        assert not visited.complaints


@pytest.mark.verify
def test_a_refused_vote_keeps_the_choice_and_can_be_cast_again(browser: Any, arena: Callable[..., Arena]) -> None:
    site = arena()
    with site.serving() as address, visit(browser, address) as visited:
        page = visited.page
        page.fill("#prompt", "Why?")
        page.press("#prompt", "Enter")
        page.wait_for_selector("#vote:not([hidden])")
        lock = sqlite3.connect(site.file)
        lock.execute("BEGIN IMMEDIATE")
        page.click("[data-winner=both_bad]")
        page.wait_for_selector("#failure:not([hidden])")
        assert "vote again in a moment" in page.locator("#failure").inner_text()
        assert page.locator("[data-winner=both_bad]").get_attribute("aria-pressed") == "true"
        lock.rollback()
        lock.close()
        page.click("[data-winner=both_bad]")
        page.wait_for_selector("#reveal:not([hidden])")
        assert page.locator("#failure").is_hidden()
        assert len(site.votes()) == 1


@pytest.mark.verify
def test_the_first_answer_of_a_chat_can_be_stopped(browser: Any, arena: Callable[..., Arena]) -> None:
    gate = threading.Semaphore(0)
    site = arena(Writer("oak-1b", ANSWER, gate=gate))
    with site.serving() as address, visit(browser, f"{address}/chat") as visited:
        page = visited.page
        assert page.locator("#stop").is_hidden()
        page.fill("#prompt", "Why?")
        page.press("#prompt", "Enter")
        gate.release(3)
        page.wait_for_selector(".answer.raw:not(:empty)")
        page.click("#stop")
        page.wait_for_selector(".pane[aria-busy=false]")
        gate.release(100)
        assert page.locator("#status").inner_text() == "Stopped."
        assert page.locator("#stop").is_hidden()
        assert "stopped" in page.locator(".facts-line").inner_text()
        sound(visited, "a stopped chat")


@pytest.mark.verify
def test_what_comes_to_nothing_leaves_the_conversation_as_it_was(browser: Any, arena: Callable[..., Arena]) -> None:
    site = arena(Writer("oak-1b", longest=500), Writer("elm-2b"))
    with site.serving() as address, visit(browser, address) as visited:
        page = visited.page
        page.fill("#prompt", "Why?")
        page.press("#prompt", "Enter")
        page.wait_for_selector("#vote:not([hidden])")
        page.fill("#prompt", "x" * 1000)
        page.press("#prompt", "Enter")
        page.wait_for_selector("#failure:not([hidden])")
        assert page.locator(".turn").count() == 1
        assert page.input_value("#prompt") == "x" * 1000
        page.click("[data-winner=tie]")
        page.wait_for_selector("#reveal:not([hidden])")
        page.click("#consent [data-agreed=no]")
        page.wait_for_selector("#consent", state="detached")
        assert page.locator("#status").inner_text() == "They stay on this machine."
        assert len(site.votes()) == 1


@pytest.mark.verify
def test_an_engine_that_dies_offers_a_new_round(browser: Any, arena: Callable[..., Arena]) -> None:
    site = arena(Writer("oak-1b", dies_after=1), Writer("elm-2b", pause=0.1))
    with site.serving() as address, visit(browser, address) as visited:
        page = visited.page
        page.fill("#prompt", "Why?")
        page.press("#prompt", "Enter")
        page.wait_for_selector("#failure:not([hidden])")
        assert "set aside" in page.locator("#failure").inner_text()
        assert page.locator("#vote").is_hidden()
        assert page.locator("#ask").is_hidden()
        assert page.locator("#new").is_visible()
        assert not site.votes()
        assert not visited.violations()
