"""Insides of h2 and hpack that the program reads and replaces; other minor releases are tried first."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from hpack import Decoder, Encoder, HeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from origin.http2.engine import FrameEngine

ROOT = Path(__file__).parents[3]
REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]


@pytest.mark.parametrize("name", ["h2", "hpack"])
def test_only_releases_of_the_minor_version_that_was_tried_are_allowed(name: str) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    major, minor, *_ = map(int, version(name).split("."))
    assert f"{name}>={major}.{minor},<{major}.{minor + 1}" in wanted


def opened() -> FrameEngine:
    """Return a connection on which a client has sent one request."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    client.send_headers(1, REQUEST, end_stream=True)
    engine = FrameEngine(4096)
    events = engine.receive_data(client.data_to_send())
    assert any(isinstance(event, RequestReceived) for event in events)
    return engine


def test_h2_reads_blocks_by_the_decoder_that_is_put_in_place_of_its_own() -> None:
    engine = opened()
    blocks: list[bytes] = []
    decode = engine.decoder.decode

    def watched(data: bytes, raw: bool = False) -> object:
        blocks.append(bytes(data))
        return decode(data, raw)

    engine.decoder.decode = watched  # type: ignore[assignment,method-assign]
    block = Encoder().encode(REQUEST)
    engine.receive_data(len(block).to_bytes(3) + b"\x01\x05" + (3).to_bytes(4) + block)
    assert blocks == [block]


def test_h2_writes_blocks_by_the_encoder_that_is_put_in_place_of_its_own() -> None:
    engine = opened()
    engine.data_to_send()
    engine.send_headers(1, [(b":status", b"200"), (b"x-a", b"b")])
    frame = engine.data_to_send()
    # RFC 7541 §6.1: entry 8 of the static table; §6.2.2: a literal, which h2's encoder would index.
    assert (frame[3], frame[9:11]) == (1, b"\x88\x00")


def test_windows_and_the_highest_stream_of_h2_can_be_read_and_set() -> None:
    engine = opened()
    assert engine.highest_inbound_stream_id == 1
    stream = engine.streams[1]
    assert stream.outbound_flow_control_window == 65_535
    stream.outbound_flow_control_window -= 1_000
    engine.outbound_flow_control_window -= 1_000
    assert engine.local_flow_control_window(1) == 64_535
    engine.highest_inbound_stream_id = 5
    assert engine.MAX_CLOSED_STREAMS == FrameEngine.MAX_CLOSED_STREAMS


def test_the_table_of_a_decoder_shows_each_field_that_is_added() -> None:
    decoder, encoder = Decoder(), Encoder()
    table = decoder.header_table
    assert (list(table.dynamic_entries), table.maxsize) == ([], 4096)
    decoder.decode(encoder.encode([(b"x-a", b"1")]))
    first = table.dynamic_entries[0]
    decoder.decode(encoder.encode([(b"x-b", b"2")]))
    assert table.dynamic_entries[1] is first
    assert decoder.header_table is table


def test_the_static_table_and_huffmans_code_are_those_of_rfc_7541() -> None:
    table = HeaderTable.STATIC_TABLE
    assert (table[0], table[7], len(table)) == ((b":authority", b""), (b":status", b"200"), 61)
    # RFC 7541 Appendix C.4.1.
    coded = bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")
    assert HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(b"www.example.com") == coded
    assert decode_huffman(coded) == b"www.example.com"
    assert issubclass(HeaderTuple, tuple)
