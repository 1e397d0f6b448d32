"""The API does what its description says, for whatever a program could think of; and people can read the description."""

from __future__ import annotations

from contextlib import closing

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance

from serving.border.keys import create_key
from serving.journeys.activity import OPEN
from serving.ledger import Ledger

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance]
# Names that exist, so that requests come as far as they can; and what every second of them asks for.
KNOWN = {"task": "repeat_order", "name": "repeat_order", "version": "30", "user_id": "user-000001", "audience": "vip", "key": "vip"}
MANY = 150


def started(state, published, serve, folder):
    """A service in a state, with an audience that exists where it can."""
    if state == "only for keys":
        with closing(Ledger(f"sqlite:///{folder / 'ledger.db'}")) as ledger:
            create_key(ledger, "somebody", ["admin"], days=30)
    client = serve(folder / "none" if state == "no release" else published.root, folder)
    client.post("/v1/audiences", {"task": "churn", "top_n": 5, "name": "vip"})
    return client


def explore(client, state, examples):
    """Ask every operation that often; returns how many there are."""
    operations = [result.ok() for result in schemathesis.openapi.from_asgi("/openapi.json", client.app).get_all_operations()]
    for operation in operations:

        @given(case=operation.as_strategy(), known=st.booleans())
        @settings(max_examples=examples, derandomize=True, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        def answers_as_described(case, known):
            if known and case.path_parameters:
                case.path_parameters = {name: KNOWN.get(name, value) for name, value in case.path_parameters.items()}
            answer = case.call()
            case.validate_response(answer, checks=CHECKS)
            unavailable = answer.status_code == 503 and answer.headers["retry-after"]
            assert answer.status_code < 500 or (state == "no release" and unavailable)
            assert answer.headers["x-request-id"]
            if state == "only for keys":
                assert answer.status_code in (200, 401) or case.path in OPEN  # Journey Builder's, which sends a token, and is not set up here

        answers_as_described()
    return len(operations)


def operations_of(client):
    """How many operations the description has."""
    return sum(len(operations) for operations in client.get("/openapi.json").json["paths"].values())


@pytest.mark.parametrize(("state", "examples"), [("a release", 4), ("no release", 2), ("only for keys", 2)])
def test_generated_requests_find_no_fault_and_no_answer_that_is_not_described(state, examples, published, serve, tmp_path):
    client = started(state, published, serve, tmp_path)
    assert explore(client, state, examples) == operations_of(client)


@pytest.mark.long
@pytest.mark.parametrize("state", ["a release", "no release", "only for keys"])
def test_a_hundred_times_as_many_find_none_either(state, published, serve, tmp_path):
    client = started(state, published, serve, tmp_path)
    assert explore(client, state, MANY) == operations_of(client)


# --- as people read it ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(shared_client):
    return shared_client.get("/openapi.json").json


def test_every_route_of_the_service_is_described(shared_client, described):
    methods = {(route.path_format, method) for router in _routers() for route in router.routes if route.include_in_schema for method in route.methods}
    assert {(path, method.upper()) for path, operations in described["paths"].items() for method in operations} == methods


def _routers():
    from serving.routes import ROUTERS

    return ROUTERS


def test_operations_have_names_for_programs_and_words_for_people(described):
    operations = [operation for operations in described["paths"].values() for operation in operations.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    tags = [tag["name"] for tag in described["tags"]]
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in tags
    assert {operation["tags"][0] for operation in operations} == set(tags)


def test_what_creates_something_takes_an_idempotency_key_and_says_what_it_may_answer(described):
    creating = {"/v1/audiences", "/v1/audiences/{key}/exports", "/v1/lookalikes", "/v1/lookalikes/{name}/refresh", "/v1/privacy/requests"}
    creating |= {"/v1/campaigns", "/v1/campaigns/{key}/enrolments", "/v1/campaigns/{key}/reports", "/v1/campaigns/{key}/stop"}
    taking = {
        path
        for path, operations in described["paths"].items()
        for operation in operations.values()
        if "Idempotency-Key" in [parameter["name"] for parameter in operation.get("parameters", [])]
    }
    assert taking == creating
    for path in creating:
        assert {"409", "422"} <= set(described["paths"][path]["post"]["responses"])


def test_the_examples_of_requests_are_requests(client, described):
    bodies = described["components"]["schemas"]
    made = client.post("/v1/audiences", bodies["AudienceRequest"]["examples"][0])
    asked = client.post("/v1/lookalikes", bodies["LookalikeRequest"]["examples"][0])
    scored = client.post("/v1/scores/repeat_order", {"user_ids": bodies["ScoreRequest"]["properties"]["user_ids"]["examples"][0]})
    assert (made.status, asked.status, scored.status) == (201, 202, 200)


def test_a_journey_has_no_error_but_a_missing_key(described):
    (operation,) = described["paths"]["/v1/journeys/{audience}/{user_id}"].values()
    assert set(operation["responses"]) == {"200", "401", "403"}
