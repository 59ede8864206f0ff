"""Whatever the OpenAPI document allows, and much that it does not, gets an answer below 500."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from scripted import Served

SETTINGS = settings(
    max_examples=40, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def test_no_request_makes_the_server_fail(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    labels = set()
    for operation in schema.get_all_operations():
        api = operation.ok()
        labels.add(api.label)
        cases = st.one_of(api.as_strategy(), api.as_strategy(generation_mode=GenerationMode.NEGATIVE))

        def ask(case: schemathesis.Case) -> None:
            served.scripted.permits.release(200)
            case.validate_response(case.call(timeout=20), checks=[not_a_server_error])

        given(case=cases)(SETTINGS(ask))()
    assert len(labels) >= 10
