"""The BigQuery export of Google Analytics 4, a table of events as JSON lines or Parquet.

| GA4                                             | here              | what else it says                                 |
|-------------------------------------------------|-------------------|---------------------------------------------------|
| session_start                                   | session_start     | source, medium, campaign                          |
| page_view, screen_view                          | page_view         | source, medium, campaign, of arrivals             |
| view_search_results, search                     | search            | detail: search_term                               |
| view_item_list                                  | list_view         | detail: item_list_id, else its name               |
| view_promotion, select_promotion                | promotion_view, … | detail: promotion_id, else its name               |
| view_item                                       | product_view      | one per item                                      |
| add_to_wishlist                                 | favourite         | one per item                                      |
| add_to_cart, remove_from_cart                   | cart_add, …       | one per item, quantity                            |
| view_cart                                       | cart_view         |                                                   |
| begin_checkout                                  | checkout          |                                                   |
| add_payment_info                                | payment_info      |                                                   |
| purchase                                        | order             | order_item, coupon_redeemed                       |
| refund                                          | refund            | a part, or all                                    |
| share                                           | share             | detail: method                                    |
| sign_up                                         | sign_up           | detail: method                                    |
| notification_open                               | message_clicked   |                                                   |

The events that GA4 collects by itself (scroll, user_engagement, first_visit …) are not used, nor are those that another one
repeats: select_item (view_item), add_shipping_info (begin_checkout). The shop's own names are mapped under
`[sources.events]`, which goes before the table.

* An event is known by user_pseudo_id, event_timestamp, event_name and event_bundle_sequence_id, and its item; an order by its
  transaction_id. A purchase without one is left out: it could not be told from the same one sent twice. Of several
  purchases with one transaction_id in a file the first counts, as in GA4's reports.
* An order's value is what the customer paid: purchase_revenue, which by Google's definition has neither, plus shipping_value
  and tax_value. A shop that sends them inside says so: `revenue_includes = ["shipping", "tax"]`. Refunds likewise.
  A line is item_revenue, else price x quantity. What a coupon took off is not in the export.
* Users. Without consent both ids are empty; such rows are left out, or they would be one giant user. A row with both says
  that the visitor is that user.
* Visits. What the link says (collected_traffic_source), else its click id, else what page_location and page_referrer
  say, else the parameters source, medium and campaign.
* Known. Encore counts in days, and a daily table is read as known on its own day: its rows have no later moment of their
  own. Google corrects a table, and adds late rows to it, for three days. What a table exported again says otherwise became
  known on the date of that file (`Batch.written`); a late row cannot be told from those around it and counts from its day
  on. To call every row known three days later would be safe, and leave each prediction without the last three days.
* Complete. The table `events_20240301` holds that day of the property's zone (`time_zone`, if it is not the shop's). A table
  of any other name, such as `events_intraday_20240301`, is complete up to the day of its last event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from features.errors import InvalidTable, NoUsableData, unknown_name
from features.shopfile import Shop
from features.sources import ga4_rows
from features.sources.batch import Batch, canonical_events, file_date, refused_rows
from features.sources.json_lines import read_lines
from features.sources.table import complete_until, date_problems
from features.sources.tracked import facts_of, order_events, setting_problems

NAMES = {
    "session_start": "session_start",
    "page_view": "page_view",
    "screen_view": "page_view",
    "view_search_results": "search",
    "search": "search",
    "view_item_list": "list_view",
    "view_promotion": "promotion_view",
    "select_promotion": "promotion_click",
    "view_item": "product_view",
    "add_to_wishlist": "favourite",
    "add_to_cart": "cart_add",
    "remove_from_cart": "cart_remove",
    "view_cart": "cart_view",
    "begin_checkout": "checkout",
    "add_payment_info": "payment_info",
    "purchase": "order",
    "refund": "refund",
    "share": "share",
    "sign_up": "sign_up",
    "notification_open": "message_clicked",
}
UNUSED = frozenset(
    ("add_shipping_info", "app_clear_data", "app_exception", "app_remove", "app_update", "click", "error", "exception", "experience_impression",
     "file_download", "first_open", "first_visit", "form_start", "form_submit", "generate_lead", "in_app_purchase", "login", "notification_dismiss",
     "notification_foreground", "notification_receive", "os_update", "scroll", "select_content", "select_item", "user_engagement", "video_complete",
     "video_progress", "video_start")
)  # fmt: skip
DAILY = re.compile(r"(?<![0-9A-Za-z])events_(\d{8})(?!\d)")
PARTS_OF_TOTAL = ("shipping", "tax")


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """All events of the table above, and what the items say about products.

    Raises:
        InvalidTable: the file is not an export of GA4's events; all problems are listed.
        NoUsableData: the file is empty, or has no event that can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    lines = read_lines(path, ga4_rows.PATHS, {"items": ("items", ga4_rows.ITEM)}, ga4_rows.PARAMETERS, {"event_params": ga4_rows.PARAMETER})
    problems = date_problems(settings) + setting_problems(settings) + _included_problems(settings) + lines.problems
    problems += lines.missing("event_name", "event_timestamp")
    if problems:
        raise InvalidTable(path.name or "The export", problems)
    rows = ga4_rows.judged(lines.frame(), {**NAMES, **settings.get("events", {})}, UNUSED, settings.get("own_domains", []))
    items = ga4_rows.with_product(lines.elements("items"))
    added = [name for name in PARTS_OF_TOTAL if name not in settings.get("revenue_includes", [])]
    rows, ordered = ga4_rows.with_money(rows, items, settings.get("currency"), added, shop)
    usable = rows[rows["reason"].isna()]
    orders = usable[usable["event"] == "order"].drop(columns=["source", "medium", "campaign", "detail"])
    frames = [*ga4_rows.plain_events(usable, items), *order_events(orders, ordered[ordered["reason"].isna()])]
    parts = [lines.refused, *(refused_rows(path.name, part["line"], part["reason"]) for part in (rows, ordered))]
    refused = pd.concat(parts, ignore_index=True).sort_values(["line", "reason"], ignore_index=True)
    if not sum(map(len, frames)):
        raise NoUsableData(f"{path.name} has no usable event: {refused['reason'].value_counts().to_dict()}. Nothing was written.")
    seen = items[items["row"].isin(usable.index)]
    facts = facts_of(seen.assign(occurred_at=seen["row"].map(usable["occurred_at"])))
    return Batch(path.stem, canonical_events(*frames), _complete_until(path, usable, settings, shop), facts, refused, written=file_date(path))


def _included_problems(settings: Mapping[str, Any]) -> list[str]:
    included = settings.get("revenue_includes", [])
    if not isinstance(included, list):
        return [f'revenue_includes is {included!r}; it must be a list such as ["shipping", "tax"]']
    return [unknown_name("part of an order's total", str(name), list(PARTS_OF_TOTAL)) for name in included if name not in PARTS_OF_TOTAL]


def _complete_until(path: Path, usable: pd.DataFrame, settings: Mapping[str, Any], shop: Shop) -> date:
    """The declared date, the shop's day on which the daily table's day was over, or else the day of the last event."""
    if "complete_until" in settings or not (found := DAILY.search(path.name)):
        return complete_until(settings, usable["occurred_at"].max(), shop.zone)
    try:
        over = pd.Timestamp(found[1]) + pd.Timedelta(days=1)
    except ValueError:
        return complete_until(settings, usable["occurred_at"].max(), shop.zone)
    local = over.tz_localize(settings.get("time_zone", shop.zone), ambiguous=False, nonexistent="shift_forward")
    return local.tz_convert(shop.zone).date()
