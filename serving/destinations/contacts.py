"""E-mails and phone numbers for exports: from a file of the shop's, since Encore keeps neither.

The log holds ids and events; where a source knew its users by contact alone (a guest's checkout, say), their id is a hash and cannot be
turned back. So whoever exports to a tool that matches people by contact names a file that has them, by user id or, for hashed ids,
by the same contact.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from features.errors import InvalidTable, UnknownName
from features.files import sha256_of
from serving.release import Release

E164 = re.compile(r"\+[1-9][0-9]{7,14}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True)
class Contacts:
    """Contacts of the users of a release. rows: places of the users in it, ascending, several of one user among them; emails, phones: as
    given, null where there is none; unknown: rows of the file that are no user's; sha256: of the file."""

    rows: npt.NDArray[np.int64]
    emails: pa.StringArray
    phones: pa.StringArray
    region: str | None
    unknown: int
    sha256: str

    def of(self, rows: npt.NDArray[np.int64]) -> list[tuple[int, str | None, str | None]]:
        """(position in `rows`, e-mail, phone) of each contact of these users; both normalised, None where they are not usable."""
        first, last = np.searchsorted(self.rows, rows, "left"), np.searchsorted(self.rows, rows, "right")
        places = np.flatnonzero(last > first)
        return [
            (place, normal_email(self.emails[at].as_py()), normal_phone(self.phones[at].as_py(), self.region))
            for place in places.tolist()
            for at in range(first[place], last[place])
        ]


def read_contacts(settings: Mapping[str, str], folder: Path, release: Release) -> Contacts:
    """Read a file of contacts, CSV or Parquet.

    Args:
        settings: file; user_id, email and phone: names of its columns; region: country of phone numbers without a country code, such as GB.
            Without user_id the ids are the hashes of contacts that the Shopify and WooCommerce sources make for guests.
        folder: where a relative file begins.

    Raises:
        InvalidTable: it cannot be read. UnknownName: a column is missing.
    """
    path = folder / settings["file"]
    columns = {name: settings[name] for name in ("user_id", "email", "phone") if name in settings}
    try:
        if path.suffix == ".parquet":
            known = pq.read_schema(path).names
            _check_columns(columns, known)
            table = pq.read_table(path, columns=list(dict.fromkeys(columns.values())))
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                known = next(csv.reader(file), [])
            _check_columns(columns, known)
            wanted = list(dict.fromkeys(columns.values()))
            types = pacsv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=True)
            table = pacsv.read_csv(path, parse_options=pacsv.ParseOptions(newlines_in_values=True), convert_options=types)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InvalidTable(f"The file of contacts {path.name}", [f"{type(error).__name__}: {error}"]) from None
    texts = {name: pc.utf8_trim_whitespace(table[column].cast(pa.string()).combine_chunks()) for name, column in columns.items()}
    nothing = pa.nulls(table.num_rows, pa.string())
    emails, phones = texts.get("email", nothing), texts.get("phone", nothing)
    ids = texts.get("user_id") if "user_id" in texts else hashed_ids(emails, phones)
    rows = _rows(ids, release.users)
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] >= 0]
    return Contacts(rows[order], emails.take(pa.array(order)), phones.take(pa.array(order)), settings.get("region"), int((rows < 0).sum()), sha256_of(path))


def _check_columns(columns: Mapping[str, str], known: list[str]) -> None:
    for column in columns.values():
        if column not in known:
            raise UnknownName("column of the file of contacts", column, known)


def _rows(ids: pa.StringArray, users: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
    keys = [b"" if user is None or len(key := user.encode()) > users.itemsize else key for user in ids.to_pylist()]
    wanted = np.array(keys or [b""], dtype=users.dtype)[: len(keys)]
    if not len(users):
        return np.full(len(keys), -1)
    found = np.minimum(np.searchsorted(users, wanted), len(users) - 1)
    return np.where((users[found] == wanted) & (wanted != b""), found, -1)


def hashed_ids(emails: pa.StringArray, phones: pa.StringArray) -> pa.StringArray:
    """The ids that `features.sources.paid_orders` makes of contacts: of the e-mail, else of the phone's digits."""
    found = []
    for email, phone in zip(emails.to_pylist(), phones.to_pylist(), strict=True):
        text = email.strip().lower() if email and "@" in email else re.sub(r"\D", "", phone or "")
        found.append(sha256(text.encode()).hexdigest() if "@" in text or len(text) >= 6 else None)
    return pa.array(found, pa.string())


def normal_email(text: str | None) -> str | None:
    """Trimmed and in small letters; None when it is no address."""
    found = (text or "").strip().lower()
    return found if EMAIL.fullmatch(found) else None


def normal_phone(text: str | None, region: str | None = None) -> str | None:
    """E.164, such as +8613800138000; None where it is no number, or has no country code and no region is told.

    Args:
        region: ISO 3166 code of the country whose numbers are written without a country code.
    """
    plain = re.sub(r"[\s().\-/]", "", text or "")
    plain = f"+{plain[2:]}" if plain.startswith("00") else plain
    if E164.fullmatch(plain):
        return plain
    if region is None or not plain.isascii() or not plain.isdigit():
        return None
    import phonenumbers  # brings the numbering plans of all countries

    try:
        number = phonenumbers.parse(plain, region)
    except phonenumbers.NumberParseException:
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)) if phonenumbers.is_possible_number(number) else None


def hashed(email: str | None, phone: str | None) -> dict[str, str | None]:
    """What advertising platforms match by, as SHA-256 in hex. One phone number has two hashes: Meta's is of the digits, Google's of the
    digits with their plus."""
    return {
        "email_sha256": _sha256(email),
        "phone_sha256_meta": _sha256(phone and phone.removeprefix("+")),
        "phone_sha256_google": _sha256(phone),
    }


def _sha256(text: str | None) -> str | None:
    return sha256(text.encode()).hexdigest() if text else None
