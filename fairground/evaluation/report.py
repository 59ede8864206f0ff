"""The report: one self-contained HTML page with the leaderboard, what may be concluded from it, and every answer."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from fairground.evaluation import columns as c
from fairground.evaluation.report_calibration import calibration
from fairground.evaluation.report_charts import charts
from fairground.evaluation.report_fairness import fairness
from fairground.evaluation.report_judges import judges_section
from fairground.evaluation.report_leaderboard import beside, leaderboard_table
from fairground.evaluation.report_markup import estimated, row, table, text
from fairground.evaluation.report_pareto import fronts
from fairground.evaluation.report_samples import browser
from fairground.evaluation.report_shots import shot_curves
from fairground.evaluation.report_times import times
from fairground.evaluation.table import probe_sentence


def html_report(
    leaderboard: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], sentences: Sequence[str] = ()
) -> str:
    """The whole page as text, to be written as UTF-8: no network, no external font, light and dark, phone and desk.

    `leaderboard` and `samples` are what `leaderboard.json` and the lines of `samples.jsonl` hold; any key may be
    absent, and what was not measured is a dash with its reason, never 0. `sentences` say which differences are
    significant. All text is escaped, and the page's policy lets no script run but its own, whatever a model wrote.
    """
    sections = [
        ("leaderboard", "Leaderboard", leaderboard_table(leaderboard)),
        ("differences", "Which differences are significant", _differences(leaderboard, sentences)),
        ("charts", "Quality", _figures([*charts(leaderboard), *shot_curves(leaderboard)])),
        ("pareto", "Quality against what it costs", _figures(fronts(leaderboard))),
        ("times", "Response time and cost", times(leaderboard)),
        ("calibration", "Calibration", calibration(leaderboard)),
        ("fairness", "Fairness", fairness(leaderboard)),
        *judges_section(leaderboard),
        ("beside", "What else was measured", beside(leaderboard)),
        ("baselines", "Baselines", _baselines(leaderboard)),
        ("samples", "Every item, every answer", browser(samples, c.ranked(leaderboard))),
        ("methods", "How it was measured", _methods(leaderboard)),
        ("reproduce", "How to reproduce it", _reproduce(leaderboard)),
    ]
    # What has nothing to show has no heading either.
    sections = [(name, title, body) for name, title, body in sections if body]
    script = _file("report_script.js")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    suite = _run(leaderboard).get("suite") or {}
    count = len(leaderboard.get("models") or [])
    return Template(_file("report.html")).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        title=text(f"{count} model{'' if count == 1 else 's'} on the {suite.get('name', '?')} suite"),
        style=_file("report_style.css"),
        finding=text(finding(leaderboard)),
        about=_about(leaderboard),
        contents="".join(f'<a href="#{name}">{title}</a> ' for name, title, _ in sections),
        sections="\n".join(
            f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body}</section>'
            for name, title, body in sections
        ),
        script=script,
    )


def finding(leaderboard: Mapping[str, Any]) -> str:
    """What the run shows of accuracy, or of texts that are predicted, in one sentence that claims no more than the
    intervals and tests allow."""
    models = [model for model in c.ranked(leaderboard) if not c.is_floor(model)]
    measured = [(model, found) for model in models if (found := c.ACCURACY.of(model))]
    if not measured:
        predicting = [(model, found) for model in models if (found := c.BITS_PER_BYTE.of(model))]
        if not predicting:
            return "No model's accuracy was measured in this run."
        model, bits = min(predicting, key=lambda one: one[1].value)
        said = f"{c.name(model)} predicts the texts best, with {c.BITS_PER_BYTE.text(bits)} per byte"
        return f"{said}{_lead(leaderboard, model, c.BITS_PER_BYTE, 'fewer')}."
    model, accuracy = measured[0]
    guessing = f"{c.chance(leaderboard, 'accuracy'):.0%}"
    if accuracy.low is not None and accuracy.low <= c.chance(leaderboard, "accuracy"):
        said = f"No model is shown to do better than guessing ({guessing})"
        return f"{said}; the most accurate, {c.name(model)}, has {c.ACCURACY.text(accuracy)}."
    said = f"{c.name(model)} answers the most items right, {c.ACCURACY.text(accuracy)} where guessing gets {guessing}"
    return f"{said}{_lead(leaderboard, model, c.ACCURACY, 'more')}."


def _lead(leaderboard: Mapping[str, Any], model: Mapping[str, Any], column: c.Column, more: str) -> str:
    """How the end of a sentence says what the first model's lead in a column is worth; empty where nothing shows it."""
    if model.get("model") in c.significantly_best(leaderboard, column):
        return f", significantly {more} than every other model"
    equals = [c.printable(label) for label in c.not_told_apart(leaderboard, str(model.get("model")), column.metric)]
    others = c.listing(equals) if len(equals) <= 3 else f"{len(equals)} other models"
    return f", but its lead over {others} is not significant" if equals else ""


def _about(leaderboard: Mapping[str, Any]) -> str:
    run = _run(leaderboard)
    suite = run.get("suite") or {}
    facts = [f"Suite {suite.get('name', '?')} {suite.get('version', '')}".strip()]
    if items := suite.get("items"):
        count = sum(items.values()) if isinstance(items, Mapping) else items
        facts.append(f"{count} items" + (f", limited to {run['limit']} a task" if run.get("limit") else ""))
    if suite.get("licence"):
        facts.append(str(suite["licence"]))
    if run.get("created"):
        facts.append(str(run["created"])[:16].replace("T", " "))
    if isinstance(seconds := run.get("seconds"), int | float):
        facts.append(f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds")
    return text(" · ".join(facts))


def _differences(leaderboard: Mapping[str, Any], sentences: Sequence[str]) -> str:
    comparisons = leaderboard.get("comparisons") or []
    lines = [str(sentence) for sentence in sentences]
    smallest = (_run(leaderboard).get("smallest_detectable_difference") or {}).get("accuracy")
    if not lines and isinstance(smallest, int | float):
        lines = [
            f"The smallest difference in accuracy that this run could have detected is {100 * smallest:.1f} points."
        ]
    if lines:
        body = '<ul class="sentences">' + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"
    else:
        body = "<p>Nothing was compared in this run.</p>"
    body += "<p>A difference that is not significant may still be real: this run was too small to tell.</p>"
    if not comparisons:
        return body
    columns = {column.metric: column for column in (*c.COLUMNS, *c.MORE)}
    rows = [_comparison(comparison, columns) for comparison in comparisons]
    heads = ("Measure", "Model", "against", "Difference", "p (Holm)", "n", "Significant")
    whole = table(heads, rows, label="All comparisons")
    return f"{body}<details><summary>All {len(comparisons)} comparisons</summary>{whole}</details>"


def _comparison(comparison: Mapping[str, Any], columns: Mapping[str, c.Column]) -> str:
    metric = str(comparison.get("metric", "?"))
    column = columns.get(metric, c.Column(metric, c.words(metric), ""))
    entry = {"value": comparison.get("difference"), **{key: comparison.get(key) for key in ("low", "high")}}
    found = c.estimate(entry)
    difference = c.DASH
    if found is not None:
        unit = "points" if column.unit == "%" else column.unit
        interval = column.interval(found)
        difference = f"{'+' if found.value > 0 else ''}{column.number(found.value)} {unit} [{interval}]"
    p = comparison.get("p")
    chance = c.DASH if not isinstance(p, int | float) else "< 0.001" if p < 0.001 else f"{p:.3f}"
    cells = (comparison.get("a"), comparison.get("b"), difference, chance, comparison.get("n", c.DASH))
    significant = "<b>yes</b>" if comparison.get("significant") else "no"
    return row(text(column.title), (*map(text, cells), significant))


def _baselines(leaderboard: Mapping[str, Any]) -> str:
    baselines = _run(leaderboard).get("baselines") or {}
    entries = [("Always the longest choice", baselines.get("longest_choice"))]
    entries += [(f"{label}, shown the choices only", e) for label, e in (baselines.get("choices_only") or {}).items()]
    rows = [
        row(text(label), (estimated(c.ACCURACY, found), c.DASH if found.n is None else str(found.n)))
        for label, entry in entries
        if (found := c.estimate(entry)) is not None
    ]
    if not rows:
        return "<p>No baseline was measured in this run.</p>"
    return (
        f"<p>What can be had without reading the question. A baseline above chance "
        f"({c.chance(leaderboard, 'accuracy'):.0%}) would mean that the items give their answers away.</p>"
        + table(["Baseline", "Accuracy <small>%</small>", "Items"], rows, by="baselines-title")
    )


def _methods(leaderboard: Mapping[str, Any]) -> str:
    run = _run(leaderboard)
    scorer, probe, weights = run.get("scorer"), run.get("probe"), run.get("weights")
    relevance = (
        "Relevance: how much likelier an answer is after its question than without it, log p(answer | prompt) − "
        "log p(answer), in nats per token of the answer"
    )
    if scorer:
        precision = c.fact(scorer, "precision")
        relevance += f"; judged for every model by the same scorer, {c.fact(scorer, 'model')}"
        relevance += "" if precision == c.DASH else f" ({precision})"
    methods = [
        "Accuracy: the model is given the question and each choice in turn; the choice to which it gives the highest "
        "log-likelihood is its answer. Normalised accuracy divides by the choice's length in characters first. Both "
        "are defined as in lm-evaluation-harness (acc, acc_norm).",
        "Sentence order, coherence as a reader: the share of passages to which the model gives a higher log-likelihood "
        "than to the same sentences in another order, all shuffled or two neighbours swapped (Barzilay and Lapata, "
        "2008). Of 59 models that people had compared, the likelihood of the order of their sentences did not go with "
        "people's ratings, while relevance and little repetition did (docs/findings/coherence.md); so it is not called "
        "coherence.",
        f"{relevance}. It can be negative.",
        "Repetition: the share of runs of four words in an answer that had stood in it before (Welleck et al., 2020).",
        "Relations: accuracy on items whose rule only shows in examples; shots are the examples in the prompt, never "
        "taken from the items asked.",
        "Time to first token: from the request's acceptance to its first token. Speed: 1 / time per output token, "
        "(end − first) / (n − 1), of one stream. " + (probe_sentence(probe) if probe else ""),
        "Intervals are 95%, by item, clustered where items share a passage. Comparisons are paired: the same items for "
        "both models, mid-p McNemar for right or wrong and a paired bootstrap otherwise, with Holm's correction.",
        *(
            [
                f"Weighted total: {c.weights(weights)}; these weights were given with the command. "
                "Where less is better, 100% less the value counts; its interval resamples items."
            ]
            if weights
            else []
        ),
        "A domain has fewer items than the whole, so its numbers are less certain than the overall accuracy.",
        *(f"{c.words(str(key)).capitalize()}: {value}." for key, value in (run.get("methods") or {}).items()),
    ]
    return "<ul>" + "".join(f"<li>{text(method)}</li>" for method in methods) + "</ul>"


def _reproduce(leaderboard: Mapping[str, Any]) -> str:
    run = _run(leaderboard)
    environment = run.get("environment") or {}
    suite = run.get("suite") or {}
    command = run.get("command") or environment.get("command")
    if not command:
        words = ["fairground", "rank", *map(_as_named, leaderboard.get("models") or [])]
        words += ["--suite", str(suite["name"])] if suite.get("name") else []
        words += ["--limit", str(run["limit"])] if run.get("limit") else []
        drawn = run.get("few_shot") or {}
        words += ["--shots-by", str(drawn["by"])] if drawn.get("by") else []
        words += ["--seed", str(drawn["seed"])] if drawn.get("seed") is not None else []
        command = shlex.join(words)
    command = shlex.join(str(word) for word in command) if isinstance(command, list | tuple) else str(command)
    facts = {"run": run.get("id"), **{f"suite {key}": suite.get(key) for key in ("name", "version", "hash", "licence")}}
    facts |= dict(_flat({key: value for key, value in environment.items() if key != "command"}))
    rows = "".join(
        f"<div><dt>{text(c.words(key))}</dt><dd>{text(str(value))}</dd></div>"
        for key, value in facts.items()
        if value is not None
    )
    return f"<pre><code>{text(command)}</code></pre><dl>{rows}</dl>"


def _as_named(model: Mapping[str, Any]) -> str:
    """The model as a command names it."""
    shots = model.get("shots")
    return f"{model['name']},shots={shots}" if shots and model.get("name") else str(model.get("model"))


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key} ")
        else:
            yield f"{before}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _figures(drawn: Iterable[str]) -> str:
    figures = "".join(drawn)
    return figures and f'<div class="charts">{figures}</div>'


def _run(leaderboard: Mapping[str, Any]) -> Mapping[str, Any]:
    return leaderboard.get("run") or {}


def _file(name: str) -> str:
    return resources.files("fairground.evaluation").joinpath(name).read_text(encoding="utf-8")
