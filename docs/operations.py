"""Every operation of the API, from the OpenAPI description that the service itself gives, each with a request to copy."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

Operation = Mapping[str, Any]
HERE = "http://127.0.0.1:8000"
OF_PATHS = {  # where the description has no example of its own: those that the other requests of the page make
    ("campaigns", "key"): "spring-coupon",
    ("audiences", "key"): "soon-again",
    ("look-alikes", "name"): "sample-2026-06",
    ("jobs", "job_id"): "8e03978e40d543ddbc936894a57f9324",
    ("privacy", "request_id"): "8e03978e40d543ddbc936894a57f9324",
    ("open inference protocol", "version"): "3",
}
BY_NAME = {"task": "repeat_order", "on": "2026-03-01", "user_ids": ["1029"]}  # likewise
TOKEN = "TOKEN"  # noqa: S105 - what Salesforce signs; nobody can make an example of it


@cache
def description() -> Mapping[str, Any]:
    """The OpenAPI document of a service over nothing."""
    from serving.app import ServiceSettings, create_app

    with tempfile.TemporaryDirectory() as folder:
        described: Mapping[str, Any] = create_app(ServiceSettings(Path(folder), f"sqlite:///{folder}/ledger.db")).openapi()
    return described


def operations() -> str:
    """All of them, a section for each tag."""
    document = description()
    sections = [document["info"]["description"].strip()]
    for tag in document["tags"]:
        found = [(method, path, one) for method, path, one in each() if tag["name"] in one["tags"]]
        if found:
            sections += [f"## {tag['name'].capitalize()}", tag["description"], *(_section(*operation) for operation in found)]
    return "\n\n".join(sections)


def each() -> Iterator[tuple[str, str, Operation]]:
    """(method, path, operation) in the order of the description."""
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def curl(method: str, path: str, operation: Operation) -> str:
    """The request as a line to copy; the key in it is the environment's."""
    words = ["curl"] if method == "GET" else ["curl", "-X", method]
    tag, query = operation["tags"][0], []
    for parameter in operation.get("parameters", ()):
        value = _of_parameter(tag, parameter)
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(str(value), safe=""))
        elif parameter["in"] == "query" and parameter.get("required"):
            query.append((parameter["name"], value))
    words.append(HERE + path + (f"?{urlencode(query)}" if query else ""))
    if "401" in operation["responses"] and tag != "health":
        words += ["-H", "X-Api-Key: $ENCORE_KEY"]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body = TOKEN if kind == "application/jwt" else json.dumps(_body(content), ensure_ascii=False)
        words += ["-H", f"Content-Type: {kind}", "-d", body]
    return " ".join(f'"{word}"' if "$" in word else shlex.quote(word) for word in words)


def _section(method: str, path: str, operation: Operation) -> str:
    rows = [
        f"| `{parameter['name']}` | {parameter['in']} | {'yes' if parameter.get('required') else 'no'} | {_line(parameter.get('description', ''))} |"
        for parameter in operation.get("parameters", ())
    ]
    table = "| parameter | in | required | |\n|---|---|---|---|\n" + "\n".join(rows) if rows else ""
    answers = f"Answers: {', '.join(sorted(operation['responses']))}."
    parts = [
        f"### {operation['summary']} {{#{operation['operationId']}}}",
        f"`{method} {path}`",
        operation.get("description", ""),
        table,
        f"```bash\n{curl(method, path, operation)}\n```",
        answers,
    ]
    return "\n\n".join(part for part in parts if part)


def _of_parameter(tag: str, parameter: Operation) -> Any:
    if parameter["in"] == "path" and (tag, parameter["name"]) in OF_PATHS:
        return OF_PATHS[tag, parameter["name"]]
    return parameter.get("example") or _sample(parameter["schema"], parameter["name"])


def _body(content: Mapping[str, Any]) -> Any:
    return content["example"] if "example" in content else _sample(content["schema"])


def _sample(schema: Mapping[str, Any], name: str = "") -> Any:
    """An example of a schema: its own, else one made of the examples of its required parts."""
    if "$ref" in schema:
        return _sample(description()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("examples"):
        return schema["examples"][0]
    if name in BY_NAME:
        return BY_NAME[name]
    if "const" in schema or schema.get("enum"):
        return schema.get("const", (schema.get("enum") or [None])[0])
    if "anyOf" in schema:
        return _sample(next(one for one in schema["anyOf"] if one.get("type") != "null"))
    if schema.get("type") == "array":
        return [_sample(schema["items"])]
    if schema.get("type") == "object" or "properties" in schema:
        wanted = {name: part for name, part in schema.get("properties", {}).items() if name in schema.get("required", ()) or part.get("examples")}
        return {name: _sample(part, name) for name, part in wanted.items()}
    return schema.get("default", {"string": "text", "integer": 1, "number": 1.0, "boolean": True}.get(str(schema.get("type"))))


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
