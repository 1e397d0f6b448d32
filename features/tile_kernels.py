"""The loops that make and merge tiles, compiled. Integers in, integers out, so the number of threads changes nothing."""

from __future__ import annotations

import numpy as np

from features.compiled import njit


@njit(nogil=True, cache=True)
def day_rows(user, day, known, event, hour, sign, fields, room, cells_of, cell_column, cell_amount, cell_test, cell_most, columns):  # type: ignore[no-untyped-def]
    """Events sorted by user, day and known_day -> rows of (user, day, known_day, column, value), zeros left out.

    room: at least as many rows as there will be. cells_of: what an event adds to: first of its cells, and one more, per event code,
    quarter of the day and whether it is a weekend. cell_amount: row of `fields` that is added, -1 adds 1. cell_test: -1 none, -2 no coupon
    and no discount, -3 a level from 1 to cell_most, else the row of `fields` that must be above zero.
    """
    out_user, out_day, out_known = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    out_column, out_value = np.empty(room, np.int16), np.empty(room, np.int64)
    today, is_touched, touched = np.zeros(columns, np.int64), np.zeros(columns, np.bool_), np.empty(columns, np.int64)
    count, n = 0, 0
    for i in range(len(event)):
        weekday = (day[i] + 4) % 7  # 1970-01-01 was a Thursday
        # A code is a byte, which eight times it may not fit.
        variant = 8 * np.int64(event[i]) + 2 * (hour[i] // 6) + (1 if weekday == 0 or weekday == 6 else 0)
        for cell in range(cells_of[variant], cells_of[variant + 1]):
            test = cell_test[cell]
            if test == -2 and (fields[1, i] > 0 or fields[2, i] > 0):
                continue
            if test == -3 and not 0 < fields[4, i] <= cell_most[cell]:
                continue
            if test >= 0 and fields[test, i] <= 0:
                continue
            column = cell_column[cell]
            today[column] += sign[i] * (1 if cell_amount[cell] < 0 else fields[cell_amount[cell], i])
            if not is_touched[column]:
                is_touched[column] = True
                touched[count] = column
                count += 1
        if i + 1 == len(event) or user[i + 1] != user[i] or day[i + 1] != day[i] or known[i + 1] != known[i]:
            for j in range(1, count):  # a handful: sorted in place
                column, k = touched[j], j
                while k > 0 and touched[k - 1] > column:
                    touched[k] = touched[k - 1]
                    k -= 1
                touched[k] = column
            for j in range(count):
                column = touched[j]
                if today[column] != 0:
                    out_user[n], out_day[n], out_known[n], out_column[n], out_value[n] = user[i], day[i], known[i], column, today[column]
                    n += 1
                today[column], is_touched[column] = 0, False
            count = 0
    return out_user[:n].copy(), out_day[:n].copy(), out_known[:n].copy(), out_column[:n].copy(), out_value[:n].copy()


@njit(nogil=True, cache=True)
def add_equal(group, known, value):  # type: ignore[no-untyped-def]
    """Rows sorted by group -> which rows to keep and their values, rows of equal group and known_day added up."""
    keep, total = np.empty(len(group), np.int64), np.empty(len(group), np.int64)
    n, begin = 0, 0
    for i in range(len(group)):
        if i > 0 and group[i] != group[i - 1]:
            begin = n
        found = -1
        for j in range(begin, n):
            if known[keep[j]] == known[i]:
                found = j
                break
        if found >= 0:
            total[found] += value[i]
        else:
            keep[n], total[n] = i, value[i]
            n += 1
    some = total[:n] != 0
    return keep[:n][some], total[:n][some]


@njit(nogil=True, cache=True)
def order_within(owner, moment, since, level, text, known):  # type: ignore[no-untyped-def]
    """Positions that sort the rows of each owner by moment, since, level, text and known_day, for rows that are nearly in
    order; None where they are not. Rows of one owner lie together."""
    order = np.arange(len(owner))
    moved, most = 0, 1_000 + 20 * len(owner)
    begin = 0
    for i in range(1, len(owner)):
        if owner[i] != owner[i - 1]:
            begin = i
            continue
        row, j = order[i], i
        while j > begin:
            other = order[j - 1]
            if moment[other] != moment[row]:
                is_after = moment[other] > moment[row]
            elif since[other] != since[row]:
                is_after = since[other] > since[row]
            elif level[other] != level[row]:
                is_after = level[other] > level[row]
            elif text[other] != text[row]:
                is_after = text[other] > text[row]
            else:
                is_after = known[other] > known[row]
            if not is_after:
                break
            order[j] = other
            j -= 1
        moved += i - j
        if moved > most:
            return None
        order[j] = row
    return order


@njit(nogil=True, cache=True)
def merge_order(left, right):  # type: ignore[no-untyped-def]
    """Positions that merge two sorted arrays, those of `right` counted on from the end of `left`."""
    out = np.empty(len(left) + len(right), np.int64)
    i, j = 0, 0
    for n in range(len(out)):
        if j == len(right) or (i < len(left) and left[i] <= right[j]):
            out[n] = i
            i += 1
        else:
            out[n] = len(left) + j
            j += 1
    return out


@njit(nogil=True, cache=True)
def splice(touched, old_start, new_start, old, new):  # type: ignore[no-untyped-def]
    """User by user the rows of `new` where touched, else those of `old`; the starts have one more than there are users."""
    room = 0
    for u in range(len(touched)):
        room += new_start[u + 1] - new_start[u] if touched[u] else old_start[u + 1] - old_start[u]
    out, n = np.empty(room, old.dtype), 0
    for u in range(len(touched)):
        if touched[u]:
            for i in range(new_start[u], new_start[u + 1]):
                out[n] = new[i]
                n += 1
        else:
            for i in range(old_start[u], old_start[u + 1]):
                out[n] = old[i]
                n += 1
    return out
