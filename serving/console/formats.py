"""Numbers, shares, money and dates as a language's readers write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal, format_percent

from features.money import minor_digits, minor_units

LOCALES = {"en": Locale("en", "GB"), "zh": Locale("zh", "CN", "Hans")}  # of English the one whose dates cannot be misread
NOTHING = "–"
ROUND = 1_000  # units of money from which on nobody reads the cents
RATIOS = ("share", "flag")
PERCENT_METRICS = ("positives_share", "base_rate", "ece", "ece_floor", "mean_bias", "coverage", "nominal_coverage", "event_rate", "decile_mape", "share_top_10",
                   "average_effect", "uplift_10", "uplift_20", "uplift_30", "recall_1", "recall_5", "recall_10", "recall_20")  # fmt: skip
MONEY_METRICS = ("mae", "mean_value")


class Formats:
    """How one language writes what is not words.

    Args:
        language: one of `words.LANGUAGES`. currency, zone: of the shop.
    """

    def __init__(self, language: str, currency: str = "EUR", zone: str = "UTC") -> None:
        self.locale, self.currency = LOCALES[language], currency
        try:
            self.zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError):  # a zone that this machine does not know
            self.zone = ZoneInfo("UTC")

    def units(self, amount: float | None, digits: int | None = None) -> str:
        """An amount of whole units in the shop's currency."""
        return self.money(None if amount is None else amount * minor_units(self.currency), digits)

    def number(self, value: float | None, digits: int = 0) -> str:
        """A number with so many digits after the point."""
        if value is None or math.isnan(value):
            return NOTHING
        return str(format_decimal(value, format="#,##0" + ("." + "0" * digits if digits else ""), locale=self.locale))

    def measured(self, value: float | None) -> str:
        """A number of unknown size: three digits where it is small, one where it is large."""
        return self.number(value, 1 if value is not None and abs(value) >= 10 else 3)

    def percent(self, share: float | None, digits: int = 1) -> str:
        if share is None or math.isnan(share):
            return NOTHING
        return str(format_percent(share, format="#,##0" + ("." + "0" * digits if digits else "") + "%", locale=self.locale))

    def money(self, cents: float | None, digits: int | None = None) -> str:
        """An amount of minor units in the shop's currency."""
        if cents is None or math.isnan(cents):
            return NOTHING
        amount = cents / minor_units(self.currency)
        shown = digits if digits is not None else 0 if abs(amount) >= ROUND else minor_digits(self.currency)
        pattern = "¤#,##0" + ("." + "0" * shown if shown else "")
        return str(format_currency(amount, self.currency, format=pattern, locale=self.locale, currency_digits=False))

    def days(self, value: float | None) -> str:
        return self.number(value, 0 if value is None or float(value).is_integer() else 1)

    def day(self, told: str | date | None) -> str:
        """A date, such as 22 Nov 2026."""
        if not told:
            return NOTHING
        return str(format_date(date.fromisoformat(told[:10]) if isinstance(told, str) else told, "medium", locale=self.locale))

    def short_day(self, told: str) -> str:
        """A date without its year, for narrow places."""
        return str(format_date(date.fromisoformat(told[:10]), "d MMM" if self.locale.language == "en" else "M月d日", locale=self.locale))

    def month(self, told: str) -> str:
        """A month that is written as 2026-11."""
        return str(format_date(date.fromisoformat(f"{told}-01"), "MMM y" if self.locale.language == "en" else "y年M月", locale=self.locale))

    def moment(self, told: str | datetime | None) -> str:
        """A date with the time in the shop's zone."""
        if not told:
            return NOTHING
        at = datetime.fromisoformat(told) if isinstance(told, str) else told
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(self.zone)
        written = "d MMM y, HH:mm" if self.locale.language == "en" else "y年M月d日 HH:mm"
        return f"{format_datetime(at, written, tzinfo=self.zone, locale=self.locale)} {at.tzname()}"

    def value(self, value: float | None, unit: str) -> str:
        """A feature's value by its unit."""
        if value is None or math.isnan(value):
            return NOTHING
        if unit == "cents":
            return self.money(value)
        if unit in RATIOS:
            return self.percent(value, 0)
        return self.number(value, 0 if float(value).is_integer() else 1 if abs(value) >= 1 else 2)

    def metric(self, name: str, value: float | None) -> str:
        """A metric by what it is a number of."""
        if name in PERCENT_METRICS:
            return self.percent(value, 1)
        if name in MONEY_METRICS:
            return self.money(value)
        if name in ("rows", "positives"):
            return self.number(value)
        return self.number(value, 2) if name.startswith("lift_") and name != "lift_quality" else self.measured(value)

    def interval(self, measured: Mapping[str, Any] | None, how: str = "") -> str:
        """The 95 % interval of a measured value, or nothing. how: a metric's name, else a share.

        None of the calibration error: a resample is less even than the sample, so its interval leans upwards and may miss the value itself.
        """
        if how == "ece" or not measured or measured.get("low") is None or measured.get("high") is None:
            return ""
        low, high = (self.metric(how, measured[end]) if how else self.percent(measured[end]) for end in ("low", "high"))
        return f"{low} – {high}"
