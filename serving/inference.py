"""The Open Inference Protocol (V2) over a release: tensors in, tensors out.

Source: https://github.com/kserve/open-inference-protocol, `specification/protocol/inference_rest.md`. Of its data types numbers and BYTES are
read, as JSON; the binary extension is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import EncoreError
from serving.everybody import percentiles_among
from serving.scorer import Score, Scorer, or_none, shown
from training.bundle import Bundle

PLATFORM = "encore"
ALL, USERS = "features", "user_id"  # names of the tensors that have all features in order, and ids of users
# Datatype -> NumPy's; a number is read as the type says before it becomes the model's float64.
INTEGERS = {f"{sign}INT{bits}": f"{kind}{bits // 8}" for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)}
NUMBERS = {"FP64": "f8", "FP32": "f4", "FP16": "f2", "BOOL": "?", **INTEGERS}
MOST_USERS = 1_000

Numbers = npt.NDArray[np.float64]


class BadInference(EncoreError):
    """A request that is not one of the protocol, or not one of this model; in words, without what was sent."""


@dataclass(frozen=True)
class Tensor:
    """name, datatype, shape and flat data in row-major order; None for no value."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape), "data": list(self.data)}


def metadata(scorer: Scorer, task: str) -> dict[str, Any]:
    """What `GET /v2/models/{name}` says: one input for each feature, in the order in which a single tensor would have them."""
    bundle = scorer.release.bundles[task]
    inputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in bundle.features]
    outputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in output_names(scorer, task)]
    return {"name": task, "versions": [scorer.tasks[task]["version"]], "platform": PLATFORM, "inputs": inputs, "outputs": outputs}


def output_names(scorer: Scorer, task: str) -> list[str]:
    """What a model says, by name, in order."""
    return [*_shown_names(scorer, task), "percentile", *scorer.release.scores[task].details]


def _shown_names(scorer: Scorer, task: str) -> list[str]:
    any_score = shown(scorer.release.bundles[task].kind, 0.5, 50.0, scorer.release.currency)
    return [name for name, value in any_score.items() if value is not None]


def infer(scorer: Scorer, task: str, request: object) -> dict[str, Any]:
    """The inference response to an inference request, both as plain JSON values.

    Raises:
        BadInference: with what is wrong and where.
    """
    if not isinstance(request, Mapping):
        raise BadInference("The body must be a JSON object with inputs.")
    inputs = [_tensor(found, f"inputs[{place}]") for place, found in enumerate(_list(request, "inputs"))]
    names = [name for place, found in enumerate(_list(request, "outputs")) if (name := _name(found, f"outputs[{place}]"))] if "outputs" in request else None
    if len(inputs) == 1 and inputs[0].name == USERS:
        outputs = _of_users(scorer, task, inputs[0])
    else:
        outputs = _of_rows(scorer, task, _rows(scorer.release.bundles[task], inputs))
    known = {tensor.name: tensor for tensor in outputs}
    if names and (odd := [place for place, name in enumerate(names) if name not in known]):
        raise BadInference(f"outputs[{odd[0]}] is not an output of this model; it has {', '.join(known)}.")
    answer = {"model_name": task, "model_version": scorer.tasks[task]["version"], "parameters": {"release": scorer.release.id}}
    if "id" in request:
        if not isinstance(request["id"], str):
            raise BadInference("id must be a string.")
        answer["id"] = request["id"]
    return {**answer, "outputs": [known[name].described() for name in (names or known)]}


def _rows(bundle: Bundle, inputs: Sequence[Tensor]) -> Numbers:
    """Users x features in the bundle's order, from one tensor of all features or one of each."""
    width = len(bundle.features)
    if len(inputs) == 1 and inputs[0].name not in bundle.features:
        (tensor,) = inputs
        if len(tensor.shape) != 2 or tensor.shape[1] != width:
            raise BadInference(f"A single tensor must have the shape [n, {width}]: the model's {width} features in the order of its metadata.")
        return _numbers(tensor, "inputs[0]").reshape(-1, width)
    places = {tensor.name: place for place, tensor in enumerate(inputs)}
    if len(places) < len(inputs):
        raise BadInference("Two inputs have the same name.")
    if odd := [place for name, place in places.items() if name not in bundle.features]:
        raise BadInference(f"inputs[{odd[0]}] is not a feature of this model; its metadata lists them.")
    if missing := [name for name in bundle.features if name not in places]:
        raise BadInference(f"{len(missing)} of the model's {width} features are not among the inputs, such as {missing[0]}. Give null where there is no value.")
    shapes = {tensor.shape for tensor in inputs}
    if len({math.prod(shape) for shape in shapes}) > 1 or any(len(shape) > 2 or shape[1:] not in ((), (1,)) for shape in shapes):
        raise BadInference("Tensors of single features must all have the same shape, [n] or [n, 1].")
    return np.column_stack([_numbers(inputs[places[name]], f"inputs[{places[name]}]") for name in bundle.features])


def _of_rows(scorer: Scorer, task: str, rows: Numbers) -> list[Tensor]:
    bundle, stored, eligible = scorer.release.bundles[task], scorer.release.scores[task], scorer.tasks[task]["eligible"]
    raw = bundle.scores(rows)
    percentile = percentiles_among(stored.ordered, eligible, raw)
    said = [shown(bundle.kind, *pair, scorer.release.currency) for pair in zip(raw.tolist(), percentile.tolist(), strict=True)]
    columns: dict[str, Sequence[Any]] = {name: [one.get(name) for one in said] for name in _shown_names(scorer, task)}
    columns |= {"percentile": percentile.tolist(), **{name: list(map(or_none, values.tolist())) for name, values in bundle.details(rows).items()}}
    return [Tensor(name, "FP64", (len(rows),), values) for name, values in columns.items()]


def _of_users(scorer: Scorer, task: str, users: Tensor) -> list[Tensor]:
    """The stored scores of known users, and the status of each."""
    if users.datatype != "BYTES" or not all(isinstance(user, str) for user in users.data):
        raise BadInference(f"The tensor {USERS} must have the datatype BYTES, and text as data.")
    if not 0 < len(users.data) <= MOST_USERS:
        raise BadInference(f"1 to {MOST_USERS:,} user ids can be asked for at a time.")
    found: list[Score] = scorer.score(task, users.data)
    details: list[Mapping[str, float | None]] = [score.details or {} for score in found]
    columns = {name: [getattr(score, name, details[place].get(name)) for place, score in enumerate(found)] for name in output_names(scorer, task)}
    tensors = [Tensor(name, "FP64", (len(found),), values) for name, values in columns.items()]
    return [*tensors, Tensor("status", "BYTES", (len(found),), [score.status.value for score in found])]


# --- what JSON holds -------------------------------------------------------------------------------------------------


def _list(request: Mapping[str, Any], name: str) -> list[Any]:
    found = request.get(name)
    if not isinstance(found, list) or (name == "inputs" and not found):
        raise BadInference(f"{name} must be a list of tensors.")
    return found


def _name(found: object, at: str) -> str:
    if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
        raise BadInference(f"{at} must be an object with a name.")
    return str(found["name"])


def _tensor(found: object, at: str) -> Tensor:
    name = _name(found, at)
    assert isinstance(found, Mapping)  # noqa: S101 - `_name` looked
    datatype, shape, data = (found.get(field) for field in ("datatype", "shape", "data"))
    if isinstance(parameters := found.get("parameters"), Mapping) and "binary_data_size" in parameters:
        raise BadInference(f"{at} is sent as binary data, which this server does not read: send it as JSON (binary_data=False).")
    if datatype not in (*NUMBERS, "BYTES"):
        raise BadInference(f"{at}.datatype must be one of {', '.join(NUMBERS)}, BYTES.")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size >= 0 for size in shape):
        raise BadInference(f"{at}.shape must be a list of whole numbers.")
    if not isinstance(data, list):
        raise BadInference(f"{at}.data must be a list, flat or nested.")
    flat = _flat(data, tuple(shape), at)
    return Tensor(name, str(datatype), tuple(shape), flat)


def _flat(data: list[Any], shape: tuple[int, ...], at: str) -> list[Any]:
    """Data in row-major order, whether it came flat or nested as the shape says."""
    if len(shape) > 1 and any(isinstance(part, list) for part in data):
        if len(data) != shape[0] or not all(isinstance(part, list) for part in data):
            raise BadInference(f"{at}.data does not have the shape that {at}.shape says.")
        return [value for part in data for value in _flat(part, shape[1:], at)]
    if len(data) != math.prod(shape):
        raise BadInference(f"{at}.data has {len(data)} elements where its shape has {math.prod(shape)}.")
    return data


def _numbers(tensor: Tensor, at: str) -> Numbers:
    """The data as float64; null is no value among floats."""
    is_float, is_bool = tensor.datatype.startswith("FP"), tensor.datatype == "BOOL"
    if tensor.datatype == "BYTES":
        raise BadInference(f"{at} has the datatype BYTES; features are numbers.")
    allowed: tuple[type, ...] = (float, int, type(None)) if is_float else (bool,) if is_bool else (int,)
    kinds = set(map(type, tensor.data))
    if not kinds <= set(allowed):
        raise BadInference(f"{at}.data has an element that is no {tensor.datatype}.")
    try:
        values = np.array([np.nan if value is None else value for value in tensor.data], dtype=NUMBERS[tensor.datatype]).astype(np.float64)
    except OverflowError:
        raise BadInference(f"{at}.data has an element that does not fit into {tensor.datatype}.") from None
    if np.isinf(values).any():
        raise BadInference(f"{at}.data has an element that does not fit into {tensor.datatype}.")
    return values
