"""Where visits came from: utm parameters before click ids before the referrer, and nothing that raises."""

from __future__ import annotations

import pandas as pd
import pytest

from features.sources.attribution import CLICK_IDS, SEARCH, SOCIAL, attribution

SHOP = "https://shop.example/"


def found(url: str | None, referrer: str | None = None, own: tuple[str, ...] = ()) -> tuple[str | None, ...]:
    """Source, medium and campaign of one visit."""
    row = attribution(pd.Series([url], dtype="string"), pd.Series([referrer], dtype="string"), own).iloc[0]
    return tuple(None if pd.isna(value) else value for value in row[["source", "medium", "campaign"]])


def test_utm_parameters_are_decoded_and_source_and_medium_are_small_letters():
    assert found(f"{SHOP}?utm_source=News%20Letter&utm_medium=E-Mail&utm_campaign=Spring+Sale%21") == ("news letter", "e-mail", "Spring Sale!")
    assert found(f"{SHOP}#/list?utm_source=a&utm_medium=b#end") == ("a", "b", None)
    assert found(f"{SHOP}?UTM_Source=%E5%BE%AE%E4%BF%A1&utm_medium=") == ("微信", None, None)


def test_utm_beats_click_id_beats_referrer():
    facebook = "https://m.facebook.com/"
    assert found(f"{SHOP}?gclid=1&utm_source=partner&utm_medium=feed", facebook) == ("partner", "feed", None)
    assert found(f"{SHOP}?gclid=1", facebook) == ("google", "cpc", None)
    assert found(SHOP, facebook) == ("facebook", "social", None)


def test_a_campaign_counts_whatever_names_the_source():
    assert found(f"{SHOP}?utm_campaign=May&gclid=1") == ("google", "cpc", "May")


@pytest.mark.parametrize("parameter", CLICK_IDS)
def test_every_click_id_has_its_source(parameter):
    assert found(f"{SHOP}?x=1&{parameter}=abc")[:2] == CLICK_IDS[parameter]
    assert found(f"{SHOP}?x{parameter}=abc")[:2] == ("direct", "none")
    assert found(f"{SHOP}?{parameter}=")[:2] == ("direct", "none")


@pytest.mark.parametrize(
    "referrer, expected",
    [
        ("https://www.google.co.uk/search?q=soap", ("google", "organic")),
        ("https://google.com", ("google", "organic")),
        ("android-app://com.google.android.googlequicksearchbox/", ("google", "organic")),
        ("https://mail.google.com/mail", ("mail.google.com", "referral")),
        ("https://www.google.com.evil.example/", ("google.com.evil.example", "referral")),
        ("https://de.search.yahoo.com/", ("yahoo", "organic")),
        ("https://m.baidu.com/s?wd=1", ("baidu", "organic")),
        ("https://www.bing.com/", ("bing", "organic")),
        ("https://yandex.ru/", ("yandex", "organic")),
        ("https://t.co/abc", ("twitter", "social")),
        ("https://l.instagram.com/?u=x", ("instagram", "social")),
        ("https://mp.weixin.qq.com/s/x", ("wechat", "social")),
        ("https://notfacebook.com/", ("notfacebook.com", "referral")),
        ("HTTP://user@WWW.Blog.Example:8080/x", ("blog.example", "referral")),
        ("", ("direct", "none")),
        (None, ("direct", "none")),
    ],
)
def test_referrers(referrer, expected):
    assert found(SHOP, referrer)[:2] == expected


def test_no_search_engine_is_a_social_network_too():
    assert not SEARCH.keys() & SOCIAL.keys()


def test_the_shops_own_pages_are_no_arrival():
    assert found(f"{SHOP}cart", "https://www.shop.example/list") == (None, None, None)
    assert found(SHOP, "https://pay.paypal.com/x") == ("pay.paypal.com", "referral", None)
    assert found(SHOP, "https://pay.paypal.com/x", ("PayPal.com",)) == (None, None, None)
    assert found(f"{SHOP}?utm_source=a&utm_medium=b", SHOP) == ("a", "b", None)


def test_no_address_says_nothing():
    assert found(None) == found("  ") == (None, None, None)
    assert found(None, "https://www.google.de/") == ("google", "organic", None)


@pytest.mark.parametrize("url", ["%%%", "http://[::1", "https://", "\x00", "not a url?utm_source=%FF%FE", "?&&==#", "javascript:void(0)", "👍" * 5000])
def test_malformed_addresses_never_raise(url):
    for referrer in (url, None, SHOP):
        assert len(found(url, referrer)) == 3
    assert found(url, url)[1] in ("none", None)


def test_rows_keep_their_index_and_no_rows_are_no_rows():
    urls = pd.Series([f"{SHOP}?gclid=1", SHOP], index=[7, 3], dtype="string")
    assert attribution(urls)["source"].to_dict() == {7: "google", 3: "direct"}
    assert attribution(urls[:0]).columns.tolist() == ["source", "medium", "campaign"]
    assert attribution(urls.astype(object))["medium"].tolist() == ["cpc", "none"]
