"""Export: what is sent where, by encore.toml or the command line, with the secrets of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.errors import InvalidShopFile, InvalidUse, UnknownName
from features.exports import DESTINATIONS, FILES, LINES, LISTS, export_problems
from features.files import digest_of
from features.shopfile import Shop
from serving.destinations import braze, hubspot, klaviyo, segment, webhook
from serving.destinations.tool import Account, Tool

TOOLS: Mapping[str, Tool] = {
    "braze": braze.BRAZE,
    "hubspot": hubspot.HUBSPOT,
    "klaviyo": klaviyo.KLAVIYO,
    "segment": segment.SEGMENT,
    "webhook": webhook.WEBHOOK,
}


@dataclass(frozen=True)
class Export:
    """What is sent where.

    tasks: predictions, empty for all that the release has; audience: name of one instead. attributes: our name -> the receiver's.
    contacts: see `serving.destinations.contacts`; folder: where a relative file of contacts begins. everybody: everything each time, not
    only what changed. id_property: of HubSpot.
    """

    name: str
    destination: str
    tasks: tuple[str, ...] = ()
    audience: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    contacts: Mapping[str, str] | None = None
    everybody: bool = False
    id_property: str | None = None
    folder: Path = Path()

    def definition(self, url: str | None) -> str:
        """What makes it this export and no other. The address is part of it; keys, which change, are not."""
        told = {name: value for name, value in vars(self).items() if name != "folder"}
        return digest_of([told, url])

    @property
    def stem(self) -> str:
        """How its files are called: those of a look-alike begin with its name and a dot, by which they go when its seed is forgotten."""
        of_one = self.audience or (self.tasks[0] if len(self.tasks) == 1 else "")
        return f"{of_one}.{self.name}" if of_one.startswith("lookalike-") else self.name


def find_export(name: str, shop: Shop, given: Mapping[str, object]) -> Export:
    """The export of that name in encore.toml; or a destination, with what the command line gives.

    Raises:
        UnknownName: it is neither. InvalidShopFile: what was given is wrong.
    """
    settings: dict[str, Any] = {key: value for key, value in given.items() if value not in (None, (), [], {})}
    if "tasks" in settings:
        settings["tasks"] = list(settings["tasks"])
    declared = {str(export["name"]): export for export in shop.exports}
    if name in declared:
        if settings:
            raise InvalidUse(f"'{name}' is declared in encore.toml, which says all of it: change it there, or give the destination's name.")
        settings = dict(declared[name])
    elif name in DESTINATIONS:
        settings |= {"name": f"{name}-once", "destination": name}
        if problems := export_problems(settings):
            raise InvalidShopFile("the command line", problems)
        settings["name"] = name
    else:
        raise UnknownName("export", name, (*declared, *DESTINATIONS, "events"))
    return Export(**{**settings, "tasks": tuple(settings.get("tasks", ())), "folder": shop.path.parent})


def account_of(export: Export, made_at: str = "", environment: Mapping[str, str] = os.environ) -> Account:
    """Address and secrets of an export: ENCORE_EXPORT_<NAME>_URL and _KEY (_SECRET of a webhook), else those of its destination.

    Raises:
        InvalidUse: one of them is missing or wrong; the text names the variable.
    """
    if export.destination in (*LINES, *LISTS, *(kind for kind in FILES if kind != "postgresql")):
        return Account("", id_property=export.id_property, made_at=made_at)

    def told(what: str, default: str | None = None) -> str:
        names = list(dict.fromkeys(f"ENCORE_EXPORT_{owner.upper().replace('-', '_')}_{what}" for owner in (export.name, export.destination)))
        found = next((environment[name] for name in names if environment.get(name)), default)
        if found is None:
            raise InvalidUse(f"The export '{export.name}' has no {'address' if what == 'URL' else 'secret'}: set {' or '.join(names)}.")
        return found

    if export.destination == "postgresql":
        return Account(told("URL"))
    url = told("URL", TOOLS[export.destination].url)
    if export.destination == "webhook":
        secrets = tuple(told("SECRET").split())
        webhook.check_secrets(secrets)
    else:
        secrets = (told("KEY").strip(),)
        if not secrets[0].isascii() or not secrets[0].isprintable():
            raise InvalidUse(f"The key of the export '{export.name}' has characters that no key has.")
    return Account(url, secrets, export.id_property, made_at)


def allowed_hosts(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """ENCORE_ALLOWED_HOSTS: hosts, or host:port, that exports may be sent to although they are private or without TLS."""
    return tuple(name for name in (part.strip() for part in environment.get("ENCORE_ALLOWED_HOSTS", "").split(",")) if name)
