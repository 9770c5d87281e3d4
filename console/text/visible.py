# ruff: noqa: RUF001, RUF002
"""Make text that hides something show it. Every sink that shows untrusted text uses this one function.

What is written out, always: controls, bidirectional marks, zero-width and tag characters, variation selectors, private
use, unusual spaces, letters that print as nothing (`⟨U+202E⟩`, `⟨U+200B × 40⟩`); padding (`⟨space × 100,000⟩`,
`⟨line break × 50⟩`); marks piled on one letter or drawn across it; the other half of a punycode label
(`xn--80ak6aa92e⟨reads: аррӏе⟨Cyrillic⟩⟩`). Newlines and tabs stay, as layout. Escaping for HTML stays the template's.

What looks like ASCII and is not depends on where it stands, so that honest languages stay readable:

* inside a word that mixes alphabets, each look-alike of the smaller part is written out: `p⟨U+0430⟩ypal`;
* a word wholly of look-alikes is kept and named, `раураӏ⟨Cyrillic⟩`, `١٠٠⟨digits 100⟩`, unless it stands inside honest
  text: the words on both sides are of its own script and one of that run could not be read as Latin. Beside Latin,
  alone, or in an address, path or name (`@ / \\ _ =`, a dot between words) it is named;
* fullwidth forms stay beside Chinese, Japanese and Korean; dashes and quotes stay in prose and are written out where
  they imitate an option, a sign or a part of an address;
* joiners stay where an orthography needs them (after a virama, between Arabic letters that join), in emoji sequences,
  and the flags of England, Scotland and Wales keep their tags.

Strict on purpose: no-break spaces of French, zero-width spaces of Thai and Khmer, and marks that steer direction are
written out although they are often meant well.

Our marks cannot be forged: a literal ⟨ or ⟩ is itself written out, so every bracket on the screen is ours. A second
pass therefore changes marks, but hides nothing. Linear in the text; 256 KiB take some tens of milliseconds at worst.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import groupby
from typing import Final, Literal

from console.text.lookalikes import (
    ASCII_TWINS,
    DASHES,
    QUOTES,
    SAME_AS_ASCII,
    SIGNS,
    is_cjk,
    looks_like_ascii,
    script_of,
)

Kind = Literal["", "hidden", "joiner", "likeness", "sign", "mark"]

# Rendered as nothing or as space by most fonts although they are letters or symbols to Unicode.
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f\u180b\u180c\u180d\u180f\U0001d159")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f\u3000") | {chr(tag) for tag in range(0xE0020, 0xE0080)}
_FLAG = re.compile(
    "\U0001f3f4(?:\U000e0067\U000e0062)(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|\U000e0077\U000e006c\U000e0073)\U000e007f"
)
_EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2300-\u23ff\u2190-\u21ff\u2b00-\u2bff\u25a0-\u25ff©®‼⁉™ℹ〰〽㊗㊙"
_IS_EMOJI = re.compile(f"[{_EMOJI}]")
_JOINS_NOT = frozenset("آأؤإاةدذرزوىٱٲٳٵٶٷڈډڊڋڌڍڎڏڐڑڒړڔڕږڗژڙۀۃۄۅۆۇۈۉۊۋۍۏےۓەۮۯ")  # nothing follows joined

_PADDING = re.compile(r"[ \t\n]{12,}")
_PUNYCODE = re.compile(r"(?<![A-Za-z0-9-])xn--[A-Za-z0-9-]+", re.IGNORECASE)
_ASCII_SUSPECT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|[ \t\n]{12}|xn--", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_OVERLAY = "\u0334-\u0338\u0489\u20d0-\u20f0"  # drawn across or around the letter
_PILE = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
_JSON_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_TOKEN = re.compile(r'(?:[^\s"{}()\[\],;<>|\\“”«»⟨⟩]|\\(?!["\\/bfnrt]))+')
_NAMING = re.compile(r"[@/\\_=]|\w{2}\.\w{2}")  # what makes a token an address, a path or a name
_LINE_ENDS = re.compile(r'[\n"]|\\[nr]')
_FAKE_BRACKET = re.compile(r"[〈〈⟪《‹<❬❮⦑⧼＜](?=\s*U\+)", re.IGNORECASE)


def make_visible(text: str) -> str:
    """Return the text with everything that would not show as itself written out."""
    if text.isascii() and not _ASCII_SUSPECT.search(text):
        return text
    return _Reading(text).written_out()


def one_line(text: str) -> str:
    """Return the text made visible and on one line, for logs, cells and terminals: `⟨U+000A⟩` for a line break."""
    return make_visible(text).replace("\n", "⟨U+000A⟩").replace("\t", "⟨U+0009⟩")


def _code(char: str) -> str:
    return f"⟨U+{ord(char):04X}⟩"


@cache
def _kind(char: str) -> Kind:
    """Say what a character may be up to; most are up to nothing."""
    if char in _JOINERS:
        return "joiner"
    if char in _BLANK or char in SAME_AS_ASCII or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef":
        return "hidden"
    if char in "⟨⟩":
        return "hidden"  # only our own marks may have them
    category = unicodedata.category(char)
    if category in _HIDDEN_CATEGORIES and char not in " \n\t":
        # A newer Unicode than ours has emoji and ideographs here; what a font lacks shows as a box.
        is_newer = category == "Cn" and ("\U0001f000" <= char <= "\U0001faff" or "\U00020000" <= char <= "\U0003347f")
        return "" if is_newer else "hidden"
    if char.isascii():
        return ""
    if category in ("Mn", "Me"):
        return "mark"
    if char in SIGNS or char in DASHES or char in QUOTES:
        return "sign"
    return "likeness" if char.isalnum() and looks_like_ascii(char) else ""


@dataclass
class _Reading:
    """One text while it is read: what to write in place of which characters, and what to add after which words."""

    text: str
    instead: dict[int, tuple[int, str]] = field(default_factory=dict)  # start -> end, words
    after: dict[int, str] = field(default_factory=dict)  # position -> words
    _clear: dict[int, bool] = field(default_factory=dict)  # number of a word -> its run holds an unmistakable one

    def written_out(self) -> str:
        self._padding()
        self._punycode()
        kinds = self._kinds()
        if kinds["hidden"]:
            self._hidden(kinds["hidden"])
        if kinds["joiner"]:
            self._joiners(kinds["joiner"])
        if kinds["mark"]:
            self._marks(kinds["mark"])
        if kinds["sign"]:
            self._signs(kinds["sign"])
        if kinds["likeness"]:
            self._likenesses(kinds["likeness"])
        if not self.text.isascii():
            self._directions()
            for found in _FAKE_BRACKET.finditer(self.text):
                self._write(found.start(), found.group())
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        done = 0
        for start in sorted({*self.instead, *self.after}):
            if start < done:
                continue
            yield self.text[done:start]
            yield self.after.get(start, "")
            done = start
            if start in self.instead:
                done, words = self.instead[start]
                yield words
        yield self.text[done:]

    def _kinds(self) -> dict[str, str]:
        """Return the distinct suspicious characters of the text, by kind."""
        kinds: dict[str, str] = {"hidden": "", "joiner": "", "likeness": "", "sign": "", "mark": ""}
        for char in sorted(set(self.text)):
            if kind := _kind(char):
                kinds[kind] += char
        return kinds

    def _each(self, chars: str, judge: Callable[[int, str], bool]) -> None:
        for found in re.finditer(f"[{re.escape(chars)}]", self.text):
            if judge(found.start(), found.group()):
                self._write(found.start(), found.group())

    def _write(self, start: int, char: str) -> None:
        self.instead.setdefault(start, (start + 1, _code(char)))

    def _padding(self) -> None:
        for found in _PADDING.finditer(self.text):
            run, breaks = found.group(), found.group().count("\n")
            at_line_start = found.start() == 0 or self.text[found.start() - 1] == "\n"
            longest = max(len(part) for part in run.split("\n"))
            room = 160 if at_line_start or breaks else 32  # indentation is no padding
            if breaks < 12 and longest <= room and run.count("\t") < 24:
                continue
            parts = [(char, len(list(same))) for char, same in groupby(run)]
            if len(parts) > 12:
                told = f"⟨blank × {len(run):,}, {breaks:,} line breaks in it⟩"
            else:
                told = "".join(f"⟨{_BLANKS[char]} × {count:,}⟩" if count > 1 else char for char, count in parts)
            self.instead[found.start()] = (found.end(), told)

    def _punycode(self) -> None:
        for found in _PUNYCODE.finditer(self.text):
            self.after[found.end()] = f"⟨reads: {_decoded(found.group())}⟩"

    def _hidden(self, chars: str) -> None:
        for found in re.finditer(f"[{re.escape(chars)}]+", self.text):
            start = found.start()
            for char, same in groupby(found.group()):
                count = len(list(same))
                told = f"⟨U+{ord(char):04X} × {count:,}⟩" if count > 8 else _code(char) * count
                self.instead[start] = (start + count, told)
                start += count

    def _joiners(self, chars: str) -> None:
        flags = {place for found in _FLAG.finditer(self.text) for place in range(found.start() + 1, found.end())}
        self._each(chars, lambda at, char: at not in flags and not self._is_needed(at, char))

    def _is_needed(self, at: int, char: str) -> bool:
        """Return whether a joiner, selector or wide space does at this place what it was made for."""
        before, after = self.text[at - 1 : at], self.text[at + 1 : at + 2]
        if not before:
            return False
        if char == "\u3000":
            return is_cjk(before) and is_cjk(after or before)
        if char in "\ufe0e\ufe0f":
            return bool(_IS_EMOJI.match(before)) or (before in "0123456789#*" and after == "\u20e3")
        if not after or char > "\u3000":
            return False
        if char == "\u200d" and (before == "\ufe0f" or _IS_EMOJI.match(before)):
            return bool(_IS_EMOJI.match(after))
        if unicodedata.combining(before) == 9:  # a virama
            return after.isalpha() and not after.isascii()
        is_arabic = script_of(before) == script_of(after) == "ARABIC" and before.isalpha() and after.isalpha()
        return char == "\u200c" and is_arabic and before not in _JOINS_NOT

    def _marks(self, chars: str) -> None:
        """Write out marks beyond the second on one letter, those drawn across, and those on no letter."""
        for found in _PILE.finditer(self.text):
            base = self.text[found.start() - 1] if found.start() else ""
            is_keycap = found.group() == "\u20e3" and (base == "\ufe0f" or base in "0123456789#*")
            is_letter = base.isalpha() or base == "◌" or unicodedata.category(base or " ") in ("Mn", "Mc")
            fine = 2 if is_letter and not self._is_naming(found.start()) else 0
            for number, char in enumerate(found.group()):
                if not is_keycap and (number >= fine or _DRAWN_ACROSS.match(char)):
                    self._write(found.start() + number, char)
        own = "".join(char for char in chars if not _PILE.match(char))  # of one script, as vowel signs are
        for pattern, spare in ((f"[{chars}]{{7,}}", 6), (f"(?<=[!-~])[{own}]+", 0)) if own else ():
            for found in re.finditer(pattern, self.text):
                for number, char in enumerate(found.group()[spare:], start=found.start() + spare):
                    self._write(number, char)

    def _signs(self, chars: str) -> None:
        has_cjk = any(is_cjk(char) for char in set(self.text))

        def imitates(at: int, char: str) -> bool:
            before, after = self.text[at - 1 : at], self.text[at + 1 : at + 2]
            if self._is_naming(at) and (char in DASHES or char in QUOTES):
                return bool(before.strip() and after.strip()) or char in DASHES
            if char in QUOTES:
                return False
            if char in DASHES:
                opens = not before.strip() or before in "\"'(=:,[{“‘"
                return opens and (after.isdecimal() if char in "—―" else after.isascii() and after.isalnum())
            touches = [part != "" and ("!" <= part <= "~" or part in SIGNS) for part in (before, after)]
            return all(touches) or (any(touches) and not has_cjk)

        self._each(chars, imitates)

    @cached_property
    def _named(self) -> list[tuple[int, int]]:
        """Return where tokens outside ASCII stand that are addresses, paths or names."""
        tokens = _TOKEN.finditer(self.text)
        return [one.span() for one in tokens if not one.group().isascii() and _NAMING.search(one.group())]

    def _is_naming(self, at: int) -> bool:
        place = bisect_right(self._named, (at, len(self.text))) - 1
        return place >= 0 and at < self._named[place][1]

    def _directions(self) -> None:
        """Name the tokens in which letters of both directions stand: their parts are not drawn in their order."""
        if not any(unicodedata.bidirectional(char) in ("R", "AL") for char in set(self.text)):
            return
        for start, end in self._named:
            token = self.text[start:end]
            directions = {unicodedata.bidirectional(char) for char in set(token)}
            if directions & {"R", "AL"} and directions & {"L", "EN"}:
                self._note(end, "runs right to left in part")

    def _note(self, at: int, words: str) -> None:
        self.after[at] = self.after.get(at, "") + f"⟨{words}⟩"

    @cached_property
    def _plain(self) -> str:
        """Return the text without what JSON escapes: the n of a line break is no letter. Same length."""
        return _JSON_ESCAPE.sub(lambda found: " " * len(found.group()), self.text) if "\\" in self.text else self.text

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return [found.span() for found in _WORD.finditer(self._plain)]

    def _word(self, number: int) -> str:
        return self._plain[slice(*self._spans[number])]

    def _likenesses(self, chars: str) -> None:
        """Find the words that need a judgement: wholly of look-alikes, or where one script touches another."""
        letters: dict[str, str] = {}
        for char in set(self.text):
            if not char.isascii() and char.isalnum():
                script = script_of(char)
                letters[script] = letters.get(script, "") + char
        patterns = []
        for script in {script_of(char) for char in chars}:
            twins = "".join(char for char in chars if script_of(char) == script)
            own = twins if script == "LATIN" else letters[script]
            clear = "".join(set(own) - set(twins))
            # Not worth a closer look: an unmistakable word before it and one of its script behind it.
            honest = rf"(?!(?<=[{clear}] )[{twins}]+[,.!?;:]* [{own}])" if clear else ""
            patterns.append(rf"(?<![^\W_]){honest}[{twins}0-9]+(?![^\W_])")
            patterns.append(rf"[{own}](?=[^\W_])(?![{own}])|(?<=[^\W_])(?<![{own}])[{own}]")
        numbers: set[int] = set()
        for pattern in patterns:
            for found in re.finditer(pattern, self._plain):
                if not found.group().isascii():
                    numbers.add(bisect_right(self._spans, (found.start(), len(self.text))) - 1)
        for number in numbers:
            word = self._word(number)
            start, end = self._spans[number]
            if _is_mixed(word):
                wanted = _twins(word, is_naming=self._is_naming(start))
                for place, char in enumerate(word, start=start) if wanted else ():
                    if char in wanted:
                        self._write(place, char)
            elif not self._is_honest(number, word):
                self._note(end, _name(word))

    def _is_honest(self, number: int, word: str) -> bool:
        """Return whether a word that might be read as ASCII stands in a text of its own script."""
        script = _script(word)
        if script in ("", "LATIN") or _is_clear(word):
            return True
        if self._is_naming(self._spans[number][0]):
            return False
        if script in ("MATHEMATICAL", "ROMAN"):
            return len(word) == 1
        beside = [self._beside(number, step) for step in (-1, 1)]
        if script == "FULLWIDTH":
            return any(is_cjk_script(one) for one in beside)
        is_edge = any(one not in ("", script) for one in beside)
        return (len(word) == 1 or word.isdecimal() or not is_edge) and self._run_is_clear(number, script)

    def _breaks(self, left: int) -> bool:
        """Return whether a line or a quoted text ends between this word and the next."""
        return bool(_LINE_ENDS.search(self.text, self._spans[left][1], self._spans[left + 1][0]))

    def _steps(self, number: int, step: int) -> Iterator[int]:
        """Walk over the words of the same line, forwards or backwards."""
        while 0 <= number + step < len(self._spans) and not self._breaks(min(number, number + step)):
            number += step
            yield number

    def _beside(self, number: int, step: int) -> str:
        """Return the script of the nearest word with letters on the same line, "" when there is none."""
        return next((script for one in self._steps(number, step) if (script := _script(self._word(one)))), "")

    def _run_is_clear(self, number: int, script: str) -> bool:
        """Return whether the words of this script around have one that nobody takes for Latin."""
        if number in self._clear:
            return self._clear[number]
        walked, is_clear = [number], False
        for step in (-1, 1):
            for one in self._steps(number, step):
                word = self._word(one)
                if _script(word) not in ("", script):
                    break
                if one in self._clear:
                    is_clear = is_clear or self._clear[one]
                    break
                walked.append(one)
                if _script(word) and _is_clear(word):
                    is_clear = True
                    break
            if is_clear:
                break
        self._clear |= dict.fromkeys(walked, is_clear)
        return is_clear


_BLANKS: Final = {" ": "space", "\t": "tab", "\n": "line break"}
_DRAWN_ACROSS = re.compile(f"[{_OVERLAY}]")
_CJK_SCRIPTS = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"})


def is_cjk_script(script: str) -> bool:
    return script in _CJK_SCRIPTS


def _is_clear(word: str) -> bool:
    """Return whether nobody takes the word for Latin."""
    return not all(looks_like_ascii(char) for char in word if not char.isascii())


def _is_mixed(word: str) -> bool:
    """Return whether look-alikes stand beside ASCII letters, foreign digits beside ASCII ones, or scripts in a word."""
    if any(char.isascii() and char.isalpha() for char in word):
        return True
    foreign = [char for char in word if not char.isascii()]
    if any(char.isdecimal() for char in foreign) and len(foreign) != len(word):
        return True
    return len({script_of(char) for char in foreign}) > 1


@lru_cache(maxsize=4096)
def _twins(word: str, *, is_naming: bool) -> frozenset[str]:
    """Return the characters to write out in a word of several scripts: those of the smaller part that have a twin."""
    main = _script(word)
    twins = set()
    for char in set(word):
        if char.isascii():
            is_twin = char in ASCII_TWINS and main != "LATIN" and not is_cjk_script(main)
        elif char.isdecimal():
            is_twin = script_of(char) != main or any(one.isascii() and one.isdecimal() for one in word)
        else:
            is_twin = looks_like_ascii(char) and script_of(char) != ("" if main == "LATIN" else main)
        at_home = (char == "ı" and not is_naming) or (script_of(char) == "FULLWIDTH" and any(map(is_cjk, word)))
        if is_twin and not at_home:
            twins.add(char)
    return frozenset(twins)


@cache
def _letter_script(char: str) -> str:
    return "" if char.isascii() and not char.isalpha() else "LATIN" if char.isascii() else script_of(char)


@lru_cache(maxsize=4096)
def _script(word: str) -> str:
    if word.isascii():
        return "" if word.isdecimal() else "LATIN"
    first, last = _letter_script(word[0]), _letter_script(word[-1])
    if first == last and len(word) < 3:
        return first
    scripts = Counter(map(_letter_script, word))
    del scripts[""]
    if not scripts:
        return ""
    most = max(scripts.values())
    return "LATIN" if scripts["LATIN"] == most else next(one for one in scripts if scripts[one] == most)


def _name(word: str) -> str:
    if word.isdecimal():
        return f"digits {int(word)}" if len(word) < 100 else "digits"
    script = _script(word)
    return {"FULLWIDTH": "wide letters", "MATHEMATICAL": "mathematical letters", "ROMAN": "Roman numerals"}.get(
        script, script.capitalize()
    )


@lru_cache(maxsize=1024)
def _decoded(label: str) -> str:
    if len(label) > 63:
        return "no valid label"
    try:
        return make_visible(label[4:].encode("ascii").decode("punycode"))
    except (UnicodeError, ValueError):
        return "no valid label"
