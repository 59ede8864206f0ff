"""The page: whole, escaped, self-contained, readable by machines that read to people, and true to its numbers."""

from __future__ import annotations

import base64
import copy
import json
import math
import random
import re
import xml.etree.ElementTree as ET
import zlib
from html.parser import HTMLParser
from typing import Any

import pytest
from example_run import MODELS, SENTENCES, example_run

from fairground.evaluation import columns
from fairground.evaluation.report import finding, html_report

VOID = {"meta", "br", "wbr", "input", "link", "img", "hr"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'>&lt;]]>\x00\x1b[31m\ud800\u202e"


class Page(HTMLParser):
    """Reads a page, and fails where an element is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


def packed(text: str) -> dict[str, Any]:
    """The items that the page holds."""
    data = re.search('id="packed">([^<]*)<', text)
    assert data is not None
    return json.loads(zlib.decompress(base64.b64decode(data[1])))


@pytest.fixture(scope="module")
def run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return example_run(per_domain=6)


@pytest.fixture(scope="module")
def text(run: tuple[dict[str, Any], list[dict[str, Any]]]) -> str:
    return html_report(*run, SENTENCES)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_is_well_formed_and_whole(text: str, page: Page) -> None:
    assert text.startswith("<!doctype html>")
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for label in MODELS:
        assert label in page.text
    for sentence in SENTENCES:
        assert sentence in page.text
    for link in page.all("a"):
        assert (link["href"] or "").removeprefix("#") in ids


def test_nothing_is_fetched(text: str, page: Page) -> None:
    for tag, attributes, _ in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            assert re.match("#|$", attributes.get(name) or ""), f"<{tag} {name}> leaves the page"
    assert not page.all("link")
    assert "@import" not in text
    assert "url(" not in text
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'")
    assert "script-src 'sha256-" in (policy or "")


def test_charts_are_named_images_in_the_pages_colours(text: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    # Accuracy, coherence, domains, accuracy against four costs and two few-shot curves, each for desk and phone; the
    # calibration of four models.
    assert len(svgs) == 2 * 9 + 4
    for svg in svgs:
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert root[0].tag.endswith("title")
        assert root[0].text == root.get("aria-label")
        assert root.get("aria-describedby") == root[1].get("id")
        assert "width" not in root.attrib
        assert root.get("viewBox")
        colours = {e.get(key) for e in root.iter() for key in ("fill", "stroke")} - {None, "none", "transparent"}
        assert all(str(colour).startswith("var(--") for colour in colours), colours
        assert not any("font-family" in element.attrib for element in root.iter())


def test_tables_have_scoped_headers(page: Page) -> None:
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    for tag, attributes, around in page.elements:
        if tag == "table":
            assert around[-1] == "div"  # the part that scrolls, so that a phone's page does not
        if "tabindex" in attributes:
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    for field in (*page.all("input"), *page.all("select")):
        assert field["id"]


def test_hostile_text_stays_text(run: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    leaderboard, samples = copy.deepcopy(run)
    leaderboard["models"][0].update(model=HOSTILE, notes=[HOSTILE], errors=[{"task": HOSTILE}], family=HOSTILE)
    leaderboard["models"][0]["tasks"][HOSTILE] = leaderboard["models"][0]["tasks"]["science"]
    leaderboard["comparisons"][0].update(a=HOSTILE, metric=HOSTILE)
    leaderboard["run"]["environment"] = {HOSTILE: HOSTILE, "command": HOSTILE}
    leaderboard["run"]["suite"]["name"] = HOSTILE
    leaderboard["run"]["baselines"]["choices_only"] = {HOSTILE: {"value": 0.5}}
    for key in ("model", "task", "id", "asked", "answer"):
        samples.append({**samples[0], "id": f"hostile-{key}", key: HOSTILE})
    samples.append({"model": HOSTILE, "task": "open", "id": "x", "answer": HOSTILE, HOSTILE: HOSTILE})
    samples.append({**samples[0], "id": "hostile-choices", "choices": [HOSTILE, "b"], "chosen": HOSTILE})
    text = html_report(leaderboard, samples, [HOSTILE])
    page = Page(text)
    scripts = [(attributes, around[-1]) for tag, attributes, around in page.elements if tag == "script"]
    assert scripts == [({"type": "text/plain", "id": "packed"}, "section"), ({}, "body")]
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes, _ in page.elements for name in attributes)
    assert text.encode("utf-8")  # half a surrogate pair would not encode
    assert not set("\x00\x1b\u202e") & set(text)
    assert "<img src=x onerror=alert(2)>" in page.text  # shown to the reader, as it was written
    assert re.fullmatch("[A-Za-z0-9+/=]+", text.split('id="packed">')[1].split("<")[0])
    assert not set("\x00\x1b\ud800\u202e") & set(json.dumps(packed(text), ensure_ascii=False))


def test_what_was_not_measured_is_a_dash_with_its_reason(page: Page, text: str) -> None:
    row = re.search(r"<tr><th scope=\"row\">uniform<small>.*?</tr>", text)
    assert row is not None
    assert row[0].count(f">{columns.DASH}</a>") == 3  # relevance, first token, speed
    assert "It writes nothing and takes no time" in page.text
    assert "Not shown, as one of the two is not known: uniform." in page.text


def test_reason_is_given_where_the_run_gave_none(run: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    leaderboard = copy.deepcopy(run[0])
    leaderboard["models"] = [{"model": "bare"}, leaderboard["models"][0]]
    text = html_report(leaderboard, [])
    assert "<b>bare</b>: not measured in this run: accuracy, sentence order" in text
    Page(text)


@pytest.mark.parametrize("leaderboard", [{}, {"models": []}, {"run": {}, "models": [{"model": "a", "metrics": {}}]}])
def test_page_stands_without_numbers(leaderboard: dict[str, Any]) -> None:
    page = Page(html_report(leaderboard, []))
    assert "No model's accuracy was measured in this run." in page.text
    assert "This run kept no samples." in page.text


def test_items_stand_once_with_every_models_answer(run: tuple[dict[str, Any], list[dict[str, Any]]], text: str) -> None:
    items = {(sample["task"], sample["id"]) for sample in run[1]}
    found = packed(text)
    assert found["models"] == [model["model"] for model in columns.ranked(run[0])]
    assert {(item[0], item[2]) for item in found["items"]} == items
    assert len(found["items"]) == len(items)
    assert 0 < sum(item[7] for item in found["items"]) < len(items)
    for task, _, id_, _, _, choices, gold, _, answers in found["items"]:
        for label, answer in zip(found["models"], answers, strict=False):
            sample = next((s for s in run[1] if (s["model"], s["task"], s["id"]) == (label, task, id_)), None)
            assert (answer == 0) == (sample is None)
            if sample and "gold" in sample:
                assert (choices, gold) == (sample["choices"], sample["gold"])
                assert answer[:2] == [int(sample["right"]), sample["chosen"]]
                assert answer[2] == [f"{score:.2f}".replace("-", "−") for score in sample["scores"]]


def test_guessers_choices_are_no_disagreement() -> None:
    models = [{"model": "a", "parameters": 5}, {"model": "b", "parameters": 6}, {"model": "floor", "parameters": 0}]
    samples = [
        {"model": label, "task": "t", "id": "1", "choices": ["x", "y"], "chosen": chosen, "gold": 0}
        for label, chosen in (("a", 0), ("b", 0), ("floor", 1))
    ]
    assert packed(html_report({"models": models}, samples))["items"][0][7] == 0
    samples[1]["chosen"] = 1
    assert packed(html_report({"models": models}, samples))["items"][0][7] == 1


def test_large_run_stays_under_five_megabytes(run: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    dice = random.Random(1)
    samples = [
        {**s, "id": f"{s['id']}-{i}", "answer": dice.randbytes(2000).hex(), "right": i < 10 and s["model"] == "uniform"}
        for i in range(20)
        for s in run[1]
    ]
    text = html_report(run[0], samples)
    assert 3_000_000 < len(text.encode()) < 5_000_000
    assert "<code>samples.jsonl</code> has all" in text
    found = packed(text)["items"]
    assert len(found) < len({(s["task"], s["id"]) for s in samples})
    assert found[0][8][0][3].endswith("… (4,000 characters in all)")


def test_finding_claims_no_more_than_the_tests_allow() -> None:
    def model(label: str, value: float) -> dict[str, Any]:
        return {"model": label, "metrics": {"accuracy": {"value": value, "low": value - 0.05, "high": value + 0.05}}}

    def compared(significant: bool) -> list[dict[str, Any]]:
        return [{"a": "worse", "b": "better", "metric": "accuracy", "significant": significant}]

    models = [model("worse", 0.5), model("better", 0.6)]
    ahead = finding({"models": models, "comparisons": compared(True)})
    assert ahead == (
        "better answers the most items right, 60.0% [55–65] where guessing gets 25%, "
        "significantly more than every other model."
    )
    level = finding({"models": models, "comparisons": compared(False)})
    assert level.endswith("but its lead over worse is not significant.")
    assert finding({"models": [model("low", 0.27)]}).startswith("No model is shown to do better than guessing (25%)")


def test_best_is_marked_only_where_every_rival_is_beaten() -> None:
    def entry(value: float) -> dict[str, Any]:
        return {"accuracy": {"value": value, "low": 0.0, "high": 1.0}, "coherence": {"value": value}}

    models = [
        {"model": "a", "metrics": entry(0.9)},
        {"model": "a (5-shot)", "metrics": entry(0.9), "shared_with": "a"},
        {"model": "b", "metrics": entry(0.5)},
    ]
    beaten = [{"a": "a", "b": "b", "metric": m, "significant": True} for m in ("accuracy", "coherence")]
    level = [{"a": "a", "b": "a (5-shot)", "metric": "accuracy", "significant": False}]
    leaderboard = {"models": models, "comparisons": beaten + level}
    assert columns.significantly_best(leaderboard, columns.ACCURACY) == frozenset()
    assert columns.significantly_best(leaderboard, columns.COHERENCE) == {"a", "a (5-shot)"}  # one measurement
    assert columns.significantly_best({"models": models, "comparisons": []}, columns.COHERENCE) == frozenset()


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.5", True])
def test_what_is_no_number_is_not_measured(value: object) -> None:
    assert columns.estimate({"value": value, "n": 3}) is None


def test_colours_are_legible_in_light_and_dark(text: str) -> None:
    """WCAG 2.1, 1.4.3: text has a contrast of at least 4.5 with what it stands on."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    def mixed(over: str, under: str, share: float) -> str:
        pairs = [(int(over[i : i + 2], 16), int(under[i : i + 2], 16)) for i in (1, 3, 5)]
        return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)

    palettes = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    assert len(palettes) == 2
    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#\w{6});", palette))
        for name in ("ink", "muted", "accent", "chance", "right", "wrong"):
            for ground in ("paper", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        assert contrast(colours["ink"], mixed(colours["heat"], colours["paper"], 0.62)) >= 4.5
