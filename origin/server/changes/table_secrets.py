"""Generates the secrets of tables that come while the server runs, where the configuration has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from origin.config.kept_secrets import MadeSecret, with_secrets
from origin.config.options import Config, ServerOptions
from origin.server.services.services import Services
from origin.server.tables.table_changes import Table
from packager.threads import SHARED_THREADS

Show = Callable[[MadeSecret], None]
"""Shows a secret that was generated to who has started the server."""

_OPEN = {"access": "open", "recordings_access": None}


async def add_secrets(services: Services, section: str, table: Table, show: Show) -> Any:
    """Return a table with the secret that it lacks: a new one, which is shown, or one of before.

    A publish key of before is known by its hash alone, and the table lacks it still.

    Raises:
        SecretsError: the file of generated secrets isn't to be trusted.
        OSError: it can't be read or written.
    """
    # All other secrets have been there since the start.
    server = ServerOptions(data=services.config.server.data, admin_token="-")  # noqa: S106
    is_open = {key: value for key, value in _OPEN.items() if key in table.__struct_fields__}
    tables = {section: (msgspec.structs.replace(table, **is_open),)}
    alone = msgspec.structs.replace(Config(server=server), **tables)
    made = await SHARED_THREADS.run(with_secrets, alone)
    if not (made.made or made.made_keys.channels or made.config != alone):
        return table
    await services.publishers.take_made_secrets(made)
    for one in made.made:
        show(one)
    (filled,) = getattr(made.config, section)
    closed = {key: getattr(table, key) for key in is_open}
    return msgspec.structs.replace(filled, **closed)
