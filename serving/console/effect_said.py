"""What reports of campaigns say in English sentences, said again in a language of the console. A sentence that is not known stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from serving.console.words import Words

WARNINGS = {
    "ratio": r"The groups are not those that the lot draws: expected .* \(p = (?P<p>[^)]+)\)\..*",
    "contaminated": r"(?P<n>[\d,]+) of (?P<of>[\d,]+) members who were kept out have events of this campaign: .*",
    "overlap": r"(?P<n>[\d,]+) members were treated by another campaign at the same time\. .*",
    "unadjusted": r"The smaller group is too small to adjust .*",
    "unreached": r"The log has no opens, clicks or redemptions .*",
    "unsent": r"The log has no campaign_received of '(?P<name>.*)', so contacts cost nothing here\. .*",
}
ALARMS = {
    "under": ("conversions far under expectation", r"(?P<actual>[\d,]+) of (?P<expected>[\d,.]+) expected by .*: (?P<odds>[\d,]+) to 1"),
    "ratio": ("groups are not those that were drawn", r".* evidence (?P<odds>[\d,]+) to 1"),
    "unreached": (
        "hardly anybody is reached",
        r"(?P<n>[\d,]+) of the (?P<of>[\d,]+) treated who entered (?P<days>\d+) days ago or earlier were sent something",
    ),
    "unopened": ("hardly anybody opens", r"(?P<n>[\d,]+) of (?P<of>[\d,]+) who were sent it"),
    "contaminated": ("control is contaminated", r"(?P<n>[\d,]+) of the (?P<of>[\d,]+) members who were kept out have events of this campaign"),
}


def warning(text: str, words: Words) -> str | Markup:
    """A warning of a final report."""
    for name, pattern in WARNINGS.items():
        if found := re.fullmatch(pattern, text):
            return words.text(f"warned.{name}", **found.groupdict())
    return as_it_is(text, words)


def alarm(told: Mapping[str, Any], words: Words) -> dict[str, str | Markup]:
    """An alarm of the monitor: what is off, what was seen, what to do."""
    for name, (what, pattern) in ALARMS.items():
        if told["what"] == what:
            found = re.fullmatch(pattern, told["seen"])
            values = {part: _short(value, words) if part == "odds" else value for part, value in found.groupdict().items()} if found else {}
            seen = words.text(f"alarm.{name}_seen", **values) if found else as_it_is(told["seen"], words)
            return {"what": words.text(f"alarm.{name}"), "seen": seen, "next_step": words.text(f"alarm.{name}_do")}
    return {part: as_it_is(told[part], words) for part in ("what", "seen", "next_step")}


def _short(odds: str, words: Words) -> str:
    """Odds that nobody reads to the end."""
    return words.text("alarm.millions") if len(odds) > len("1,000,000") else odds


def as_it_is(text: str, words: Words) -> str | Markup:
    """English, marked as such for screen readers."""
    return text if words.language == "en" else Markup('<span lang="en">{}</span>').format(text)
