"""The server's address in the local network, and QR codes (ISO/IEC 18004) of addresses for phones."""

from __future__ import annotations

import io
import ipaddress
import socket

import segno

# RFC 5737 and RFC 3849: addresses for documentation. Connecting a UDP socket sends nothing.
ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
DISCARD_PORT = 9


def address_for_others(host: str, port: int, scheme: str = "http") -> str | None:
    """Return a URL by which other devices reach the server; None if they can't.

    Args:
        host: the host that the server listens on.
    """
    try:
        listening = ipaddress.ip_address(host.strip("[]"))
    except ValueError:  # a name, which is shown unchanged
        return None
    if listening.is_loopback:
        return None
    shown = str(listening)
    if listening.is_unspecified:
        # A server on all of IPv6 is reached by IPv4 as well, whose addresses are shorter to type.
        own = own_address(socket.AF_INET) or (
            own_address(socket.AF_INET6) if listening.version == 6 else None
        )
        if own is None:
            return None
        shown = own
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def own_address(family: socket.AddressFamily) -> str | None:
    """Return this machine's address on the way to others; None where there is no way."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((ELSEWHERE[family], DISCARD_PORT))
            found = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if ipaddress.ip_address(found).is_loopback else found


def qr_code(text: str) -> str:
    """Draw a QR code for a terminal, two modules to a character."""
    drawn = io.StringIO()
    _code(text).terminal(out=drawn, compact=True, border=2)
    # White on black whatever the terminal's own colours are: not every reader takes an inverted one.
    return "\n".join(f"\x1b[97;40m{line}\x1b[0m" for line in drawn.getvalue().splitlines())


def qr_picture(text: str) -> bytes:
    """Draw a QR code as SVG, black on white with the quiet zone that readers need."""
    drawn = io.BytesIO()
    _code(text).save(drawn, kind="svg", light="#fff", xmldecl=False)
    return drawn.getvalue()


def _code(text: str) -> segno.QRCode:
    return segno.make(text, micro=False, error="l")
