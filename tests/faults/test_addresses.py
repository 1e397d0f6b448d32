"""Addresses that nothing may be sent to (F43), and what is true of those that something is sent to."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from contextlib import closing

import pytest

from serving.destinations.address import AddressRefused, is_public, resolved
from serving.destinations.post import Poster, Unreachable


@pytest.fixture
def names(monkeypatch):
    """host -> the addresses that it resolves to, one list after the other; what was asked for."""
    told, asked = {}, []

    def getaddrinfo(host, port, *args, **kwargs):
        if not host[0].isalpha():  # the address that a connection goes to
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        asked.append(host)
        answers = told[host]
        ips = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ips]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return told, asked


@pytest.mark.parametrize(
    "ip",
    [
        *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255"),
        *("0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "203.0.113.7"),
        *("::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"),
        *("2001:db8::1", "64:ff9b:1::a00:1", "fec0::1"),
    ],
)
def test_private_addresses_are_refused(ip, names):
    assert not is_public(ipaddress.ip_address(ip))
    host = f"[{ip}]" if ":" in ip else ip
    with pytest.raises(AddressRefused):
        resolved(f"https://{host}/in")
    told, _ = names
    told["innocent.test"] = [["93.184.215.14", ip]]  # one good address does not excuse the other
    with pytest.raises(AddressRefused):
        resolved("https://innocent.test/in")


@pytest.mark.parametrize("ip", ["93.184.215.14", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_taken(ip):
    assert is_public(ipaddress.ip_address(ip))
    assert resolved(f"https://{f'[{ip}]' if ':' in ip else ip}/in").ips == (ip,)


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "gopher://x.test/", "ftp://x.test/", "https:///in", "https://", "", "x.test/in", "//x.test/in", "javascript:alert(1)"),
        *("https://user@x.test/", "https://user:secret@x.test/", "https://@x.test/", "https://x.test@127.0.0.1/"),
        *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://0/", "https://017700000001/", "https://134744072/"),
        *("https://x.test:99999/", "https://x.test:-1/", "https://[::1/", "https://x test/", "https://x.test\\@127.0.0.1/", "https://x.test/\r\nHost: y"),
        *("http://x.test/in", "https://-x.test/", "https://x..test/", "https://①②⑦.0.0.1/", "https://127。0。0。1/"),
    ],
)
def test_urls_that_hide_something_are_refused(url, names):
    told, _ = names
    told["x.test"] = [["93.184.215.14"]]
    with pytest.raises(AddressRefused) as refused:
        resolved(url)
    assert "secret" not in str(refused.value)


def test_the_operator_may_name_private_hosts():
    assert resolved("http://127.0.0.1:9000/in?a=1", ["127.0.0.1:9000"]).target == "/in?a=1"
    assert resolved("http://127.0.0.1:9000/in", [" 127.0.0.1 "]).authority == "127.0.0.1:9000"
    with pytest.raises(AddressRefused):
        resolved("http://127.0.0.1:9001/in", ["127.0.0.1:9000"])
    with pytest.raises(AddressRefused):
        resolved("http://127.0.0.2/in", ["127.0.0.1"])


def test_a_name_that_changes_its_address_is_asked_once(names, receive):
    """DNS rebinding: the second answer would be somebody else's, and nobody asks for it."""
    told, asked = names
    told["receiver.test"] = [["127.0.0.1"], ["127.0.0.9"]]
    receiver = receive({"then": {"do": "status", "status": 200, "headers": {"connection": "close"}}})
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    address = resolved(f"http://receiver.test:{port}/in", ["receiver.test"])
    poster = Poster(address, 5)
    for _ in range(3):
        assert poster.post(b"{}", {}).status == 200
    poster.close()
    assert asked.count("receiver.test") == 1
    assert {request["headers"]["host"] for request in receiver.got} == {f"receiver.test:{port}"}


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate of receiver.test that this process trusts, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("receiver.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    monkeypatch.setenv("SSL_CERT_FILE", str(paths[0]))
    return paths


def test_the_certificate_must_be_the_names_although_the_address_is_pinned(names, receive, certificate):
    told, _ = names
    told["receiver.test"] = told["other.test"] = [["127.0.0.1"]]
    receiver = receive({}, certificate)
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    address = resolved(f"https://receiver.test:{port}/in", ["receiver.test"])
    poster = Poster(address, 5)
    assert poster.post(b"{}", {}).status == 200
    poster.close()
    assert {line["server_name"] for line in receiver.got if line["step"] == "hello"} == {"receiver.test"}
    assert [line["headers"]["host"] for line in receiver.got if line["step"] == "ok"] == [f"receiver.test:{port}"]
    with pytest.raises(Unreachable):
        Poster(resolved(f"https://other.test:{port}/in", ["other.test"]), 5).post(b"{}", {})


def test_a_redirect_is_an_answer_and_not_followed(receive):
    target = receive()
    receiver = receive({"then": {"do": "status", "status": 307, "headers": {"location": target.url}}})
    with closing(Poster(resolved(receiver.url, ["127.0.0.1"]), 5)) as poster:
        answer = poster.post(b"{}", {})
    assert (answer.status, target.got) == (307, [])


def test_the_proxy_of_the_environment_is_not_used(receive, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with closing(Poster(resolved(receive().url, ["127.0.0.1"]), 5)) as poster:
        assert poster.post(b"{}", {}).status == 200


@pytest.mark.parametrize("step", [{"do": "hang", "seconds": 30}, {"do": "drip"}])
def test_a_receiver_that_hangs_or_drips_is_left_in_time(receive, step):
    import time

    poster = Poster(resolved(receive({"then": step}).url, ["127.0.0.1"]), 0.5)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="timeout"):
        poster.post(b"{}", {})
    assert time.monotonic() - began < 10


def test_half_an_answer_is_none(receive):
    with pytest.raises(Unreachable):
        Poster(resolved(receive({"then": {"do": "cut"}}).url, ["127.0.0.1"]), 5).post(b"{}", {})
