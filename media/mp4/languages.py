"""Languages by the codes of files and by those of playlists and manifests."""

from __future__ import annotations

import re

LANGUAGE_NAMES = {
    "ar": "العربية", "be": "Беларуская", "bg": "Български", "bn": "বাংলা", "bs": "Bosanski",
    "ca": "Català", "cmn": "普通话", "cs": "Čeština", "cy": "Cymraeg", "da": "Dansk", "de": "Deutsch",
    "el": "Ελληνικά", "en": "English", "es": "Español", "es-419": "Español (Latinoamérica)",
    "et": "Eesti", "eu": "Euskara", "fa": "فارسی", "fi": "Suomi", "fil": "Filipino", "fr": "Français",
    "fr-CA": "Français (Canada)", "ga": "Gaeilge", "gl": "Galego", "he": "עברית", "hi": "हिन्दी",
    "hr": "Hrvatski", "hu": "Magyar", "hy": "Հայերեն", "id": "Bahasa Indonesia", "is": "Íslenska",
    "it": "Italiano", "ja": "日本語", "ka": "ქართული", "kk": "Қазақша", "ko": "한국어",
    "lt": "Lietuvių", "lv": "Latviešu", "mk": "Македонски", "ms": "Bahasa Melayu", "nb": "Norsk bokmål",
    "nl": "Nederlands", "nn": "Norsk nynorsk", "no": "Norsk", "pl": "Polski", "pt": "Português",
    "pt-BR": "Português (Brasil)", "ro": "Română", "ru": "Русский", "sk": "Slovenčina",
    "sl": "Slovenščina", "sq": "Shqip", "sr": "Српски", "sr-Latn": "Srpski", "sv": "Svenska",
    "ta": "தமிழ்", "te": "తెలుగు", "th": "ไทย", "tr": "Türkçe", "uk": "Українська", "ur": "اردو",
    "vi": "Tiếng Việt", "yue": "粵語", "zh": "中文", "zh-CN": "简体中文", "zh-Hans": "简体中文",
    "zh-HK": "繁體中文 (香港)", "zh-TW": "繁體中文", "zh-Hant": "繁體中文",
}  # fmt: skip
"""Native names of languages, by the first parts of a BCP 47 tag."""

_ENGLISH_NAMES = """
albanian:sq arabic:ar basque:eu bengali:bn bosnian:bs brazilian:pt-BR bulgarian:bg cantonese:yue castilian:es
catalan:ca chinese:zh croatian:hr czech:cs danish:da dutch:nl english:en estonian:et filipino:fil finnish:fi
flemish:nl french:fr galician:gl german:de greek:el hebrew:he hindi:hi hungarian:hu icelandic:is indonesian:id
irish:ga italian:it japanese:ja korean:ko latvian:lv lithuanian:lt macedonian:mk malay:ms mandarin:cmn
norwegian:no persian:fa farsi:fa polish:pl portuguese:pt romanian:ro russian:ru serbian:sr slovak:sk
slovenian:sl spanish:es swedish:sv tagalog:tl tamil:ta telugu:te thai:th turkish:tr ukrainian:uk urdu:ur
vietnamese:vi welsh:cy pob:pt-BR chs:zh-Hans cht:zh-Hant simplified:zh-Hans traditional:zh-Hant es-lat:es-419
"""

_PAIRS = """
aar:aa abk:ab afr:af aka:ak alb:sq amh:am ara:ar arg:an arm:hy asm:as ava:av ave:ae aym:ay aze:az bak:ba
bam:bm baq:eu bel:be ben:bn bih:bh bis:bi bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs cha:ch che:ce
chi:zh chu:cu chv:cv cor:kw cos:co cre:cr cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ell:el eng:en
epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff geo:ka ger:de gla:gd
gle:ga glg:gl glv:gv gre:el grn:gn guj:gu hat:ht hau:ha heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy
ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn
kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la
lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg mac:mk mah:mh mal:ml mao:mi mar:mr may:ms mkd:mk mlg:mg
mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no
nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa per:fa pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro
rum:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slo:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st
spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th
tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo
wel:cy wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
"""

_TWO_LETTERS = {pair[:3]: pair[4:] for pair in _PAIRS.split()}
"""ISO 639-1's two letters for ISO 639-2's three, terminological and bibliographic ones."""

_NO_LANGUAGES = ("und", "mis", "zxx", "mul")
_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}")


_WRITTEN_TAG = re.compile(
    r"[A-Za-z]{2,3}(-(?:arab|cyrl|deva|hans|hant|latn))?(-([A-Za-z]{2}|[0-9]{3}))?(-([0-9][0-9A-Za-z]{3}|valencia))?",
    re.IGNORECASE,
)
"""A language with a script, a region and a variant (RFC 5646 §2.1): other words of a name are no subtags."""

_OTHERS = frozenset(("cmn", "fil", "gsw", "haw", "nan", "nds", "yue"))
"""Languages without two letters that films are often subtitled in."""


_NAMED = {
    **dict(pair.split(":") for pair in _ENGLISH_NAMES.split()),
    **{name.casefold(): tag for tag, name in LANGUAGE_NAMES.items()},
}
"""BCP 47 tags for the names of languages, English and native ones."""


_LOWER_NAMES = {tag.lower(): name for tag, name in LANGUAGE_NAMES.items()}


def language_name(tag: str) -> str:
    """Return the native name of a language by its BCP 47 tag; the tag itself where no name is known."""
    known = tag.lower()
    while known and known not in _LOWER_NAMES:
        known = known.rpartition("-")[0]
    return _LOWER_NAMES.get(known, tag)


def named_language(word: str) -> str | None:
    """Return the BCP 47 tag for a language's name, such as ``German`` or ``deutsch``, or None."""
    return _NAMED.get(word.casefold())


def known_language(word: str) -> str | None:
    """Return the BCP 47 tag for a word in a file's name, such as ``ger`` or ``pt_BR``, or None."""
    first, _, rest = word.replace("_", "-").partition("-")
    lowered = first.lower()
    if lowered not in _TWO_LETTERS and lowered not in _TWO_LETTERS.values() and lowered not in _OTHERS:
        return None
    tag = _TWO_LETTERS.get(lowered, lowered) + (f"-{rest}" if rest else "")
    return tag if _WRITTEN_TAG.fullmatch(tag) else None


def language_tag(code: str, extended: str = "") -> str | None:
    """Return the BCP 47 tag for a code, in its shortest form (RFC 5646 §2.2.1), as ``en`` for ``eng``.

    Args:
        code: three letters of ISO 639-2, of either kind.
        extended: a BCP 47 tag, preferred to the code, such as ``pt-BR``, also as people write it: ``pt_BR``,
            ``German``; an invalid tag is ignored.

    Returns:
        The tag; None if neither names a language.
    """
    extended = extended.replace("_", "-")
    if _TAG.fullmatch(extended) and extended.lower() not in _NO_LANGUAGES:
        first, hyphen, rest = extended.partition("-")
        return named_language(extended) or _TWO_LETTERS.get(first.lower(), first) + hyphen + rest
    return None if code in _NO_LANGUAGES else _TWO_LETTERS.get(code, code)
