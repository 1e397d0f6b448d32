"""Given ids as users of a snapshot: by id, by address or hash, through links; and where the others are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from features.identity import tombstone
from features.snapshot import Snapshot
from features.tiles import Tiles
from features.tombstones import DELETED, NO_PROFILING

EXAMPLES = 5  # of unknown ids, in a message
NO_ADDRESSES = (
    "The log holds no e-mail addresses: addresses and hashes are found where the id is the address or its SHA-256 hash, as it is for Shopify and for guests of "
    "WooCommerce, or where they are hashes of the ids. Otherwise give the shop's own ids"
)
WHY = {NO_PROFILING: "suppressed", DELETED: "deleted"}  # why an id is in no snapshot
HASH = re.compile(r"[0-9a-fA-F]{64}")
POINTED = re.compile(r"(\d+)\.0+")  # 123.0: a whole number that went through a spreadsheet or a table with gaps


@dataclass(frozen=True)
class Matched:
    """Given ids as users of a snapshot.

    users: sorted; each given id that was found -> its user. counts: given, blank, duplicates, linked, by_hash, pointed (written as
    123.0), deleted, suppressed, later (known only on or after the date), unknown (addresses_unknown of these are addresses or
    hashes), matched. unknown: some of the ids that nobody knows; rows: where in the list these stand, from 1.
    """

    users: tuple[str, ...]
    of: Mapping[str, str]
    counts: Mapping[str, int]
    unknown: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()


NOBODY = Matched((), {}, {})


def matched(ids: Sequence[str], snapshot: Snapshot, tiles: Tiles) -> Matched:
    """Find given ids, e-mail addresses or hashes among the users of a snapshot.

    An id linked to a user by now stands for that user; where that one was not known at the date, for what it was then. An
    address is trimmed, lower-cased and hashed by SHA-256, as Meta and Google want it; hashes are held against ids that are hashes
    themselves (Shopify, WooCommerce guests) and against the hashes of the ids. Where all are written as 123.0 and nobody is called
    so, the point goes. Each person counts once.
    """
    known, owners, tombstones = set(snapshot.user_ids), tiles.current_ids, tiles.log.manifest["tombstones"]
    texts = [text for text in (str(one).strip() for one in ids) if text]
    plain = _without_points(texts, known | owners.keys())
    by_hash = _by_hash([*known, *owners]) if any(_is_hash(text) or "@" in text for text in texts) else {}
    found: dict[str, str] = {}
    missed: list[str] = []
    counts = dict.fromkeys(("duplicates", "linked", "by_hash", "pointed", "deleted", "suppressed", "later", "unknown"), 0)
    for text in dict.fromkeys(texts):
        bare = plain.get(text, text)
        name = bare if bare in known or bare in owners else by_hash.get(_hash_of(bare), bare)
        user = next((one for one in (owners.get(name, name), name) if one in known), None)
        if user is None:
            missed.append(text)
            continue
        counts["by_hash"] += name != bare
        counts["pointed"] += bare != text
        counts["linked"] += name in owners and user != name
        found[text] = user
    everybody = _everybody(tiles) if missed else set()
    names_by_hash = _by_hash(everybody) if by_hash and missed else {}
    nobody = [text for text in missed if _missed(plain.get(text, text), counts, tombstones, everybody, names_by_hash, owners) == "unknown"]
    counts["addresses_unknown"] = sum(_is_hash(text) or "@" in text for text in nobody)
    users = tuple(sorted(set(found.values())))
    counts["duplicates"] = len(texts) - len(set(texts)) + len(found) - len(users)
    places = {str(one).strip(): place for place, one in reversed(list(enumerate(ids, 1)))} if nobody else {}
    told = {"given": len(ids), "blank": len(ids) - len(texts), **counts, "matched": len(users)}
    return Matched(users, found, told, tuple(map(_shown, nobody[:EXAMPLES])), tuple(places[text] for text in nobody[:EXAMPLES]))


def _without_points(texts: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Text -> the id without its point, where all have one and some of the bare ones are known."""
    if not texts or not all(POINTED.fullmatch(text) for text in texts) or any(text in known for text in texts):
        return {}
    bare = {text: text.partition(".")[0] for text in texts}
    return bare if any(name in known for name in bare.values()) else {}


def _missed(
    text: str, counts: dict[str, int], tombstones: Mapping[str, str], everybody: set[str], by_hash: Mapping[str, str], owners: Mapping[str, str]
) -> str:
    """Why an id is not in the snapshot; counts it."""
    name = by_hash.get(_hash_of(text), text)
    marks = (tombstone(name), tombstone(owners.get(name, name)), text.lower())
    kind = next((WHY[tombstones[mark]] for mark in marks if mark in tombstones), None)
    why = kind or ("later" if name in everybody or name in owners else "unknown")
    counts[why] += 1
    return why


def _shown(text: str) -> str:
    """An id as a message may have it: of an address only the first letter and the domain."""
    name, _, domain = text.partition("@")
    return f"{name[:1]}***@{domain}" if domain else text


def _is_hash(text: str) -> bool:
    return HASH.fullmatch(text) is not None


def _hash_of(text: str) -> str:
    return text.lower() if _is_hash(text) else hash_of_address(text)


def hash_of_address(text: str) -> str:
    """SHA-256 hex of the trimmed, lower-cased text: how advertising platforms and our own sources hash an e-mail address."""
    return sha256(text.strip().lower().encode()).hexdigest()


def _by_hash(names: Sequence[str] | set[str]) -> dict[str, str]:
    ordered = sorted(names)
    return {hash_of_address(name): name for name in ordered} | {name.lower(): name for name in ordered if _is_hash(name)}


def _everybody(tiles: Tiles) -> set[str]:
    return {name for number in range(len(tiles)) for name in tiles.bucket(number, ()).users.to_pylist()}


def rows_of(found: Matched) -> str:
    """Where in the list the first unknown ids stand."""
    return ", ".join(f"{row:,}" for row in found.rows) + (", ..." if found.counts["unknown"] > len(found.rows) else "")


def form_of(text: str) -> str:
    """What an id looks like without telling it: aaa-999 for dog-123."""
    return re.sub(r"[0-9]", "9", re.sub(r"[^\W\d_]", lambda letter: "A" if letter[0].isupper() else "a", text))
