"""``python -m tests.prose [--list] [FOLDER...]``: counts sentences and names that break the rules for prose.

The rules are in docs/developing.md. The counts are of whole floors or of the given folders; with ``--list``,
each fault is printed with its place.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.syntax import nodes, tree_of

ROOT = Path(__file__).parent.parent
FLOORS = ("media", "packager", "origin")
"""From the lowest, whose classes have the plain names."""

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
ENTRY = re.compile(r" {4}([*\w]\S*(?: \(.*?\))?):(?: (.*))?")

WORDS = 4
"""How many words an entry has that is suspected to say nothing."""

UNIT = (
    r"\d|%|/s\b|\b(?:\w*seconds?|\w*bytes?|bits?|ticks?|\w?Hz|pixels?|percent|epoch|monotonic|per|LUFS|dB)\b"
    r"|\bin (?:samples|frames)\b"
)
RANGE = (
    r"\b(?:at (?:most|least)|most|least|longest|up to|inclusive|exclusive|or|first|last|from|order|sorted"
    r"|by \w+)\b"
)
CODE = r"`|§|\b[A-Z][A-Za-z]*-[A-Z]|media sequence number|part index"
CLAUSE = (
    r"\b(?:if|unless|until|while|before|after|behind|once|without|only|except|instead|none|otherwise)\b"
    r"|.\b(?:when|where|whose|which|that)\b|\b(?:not|relative|such as)\b|n't\b"
)
SAYS_SOMETHING = re.compile(f"(?i:{UNIT}|{RANGE}|{CLAUSE})|{CODE}")

EMPTY = re.compile(r"(?:it|of it|likewise|the same|what it is)\.?", re.IGNORECASE)
"""Entries that explain nothing, wherever they stand."""

PRONOUN_OR_PRIVATE_VERB = re.compile(r"(?:Gives?|Tells?|What|Whose?|Those of|That of|It)\b")
"""With what no docstring begins: a function's result is returned, and a subject is a noun."""

VAGUE_ENTRY = re.compile(
    r"(?:(?:of|for|by|in|from) )?(?:what|those|them|who|it)\b(?!')|the same\b|another one\b"
    r"|.*\b(?:of|for|by) (?:it|them)\.?$",
    re.IGNORECASE,
)
"""Explanations of arguments and attributes with a pronoun in the place of the noun: “what is kept.”"""

VAGUE_BEGINNING = re.compile(
    r"(?:(?:Return )?[Ww](?:hether|hy|here|hen) (?:it|they)|[A-Z][a-z]+ (?:it|them)"
    r"|Says?|Learns?|Takes? notice|Look|Lets? go|Go(?:es)? on)\b"
)
"""Beginnings of docstrings with a pronoun (“Whether it is ready.”) or with a verb that stands for any."""

COMMENT_PRONOUN = re.compile(r"(?:it|they|that|those|what|who|whoever|others|likewise)\b(?!')", re.IGNORECASE)
"""With what no comment begins: a reader of the line beside it has to guess the noun."""

STRING_OR_COMMENT = re.compile(
    r"(\"\"\"|''')(?:\\.|(?!\1).)*\1|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#[^\n]*", re.DOTALL
)
"""Literals of text, in which a number sign begins nothing, and comments. Python has a slower tokenizer."""

DIRECTIVE = re.compile(r"#!|#\s*(?:noqa|type:|pragma|ruff|mypy)")
"""Comments that are for tools."""

VAGUE = re.compile(
    r"\b[Ww]hoever\b|(?<!: )\blikewise\b|[.;] (?:Who|What) (?=[a-z])|\bbetween two looks\b"
    r"|(?:^|[.,;:] |\b(?:for|of|to|by|from|and|as|with|than|when|that|because) )"
    r"who (?:asks|asked|waits|reads|follows|calls|publishes|comes|listens|wants)\b"
    r"|\bit is asked\b|\bwhat there (?:is|was)\b|\b[Ww]hat (?:it|they|that) (?:gives?|gave|has|tells?|told)\b"
    r"|\bwhat (?:comes|came) (?:of|in|next|behind|before|meanwhile)\b|\bcom(?:es?|ing) of (?:it|that|them)\b"
    r"|\bcame of\b|\b(?:is|are|was|were|be|been) told\b"
    r"|\btells? (?:of|what|how|who|whether|which|when|where|why|that|it)\b"
)
"""Phrases that stand in the place of a noun, or of a verb that says what happens to the data."""

EVENT = re.compile(
    r"(?:[a-z']+|Redis|[A-Z0-9]{2,}|[a-z]+(?:_[a-z]+)+)(?: (?!_)\S+)+(?<![.:,])|request", re.ASCII
)
"""A log line: a sentence that begins small and has no full stop, or the access log's name of its lines."""

LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})

VERBS = frozenset({"receive", "take", "give", "tell", "get_on"})
"""Names of methods that are used for everything; see ``is_of_an_interface``."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A sentence or a name that breaks a rule.

    Attributes:
        kind: a key of ``KINDS``.
        line: of the file, from 1.
    """

    kind: str
    path: Path
    line: int
    text: str


KINDS = {
    "short entries": "entries of four words or fewer without a unit, range, code or clause",
    "empty entries": "entries that are “it.”, “of it.”, “likewise.”, “the same.” or “what it is.”",
    "vague entries": "arguments and attributes that are “what …”, “those …”, “the same …” or “… of them”",
    "first lines": "docstrings that begin with Give, Tell, What, Who, Those of, That of or It",
    "class names": "classes whose name is taken on the same floor or a lower one",
    "vague beginnings": "docstrings that begin with Whether it, Close them, Say, Learn, Look or Go on",
    "comments": "comments that begin with It, They, That, Those, What, Who, Whoever, Others or Likewise",
    "vague phrases": "docstrings and comments with phrases such as whoever, what came of it, or is told",
    "log events": "what is logged as a key or a word, not as a sentence such as “a file can't be opened”",
    "verbs": "functions called receive, take, give, tell or get_on",
}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the docstrings of the module, its classes, functions, attributes and constants."""
    for node in nodes(tree):
        if isinstance(node, Documented):
            for one in node.body:
                value = one.value if isinstance(one, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines and the texts of a module's comments; lines that follow each other are one comment."""
    found: list[tuple[int, int, int, str]] = []
    module = path.read_text("utf-8")
    row, counted = 1, 0
    for token in STRING_OR_COMMENT.finditer(module):
        if not token[0].startswith("#") or DIRECTIVE.match(token[0]):
            continue
        start, text = token.start(), token[0].lstrip("#: ")
        row, counted = row + module.count("\n", counted, start), start
        line = module.rfind("\n", 0, start) + 1
        column, is_alone = start - line, not module[line:start].strip()
        if is_alone and found and found[-1][1:3] == (row - 1, column):
            begin, _, _, before = found.pop()
            found.append((begin, row, column, f"{before} {text}"))
        else:
            found.append((row, row, column if is_alone else -1, text))
    for begin, _, _, text in found:
        yield begin, text


def entries(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield the entries of a docstring: section, line within the docstring, explanation."""
    lines = text.expandtabs().splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    margin = min(indents, default=0)
    section, found = "", list[list[str]]()
    begins: list[tuple[str, int]] = []
    for number, line in enumerate(lines):
        stripped = line if number == 0 else line[margin:]
        if heading := SECTION.fullmatch(stripped.rstrip()):
            section = heading[1]
        elif stripped and not stripped.startswith(" "):
            section = ""
        elif section in ("Args", "Attributes", "Raises"):
            if entry := ENTRY.fullmatch(stripped):
                begins.append((section, number))
                found.append([entry[2] or ""])
            elif found and stripped.startswith("     "):
                found[-1].append(stripped.strip())
    for (name, number), words in zip(begins, found, strict=True):
        yield name, number, " ".join(words).strip()


def is_void(section: str, explanation: str) -> bool:
    """Return whether an entry adds nothing to its name and type."""
    if section == "Raises" or len(explanation.split()) > WORDS:
        return False
    return SAYS_SOMETHING.search(explanation) is None


def is_of_an_interface(function: ast.FunctionDef | ast.AsyncFunctionDef, tree: ast.Module) -> bool:
    """Return whether others have chosen a function's name: ASGI's ``receive``, and a file's ``tell``."""
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node is not function:
            if function.name == "receive" and function in nodes(node):
                return True
        elif isinstance(node, ast.ClassDef) and function in node.body:
            names = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
            return function.name == "tell" and "seek" in names
    return False


def modules(folder: Path) -> list[Path]:
    """Return the modules of a folder and its folders, or the module itself."""
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]


def floor_of(path: Path) -> int:
    """Return the number of a module's floor, from the lowest."""
    return FLOORS.index(path.relative_to(ROOT).parts[0])


@functools.cache
def classes() -> dict[str, list[tuple[Path, int]]]:
    """Return where the classes of all floors are, by their names without leading underscores."""
    found: dict[str, list[tuple[Path, int]]] = {}
    for floor in FLOORS:
        for path in modules(ROOT / floor):
            for node in nodes(tree_of(path)):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name.lstrip("_"), []).append((path, node.lineno))
    return found


def faults_of_sentences(path: Path) -> Iterator[Fault]:
    """Yield the faults of a module's docstrings."""
    for constant in docstrings(tree_of(path)):
        text = str(constant.value)
        if PRONOUN_OR_PRIVATE_VERB.match(text.lstrip()):
            yield Fault("first lines", path, constant.lineno, text.strip().splitlines()[0])
        if VAGUE_BEGINNING.match(text.lstrip()):
            yield Fault("vague beginnings", path, constant.lineno, text.strip().splitlines()[0])
        for phrase in VAGUE.finditer(" ".join(text.split())):
            yield Fault("vague phrases", path, constant.lineno, phrase[0].strip())
        for section, number, explanation in entries(text):
            line = constant.lineno + number
            if EMPTY.fullmatch(explanation):
                yield Fault("empty entries", path, line, explanation)
            elif is_void(section, explanation):
                yield Fault("short entries", path, line, explanation)
            elif section != "Raises" and VAGUE_ENTRY.match(explanation):
                yield Fault("vague entries", path, line, explanation)


def faults_of_comments(path: Path) -> Iterator[Fault]:
    """Yield the comments of a module that leave their subject to the reader."""
    for line, text in comments(path):
        if COMMENT_PRONOUN.match(text):
            yield Fault("comments", path, line, text)
        for phrase in VAGUE.finditer(text):
            yield Fault("vague phrases", path, line, phrase[0].strip())


def faults_of_verbs(path: Path) -> Iterator[Fault]:
    """Yield the functions of a module whose names may stand for anything."""
    tree = tree_of(path)
    for node in nodes(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.lstrip("_") in VERBS
            and not is_of_an_interface(node, tree)
        ):
            yield Fault("verbs", path, node.lineno, node.name)


def log_events(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the lines and the texts of what a module logs by structlog.

    Raises:
        AssertionError: it logs what isn't in the call, its function or a ``RefusalLog``.
    """
    loggers, assigned = set[str](), dict[str, ast.expr]()
    for node in nodes(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = node.value
            if re.match(r"structlog\.get_logger\(|log\.bind\(", ast.unparse(node.value)):
                loggers.add(node.targets[0].id)
    for node in nodes(tree):
        if not isinstance(node, ast.Call):
            continue
        is_logged = (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in loggers
        )
        if is_logged or (isinstance(node.func, ast.Name) and node.func.id == "RefusalLog"):
            event = node.args[0]
            while isinstance(event, ast.Name):
                event = assigned[event.id]
            if ast.unparse(event) == "self._event":
                continue  # a RefusalLog's, whose constructor is given it
            for one in (event.body, event.orelse) if isinstance(event, ast.IfExp) else (event,):
                assert isinstance(one, ast.Constant), ast.unparse(node)
                yield node.lineno, str(one.value)


def faults_of_log_events(path: Path) -> Iterator[Fault]:
    """Yield the log lines of a module that aren't sentences."""
    for line, event in log_events(tree_of(path)):
        if not EVENT.fullmatch(event):
            yield Fault("log events", path, line, event)


def faults_of_classes(path: Path) -> Iterator[Fault]:
    """Yield the classes of a module whose names exist elsewhere on its floor or on a lower one."""
    for node in nodes(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            others = [
                (other, line)
                for other, line in classes()[node.name.lstrip("_")]
                if (other, line) != (path, node.lineno) and floor_of(other) <= floor_of(path)
            ]
            if others:
                other, line = others[0]
                place = f"{other.relative_to(ROOT)}:{line}"
                yield Fault("class names", path, node.lineno, f"{node.name}, as at {place}")


RULES = (faults_of_sentences, faults_of_comments, faults_of_log_events, faults_of_verbs, faults_of_classes)


def faults(folder: Path) -> list[Fault]:
    """Return the faults of a folder or a module, in the order of their places."""
    found = [fault for path in modules(folder) for rule in RULES for fault in rule(path)]
    return sorted(found, key=lambda fault: (fault.path, fault.line))


def main(*arguments: str) -> None:
    """Print the counts of the given folders, or of each floor."""
    folders = [one for one in arguments if one != "--list"] or FLOORS
    for name in folders:
        found = faults(Path(name).resolve())
        if "--list" in arguments:
            for one in found:
                sys.stdout.write(f"{one.path.relative_to(ROOT)}:{one.line}: {one.kind}: {one.text}\n")
        for kind, meaning in KINDS.items():
            count = sum(one.kind == kind for one in found)
            sys.stdout.write(f"{name:24} {count:5} {kind} ({meaning})\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
