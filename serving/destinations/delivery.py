"""Delivery: items to a tool, batch by batch, until each was taken or stands in the dead letters with its reason.

What fails for a while (no answer in time, 408, 425, 429, 5xx) is tried again, after a random part of a wait that doubles from try to try
("full jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) and never before the Retry-After of the answer.
Of a batch that was taken in part only the refused items are sent again, once; one that is refused whole is halved until the culprit is
alone. What says that nothing of this account can be sent (401, 403, 404, a redirect) stops the delivery, to go on there later.

Progress is saved every second, with the dead letters: after kill -9 the last second's batches are sent again, with the same ids.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import tenacity

from features.errors import EncoreError
from features.files import sha256_of_bytes
from serving.destinations.items import Item
from serving.destinations.post import Answer, Poster, Unreachable
from serving.destinations.tool import Account, Tool, Unfit

SAVED_EVERY = 1.0  # seconds
LONGEST_WAIT = 60.0  # seconds between two tries, unless the receiver asks for more
LONGEST_ASKED = 900.0  # a receiver that asks for more has to be asked again another time
IN_A_ROW = 3  # batches given up one after the other: the receiver is down, and the rest waits for another time
WRONG_FROM_THE_START = 20  # items refused before any was taken: the export is wrong, not the items
FOR_A_WHILE = {408, 425, 429, *range(500, 600)}
OF_THE_ITEMS = {400, 409, 413, 415, 422}

Refused = list[tuple[Item, str]]


class DeliveryStopped(EncoreError):
    """Nothing more can be sent now; what was done is kept, and the next run goes on there."""


@dataclass
class Progress:
    """How far a delivery got. next_row: of the comparison; dead_bytes: length of the dead letters by then."""

    next_row: int = 0
    sent: int = 0
    refused: int = 0
    dead_bytes: int = 0


@dataclass
class Batch:
    """Items of one request, encoded, and those on the way that the tool cannot be told of."""

    items: list[Item] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    unfit: Refused = field(default_factory=list)
    last_row: int = -1


class Again(Exception):
    """A try that failed for a while; after: seconds that the receiver asked to wait."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


def batches(items: Iterable[Item], tool: Tool, account: Account) -> Iterator[Batch]:
    """Items in requests of the size that the tool takes."""
    room = tool.largest - len(tool.wrap([], account))
    batch, size = Batch(), 0
    for item in items:
        try:
            encoded = tool.encode(item, account)
            if len(encoded) > min(tool.largest_item, room):
                raise Unfit(f"larger than {tool.largest_item} bytes")
        except Unfit as reason:
            batch.unfit.append((item, str(reason)))
            batch.last_row = item.row
            continue
        if batch.items and (len(batch.items) == tool.most or size + 1 + len(encoded) > room):
            yield batch
            batch, size = Batch(), 0
        batch.items.append(item)
        batch.encoded.append(encoded)
        batch.last_row, size = item.row, size + 1 + len(encoded)
    if batch.last_row >= 0:
        yield batch


class DeadLetters:
    """Refused items, one JSON object a line: user_id, attributes, reason, at.

    Args:
        path: the file; what stands behind `size` was written by a process that did not live to note it, and goes.
    """

    def __init__(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(min(size, path.stat().st_size))  # shorter where users were erased from it

    def write(self, refused: Refused) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for item, reason in refused:
            line = {"user_id": item.user_id, "attributes": item.attributes, "reason": reason[:200], "at": now}
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def kept(self) -> int:
        """Bring what was written to the disk; returns the file's length."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


class Pace:
    """So many requests a second for all threads together, and none while the receiver asked for a pause."""

    def __init__(self, per_second: float, stop: threading.Event) -> None:
        self._gap, self._next, self._stop = 1 / per_second, 0.0, stop
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        self._stop.wait(turn - now)

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Sending:
    """Sends batches to one account from several threads.

    Args:
        definition: of the export; it makes ids of requests differ from those of another export.
    """

    def __init__(self, tool: Tool, account: Account, poster: Poster, definition: str) -> None:
        self.tool, self.account, self.poster, self.definition = tool, account, poster, definition
        self.stop = threading.Event()
        self.pace = Pace(tool.per_second, self.stop)

    def send(self, items: Sequence[Item], encoded: Sequence[bytes], *, last: bool = False) -> Refused:
        """Send items until each is taken or refused; returns the refused ones with reasons.

        Args:
            last: what is refused now is not tried again.

        Raises:
            DeliveryStopped: nothing of this account can be sent now. Again: all tries failed.
        """
        answer = self._tried(self.tool.wrap(encoded, self.account))
        if answer.status in OF_THE_ITEMS:
            if len(items) == 1:
                return [(items[0], f"status {answer.status}")]
            half = len(items) // 2
            return self.send(items[:half], encoded[:half]) + self.send(items[half:], encoded[half:])
        refused = self.tool.failed(_json(answer.body), items)
        refused = {place: reason for place, reason in refused.items() if 0 <= place < len(items)}
        if refused and not last:
            places = sorted(refused)
            return self.send([items[place] for place in places], [encoded[place] for place in places], last=True)
        return [(items[place], reason) for place, reason in sorted(refused.items())]

    def _tried(self, body: bytes) -> Answer:
        waits = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Again),
            stop=tenacity.stop_after_attempt(self.tool.tries) | tenacity.stop_when_event_set(self.stop),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        return waits(self._once, body)

    def _sleep(self, seconds: float) -> None:
        self.stop.wait(seconds)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.after if isinstance(error, Again) else 0.0
        most = min(LONGEST_WAIT, self.tool.first_wait * 2 ** (state.attempt_number - 1))
        return asked + random.uniform(0, most)  # noqa: S311 - to spread callers, not to be secret

    def _once(self, body: bytes) -> Answer:
        self.pace.wait()
        if self.stop.is_set():
            raise DeliveryStopped("It was stopped.")
        request_id = f"msg_{sha256_of_bytes(self.definition.encode() + body)[:32]}"
        try:
            answer = self.poster.post(body, self.tool.headers(self.account, body, request_id))
        except Unreachable as error:
            raise Again(f"no answer ({error})") from None
        if answer.status in FOR_A_WHILE:
            after = retry_after(answer.headers.get("retry-after"), self.tool.retry_unit, time.time())
            if after > LONGEST_ASKED:
                raise self._stopped(f"The receiver answers {answer.status} and asks to wait {after:.0f} s. Run it again after that.")
            if answer.status == 429:
                self.pace.pause(after)
            raise Again(f"status {answer.status}", after)
        if not 200 <= answer.status < 300 and answer.status not in OF_THE_ITEMS:
            raise self._stopped(f"The receiver answers {answer.status} ({_advice(answer.status)}).")
        return answer

    def _stopped(self, reason: str) -> DeliveryStopped:
        """No thread begins another request."""
        self.stop.set()
        return DeliveryStopped(reason)


def deliver(items: Iterable[Item], sending: Sending, dead: DeadLetters, progress: Progress, save: Callable[[Progress], None]) -> Progress:
    """Send items to the end and save how far it got, every second and at the end, however it ends.

    Args:
        items: by ascending row, from `progress.next_row` on.

    Raises:
        DeliveryStopped: the receiver is down, or refuses the account or everything.
    """
    waiting: deque[tuple[Future[Refused], Batch]] = deque()
    saved_at, given_up = time.monotonic(), 0

    def settle() -> None:
        nonlocal saved_at, given_up
        future, batch = waiting.popleft()
        try:
            refused, given_up = future.result(), 0
        except Again as error:
            refused, given_up = [(item, f"{error} after {sending.tool.tries} tries") for item in batch.items], given_up + 1
        dead.write([*batch.unfit, *refused])
        progress.sent += len(batch.items) - len(refused)
        progress.refused += len(refused) + len(batch.unfit)
        progress.next_row = batch.last_row + 1
        if given_up >= IN_A_ROW:
            raise DeliveryStopped(f"The receiver did not take {given_up} batches in a row ({refused[0][1]}).")
        if not given_up and not progress.sent and len(refused) >= min(WRONG_FROM_THE_START, sending.tool.most) and len(refused) == len(batch.items):
            raise DeliveryStopped(f"The receiver refused each of the first {len(refused)} users ({refused[0][1]}): look at what is sent, by --dry-run.")
        if time.monotonic() - saved_at > SAVED_EVERY:
            progress.dead_bytes = dead.kept()
            save(progress)
            saved_at = time.monotonic()

    with ThreadPoolExecutor(sending.tool.at_once) as pool:
        try:
            for batch in batches(items, sending.tool, sending.account):
                waiting.append((pool.submit(sending.send, batch.items, batch.encoded) if batch.items else _nothing(), batch))
                if len(waiting) >= sending.tool.at_once:
                    settle()
            while waiting:
                settle()
        finally:
            sending.stop.set()
            progress.dead_bytes = dead.kept()
            save(progress)
    return progress


def retry_after(text: str | None, unit: float, now: float) -> float:
    """Seconds that a Retry-After header asks to wait: a number of units, or a date; 0 when there is none or it cannot be read."""
    with suppress(ValueError):
        return max(0.0, float(text or 0) * unit) if (text or "0").strip().isdigit() else max(0.0, parsedate_to_datetime(text or "").timestamp() - now)
    return 0.0


def _nothing() -> Future[Refused]:
    done: Future[Refused] = Future()
    done.set_result([])
    return done


def _json(body: bytes) -> object:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _advice(status: int) -> str:
    if status in (401, 403):
        return "the key is wrong, or may not do this"
    if 300 <= status < 400:
        return "a redirect, which is not followed: give the address that it points to"
    return "the address is wrong" if status in (404, 405, 410) else "not an answer of this kind of receiver"
