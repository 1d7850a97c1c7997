"""Decodes subtitle files, which rarely say their character encoding. There is no I/O here.

UTF-8 is recognized by its own rules. Of the encodings before it, the most likely is chosen by how often the
letters of each language occur in text.
"""

# ruff: noqa: RUF001  (letters of many scripts)

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from media.errors import MalformedError

GUESS_BYTES = 6 << 10
"""Bytes with letters beyond ASCII by which an encoding is guessed."""

_MARKS = (
    *((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32")),
    *((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")),
)
"""Byte order marks; that of UTF-32 begins with that of UTF-16."""

_SHIFTS = (b"\x1b$@", b"\x1b$B")
"""Sequences that begin Japanese characters in ISO-2022-JP (RFC 1468)."""

_BESIDE_ASCII = re.compile(r"[A-Za-z][^\W\x00-\x7f]|[^\W\x00-\x7f][A-Za-z]")
_PUNCTUATION = frozenset("\xa0«»‘’‚“”„…–—°·،؛؟、。「」『』！？，：（）《》〈〉・～　\u200c\u200e\u200f")
_KANA = "".join(map(chr, (*range(0x3041, 0x3094), 0x30FC, *range(0x30A1, 0x30F7))))

_HANGUL = "이다는에가을의지고기를하어나아사은도그서로리자인해요거있니"
_SIMPLIFIED = "的我你是了不们这他么在一有好来人那会什没说吧就要上吗到去得知道过"
_TRADITIONAL = "的我你是了不們這他麼在一有好來人那會什沒說吧就要上嗎到去得知道過"

_UNLIKELY, _MIXED, _CAPITAL, _NAMED = 7.0, 4.0, 1.0, 5.0
"""Costs (negative logarithms): of a byte that the language's text hasn't, of another script's letter beside
one of ASCII, and of a capital; and what a letter saves in the language that the file's name says."""

_FOREIGN, _RARE = 5.0, 8.7
"""Costs of another language's Latin letter, and of a usual character that isn't among the commonest."""


class _Usual(NamedTuple):
    """The characters in everyday use: those of which a codec's first byte is in a range."""

    codec: str
    first: int
    last: int


@dataclass(frozen=True)
class _Script:
    """A language's letters beyond ASCII, and the encodings of its files.

    Attributes:
        languages: first parts of BCP 47 tags.
        encodings: names of Python's codecs, the most usual first.
        letters: the commonest first.
        usual: the further characters in everyday use; None of an alphabet.
    """

    languages: str
    encodings: str
    letters: str
    usual: _Usual | None = None

    @cached_property
    def costs(self) -> dict[str, float]:
        # By Zipf's law the letter of rank n has a share in proportion to 1/n.
        harmonic = sum(1 / rank for rank in range(1, len(self.letters) + 1))
        whole = math.log(harmonic) + (math.log(2) if self.usual else 0)
        found = {letter: whole + math.log(rank) for rank, letter in enumerate(self.letters, 1)}
        return {letter.upper(): cost + _CAPITAL for letter, cost in found.items()} | found

    @cached_property
    def is_latin(self) -> bool:
        return self.letters[0] < "\u0300"

    def cost(self, character: str) -> float:
        cost = self.costs.get(character)
        if cost is None and character in _PUNCTUATION:
            return math.log(len(_PUNCTUATION))
        if cost is None and self.is_latin and "\xc0" <= character < "\u0250" and character.isalpha():
            return _FOREIGN
        if cost is None and self.usual is not None:
            lead = character.encode(self.usual.codec, "replace")[0]
            return _RARE if self.usual.first <= lead <= self.usual.last else 2 * _UNLIKELY
        return _UNLIKELY if cost is None else cost


_WEST, _CENTRE, _CYRILLIC = "cp1252 iso8859_15", "cp1250 iso8859_2", "cp1251 koi8_r cp866 iso8859_5"

_SCRIPTS = (
    _Script("en", _WEST, "éñïèüöçàá"),
    _Script("fr", _WEST, "éèàêçâîôùûïœë"),
    _Script("de", _WEST, "üäößé"),
    _Script("es gl", _WEST, "áíóé¿ñ¡úü"),
    _Script("it", _WEST, "èàéòùì"),
    _Script("pt", _WEST, "ãáéçíóêõúâôà"),
    _Script("nl", _WEST, "ëéèïöüêáó"),
    _Script("da no nb nn", _WEST, "åøæéòô"),
    _Script("sv", _WEST, "äåöé"),
    _Script("fi", _WEST, "äöåšž"),
    _Script("is", _WEST, "ðáíþóéæúöý"),
    _Script("ca eu ga", _WEST, "éàíèóòçúïüñá"),
    _Script("pl", _CENTRE, "łęąóżśćńź"),
    _Script("cs", _CENTRE, "íáéěřýčšžůúňťóď"),
    _Script("sk", _CENTRE, "áíéčúýžšľťôňäďóŕĺ"),
    _Script("hu", _CENTRE, "áéóöőíüúű"),
    _Script("sl", _CENTRE, "čšžćđ"),
    _Script("hr bs sr", _CENTRE, "čžšćđ"),
    _Script("ro", _CENTRE, "ăţşîâ"),
    _Script("sq", f"{_CENTRE} {_WEST}", "ëç"),
    _Script("tr az", "cp1254", "ıüşğöçİâî"),
    _Script("et", "cp1257 iso8859_13", "äõüöšž"),
    _Script("lv", "cp1257 iso8859_13", "āīēšūņļžķčģ"),
    _Script("lt", "cp1257 iso8859_13", "ėšųįžūąčę"),
    _Script("vi", "cp1258", "đ\u0300\u0301ư\u0323ôê\u0309ơâă\u0303áàóíéúùèìòýãõ"),
    _Script("ru", _CYRILLIC, "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"),
    _Script("uk", "cp1251 koi8_u cp866 iso8859_5", "оаинтвіреслкдумпзяьгбчхйжїшюцєщфґ"),
    _Script("bg", _CYRILLIC, "аоеинтрсвлкдпмзгубъчящйцхжьшюф"),
    _Script("be kk", _CYRILLIC, "анірыеодтслкувяпмьзгбчйжхўцшюэёф"),
    _Script("sr bs", "cp1251 iso8859_5", "аоиенсрјтуквдмплгзбчшћжцхњљђфџ"),
    _Script("mk", "cp1251 iso8859_5", "аоеитнрсвкдлпмујзгбчшцжќфхѓњљџѕ"),
    _Script("el", "cp1253 iso8859_7", "αοιετσνηυρπκμλςωγίδάόέθήχύφώβξζψϊ"),
    _Script("he yi", "cp1255 iso8859_8", "יוהלאמרבתשנחםקדעפכסגטזןצךףץ"),
    _Script("ar ur", "cp1256 iso8859_6", "اليمنورتبعهكدسفقحجأةطشىصخضزثئذغإءظآؤ"),
    _Script("fa", "cp1256", "ايرنهدمتوبسكشلزفگقخجعپحآچصطضظغثژئ"),
    _Script("th", "cp874", "านรอ่กเ้งมยัวีดลติบสทคะปหุพ์ขไแใจ็ูืชำโึถผธซญศณภษฉฟฐๆ"),
    _Script("ja", "cp932 euc_jp", _KANA, _Usual("euc_jp", 0xB0, 0xCF)),
    _Script("ko", "cp949 johab", _HANGUL, _Usual("euc_kr", 0xB0, 0xC8)),
    _Script("zh cmn", "gb18030", _SIMPLIFIED, _Usual("gb2312", 0xB0, 0xD7)),
    _Script("zh yue cmn", "cp950 big5hkscs", _TRADITIONAL, _Usual("big5", 0xA4, 0xC6)),
)  # fmt: skip


def decode(data: bytes, language: str | None = None) -> str:
    """Decode a subtitle file; what its encoding hasn't becomes U+FFFD.

    Args:
        language: BCP 47 tag that its name says; or None.

    Raises:
        MalformedError: it isn't text.
    """
    text = data.decode(_encoding(data, language), "replace")
    if "\0" in text[:GUESS_BYTES]:
        raise MalformedError("it isn't text")
    return text


def _encoding(data: bytes, language: str | None) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    even, odd = (data[first:GUESS_BYTES:2].count(0) for first in (0, 1))
    # Each cue's times are in ASCII, of which UTF-16 has a NUL in each character's upper byte.
    if 10 * max(even, odd) > min(len(data), GUESS_BYTES) and min(even, odd) * 10 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    if any(shift in data for shift in _SHIFTS):
        return "iso2022_jp"
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    # Text of another encoding has hardly a sequence of bytes that UTF-8 allows.
    if not wrong or len(text) - len(text.encode("ascii", "ignore")) >= 3 * wrong:
        return "utf-8"
    return _guess(data, language)


def _guess(data: bytes, language: str | None) -> str:
    sample = b"\n".join(line for line in data.split(b"\n") if not line.isascii())[:GUESS_BYTES]
    primary = "" if language is None else language.partition("-")[0].lower()
    texts: dict[str, tuple[Counter[str], int]] = {}
    best, least = "cp1252", math.inf
    for script in _SCRIPTS:
        saved = _NAMED if primary in script.languages.split() else 0.0
        for encoding in script.encodings.split():
            if encoding not in texts:
                texts[encoding] = _letters(sample.decode(encoding, "replace"))
            letters, mixed = texts[encoding]
            cost = sum(count * (script.cost(letter) - saved) for letter, count in letters.items())
            cost += 0 if script.is_latin else mixed * _MIXED
            if cost < least:
                best, least = encoding, cost
    return best


def _letters(text: str) -> tuple[Counter[str], int]:
    """Count the characters beyond ASCII, and of all those the letters beside letters of ASCII."""
    letters = Counter(text)
    for character in [one for one in letters if one < "\x80"]:
        del letters[character]
    return letters, len(_BESIDE_ASCII.findall(text))
