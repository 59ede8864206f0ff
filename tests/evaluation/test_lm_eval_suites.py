"""Tasks of lm-evaluation-harness in our runner give the harness's own numbers, item by item and as a whole."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
import yaml
from bigram_model import Bigram
from command import Command, in_this_process
from harness_tasks import GROUP, TASKS, names, write_tasks
from lm_eval.api.metrics import mean_stderr
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import (
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairground.engine.local import open_model
from fairground.errors import SuiteError
from fairground.evaluation import Entrant, Run, Suite, load_suite, rank, write_run
from fairground.evaluation.every_eval_ever import every_eval_ever_files
from fairground.evaluation.lm_eval_layout import lm_eval_files
from fairground.evaluation.lm_eval_model import GeneratorLM
from fairground.evaluation.lm_eval_suite import load_lm_eval
from fairground.evaluation.suite import cut
from fairground.evaluation.tasks import PersonalData
from fairground.evaluation.tasks.harness import RENAMED, HarnessScored, HarnessWritten
from fairground.hub.catalogue import COMMONS
from fairground.types import Capabilities

Json = dict[str, Any]
ASKED = [*TASKS, GROUP["group"]]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Data sets are kept in a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


def theirs(folder: Path, model: Any, tasks: list[str], **settings: Any) -> Json:
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=tasks, task_manager=manager, **settings)
    assert found is not None
    return dict(found)


def assert_same(run: Run, suite: Suite, expected: Json, tolerance: float) -> None:
    """Every metric of every task, and every metric of every document."""
    (model,) = run.leaderboard["models"]
    assert model["errors"] == []
    for task in suite.tasks:
        assert isinstance(task, HarnessScored | HarnessWritten)
        compared: list[str] = []
        renamed, first = RENAMED.get(task.documents.output_type, {}), task.documents.filters[0]
        for key, value in expected["results"][task.name].items():
            metric, _, filter_ = key.partition(",")
            if filter_ and "_stderr" not in metric:
                name = renamed.get(metric, metric) + ("" if filter_ == first else f",{filter_}")
                assert model["tasks"][task.name][name]["value"] == pytest.approx(value, rel=tolerance, abs=1e-9), key
                compared.append(key)
        mine = {sample["harness"]["doc_id"]: sample for sample in run.samples if sample["task"] == task.name}
        for sample in expected["samples"][task.name]:
            kept = mine[sample["doc_id"]]["harness"]
            assert [kept[key] for key in ("doc", "doc_hash", "prompt_hash", "target_hash")] == [
                sample[key] for key in ("doc", "doc_hash", "prompt_hash", "target_hash")
            ]
            for metric in sample["metrics"]:
                ours = kept["filters"][sample["filter"]]["metrics"][metric]
                if isinstance(sample[metric], int | float):
                    assert ours == pytest.approx(sample[metric], rel=tolerance, abs=1e-6)
        metrics = {metric for sample in expected["samples"][task.name] for metric in sample["metrics"]}
        assert len(compared) == len(metrics) * len(task.documents.filters) > 0


@pytest.fixture(scope="module")
def suite(folder: Path) -> Suite:
    return load_lm_eval(names(), include_path=folder, own_shots=True)


@pytest.fixture(scope="module")
def run(suite: Suite) -> Run:
    return rank([Entrant("bigram", Bigram)], suite)


def test_a_generator_in_our_runner_is_the_harness_with_it_as_its_model(run: Run, suite: Suite, folder: Path) -> None:
    expected = theirs(folder, GeneratorLM(Bigram()), list(TASKS), bootstrap_iters=0)
    assert expected["n-shot"]["fair_shown"] == 2
    assert_same(run, suite, expected, tolerance=1e-12)
    columns = run.leaderboard["models"][0]["metrics"]
    assert {"accuracy", "accuracy_norm", "exact_match", "last_word", "bits_per_byte"} <= set(columns)
    assert columns["bits_per_byte"]["value"] == pytest.approx(expected["results"]["fair_reading"]["bits_per_byte,none"])
    assert columns["exact_match"]["value"] == expected["results"]["fair_writing"]["exact_match,first"] == 0.5
    scored = [task for task in TASKS if TASKS[task]["output_type"] == "multiple_choice"]
    assert columns["accuracy"]["n"] == 10 * len(scored)
    assert run.leaderboard["run"]["chance"] == {"accuracy": pytest.approx((1 / 3 + 1 / 3 + 1 / 3 + 1 / 2) / 4)}


@pytest.mark.verify
def test_a_model_of_ours_gives_what_transformers_gives_the_harness(folder: Path) -> None:
    path = COMMONS / "commons-gpt2-4m"
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    # Its tokenizer puts a start token before a text. The harness's `hf` puts another before a rolling one and counts
    # how likely the second is, unless it is told to leave that to itself.
    rolling = ["fair_reading"]
    for tasks, settings in (([*(set(TASKS) - set(rolling))], {}), (rolling, {"add_bos_token": False})):
        reference = HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=4, device="cpu", **settings)
        expected = theirs(folder, reference, tasks, bootstrap_iters=0)
        chosen = load_lm_eval(names(tasks), include_path=folder, own_shots=True)
        found = rank([Entrant("gpt2", lambda: open_model(path, precision="float32", threads=1))], chosen)
        assert_same(found, chosen, expected, tolerance=1e-4)
        answers = {s["harness"]["doc_id"]: s["answer"] for s in found.samples if s["task"] == "fair_writing"}
        assert answers == {s["doc_id"]: s["resps"][0][0] for s in expected["samples"].get("fair_writing", ())}


@pytest.mark.parametrize("shots", [1, 3])
def test_shots_are_the_harness_own(folder: Path, shots: int) -> None:
    tasks = ["fair_quiz", "fair_shown", "fair_bare", "fair_writing"]
    chosen = load_lm_eval(names(tasks), include_path=folder)
    assert {task.name: task.max_shots for task in chosen.tasks} == {
        "fair_quiz": 6, "fair_shown": 6, "fair_bare": None, "fair_writing": 6
    }  # fmt: skip
    # Another number before: the examples are drawn anew, not from where the random numbers had come to.
    found = rank([Entrant("bigram", Bigram, 2), Entrant("bigram", Bigram, shots)], chosen, limit=7)
    expected = theirs(folder, GeneratorLM(Bigram()), tasks, num_fewshot=shots, limit=7, bootstrap_iters=0)
    assert expected["n-shot"] == {"fair_quiz": shots, "fair_shown": shots, "fair_bare": 0, "fair_writing": shots}
    label = f"bigram ({shots}-shot)"
    assert sum(s["model"] == label for s in found.samples) == 4 * 7
    for task in tasks:
        mine = {s["harness"]["doc_id"]: s["harness"] for s in found.samples if (s["model"], s["task"]) == (label, task)}
        assert sorted(mine) == list(range(7))
        for sample in expected["samples"][task]:
            assert mine[sample["doc_id"]]["prompt_hash"] == sample["prompt_hash"]
            scalars = [m for m in sample["metrics"] if isinstance(sample[m], int | float)]
            kept = mine[sample["doc_id"]]["filters"][sample["filter"]]["metrics"]
            assert [kept[m] for m in scalars] == [sample[m] for m in scalars]


def test_what_a_model_cannot_do_is_left_out_by_name(suite: Suite) -> None:
    mute, deaf = Capabilities(generate=False), Capabilities(score=False)
    entrants = [Entrant("mute", lambda: Bigram(can=mute)), Entrant("deaf", lambda: Bigram(can=deaf))]
    by_name = {model["model"]: model for model in rank(entrants, suite).leaderboard["models"]}
    assert set(by_name["mute"]["tasks"]) == set(TASKS) - {"fair_writing"}
    assert set(by_name["deaf"]["tasks"]) == {"fair_writing"}
    assert "accuracy" not in by_name["deaf"]["metrics"]
    assert "cannot score" in by_name["deaf"]["notes"][0]
    assert "cannot generate" in by_name["mute"]["notes"][0]


def test_the_hash_names_tasks_data_and_examples(folder: Path, tmp_path: Path) -> None:
    def hash_of(where: Path, own_shots: bool = True) -> str:
        return load_lm_eval(names(["fair_quiz"]), include_path=where, own_shots=own_shots).hash

    assert hash_of(folder) == hash_of(folder) != hash_of(folder, own_shots=False)
    other = write_tasks(tmp_path / "longer", count=11)
    assert hash_of(other) != hash_of(folder)
    asked = hash_of(other)
    path = other / "fair_quiz.yaml"
    path.write_text(path.read_text().replace("Question:", "Q:"))
    assert hash_of(other) != asked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "/nowhere.jsonl"}}}, "cannot be had"),
        ({"dataset_path": "nobody/nothing", "dataset_kwargs": {}}, "cannot be had"),
        ({"unsafe_code": True}, "runs code"),
        ({"doc_to_image": ["place"]}, "images"),
        ({"doc_to_text": "{{nothing.at.all}}"}, "cannot be had"),
        ({"repeats": 4, "generation_kwargs": {"do_sample": True, "temperature": 1.0}}, "wants 4 answers"),
        ({"generation_kwargs": {"until": ["."], "num_beams": 10}}, "num_beams"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused_in_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Json, said: str
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    settings = yaml.safe_load((folder / "fair_writing.yaml").read_text(encoding="utf-8"))
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({**settings, "task": "odd", **change}), encoding="utf-8")
    with pytest.raises(SuiteError) as refused:
        load_lm_eval("lm-eval:odd", include_path=tmp_path)
    sentence = str(refused.value)
    assert sentence.startswith("The task odd ")
    assert said in sentence
    assert "\n" not in sentence


def read(folder: Path) -> tuple[Json, dict[str, list[Json]]]:
    """What lies in one model's folder, found as the harness finds it."""
    files = [str(path) for path in folder.iterdir()]
    results = json.loads(Path(get_latest_filename(get_results_filenames(files))).read_text(encoding="utf-8"))
    samples = {
        get_file_task_name(Path(name).name): [json.loads(line) for line in Path(name).read_text().splitlines()]
        for name in get_sample_results_filenames(files)
    }
    return results, samples


def test_files_are_the_harness_own(folder: Path, tmp_path: Path) -> None:
    tasks = [GROUP["group"], "fair_endings", "fair_last", "fair_reading", "fair_writing"]
    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    found = theirs(folder, GeneratorLM(Bigram()), tasks, bootstrap_iters=0, evaluation_tracker=tracker)
    samples = found.pop("samples")
    tracker.save_results_aggregated(found, samples)
    for name in samples:
        tracker.save_results_samples(name, samples[name])
    chosen = load_lm_eval(names(tasks), include_path=folder, own_shots=True)
    run = rank([Entrant("a/b:c", Bigram)], chosen)
    write_run(run, tmp_path / "ours", lm_eval_files(run, chosen))
    (there,) = (tmp_path / "theirs").iterdir()
    (here,) = (tmp_path / "ours" / "lm-eval").iterdir()
    assert here.name == "a__b__c"
    expected, their_samples = read(there)
    results, our_samples = read(here)
    # What only a model with a tokenizer of Transformers' has, and what the harness says of any.
    assert set(results) >= set(expected) - {"eot_token_id", "max_length"}
    assert set(results["config"]) >= set(expected["config"])
    for key in ("group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes", "configs"):
        assert results[key] == expected[key], key
    assert set(results["results"]) == set(expected["results"])
    for part in ("results", "groups"):
        for name, values in expected[part].items():
            assert set(results[part][name]) == set(values)
            for key, value in values.items():
                if "_stderr" not in key:
                    assert results[part][name][key] == (value if isinstance(value, str) else pytest.approx(value)), key
    for name, metric in (("fair_quiz", "acc"), ("fair_quiz", "acc_norm"), ("fair_writing", "exact_match")):
        filter_ = their_samples[name][0]["filter"]
        values = [line[metric] for line in their_samples[name] if line["filter"] == filter_]
        assert results["results"][name][f"{metric}_stderr,{filter_}"] == pytest.approx(mean_stderr(values))
    assert results["results"]["fair_last"]["perplexity_stderr,none"] == "N/A"
    assert results["results"]["fair_group"]["acc_stderr,none"] > 0
    assert set(our_samples) == set(their_samples) == {task.name for task in chosen.tasks}
    for name, lines in their_samples.items():
        for ours, line in zip(our_samples[name], lines, strict=True):
            if "brier_score" in line:  # an array, which the harness prints into a string
                assert ours.pop("brier_score")[0] == line.pop("brier_score")[0]
            assert ours == line, name
    assert "fair_group" in make_table(results)
    assert make_table(results, "groups")


def test_any_suite_is_laid_out(tmp_path: Path) -> None:
    # One task of every kind but the one whose judge takes seconds to import.
    kinds = {type(task): task.name for task in load_suite("house").tasks if not isinstance(task, PersonalData)}
    house = cut(load_suite("house"), ["healthcare", *kinds.values()])
    run = rank([Entrant("bigram", Bigram)], house, limit=2)
    write_run(run, tmp_path, lm_eval_files(run, house))
    results, samples = read(tmp_path / "lm-eval" / "bigram")
    measured = {task.name for task in house.tasks} & set(run.leaderboard["models"][0]["tasks"])
    assert set(samples) == set(results["results"]) == set(results["configs"]) == measured
    (line, *_) = samples["healthcare"]
    about = run.leaderboard["models"][0]["tasks"]["healthcare"]["accuracy"]
    assert results["results"]["healthcare"]["acc,none"] == about["value"]
    assert results["n-samples"]["healthcare"] == {"original": 50, "effective": 2}
    assert set(line) >= {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "doc_hash", "acc"}
    assert line["doc"]["gold"] == int(line["target"])
    asked = line["arguments"]["gen_args_0"]
    assert asked["arg_0"].endswith("Answer:")
    assert asked["arg_1"] == f" {line['doc']['choices'][0]}"
    assert float(line["resps"][0][0][0]) == next(s for s in run.samples if s["id"] == line["doc"]["id"])["scores"][0]
    assert "healthcare" in make_table(results)
    assert not {"date", "created"} & {key for score in run.scores for key in score}


def test_every_eval_ever_takes_what_its_converter_makes(run: Run, suite: Suite) -> None:
    laid_out = lm_eval_files(run, suite)
    if importlib.util.find_spec("every_eval_ever") is None:
        assert every_eval_ever_files(laid_out) == {}
        pytest.skip("needs the package every_eval_ever, which needs Python 3.12")
    from every_eval_ever.eval_types import EvaluationLog

    files = every_eval_ever_files(laid_out)
    assert set(files) == {f"every_eval_ever/bigram/{task}.json" for task in TASKS}
    for text in files.values():
        EvaluationLog.model_validate_json(text)
    quiz = json.loads(files["every_eval_ever/bigram/fair_quiz.json"])
    found = {r["metric_config"]["metric_name"]: r["score_details"]["score"] for r in quiz["evaluation_results"]}
    assert found["acc"] == run.leaderboard["models"][0]["tasks"]["fair_quiz"]["accuracy"]["value"]
    assert quiz["eval_library"]["name"] == "fairground"


class Kept:
    """A journal as the store keeps it: what comes back was JSON."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, int], dict[str, str]] = {}

    def known(self, model: str, task: str, shots: int) -> dict[str, Json]:
        return {id_: json.loads(text) for id_, text in self.entries.get((model, task, shots), {}).items()}

    def keep(self, model: str, task: str, shots: int, entries: Sequence[Mapping[str, Any]]) -> None:
        own = self.entries.setdefault((model, task, shots), {})
        own.update({entry["id"]: json.dumps(entry, allow_nan=False) for entry in entries})


def test_a_run_that_goes_on_ends_the_same(run: Run, suite: Suite, folder: Path) -> None:
    journal = Kept()
    rank([Entrant("bigram", Bigram)], suite, journal=journal)
    for number, (key, entries) in enumerate(sorted(journal.entries.items())):
        for id_ in list(entries)[number:]:  # of each task, another number was done
            del journal.entries[key][id_]
    # As a new process would, with the tasks read anew and no prompt made yet.
    again = load_lm_eval(names(), include_path=folder, own_shots=True)
    resumed = rank([Entrant("bigram", Bigram)], again, journal=journal)
    assert resumed.scores == run.scores
    assert resumed.samples == run.samples
    assert resumed.leaderboard["models"][0]["tasks"] == run.leaderboard["models"][0]["tasks"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return in_this_process(tmp_path, monkeypatch, capfd)


def test_the_command_shows_what_a_task_says_or_what_it_is_told(command: Command, folder: Path) -> None:
    suite = ("--suite", "lm-eval:fair_shown", "--include-path", str(folder), "--limit", "3", "--json")
    for more, shots in (((), 2), (("--shots", "0"), 0), (("--shots", "1"), 1)):
        done = command("rank", "uniform", *suite, "--out", f"out{shots}", *more)
        assert done.status == 0, done.err
        (model,) = json.loads(done.out)["models"]
        assert model["tasks"]["fair_shown"]["accuracy"]["n"] == 3
        results, samples = read(Path(f"out{shots}") / "lm-eval" / "uniform")
        assert results["n-shot"] == {"fair_shown": shots}
        assert samples["fair_shown"][0]["arguments"]["gen_args_0"]["arg_0"].count("Question:") == shots + 1


def test_what_the_command_refuses(command: Command, folder: Path) -> None:
    command("rank", "uniform", "--include-path", str(folder)).refused("--include-path", "lm-eval:")
    command("rank", "uniform", "--suite", "lm-eval:").refused("names no task")
    quiz = ("rank", "uniform", "--suite", "lm-eval:fair_quiz", "--include-path")
    command(*quiz, "nowhere").refused("nowhere is not a folder")
    command(*quiz, str(folder), "--shots", "7").refused("7 shots", "0 to 6")
