"""The commands of ``headwater``: serve, package, work, ingest, check and doctor."""

import sys

from origin.system.hang_ups import note_hang_ups

if sys.argv[1:2] == ["serve"]:
    # All imports take half a second, in which a hang-up would end the process.
    note_hang_ups()
