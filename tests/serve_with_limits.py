"""``headwater`` with the limits of a test: the first argument has them as JSON, the others are its own."""

from __future__ import annotations

import sys

import msgspec

from origin.cli.main import main
from origin.server.services.limits import Limits

if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv.pop(1), type=Limits))
