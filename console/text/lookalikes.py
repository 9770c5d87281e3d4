# ruff: noqa: RUF001, RUF002
"""Which characters look like ASCII. Pure data and what can be asked of one character; no text is judged here.

Letters: Unicode's table of confusables (UTS 39), the single characters whose likeness is one ASCII letter or digit,
without those that no reader takes for it (Cyrillic be, Latin gamma) and with two that it lacks (κ, к). Fonts and
widths (𝐚, ａ) come from the characters' own decompositions, scripts from their names.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Final

_LETTERS: Final = frozenset(
    "ՍՏՕագզհոռսցքօ"  # Armenian
    "ЅІЈАВЕЗКМНОРСТУХЬаекорсухѕіјѡѴѵҮүһҽӀӏӠԁԌԛԜԝꙄꙇ"  # Cyrillic
    "ͿΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγικνορσυϜϳϺᴦι"  # Greek
    "ᎠᎡᎢᎥᎩᎪᎫᎬᎳᎷᎻᎽᏀᏂᏃᏎᏏᏒᏔᏕᏙᏚᏞᏟᏢᏦᏧᏮᏳᏴꭵꮁꮃꮓꮩꮪꮯ"  # Cherokee
    "ϨⲅⲎⲒⲔⲘⲚⲞⲟⲢⲣⲤⲥⲦⲨⲬⳊⳌⳐⳒ"  # Coptic
    "ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ"  # Lisu
    "ᐯᑌᑭᑯᑲᒍᒪᒿᕁᕼᕽᖇᖯᖴᗅᗞᗪᗰᗷ"  # Canadian Aboriginal
    "ƄƍƖƦƧƼǀȜȢıɑɡɩɪʏᴄᴏᴑᴜᴠᴡᴢᶃᶌẝỿꜱꝚꝪꝮꞘꞙꞟꞫꞲꞳꞴꬲꬵꬽꭇꭈꭎꭒꭚ"  # Latin beyond its alphabets
    "𐐄𐐕𐐛𐐠𐐬𐐽𐑈𐒴𐓂𐓎𐓒𐓪𐓶𐔓𐔖𐔘𐔜𐔝𐔥𐔦𐔧ⴸⴹⵏⵔⵕⵝᚷᛁᛕᛖ"  # Deseret, Osage, Elbasan, Tifinagh, Runic
    "𐊠𐊡𐊢𐊥𐊫𐊰𐊱𐊲𐊴𐋏𐊂𐊆𐊇𐊊𐊐𐊒𐊕𐊖𐊗𐌁𐌂𐌉𐌑𐌕𐌗𐌚𖼈𖼊𖼖𖼨𖼵𖼺𖼻𖽀𖽂𖽃"  # Carian, Lycian, Old Italic, Miao
    "𑢠𑢢𑢣𑢤𑢦𑢩𑢬𑢮𑢯𑢲𑢵𑢸𑢻𑢼𑣀𑣁𑣂𑣃𑣄𑣆𑣈𑣊𑣌𑣕𑣖𑣗𑣘𑣜𑜆𑜊𑜎𑜏ꛟဝଠഠሀዐყჿ"  # Warang Citi, Ahom, and single ones
)
#: ASCII letters that hide in a word of another alphabet
ASCII_TWINS: Final = frozenset("ABCEHIJKMNOPSTXYZaceghijklnopqsuvwxy")

#: written like . / : = @ and the like; a dot that is none ends a domain's name all the same
SIGNS: Final = frozenset(
    "․‧﹒．｡。⁄∕⧸⟋╱／ノ丿㇓〳：∶ː꞉︰˸⁚＠﹫＝゠⹀꓿ꓸꓹꓽ＼﹨⧵∖⟍＿﹍﹎﹏＋﹢＊∗⁎？！＃％＆＄∣｜￨，‚；（）‐‑˗﹣－⁃ǃꞌ～∼⁓"
)
#: long in print, and a minus or an option's dash to whoever reads quickly
DASHES: Final = frozenset("−–‒—―")
QUOTES: Final = frozenset("‘’‛′ʹʻʼʽˈ＇｀´")
#: equal to an ASCII character by Unicode's own rules, yet other bytes: Greek question mark, grave accent, Kelvin
SAME_AS_ASCII: Final = frozenset("\u037e\u1fef\u212a")
_CJK: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"})


@cache
def script_of(char: str) -> str:
    """Return the script's name in capitals; FULLWIDTH, MATHEMATICAL and ROMAN for letters in another dress."""
    tag = unicodedata.decomposition(char).partition(" ")[0]
    if tag in ("<wide>", "<narrow>", "<font>"):
        return "MATHEMATICAL" if tag == "<font>" else "FULLWIDTH"
    if "\u2160" <= char <= "\u217f":
        return "ROMAN"
    name = unicodedata.name(char, "UNNAMED").split()
    if name[0] in ("EXTENDED", "OLD", "SMALL") and len(name) > 1:
        name = name[1:]
    return name[0].removesuffix("-INDIC")


@cache
def looks_like_ascii(char: str) -> bool:
    """Return whether a letter or digit outside ASCII can be taken for an ASCII one, or stands for one."""
    if char.isdecimal():
        return not char.isascii()
    if char in _LETTERS or "\u2160" <= char <= "\u217f" or char in "ſﬀﬁﬂﬃﬄﬅﬆ":
        return True
    is_dressed = unicodedata.decomposition(char).startswith(("<wide>", "<narrow>", "<font>"))
    return is_dressed and unicodedata.normalize("NFKC", char).isascii()


@cache
def is_cjk(char: str) -> bool:
    """Return whether the character belongs to Chinese, Japanese or Korean, whose widths and marks are their own."""
    return not char.isascii() and char.isalpha() and script_of(char) in _CJK
