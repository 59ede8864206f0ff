"""A run in the schema of every_eval_ever (evalevalai.com), where that package is installed; it needs Python 3.12.

Its own converter makes the records from lm-evaluation-harness's layout, so that they are what it takes for valid; of
whole tasks, not of single answers. Who publishes one in its datastore must add the model's developer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any

from fairground import __version__
from fairground.errors import FairgroundError

FOLDER = "every_eval_ever"


def every_eval_ever_files(laid_out: Mapping[str, str]) -> dict[str, str]:
    """The files' texts by their paths in the run's folder, one for each model and task of what `lm_eval_files` gives.

    None where the package is not installed. Raises FairgroundError where its converter refuses a task.
    """
    if find_spec("every_eval_ever") is None:
        return {}
    from every_eval_ever.converters.lm_eval.adapter import LMEvalAdapter

    files: dict[str, str] = {}
    for path, text in laid_out.items():
        model, name = PurePosixPath(path).parts[-2:]
        if not name.startswith("results_"):
            continue
        results: dict[str, Any] = json.loads(text)
        # Who measured, and whether the model's makers did, is for who publishes it to say.
        about = {"eval_library_name": "fairground", "evaluator_relationship": "other", "inference_engine": "fairground"}
        for task in results["results"]:
            try:
                record = LMEvalAdapter().transform(
                    {**results, "lm_eval_version": __version__}, {**about, "task_name": task}
                )
            except Exception as error:
                raise FairgroundError(
                    f"every_eval_ever does not take {task} of {model} ({error}); the run's other files are written."
                ) from error
            record.source_metadata.source_name = "fairground"
            written = record.model_dump(mode="json", exclude_none=True)
            safe = "".join(letter if letter.isalnum() else "_" for letter in task)
            files[f"{FOLDER}/{model}/{safe}.json"] = json.dumps(written, indent=2, ensure_ascii=False) + "\n"
    return files
