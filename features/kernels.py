"""The loops over tile rows, compiled. Integers in, integers out, so the number of threads changes nothing.

Rows of one user lie together, oldest first. Each loop goes from the newest row that a cutoff may see to the oldest and
hands over its running totals whenever it passes the edge of a window: a row is read once for all windows.
"""

from __future__ import annotations

import math

import numpy as np

from features.compiled import njit

NONE = np.iinfo(np.int64).min  # "no value" among integers
SUM, DAYS, SINCE, FIRST = 0, 1, 2, 3  # of a day column
KINDS, TOTAL, TOP, TOP_KEY, INFORMATION, AGAIN, COUNT = 0, 1, 2, 3, 4, 5, 6  # of a key column
GAPS, GAP_TOTAL, GAP_SQUARES, LONGEST_GAP, LAST_GAP, EARLIER_GAP = 0, 1, 2, 3, 4, 5
MILLIONTH = 1_000_000
# n ln n in millionths, rounded: a table, so that every engine adds the same integers.
INFORMATION_OF = np.array([0, *(round(n * math.log(n) * MILLIONTH) for n in range(1, 65_537))], np.int64)


@njit(nogil=True, cache=True)
def day_pass(asked, start, day, known, column, value, cut, is_count, reach, group_of, groups, edges, request_of, kind, target, out):  # type: ignore[no-untyped-def]
    """Sums, days, days since and first days of day columns, at one cutoff.

    Args:
        asked: positions of the users to look at. start: first row of each user, and one more.
        group_of, groups: column -> the columns it adds to, itself first.
        reach: column -> the longest window that asks for it. edges: window lengths, ascending, the last one endless.
        request_of: edge -> first of its requests, and one more. kind, target: of each request. out: requests x users;
        filled for the users who have a fact that stands. Returns those users' positions.
    """
    width = len(group_of) - 1
    total, days = np.zeros(width, np.int64), np.zeros(width, np.int64)
    last, first, today = np.zeros(width, np.int64), np.zeros(width, np.int64), np.zeros(width, np.int64)
    seen, fresh = np.empty(width, np.int64), np.empty(width, np.int64)
    is_seen, is_fresh = np.zeros(width, np.bool_), np.zeros(width, np.bool_)
    known_users, n = np.empty(len(asked), np.int64), 0
    for u in asked:
        i, edge, n_seen, facts = start[u + 1] - 1, 0, 0, np.int64(0)
        while i >= start[u] and day[i] >= cut:
            i -= 1
        while i >= start[u]:
            now, n_fresh = day[i], 0
            age = cut - now
            while i >= start[u] and day[i] == now:
                if known[i] < cut:
                    if is_count[column[i]]:
                        facts += value[i]
                    if age > reach[column[i]]:
                        i -= 1
                        continue
                    for g in range(group_of[column[i]], group_of[column[i] + 1]):
                        c = groups[g]
                        today[c] += value[i]
                        if not is_fresh[c]:
                            is_fresh[c] = True
                            fresh[n_fresh] = c
                            n_fresh += 1
                i -= 1
            while age > edges[edge]:
                for r in range(request_of[edge], request_of[edge + 1]):
                    out[r, n] = total[target[r]] if kind[r] == 0 else days[target[r]]
                edge += 1
            for j in range(n_fresh):
                c = fresh[j]
                is_fresh[c] = False
                if not is_seen[c]:
                    is_seen[c] = True
                    seen[n_seen] = c
                    n_seen += 1
                total[c] += today[c]
                if today[c] > 0:
                    days[c] += 1
                    if last[c] == 0:
                        last[c] = age
                    first[c] = age
                today[c] = 0
        while facts > 0 and edge < len(edges):
            for r in range(request_of[edge], request_of[edge + 1]):
                c = target[r]
                if kind[r] == 0:
                    out[r, n] = total[c]
                elif kind[r] == 1:
                    out[r, n] = days[c]
                else:
                    age = last[c] if kind[r] == 2 else first[c]
                    out[r, n] = age if age > 0 else NONE
            edge += 1
        for j in range(n_seen):
            c = seen[j]
            total[c], days[c], last[c], first[c], is_seen[c] = 0, 0, 0, 0, False
        if facts > 0:
            known_users[n] = u
            n += 1
    return known_users[:n].copy()


@njit(nogil=True, cache=True)
def gap_pass(users, start, day, known, value, cut, out):  # type: ignore[no-untyped-def]
    """Moments of the days between days with an order, from rows of orders alone; out: the six kinds of gap parts x users."""
    for n in range(len(users)):
        u = users[n]
        out[:, n] = 0
        out[3, n], out[4, n], out[5, n] = NONE, NONE, NONE
        i, later = start[u + 1] - 1, -1
        while i >= start[u]:
            now, placed = day[i], 0
            while i >= start[u] and day[i] == now:
                if known[i] < cut:
                    placed += value[i]
                i -= 1
            if placed <= 0 or now >= cut:
                continue
            if later >= 0:
                gap = np.int64(later - now)
                if out[0, n] == 0:
                    out[4, n] = gap
                elif out[0, n] == 1:
                    out[5, n] = gap
                out[0, n] += 1
                out[1, n] += gap
                out[2, n] += gap * gap
                out[3, n] = max(out[3, n], gap)
            later = now


@njit(nogil=True, cache=True)
def key_pass(  # type: ignore[no-untyped-def]
    users, start, day, known, column, key, value, cut, reach, codes, streams_of, stream_dimension, sizes,
    edges, request_of, kind, target, code_of, information, out,
):  # fmt: skip
    """How a user's actions spread over keys, at one cutoff.

    Args:
        codes: dimensions x keys, the code of a key in a dimension, -1 where it has none. streams_of: column -> its
            streams, and one more; a stream counts one column by one dimension. sizes: dimension -> number of codes.
        code_of: of each request for a count the code that is counted, -1 where no key has it.
        Rows of one user, day, column and key lie together. The rest is as in `day_pass`.
    """
    n_streams = len(stream_dimension)
    offset = np.zeros(n_streams + 1, np.int64)
    for s in range(n_streams):
        offset[s + 1] = offset[s] + sizes[stream_dimension[s]]
    count = np.zeros(offset[n_streams], np.int64)
    state = np.zeros((n_streams, 6), np.int64)
    state[:, 3] = NONE
    used = np.empty(1024, np.int64)
    for slot in range(len(users)):
        u = users[slot]
        i, edge, n_used = start[u + 1] - 1, 0, 0
        while i >= start[u] and day[i] >= cut:
            i -= 1
        while i >= start[u]:
            now, c, k, n = day[i], column[i], key[i], np.int64(0)
            if cut - now > reach[c]:
                i -= 1
                continue
            while i >= start[u] and day[i] == now and column[i] == c and key[i] == k:
                if known[i] < cut:
                    n += value[i]
                i -= 1
            if n <= 0:
                continue
            age = cut - now
            while age > edges[edge]:
                for r in range(request_of[edge], request_of[edge + 1]):
                    out[r, slot] = _spread(state, count, offset, target[r], kind[r], code_of[r])
                edge += 1
            for s in range(streams_of[c], streams_of[c + 1]):
                code = codes[stream_dimension[s], k]
                if code < 0:
                    continue
                place = offset[s] + code
                before = count[place]
                after = before + n
                count[place] = after
                if before == 0:
                    if n_used == len(used):
                        larger = np.empty(2 * n_used, np.int64)
                        larger[:n_used] = used
                        used = larger
                    used[n_used] = place
                    n_used += 1
                    state[s, 0] += 1
                state[s, 1] += n
                state[s, 4] += _information(after, information) - _information(before, information)
                if before < 2 <= after:
                    state[s, 5] += 1
                if after > state[s, 2] or (after == state[s, 2] and code < state[s, 3]):
                    state[s, 2], state[s, 3] = after, code
        while edge < len(edges):
            for r in range(request_of[edge], request_of[edge + 1]):
                out[r, slot] = _spread(state, count, offset, target[r], kind[r], code_of[r])
            edge += 1
        for j in range(n_used):
            count[used[j]] = 0
        if n_used:
            state[:, :] = 0
            state[:, 3] = NONE


@njit(nogil=True, cache=True)
def _spread(state, count, offset, stream, kind, code):  # type: ignore[no-untyped-def]
    if kind != COUNT:
        return state[stream, kind]
    return count[offset[stream] + code] if code >= 0 else np.int64(0)


@njit(nogil=True, cache=True)
def _information(n, information):  # type: ignore[no-untyped-def]
    return information[n] if n < len(information) else np.int64(round(n * math.log(n) * 1_000_000))


@njit(nogil=True, cache=True)
def change_pass(users, start, day, known, name, group, value, cut, first, last):  # type: ignore[no-untyped-def]
    """The first and the last row of each name that stands at a cutoff; -1 where there is none.

    Rows of one user lie sorted by name and moment; those of one statement (equal group) lie together.
    """
    for n in range(len(users)):
        u = users[n]
        first[:, n], last[:, n] = -1, -1
        i = start[u]
        while i < start[u + 1]:
            begin, stands = i, np.int64(0)
            while i < start[u + 1] and group[i] == group[begin]:
                if day[i] < cut and known[i] < cut:
                    stands += value[i]
                i += 1
            if stands > 0:
                if first[name[begin], n] < 0:
                    first[name[begin], n] = begin
                last[name[begin], n] = begin


@njit(nogil=True, cache=True)
def to_float(values):  # type: ignore[no-untyped-def]
    """float64, NaN for NONE."""
    out = np.empty(len(values), np.float64)
    for i in range(len(values)):
        out[i] = np.nan if values[i] == NONE else np.float64(values[i])
    return out


@njit(nogil=True, cache=True)
def quotient(above, below):  # type: ignore[no-untyped-def]
    """above / below, NaN where below is zero."""
    out = np.empty(len(above), np.float64)
    for i in range(len(above)):
        out[i] = np.nan if below[i] == 0 else above[i] / np.float64(below[i])
    return out
