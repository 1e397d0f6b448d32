"""Salesforce Journey Builder's custom activity: how it describes itself, and what its calls mean.

Source: Salesforce, "Custom Activity Configuration" and "Go Further with Custom Activities" (Marketing Cloud Engagement developer guide).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROOT = "/v1/journeys/sfmc/"
EXECUTE, ACTIVITIES = ROOT + "execute", ROOT + "activities"
LIFECYCLE = ("save", "validate", "publish", "stop")
# What Journey Builder and the marketer's browser fetch, without a key: it tells nothing of the shop.
PAGE, FILES = "index.html", {"activity.js": "text/javascript", "activity.css": "text/css", "icon.svg": "image/svg+xml"}
OPEN = {ROOT, *(ROOT + name for name in ("config.json", PAGE, *FILES, "execute", *LIFECYCLE))}  # by token, or by nobody's leave

# What the activity was asked to split by -> the ways out of it. Journey Builder ejects a contact whose branch is none of the activity's.
BRANCHES = {
    "audience": {"in": "In the audience", "out": "Not in it", "holdout": "Held out", "fallback": "Nothing known"},
    "prediction": {"low": "Low", "medium": "Medium", "high": "High", "fallback": "Nothing known"},
}
OUT_ARGUMENTS = {"status": "Text", "group": "Text", "band": "Text", "score": "Number", "percentile": "Number"}
TIMEOUT, RETRIES, RETRY_DELAY = 5_000, 2, 1_000  # an answer takes a second at most; ms, times, ms
CONTACT = "{{Contact.Key}}"


@dataclass(frozen=True)
class Asked:
    """What an activity was set up to ask, as far as a call of Journey Builder says it. branches: a key of BRANCHES."""

    audience: str
    user_id: str
    branches: str


def config(base: str, customer_key: str | None) -> dict[str, Any]:
    """The activity's `config.json`.

    Args:
        base: the address of the folder that it is in, as Journey Builder reaches it. customer_key: the External Key of the signing key in
            Salesforce's key management; without one it signs with the package's JWT Signing Secret.
    """
    signed = {"useJwt": True, **({"customerKey": customer_key} if customer_key else {})}
    calls = {name: {"url": base + name, "verb": "POST", **signed} for name in LIFECYCLE}
    seen = {"direction": "in", "access": "visible", "dataType": "Text"}
    labels = {branch: label for branches in BRANCHES.values() for branch, label in branches.items()}
    return {
        "workflowApiVersion": "1.1",
        "metaData": {"icon": "icon.svg", "iconSmall": "icon.svg", "category": "flow", "isConfigured": False, "configOnDrop": True},
        "type": "RestDecision",
        "lang": {"en-US": {"name": "Encore split", "description": "Splits by an audience or by a prediction's band."}},
        "arguments": {
            "execute": {
                "inArguments": [{"audience": "", "branches": "audience", "user_id": CONTACT}],
                "outArguments": [{name: ""} for name in OUT_ARGUMENTS],
                "url": base + "execute",
                "verb": "POST",
                "format": "json",
                "timeout": TIMEOUT,
                "retryCount": RETRIES,
                "retryDelay": RETRY_DELAY,
                "concurrentRequests": 10,
                **signed,
            }
        },
        "configurationArguments": calls,
        "userInterfaces": {"configInspector": {"url": base + PAGE, "size": "scm-lg", "emptyIframe": True}},
        "outcomes": [{"arguments": {"branchResult": branch}, "metaData": {"label": labels[branch]}} for branch in labels],
        "schema": {
            "arguments": {
                "execute": {
                    "inArguments": [dict.fromkeys(("audience", "branches", "user_id"), seen)],
                    "outArguments": [{name: {"direction": "out", "access": "visible", "dataType": kind}} for name, kind in OUT_ARGUMENTS.items()],
                }
            }
        },
    }


def asked(said: Mapping[str, Any], query: Mapping[str, str]) -> Asked:
    """What a call asks: by its arguments, else, in the calls that have none, by the query which the configuration page put there."""
    given: dict[str, Any] = dict(query)
    arguments = said.get("inArguments")
    for part in arguments if isinstance(arguments, list) else ():
        given |= part if isinstance(part, dict) else {}
    user_id = given.get("user_id") or said.get("keyValue")
    return Asked(_text(given.get("audience")), _text(user_id), _text(given.get("branches")))


def decided(answer: Mapping[str, Any], branches: str) -> dict[str, Any]:
    """The reply to `execute`: the branch, `fallback` if the activity has no such way out, and the out-arguments that have a value."""
    branch = answer["branch"] if answer["branch"] in BRANCHES.get(branches, answer["branch"]) else "fallback"
    return {"branchResult": branch, **{name: answer[name] for name in OUT_ARGUMENTS if answer[name] is not None}}


def problems(of: Asked, predictions: Mapping[str, Any]) -> list[str]:
    """What is wrong with an activity before the ledger is asked; its audience is not looked for here."""
    found = []
    if not of.audience:
        found.append("No audience or prediction was chosen. Open the activity and name one.")
    if of.branches not in BRANCHES:
        found.append(f"What to split by was not chosen; it is {' or '.join(BRANCHES)}. Open the activity and choose.")
    if of.branches == "prediction" and of.audience and of.audience not in predictions:
        found.append(f"The release in service has no prediction of that name; it has {', '.join(sorted(predictions))}.")
    if of.branches == "audience" and of.audience in predictions:
        found.append("That is a prediction's name, and not an audience's. Choose to split by a prediction.")
    return found


def _text(value: Any) -> str:
    """An argument as text: contact keys that look like numbers may arrive as numbers."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
