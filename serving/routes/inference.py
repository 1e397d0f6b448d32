from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from features.errors import NoRelease, UnknownName
from serving.border.problems import documented
from serving.inference import BadInference, infer, metadata
from serving.routes.health import health_of
from serving.routes.parts import CurrentPart, KeyringPart
from serving.scorer import Scorer

BINARY = "Tensors in binary are not read here: send their data as JSON (with tritonclient: binary_data=False)."
NOT_JSON = "The body is not JSON (NaN and Infinity are none: give null where there is no value)."


class InferenceError(BaseModel):
    """How this protocol tells of errors."""

    error: str


class ServerBody(BaseModel):
    name: str
    version: str
    extensions: list[str]


class LiveBody(BaseModel):
    live: bool


class ReadyBody(BaseModel):
    ready: bool


class ModelReadyBody(ReadyBody):
    name: str


class TensorBody(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class MetadataBody(BaseModel):
    """inputs: one tensor for each feature. A single tensor of the shape [n, features] has them in this order."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorBody]
    outputs: list[TensorBody]


class OutputBody(TensorBody):
    data: Annotated[list[Any], Field(description="In row-major order; null where there is no value.")]


class InferenceBody(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any]
    outputs: list[OutputBody]


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Errors of the protocol; what stands in front of all routes answers with problems."""
    found = documented(*codes)
    for described in found.values():
        described["content"] = {**described["content"], "application/json": {"schema": InferenceError.model_json_schema()}}
    return found


RESPONSES = _errors(400, 404, 405, 413, 503)
router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=RESPONSES)

Name = Annotated[str, Path(description="A prediction, as `/v1/models` lists them.", examples=["repeat_order"])]
Version = Annotated[str, Path(description="The version in service, as the metadata says.")]
EXAMPLE = {"id": "1", "inputs": [{"name": "user_id", "shape": [2], "datatype": "BYTES", "data": ["1029", "1030"]}]}
TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
    },
}
INFERENCE_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "items": TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
    },
}
POSTED: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": INFERENCE_REQUEST, "example": EXAMPLE}}}}


@router.get("", summary="The server, by the Open Inference Protocol")
async def get_server() -> ServerBody:
    """Its name and version. The protocol is KServe's V2; tensors come and go as JSON."""
    return ServerBody(name="encore", version="1", extensions=[])


@router.get("/health/live", summary="Is the process up? (V2)")
async def get_live() -> LiveBody:
    """200 as long as the process answers at all."""
    return LiveBody(live=True)


@router.get("/health/ready", summary="Can it score? (V2)", response_model=ReadyBody, responses={503: {"model": ReadyBody}})
async def get_ready(current: CurrentPart, keyring: KeyringPart, request: Request) -> Response:
    """200 when a release is in service; 503 when there is none, and whenever `/health/ready` says so: its scores are older than the hard
    limit, or keys are needed that nobody knows."""
    is_ready = health_of(current, keyring, request.app.state.hard_limit).status != "not ready"
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503, headers={} if is_ready else {"Retry-After": "30"})


@router.get("/models/{name}", summary="A model's tensors", response_model=MetadataBody)
async def get_metadata(name: Name, current: CurrentPart) -> Response:
    """What it takes and what it gives, by name, data type and shape."""
    return _metadata(_model(current.loaded, name), name)


@router.get("/models/{name}/versions/{version}", summary="A version's tensors", response_model=MetadataBody)
async def get_version_metadata(name: Name, version: Version, current: CurrentPart) -> Response:
    """What it takes and what it gives, by name, data type and shape."""
    return _metadata(_model(current.loaded, name, version), name)


@router.get("/models/{name}/ready", summary="Is a model in service?", response_model=ModelReadyBody)
async def get_model_ready(name: Name, current: CurrentPart) -> Response:
    """200 when it is."""
    return _ready(_model(current.loaded, name), name)


@router.get("/models/{name}/versions/{version}/ready", summary="Is a version in service?", response_model=ModelReadyBody)
async def get_version_ready(name: Name, version: Version, current: CurrentPart) -> Response:
    """200 when it is."""
    return _ready(_model(current.loaded, name, version), name)


@router.post("/models/{name}/infer", summary="Infer", response_model=InferenceBody, openapi_extra=POSTED)
async def post_infer(name: Name, request: Request, current: CurrentPart) -> Response:
    """Either one tensor of the shape [n, features] in the order of the metadata, or one tensor of the shape [n] for each feature by its name, or a
    tensor `user_id` of BYTES: the stored scores of known users. Numbers may be of any numeric data type; null is no value.
    """
    return await _infer(_model(current.loaded, name), name, request)


@router.post("/models/{name}/versions/{version}/infer", summary="Infer with a version", response_model=InferenceBody, openapi_extra=POSTED)
async def post_version_infer(name: Name, version: Version, request: Request, current: CurrentPart) -> Response:
    """As without a version, but 404 when another one is in service."""
    return await _infer(_model(current.loaded, name, version), name, request)


def _metadata(found: Scorer | Response, name: str) -> Response:
    return found if isinstance(found, Response) else JSONResponse(metadata(found, name))


def _ready(found: Scorer | Response, name: str) -> Response:
    return found if isinstance(found, Response) else JSONResponse({"name": name, "ready": True})


async def _infer(found: Scorer | Response, name: str, request: Request) -> Response:
    if isinstance(found, Response):
        return found
    if "inference-header-content-length" in request.headers:
        return _error(400, BINARY)
    try:
        asked = json.loads(await request.body(), parse_constant=_no_constant)
        return JSONResponse(await run_in_threadpool(infer, found, name, asked))
    except BadInference as error:
        return _error(400, str(error))
    except (ValueError, RecursionError):
        return _error(400, NOT_JSON)


def _model(scorer: Scorer | None, name: str, version: str | None = None) -> Scorer | Response:
    """The scorer that has the model, or the answer that says why there is none."""
    if scorer is None:
        return _error(503, str(NoRelease("No release is in service yet.")), {"Retry-After": "30"})
    if name not in scorer.release.bundles:
        unknown = str(UnknownName("model", name, scorer.release.bundles)).replace(f" '{name}'", "", 1)
        return _error(404, unknown)
    if version is not None and version != scorer.tasks[name]["version"]:
        return _error(404, f"That version is not in service; version {scorer.tasks[name]['version']} is.")
    return scorer


def _error(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": words}, status, headers=dict(headers or {}))


def _no_constant(word: str) -> float:
    raise ValueError("not JSON")
