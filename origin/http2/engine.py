"""The library h2, which reads and writes frames, as connections use it."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from origin.http2.header_block import BlockDecoder, StatelessEncoder

NO_RFC7540_PRIORITIES = 0x9
"""RFC 9218 §2.1: the setting that says that the tree of priorities of RFC 7540 isn't used."""

STREAMS = 128
"""Most requests under way at once: a page with live channels has dozens that wait for parts."""

STREAM_WINDOW, CONNECTION_WINDOW = 128 * 1024, 1024 * 1024
"""Bytes of a request's body that may come before the application has read them, and of all together."""


class FrameEngine(H2Connection):
    """The library's side of one connection, which remembers fewer streams that have ended.

    Args:
        header_bytes: most bytes of a request's header fields.

    Attributes:
        decoder: reads blocks of header fields.
    """

    MAX_CLOSED_STREAMS = 256
    decoder: BlockDecoder

    def __init__(self, header_bytes: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.decoder = BlockDecoder()
        self.encoder = StatelessEncoder()  # type: ignore[assignment]  # it has what h2 uses
        settings: dict[Any, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            NO_RFC7540_PRIORITIES: 1,
        }
        self.local_settings = Settings(client=False, initial_values=settings)
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
