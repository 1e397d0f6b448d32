"""Where a visit came from, by the address it landed on and the page that led there.

What the shop says about its own links counts most: utm parameters, then the click id of an advertising platform, then the
referrer. A visit without any of these is direct. A page that was reached from the shop's own pages is not an arrival and
says nothing; neither does a row without any address.

`fbclid` is "social", not paid: Facebook adds it to every link, in advertisements and in posts of friends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_plus

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

DIRECT = ("direct", "none")
# parameter of the address -> source, medium
CLICK_IDS = {
    "gclid": ("google", "cpc"),
    "gbraid": ("google", "cpc"),  # clicks to and from iOS apps
    "wbraid": ("google", "cpc"),
    "dclid": ("google", "display"),  # Display & Video 360, Campaign Manager
    "msclkid": ("bing", "cpc"),
    "yclid": ("yandex", "cpc"),
    "bd_vid": ("baidu", "cpc"),
    "qz_gdt": ("tencent", "cpc"),  # WeChat, QQ and Qzone
    "gdt_vid": ("tencent", "cpc"),
    "fbclid": ("facebook", "social"),
    "ttclid": ("tiktok", "paid_social"),
    "li_fat_id": ("linkedin", "paid_social"),
    "twclid": ("twitter", "paid_social"),
}
# The search pages themselves: mail.google.com or docs.google.com are no search.
SEARCH = {
    "google": r"((www|m)\.)?google(\.[a-z]{2,3}){1,2}|com\.google\.android\.googlequicksearchbox",
    "bing": r"((www|m|cn)\.)?bing\.com",
    "yahoo": r"(.+\.)?search\.yahoo(\.[a-z]{2,3}){1,2}",
    "duckduckgo": r"(.+\.)?duckduckgo\.com",
    "baidu": r"((www|m|wap)\.)?baidu\.com",
    "yandex": r"((www|m)\.)?yandex(\.[a-z]{2,3}){1,2}|ya\.ru",
    "sogou": r"((www|m|wap)\.)?sogou\.com",
    "so.com": r"((www|m)\.)?so\.com",
    "shenma": r"(.+\.)?sm\.cn",
    "naver": r"(.+\.)?search\.naver\.com",
    "ecosia": r"(www\.)?ecosia\.org",
    "qwant": r"((www|lite)\.)?qwant\.com",
    "startpage": r"(www\.)?startpage\.com",
    "brave": r"search\.brave\.com",
    "seznam": r"search\.seznam\.cz",
}
SOCIAL = {
    "facebook": ("facebook.com", "fb.com", "fb.me", "messenger.com"),
    "instagram": ("instagram.com",),
    "threads": ("threads.net", "threads.com"),
    "twitter": ("twitter.com", "x.com", "t.co"),
    "linkedin": ("linkedin.com", "lnkd.in"),
    "pinterest": ("pinterest.com", "pinterest.co.uk", "pinterest.de", "pin.it"),
    "reddit": ("reddit.com",),
    "tiktok": ("tiktok.com",),
    "youtube": ("youtube.com", "youtu.be"),
    "snapchat": ("snapchat.com",),
    "whatsapp": ("whatsapp.com", "wa.me"),
    "telegram": ("telegram.org", "t.me"),
    "vk": ("vk.com", "vk.ru"),
    "line": ("line.me",),
    "wechat": ("weixin.qq.com", "weixin110.qq.com", "servicewechat.com"),
    "qq": ("qzone.qq.com", "connect.qq.com"),
    "weibo": ("weibo.com", "weibo.cn", "t.cn"),
    "xiaohongshu": ("xiaohongshu.com", "xhslink.com"),
    "douyin": ("douyin.com", "iesdouyin.com"),
    "kuaishou": ("kuaishou.com",),
    "bilibili": ("bilibili.com", "b23.tv"),
    "zhihu": ("zhihu.com",),
}
HOST = r"^\s*[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<found>[^/?#:\s]+)"


def attribution(urls: pd.Series, referrers: pd.Series | None = None, own_domains: Sequence[str] = ()) -> pd.DataFrame:
    """Source, medium and campaign per landing address.

    Args:
        urls: the addresses landed on, with their parameters; no text is malformed enough to be an error.
        referrers: the pages that led there.
        own_domains: of the shop and its payment providers, with all below them; the host landed on always is one.
    """
    landed = _arrow(urls)
    led = _arrow(referrers) if referrers is not None else pa.nulls(len(urls), pa.string())
    source, medium, campaign = (_parameter(landed, name) for name in ("utm_source", "utm_medium", "utm_campaign"))
    said = pd.DataFrame({"source": source.str.lower(), "medium": medium.str.lower()})
    clicked = _looked_up(_found(landed, rf"(?i)[?&#](?P<found>{'|'.join(CLICK_IDS)})=[^&#]").str.lower(), CLICK_IDS)
    hosts, referrer_hosts = (_found(addresses, HOST).str.lower() for addresses in (landed, led))
    found = _by_referrer(hosts, referrer_hosts, own_domains)
    found.loc[referrer_hosts.isna() & _is_given(landed)] = DIRECT
    for better in (clicked, said):
        found = found.mask(better["source"].notna(), better)
    return found.assign(campaign=campaign).set_index(urls.index)


def _by_referrer(hosts: pd.Series, referrers: pd.Series, own_domains: Sequence[str]) -> pd.DataFrame:
    """Arrivals from elsewhere; empty where the shop's own pages led there."""
    elsewhere = {host: found for host in referrers.dropna().unique() if (found := _classified(host, own_domains))}
    is_own = (hosts.str.removeprefix("www.") == referrers.str.removeprefix("www.")).fillna(False)
    return _looked_up(referrers.mask(is_own), elsewhere)


def _looked_up(keys: pd.Series, table: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Source and medium by key."""
    parts = {name: {key: pair[place] for key, pair in table.items()} for place, name in enumerate(("source", "medium"))}
    return pd.DataFrame({name: keys.map(part.get, na_action="ignore").astype("string") for name, part in parts.items()})


def _classified(host: str, own_domains: Sequence[str]) -> tuple[str, str] | None:
    bare = host.removeprefix("www.")
    if any(_is_below(bare, own.lower().removeprefix("www.")) for own in own_domains):
        return None
    for name, pattern in SEARCH.items():
        if re.fullmatch(pattern, host):
            return name, "organic"
    for name, domains in SOCIAL.items():
        if any(_is_below(bare, domain) for domain in domains):
            return name, "social"
    return bare, "referral"


def _is_below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _is_given(texts: pa.Array) -> pd.Series:
    return _series(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(texts), ""), False)).astype(bool)


def _parameter(urls: pa.Array, name: str) -> pd.Series:
    """The decoded value of a parameter; blank is empty."""
    written = _found(urls, rf"(?i)[?&#]{name}=(?P<found>[^&#]+)")
    decoded = {value: unquote_plus(value).strip() or None for value in written.dropna().unique()}
    return written.map(decoded.get, na_action="ignore").astype("string")


def _found(texts: pa.Array, pattern: str) -> pd.Series:
    return _series(pc.struct_field(pc.extract_regex(texts, pattern), "found"))


def _arrow(texts: pd.Series) -> pa.Array:
    found = pa.array(texts.astype("string"), pa.string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _series(texts: pa.Array) -> pd.Series:
    found: pd.Series = texts.to_pandas(types_mapper={pa.string(): pd.StringDtype()}.get)
    return found.reset_index(drop=True)
