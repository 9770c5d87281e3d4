# ruff: noqa: RUF001
"""Text that hides something shows it, and honest text in any language stays as it is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from approvals.templatetags.visible import breakable
from console.text.visible import make_visible, one_line
from tests.effort import effort
from tests.hostile.reading import read_back


@pytest.mark.parametrize(
    "char",
    [
        *("\x00", "\x1b", "\r", "\x85", "\u00ad", "\u061c", "\u200b", "\u200d", "\u200e", "\u202e", "\u2066", "\u2069"),
        *("\ufeff", "\u2028", "\u2029", "\u00a0", "\u2003", "\u3000", "\u3164", "\u2800", "\u115f", "\u034f"),
        *("\ufe0f", "\ufe00", "\U000e0100", "\U000e0041", "\ue000", "\U0010fffd", "\ud800", "\uffff"),
        *("\U0001d173", "\u180e", "\u2061", "\ufff9", "⟨", "⟩", "\u037e", "\u212a"),
    ],
    ids=lambda char: f"U+{ord(char):04X}",
)
def test_what_would_not_show_is_written_out(char: str) -> None:
    assert make_visible(f"a{char}b") == f"a⟨U+{ord(char):04X}⟩b"


@pytest.mark.parametrize(
    "text",
    [
        *("", "plain words", "two\nlines\tand a tab", "Grüße, Ærø", "€ 5 % — “so”"),
        *("It’s 20 °C, ±2 µm, ½ kg, № 5", "😀"),
        *("Zażółć gęślą jaźń", "Iğdır'da ılık ışık", "Tiếng Việt rất hay", "naïve café, Ångström", "Łódź 100–200 zł"),
        "Привет, мир! Это от него, а с нами Вера и рок.",
        "Он пришел с Google и о нас, т.е. А.С. Пушкин и т.д.",
        *("Ελληνικά: ο Νίκος και το νερό", "Բարեւ աշխարհ", "გამარჯობა მსოფლიო"),
        *("שלום עולם, מה שלומך?", "مرحبا بالعالم، السعر ١٠٠ ريال", "می‌خواهم کتاب‌ها را بخوانم"),
        *(
            "今天天气很好，我们去公园。",
            "支持API，不需要。",
            "東京　大阪（ＪＲ東日本）ＡＢＣ株式会社",
            "ｶﾀｶﾅ「テスト」ー！",
        ),
        *("안녕하세요 세계", "नमस्ते, क्‍ष और शक्‍ति १०० रुपये", "สวัสดีชาวโลก ๑๐๐ บาท", "வணக்கம் உலகம்"),
        "👨‍👩‍👧 ❤️ 1️⃣ 👍🏽 🇩🇪 🏳️‍🌈",
        *("🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🏴󠁧󠁢󠁷󠁬󠁳󠁿", "kΩ, μm, Δt, ∑ a − b ≠ c"),
        "    def f():\n        return 1\n\n\n    x = 2",
    ],
)
def test_what_shows_as_itself_stays(text: str) -> None:
    assert make_visible(text) == text


USSCT = "\U000e0075\U000e0073\U000e0073\U000e0063\U000e0074\U000e007f"  # tags like those of a flag that there is


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # one letter of another alphabet
        ("pаypal", "p⟨U+0430⟩ypal"),
        ("Goοgle", "Go⟨U+03BF⟩gle"),
        ("сoвет", "с⟨U+006F⟩вет"),
        ("ɑpple", "⟨U+0251⟩pple"),
        ("ﬁle", "⟨U+FB01⟩le"),
        # the whole word
        ("раураӏ", "раураӏ⟨Cyrillic⟩"),
        ("Pay раураӏ now", "Pay раураӏ⟨Cyrillic⟩ now"),
        ("to раураӏ и все", "to раураӏ⟨Cyrillic⟩ и все"),
        ("слово\nраураӏ\nслово", "слово\nраураӏ⟨Cyrillic⟩\nслово"),
        ("раураӏ.com", "раураӏ⟨Cyrillic⟩.com"),
        ("Вот сайт https://раураӏ/ вот", "Вот сайт https://раураӏ⟨Cyrillic⟩/ вот"),
        ("а@раураӏ", "а⟨Cyrillic⟩@раураӏ⟨Cyrillic⟩"),
        ("Option А", "Option А⟨Cyrillic⟩"),
        ("ΤΗΕ", "ΤΗΕ⟨Greek⟩"),
        ("ꓐꓳꓐ", "ꓐꓳꓐ⟨Lisu⟩"),
        ("ᎠᎡᎢ", "ᎠᎡᎢ⟨Cherokee⟩"),
        # other dresses, other digits
        ("ｐａｙ", "ｐａｙ⟨wide letters⟩"),
        ("𝐩𝐚𝐲", "𝐩𝐚𝐲⟨mathematical letters⟩"),
        ("pay𝐩al", "pay⟨U+1D429⟩al"),
        ("ⅰⅼⅼ", "ⅰⅼⅼ⟨Roman numerals⟩"),
        ("١٠٠", "١٠٠⟨digits 100⟩"),
        ("amount ৪", "amount ৪⟨digits 4⟩"),
        ("1٠0", "1⟨U+0660⟩0"),
        # labels, signs, dashes, quotes
        ("xn--80ak6aa92e.com", "xn--80ak6aa92e⟨reads: аррӏе⟨Cyrillic⟩⟩.com"),
        ("XN--" + "a" * 70, "XN--" + "a" * 70 + "⟨reads: no valid label⟩"),
        ("evil。com", "evil⟨U+3002⟩com"),
        ("https：／／evil．com", "https⟨U+FF1A⟩⟨U+FF0F⟩⟨U+FF0F⟩evil⟨U+FF0E⟩com"),
        ("bank.example∕login", "bank.example⟨U+2215⟩login"),
        ("−100", "⟨U+2212⟩100"),
        ("rm ‐rf –force", "rm ⟨U+2010⟩rf ⟨U+2013⟩force"),
        ("/tmp/it’s", "/tmp/it⟨U+2019⟩s"),
        ("paypaı.com", "paypa⟨U+0131⟩.com"),
        # direction, marks, padding
        ("https://x.example/א/b", "https://x.example/א/b⟨runs right to left in part⟩"),
        ("1\u03360\u0336", "1⟨U+0336⟩0⟨U+0336⟩"),
        ("pa\u0336id", "pa⟨U+0336⟩id"),
        ("https://א/1", "https://א/1⟨runs right to left in part⟩"),
        ("/א/١/12", "/א/١⟨digits 1⟩/12⟨runs right to left in part⟩"),
        ("a\n" + "\t" * 24 + "b", "a\n⟨tab × 24⟩b"),
        ("e\u0301\u0302\u0303\u0304", "e\u0301\u0302⟨U+0303⟩⟨U+0304⟩"),
        ("jose\u0301@x.example", "jose⟨U+0301⟩@x.example"),
        ("a" + " " * 100_000 + "b", "a⟨space × 100,000⟩b"),
        ("a" + "\n" * 50 + "b", "a⟨line break × 50⟩b"),
        ("a" + " \n" * 50 + "b", "a⟨blank × 100, 50 line breaks in it⟩b"),
        ("a" + "\u200b" * 40 + "b", "a⟨U+200B × 40⟩b"),
        # joiners and selectors where nothing needs them
        ("❤\ufe0f\ufe0f", "❤\ufe0f⟨U+FE0F⟩"),
        ("क्\u200d\u200dष", "क्⟨U+200D⟩⟨U+200D⟩ष"),
        ("ر\u200cا", "ر⟨U+200C⟩ا"),
        ("😀\u200da", "😀⟨U+200D⟩a"),
        ("🏴\U000e0061\U000e007f", "🏴⟨U+E0061⟩⟨U+E007F⟩"),
        ("葛\U000e0100", "葛⟨U+E0100⟩"),
        ("б\u0301\u200dб", "б\u0301⟨U+200D⟩б"),
        (f"🏴{USSCT}", "🏴" + "".join(f"⟨U+{ord(tag):04X}⟩" for tag in USSCT)),
        # our own marks
        ("⟨U+202E⟩", "⟨U+27E8⟩U+202E⟨U+27E9⟩"),
        ("〈U+202E〉", "⟨U+3008⟩U+202E〉"),
    ],
)
def test_what_looks_like_something_else_is_marked(text: str, shown: str) -> None:
    assert make_visible(text) == shown


def test_a_file_name_that_reads_backwards_is_unmasked() -> None:
    assert make_visible("invoice_\u202efdp.exe") == "invoice_⟨U+202E⟩fdp.exe"


def test_the_escapes_of_json_are_no_letters() -> None:
    assert make_visible('{"a":"Возврат\\nПривет"}') == '{"a":"Возврат\\nПривет"}'
    assert make_visible('{"reason":"оса","x":"Привет мир"}') == '{"reason":"оса⟨Cyrillic⟩","x":"Привет мир"}'


def test_a_line_for_a_log_has_no_line_break_left() -> None:
    assert one_line("a\nb\tc\u2028d\re") == "a⟨U+000A⟩b⟨U+0009⟩c⟨U+2028⟩d⟨U+000D⟩e"


#: what may stay only where it does its work; elsewhere it is written out, which the cases above say
AT_WORK = set("\u200c\u200d\ufe0e\ufe0f\u3000") | {chr(tag) for tag in range(0xE0020, 0xE0080)}
WICKED = st.sampled_from(
    'ab1 \n./@-\\"⟨⟩×раypɑ０𝐩١\u202e\u200b\u200c\u200d\ufe0f\u0301\u0336\u0489\U000e0041क्ष本，。❤🏴xn--U+202E'
)


@given(st.text(st.one_of(WICKED, st.characters())))
@example("⟨U+202E⟩")
@example("xn--" + "a" * 70)
@example("\\nпр\\uр")
def test_nothing_hidden_is_left_and_nothing_is_lost(text: str) -> None:
    shown = make_visible(text)
    assert read_back(shown) == text
    assert read_back(read_back(make_visible(shown))) == text
    for char in set(shown) - AT_WORK:
        is_emoji_to_come = "\U0001f000" <= char <= "\U0001faff" or "\U00020000" <= char <= "\U0003347f"
        category = unicodedata.category(char)
        assert char in " \n\t" or is_emoji_to_come or category not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "value"}, ' * 16_000,
        "Привет, мир! Это было давно, и всё прошло. " * 3_400,
        "नमस्ते दुनिया, यह एक परीक्षा है। " * 2_800,
        "It’s a long — very long — letter. " * 7_000,
        "今天天气很好，我们去公园散步吧。" * 5_400,
        "a " + " " * 260_000,
        "a" * 260_000 + "а",
        "\u202e\u202d" * 43_000,
        "pаypal" * 20_000,
        "xn--80ak6aa92e." * 17_000,
        "е\u0301\u0302\u0303" * 30_000,
    ],
    ids=lambda text: text[:12],
)
def test_256_kib_take_no_time(text: str) -> None:
    assert effort(lambda: make_visible(text)) < 200  # 1 to 5 for what people write, 70 for what nobody does honestly


def test_a_long_word_may_break_and_is_escaped() -> None:
    assert breakable("<b>" * 200) == "<wbr>".join(["&lt;b&gt;" * 133 + "&lt;", "b&gt;" + "&lt;b&gt;" * 66])
    assert breakable("a & b") == "a &amp; b" and breakable("") == ""
    assert breakable("x" * 1000).count("<wbr>") == 2
