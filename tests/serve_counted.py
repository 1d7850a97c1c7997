"""``headwater`` that counts its objects; the first two arguments are FIFOs, for questions and for answers."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections import Counter
from pathlib import Path

from origin.cli.main import main


def answer(questions: Path, answers: Path) -> None:
    """Answer each line with the number of objects of each class that the garbage collector can't free."""
    with questions.open() as lines:
        for _ in lines:
            gc.collect()
            # It has frozen what the start has made, which stays.
            found = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
            with answers.open("w") as file:
                json.dump(found, file)


if __name__ == "__main__":
    fifos = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
    threading.Thread(target=answer, args=fifos, daemon=True).start()
    main()
