"""What the first page after a start loads and works out, begun with the first request of the console: mostly the form to sign in.

A service that nobody looks at holds none of it, and its start waits for none of it.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from features.errors import EncoreError

if TYPE_CHECKING:
    from serving.current import Current

_lock = threading.Lock()
_prepared: WeakSet[Current] = WeakSet()


def prepare_once(current: Current) -> None:
    """Prepare in a thread, the first time that this service is asked for a page."""
    with _lock:
        if current in _prepared:
            return
        _prepared.add(current)
    threading.Thread(target=prepare, args=(current,), name="console-first", daemon=True).start()


def prepare(current: Current) -> None:
    """Make the ranking and the lots that the page of audiences opens with, and load words, templates and what draws them."""
    from serving.console.audiences import draw_lots, move
    from serving.console.choice import chosen
    from serving.console.formats import Formats
    from serving.console.render import environment
    from serving.console.told import Told
    from serving.console.words import LANGUAGES, Words

    if current.loaded:
        told = Told(current.root, current.loaded)
        with suppress(EncoreError):  # whoever asks is told
            draw_lots(told)  # first, for the page itself ranks first
            for language in LANGUAGES:
                formats = Formats(language, told.manifest["currency"], told.manifest["zone"])
                move(told, chosen({}, [*told.tasks, *told.seeds][0]), Words(language), formats)
    for template in environment().list_templates(["html"]):
        environment().get_template(template)
