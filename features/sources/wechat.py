"""WeChat mini-programs: the standard e-commerce events of We Analysis (`wx.reportEvent`), one JSON object a line.

WeChat exports no file of them, so a line is what a shop's own backend keeps of each report: `event`, `openid` and perhaps
`unionid`, `time`, and the parameters, in `params` or beside them.

* Trap. `wxdata_purchase_goods` is a change of the cart, not a purchase: `action_type` 0 adds and 1 takes out.
* Orders. `wxdata_order_status` is reported once per product and status, with the order's total (`pay_amt`) on each. A
  status that `[sources.statuses]` calls "order" makes one order of `pay_amt`, what was paid, and one line per product;
  "order_cancelled" and "refund" (of `pay_amt`) are the others. Statuses are the account's own: 11 (paid) and 250
  (cancelled) hold where nothing else is declared. The first report of a product counts, a repeated one does not.
* Refunds. `wxdata_refund` is one refund of `refund_amt` per `refund_order_id`, however many products report it. Without
  such an id each report is a refund of `sku_refund_amt`. Do not map a status to "refund" besides.
* Money is Chinese; `amount_unit` declares "fen", as WeChat asks for, or "yuan". Another shop currency needs `rates`.
* Who. The `unionid`, which a person has in all of a company's accounts; without it the `openid`. A line with both says
  that they are the same.
* Time. Numbers need `time_unit`, times without a zone `time_zone`. A report is known when it happened.
* Identity. Orders, lines, cancellations and refunds are known by the order; any other event by a hash of what it says.
  So the order of lines and keys does not matter, and a file read twice is read once.
* A card that is clicked is left out: the product page that opens is reported as well. `[sources.events]` gives other events
  a meaning, or another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from features.errors import InvalidTable, unknown_name
from features.rates import digits_of
from features.shopfile import MAPPED, Shop
from features.sources.batch import Batch, canonical_events, file_date
from features.sources.json_objects import Entry, content_id, read_lines, refused_lines, require_some
from features.sources.parsing import UNITS, Parsed, decimals, texts, times
from features.sources.sensors import from_minor, text_of
from features.sources.table import DAY, complete_until, date_problems, products_of
from features.sources.table_rows import UNPAID, events, refuse

EVENT_NAMES: Mapping[str, str] = {
    "wxdata_expose_goods": "list_view",
    "wxdata_browse_goods": "product_view",
    "wxdata_submit_order_content": "checkout",
    "wxdata_page_share": "share",
}
CART, STATUS, REFUND = "wxdata_purchase_goods", "wxdata_order_status", "wxdata_refund"
UNUSED = {"wxdata_click_goods": "wxdata_click_goods is reported again as wxdata_browse_goods"}
CART_ACTIONS = {"0": "cart_add", "1": "cart_remove"}
STATUSES: Mapping[str, str] = {"11": "order", "250": "order_cancelled"}
MEANINGS = ("order", "order_cancelled", "refund")
# canonical or own column -> parameter
TEXTS = {"order_id": "order_id", "spu": "spu_id", "sku": "sku_id", "action": "action_type", "status": "order_status",
         "refund_id": "refund_order_id", "category_1": "spu_catg_first_name", "category_2": "spu_catg_second_name"}  # fmt: skip
NUMBERS = {"action_num": "action_num", "sku_count": "sku_count", "pay": "pay_amt", "paid_for_line": "sku_pay_amt",
           "price": "price_current", "refunded": "refund_amt", "refunded_for_line": "sku_refund_amt"}  # fmt: skip
MONEY = ("pay", "paid_for_line", "price", "refunded", "refunded_for_line")
NO_PRODUCT: Mapping[str, Any] = dict.fromkeys(("product_id", "category", "department", "quantity", "price"))
LATE = "happened after the file was written (a wrong device clock?)"


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Events, orders with their lines, cancellations and refunds.

    Raises:
        InvalidTable: the settings or the file cannot be accepted; all problems are listed.
        NoUsableData: the file is empty, or no line of it can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    lines = read_lines(path)
    problems = _setting_problems(settings) + _status_problems(lines.entries, settings)
    said, found = _said(lines.entries, lines.numbers, settings)
    problems += found
    if problems:
        raise InvalidTable(path.name, problems)
    written = file_date(path)
    said = refuse(said, said["occurred_at"] > written + DAY, LATE)
    rows = _rows(said, _statuses(settings))
    frames, reasons = events(rows, shop)
    usable = rows[reasons.isna()]
    refused = refused_lines(path, lines, (rows["line"], reasons))
    require_some(usable, refused, path)
    return Batch(
        name=path.stem,
        events=canonical_events(*frames),
        complete_until=complete_until(settings, usable["occurred_at"].max(), shop.zone),
        products=products_of(usable),
        refused=refused,
        written=written,
    )


def _setting_problems(settings: Mapping[str, Any]) -> list[str]:
    problems = date_problems(settings)
    if settings.get("amount_unit") not in ("fen", "yuan"):
        problems.append(f'amount_unit is {settings.get("amount_unit")!r}; declare what amounts count: amount_unit = "fen", as WeChat asks for, or "yuan"')
    if settings.get("time_unit", "s") not in UNITS:
        problems.append(unknown_name("time_unit", str(settings["time_unit"]), list(UNITS)))
    statuses = settings.get("statuses", {})
    if not isinstance(statuses, dict):
        return [*problems, 'statuses must be a section: [sources.statuses] and below it lines such as 11 = "order"']
    return problems + [f"status {status}: {unknown_name('meaning', str(name), MEANINGS)}" for status, name in statuses.items() if name not in MEANINGS]


def _statuses(settings: Mapping[str, Any]) -> Mapping[str, str]:
    declared = settings.get("statuses")
    return {str(status): str(name) for status, name in declared.items()} if isinstance(declared, dict) else STATUSES


def _status_problems(entries: Sequence[Entry], settings: Mapping[str, Any]) -> list[str]:
    """Orders of which not one is paid by any known status: then the account has statuses of its own."""
    seen = Counter(text_of(_parameters(entry).get("order_status")) or "none" for entry in entries if entry.get("event") == STATUS)
    paid = {status for status, name in _statuses(settings).items() if name == "order"}
    if not seen or set(seen) & paid:
        return []
    counts = ", ".join(f"{status} ({count} lines)" for status, count in seen.most_common(20))
    return [f'no order has a status that means paid ({", ".join(sorted(paid)) or "none is declared"}); the file has {counts}. '
            'Declare your own: [sources.statuses] and below it a line such as 11 = "order"']  # fmt: skip


def _said(entries: Sequence[Entry], numbers: pd.Series, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """The lines as typed columns, with the reason why one cannot be used, and what is wrong with whole columns."""
    parameters = [_parameters(entry) for entry in entries]
    parsed = {name: _texts(parameters, key) for name, key in TEXTS.items()} | {name: _numbers(parameters, key) for name, key in NUMBERS.items()}
    moments = times(_texts(entries, "time").values, settings.get("time_zone"), settings.get("time_unit") if settings.get("time_unit") in UNITS else None)
    problems = [f"field 'time' {moments.problem}"] if moments.problem else []
    openid, unionid, names = (_texts(entries, name).values for name in ("openid", "unionid", "event"))
    canonical = names.map({**EVENT_NAMES, **settings.get("events", {})}.get, na_action="ignore").astype("string")
    said = pd.DataFrame({name: each.values for name, each in parsed.items()}).assign(
        line=numbers,
        name=names,
        event=canonical,
        user_id=unionid.fillna(openid),
        anonymous_id=openid.mask(unionid.isna() | (openid == unionid)),
        occurred_at=moments.values,
        known_at=moments.values,
        own_id=pd.Series([content_id(entry) for entry in entries], dtype="string"),
        currency=pd.Series("CNY", numbers.index, dtype="string"),
        reason=pd.Series(None, numbers.index, dtype="string"),
    )
    if settings.get("amount_unit") == "fen":
        said = said.assign(**{name: from_minor(said[name], digits_of(said["currency"])) for name in MONEY})
    why = said["name"].map(UNUSED.get, na_action="ignore").astype("string").mask(canonical.notna())
    said = refuse(said, why.notna(), why)
    unknown = canonical.isna() & ~names.isin([CART, STATUS, REFUND])
    said = refuse(said, unknown, ("event '" + names + "' is not mapped to a canonical event").fillna("no event name"))
    said = refuse(said, said["user_id"].isna(), "neither an openid nor a unionid")
    for each in (moments, *parsed.values()):
        said = refuse(said, each.reasons.notna(), each.reasons)
    return refuse(said, said["occurred_at"].isna(), "no time"), problems


def _rows(said: pd.DataFrame, statuses: Mapping[str, str]) -> pd.DataFrame:
    """Canonical rows. What several products of an order report is one order, one cancellation and one refund."""
    rows = _judged(said, statuses)
    rows = rows.assign(
        event_id=rows["own_id"],
        product_id=rows["spu"].fillna(rows["sku"]),
        category=rows["category_2"].fillna(rows["category_1"]),
        department=rows["category_1"],
        quantity=rows["action_num"],
        is_refund=False,
    )
    absent = {name: pd.Series(None, rows.index, dtype="object" if name in ("amount", "discount", "coupon", "level") else "string") for name in MAPPED}
    rows = rows.assign(**{name: empty for name, empty in absent.items() if name not in rows})
    rows = rows.sort_values(["occurred_at", "own_id"], kind="stable")
    unusable, rows = rows[rows["reason"].notna()], rows[rows["reason"].isna()]
    paid, cancelled = (rows[(rows["name"] == STATUS) & (rows["event"] == event)] for event in ("order", "order_cancelled"))
    refunds = rows[rows["name"].isin([STATUS, REFUND]) & (rows["event"] == "refund")]
    others = rows.drop(index=[*paid.index, *cancelled.index, *refunds.index])
    ended = cancelled.drop_duplicates("order_id").assign(**NO_PRODUCT)
    rows = pd.concat([unusable, others, *_orders(paid), ended, _refunds(refunds)], ignore_index=True)
    return rows.astype(dict.fromkeys(("event", "event_id", "product_id", "category", "department", "reason"), "string"))


def _judged(said: pd.DataFrame, statuses: Mapping[str, str]) -> pd.DataFrame:
    """With the event of every line that the table of names leaves open, and why a line cannot be used."""
    is_cart, is_status, is_refund = (said["event"].isna() & (said["name"] == name) for name in (CART, STATUS, REFUND))
    action = said["action"].fillna("0")
    said = refuse(said, is_cart & ~action.isin(list(CART_ACTIONS)), "action_type '" + action + "' of the cart is not known")
    meaning = said["status"].map(statuses.get, na_action="ignore").astype("string")
    other = ("order_status '" + said["status"] + "' is no payment, cancellation or refund").fillna("no order_status")
    said = refuse(said, is_status & meaning.isna(), other)
    said = refuse(said, (is_status | is_refund) & said["order_id"].isna(), "no order id")
    said = refuse(said, is_status & (meaning == "order") & ~_positive(said["pay"]), UNPAID)
    events_found = action.map(CART_ACTIONS.get, na_action="ignore").where(is_cart, meaning.where(is_status)).mask(is_refund, "refund")
    return said.assign(event=said["event"].fillna(events_found.astype("string")))


def _orders(paid: pd.DataFrame) -> list[pd.DataFrame]:
    """Orders of what was paid, and the first report of each of their products as a line."""
    orders = paid.drop_duplicates("order_id").assign(**NO_PRODUCT, amount=lambda rows: rows["pay"])
    lines = paid.assign(what=paid["sku"].fillna(paid["spu"])).drop_duplicates(["order_id", "what"])
    return [orders, lines.assign(event="order_item", event_id=None, quantity=lines["sku_count"], amount=lines["paid_for_line"])]


def _refunds(rows: pd.DataFrame) -> pd.DataFrame:
    """One refund per refund order; without such an id one per report."""
    of_status, by_id = rows["name"] == STATUS, rows["refund_id"].notna()
    event_id = (rows["order_id"] + "-" + rows["refund_id"].fillna("all")).where(of_status | by_id, rows["own_id"])
    worth = rows["refunded"].where(by_id, rows["refunded_for_line"]).where(~of_status, rows["pay"])
    rows = rows.assign(event_id=event_id, amount=worth, price=None).drop_duplicates("event_id")
    return refuse(rows.assign(product_id=rows["product_id"].mask(of_status | by_id)), ~_positive(rows["amount"]), "a refund without an amount")


def _positive(values: pd.Series) -> pd.Series:
    return pd.Series([value is not None and value > 0 for value in values], values.index, dtype=bool)


def _texts(entries: Sequence[Mapping[str, Any]], name: str) -> Parsed:
    return texts(pd.Series([text_of(entry.get(name)) for entry in entries], dtype="string", name=name))


def _numbers(entries: Sequence[Mapping[str, Any]], name: str) -> Parsed:
    return decimals(pd.Series([entry.get(name) for entry in entries], dtype="object", name=name))


def _parameters(entry: Entry) -> Entry:
    parameters = entry.get("params")
    return parameters if isinstance(parameters, dict) else entry
