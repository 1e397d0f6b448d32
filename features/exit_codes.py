"""Exit codes, for schedulers: the one table that maps errors to them.

0: done, or nothing to do. 1: a fault of Encore itself. 2: usage, by the command line's own parser too.
"""

from __future__ import annotations

from features.errors import (
    BelowExpectation,
    EncoreError,
    GateRefused,
    InvalidShopFile,
    InvalidTable,
    InvalidUse,
    LabelWindowOpen,
    Locked,
    MissingExtra,
    NoRelease,
    NoUsableData,
    TrackingUnavailable,
    UnknownName,
)

FAULT, INFRASTRUCTURE = 1, 5
EXIT_CODES: dict[type[EncoreError], int] = {
    UnknownName: 2,
    InvalidShopFile: 2,
    InvalidUse: 2,
    MissingExtra: 2,
    GateRefused: 3,
    BelowExpectation: 3,
    Locked: 4,
    TrackingUnavailable: 5,
    NoRelease: 5,
    InvalidTable: 6,
    LabelWindowOpen: 6,
    NoUsableData: 6,
    EncoreError: 5,
}


def exit_code(error: EncoreError) -> int:
    """The code of the error's class, or of the nearest class above it."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
