"""`[[exports]]` of encore.toml: what is sent where, so that a scheduler can say `encore export NAME`.

Secrets and addresses are never written there: they are the environment's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

FILES = ("csv", "parquet", "sqlite", "postgresql")  # the table predictive_scores
LINES = ("segment-lines", "sensors")  # a line for each user, to be imported
LISTS = ("meta", "google")  # hashed lists of people
TOOLS = ("braze", "hubspot", "klaviyo", "segment", "webhook")  # sent over HTTPS
DESTINATIONS = (*FILES, *LINES, *LISTS, *TOOLS)
KEYS = ("name", "destination", "tasks", "audience", "attributes", "contacts", "everybody", "id_property")
CONTACT_KEYS = ("file", "user_id", "email", "phone", "region")
RESERVED = ("events", *DESTINATIONS)
NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")


def export_problems(export: Mapping[str, Any]) -> list[str]:
    """What is wrong with one export; empty when it can be used."""
    problems = [_unknown("setting of an export", key, KEYS) for key in export if key not in KEYS]
    name = export.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        problems.append('"name" must be small letters, digits and hyphens, such as name = "braze-daily"')
    elif name in RESERVED:
        problems.append(f"\"name\" is '{name}', which is a destination's own name; such as '{name}-daily' is free")
    if export.get("destination") not in DESTINATIONS:
        problems.append(_unknown("destination", str(export.get("destination")), DESTINATIONS))
    if "tasks" in export and "audience" in export:
        problems.append('"tasks" and "audience" exclude each other: scores of predictions, or who is in an audience')
    shapes = {"audience": str, "everybody": bool, "id_property": str, "attributes": dict, "contacts": dict}
    problems += [f'"{key}" must be {_WORDS[key]}' for key, kind in shapes.items() if key in export and not isinstance(export[key], kind)]
    if "tasks" in export and not (isinstance(export["tasks"], list) and export["tasks"] and all(isinstance(task, str) for task in export["tasks"])):
        problems.append('"tasks" must be a list of predictions, such as ["churn"]')
    return problems or _inner_problems(export)


def _inner_problems(export: Mapping[str, Any]) -> list[str]:
    destination, contacts = export["destination"], export.get("contacts")
    problems = []
    if destination in LISTS and "audience" not in export:
        problems.append(f"'{destination}' takes a list of people: name an \"audience\"")
    if destination in LISTS and contacts is None:
        problems.append(f"'{destination}' matches people by e-mail or phone, which Encore does not keep: give \"contacts\", a file of the shop's that has them")
    names = list(export.get("attributes", {}).values())
    if not all(isinstance(theirs, str) and theirs for theirs in names) or len(set(names)) < len(names):
        problems.append('"attributes" must give each a name of its own, such as attributes = { churn_score = "risk" }')
    if contacts is not None:
        problems += [_unknown("setting of contacts", key, CONTACT_KEYS) for key in contacts if key not in CONTACT_KEYS]
        problems += [f'"{key}" of contacts must be text' for key in CONTACT_KEYS if key in contacts and not isinstance(contacts[key], str)]
        if "file" not in contacts or not {"email", "phone"} & contacts.keys():
            problems.append('"contacts" needs a file and the name of its column of e-mails or phones, such as { file = "contacts.csv", email = "Email" }')
    return problems


def _unknown(what: str, seen: str, allowed: tuple[str, ...]) -> str:
    near = get_close_matches(seen, allowed, n=1)
    return f"unknown {what} '{seen}'.{f' Did you mean {near[0]!r}?' if near else ''} Known: {', '.join(allowed)}"


_WORDS = {
    "audience": 'the name of an audience, such as audience = "vip"',
    "everybody": "true (everybody each time) or false (what changed, the default)",
    "id_property": 'the name of the contact property that holds user ids, such as id_property = "customer_id"',
    "attributes": 'a table of names, such as attributes = { churn_score = "risk" }',
    "contacts": 'a table, such as contacts = { file = "contacts.csv", email = "Email" }',
}
