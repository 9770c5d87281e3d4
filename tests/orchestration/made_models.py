"""Made-up argument models, the same for the same number in every process, and what somebody asks for with each."""

from __future__ import annotations

import dataclasses
import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from pathlib import Path
from re import Pattern
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID, uuid4

from pydantic import (
    AfterValidator,
    AliasPath,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    Base64Str,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    InstanceOf,
    IPvAnyAddress,
    Json,
    JsonValue,
    NaiveDatetime,
    PastDate,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    StringConstraints,
    Tag,
    computed_field,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

Item = TypeVar("Item")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str | None = None


class Line(BaseModel):
    sku: str = Field(alias="SKU")
    count: int = Field(default=1, ge=0)
    price: Decimal | None = None


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int | str


class Labels(RootModel[dict[str, str]]):
    pass


class Total(BaseModel):
    net: float
    tax: float

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's own documentation writes it
    @property
    def gross(self) -> float:
        return self.net + self.tax


class Pair(TypedDict):
    left: int
    right: Annotated[str, Field(alias="Right")]


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Masked(BaseModel):
    number: str

    @model_serializer
    def masked(self) -> dict[str, str]:
        return {"number": self.number[:1] + "***"}


class Unsorted(BaseModel):
    """Another list in each process."""

    tags: list[str]

    @field_validator("tags")
    @classmethod
    def each_once(cls, tags: list[str]) -> list[str]:
        return list(set(tags))


class Sorted(BaseModel):
    """A set is made, and the list is the same everywhere."""

    tags: list[str]

    @field_validator("tags")
    @classmethod
    def each_once(cls, tags: list[str]) -> list[str]:
        return sorted(set(tags))


class NotPast(BaseModel):
    """What is right today is wrong tomorrow."""

    on: date

    @field_validator("on")
    @classmethod
    def not_past(cls, on: date) -> date:
        if on < date.today():  # noqa: DTZ011  # what is looked for
            raise ValueError("past")
        return on


_count = 0


def counted(text: str) -> str:
    global _count
    _count += 1
    return f"{text}-{_count}"


class Grade(StrEnum):
    """A text that is a value of its own."""

    GOOD = "good"
    POOR = "poor"


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Size(NamedTuple):
    width: int
    height: int = 1


class Box(BaseModel, Generic[Item]):
    """Of anything."""

    inside: Item
    label: str = Field("", alias="Label")


class Leaf(BaseModel):
    is_a: Literal["leaf"]
    value: Decimal


class Branch(BaseModel):
    """Chosen by a tag, and inside of itself."""

    is_a: Literal["branch"]
    below: list[Annotated[Leaf | Branch, Field(discriminator="is_a")]] = []


def _kind_of(given: Any) -> str:
    return "cat" if (given.get("lives") if isinstance(given, dict) else getattr(given, "lives", None)) else "dog"


class Purse(BaseModel):
    name: str


class Sum(RootModel[int]):
    pass


class Lines(RootModel[list[Line]]):
    pass


class Sparse(TypedDict, total=False):
    """Keys that may be left out, one of them under a name that no identifier has."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # as pydantic's documentation has it
    at: NaiveDatetime
    how: Annotated[str, Field(alias="how-much")]


@pydantic_dataclass
class Sent:
    """A dataclass with an alias and a rule."""

    to: str = Field(alias="To", min_length=1)
    copies: list[str] = Field(default_factory=list)


class Renaming(BaseModel):
    """Reads an older name too; what it writes it reads."""

    amount: Decimal

    @model_validator(mode="before")
    @classmethod
    def older_name(cls, given: Any) -> Any:
        if isinstance(given, dict) and "sum" in given:
            given = {**given, "amount": given["sum"]}
            del given["sum"]
        return given


class AsNumber(BaseModel):
    """Durations and bytes written otherwise than by themselves."""

    model_config = ConfigDict(ser_json_timedelta="float", ser_json_bytes="base64", val_json_bytes="base64")
    wait: timedelta
    raw: bytes


class Plainly(BaseModel):
    """Keeps an enum's value, takes numbers for texts, forgets blanks at the ends."""

    model_config = ConfigDict(use_enum_values=True, coerce_numbers_to_str=True, str_strip_whitespace=True, frozen=True)
    colour: Colour
    code: str


class Strictly(BaseModel):
    model_config = ConfigDict(strict=True)
    on: date
    count: int


class Shown(BaseModel):
    """What is computed has a name that an argument could have."""

    net: Decimal

    @computed_field(alias="Gross")  # type: ignore[prop-decorator]  # as pydantic's own documentation writes it
    @property
    def gross(self) -> Decimal:
        return self.net * 2


class Forgetful(BaseModel):
    """Writes less than it has read."""

    a: int
    b: int = 0

    @model_serializer(mode="wrap")
    def without_b(self, write: Any) -> Any:
        return {key: one for key, one in write(self).items() if key != "b"}


class Swapping(BaseModel):
    """Reads what it has written as something else."""

    low: int
    high: int

    @model_validator(mode="before")
    @classmethod
    def swapped(cls, given: Any) -> Any:
        return {"low": given["high"], "high": given["low"]} if isinstance(given, dict) else given


def _text(chance: random.Random) -> str:
    letters = "abc ÄØ€😀\n\t\r'\"<&;\\.~[]{}0u\u202e\u0301"
    return "".join(chance.choice(letters) for _ in range(chance.randrange(9)))


def _number(chance: random.Random) -> float | int:
    return chance.choice([0, 1, -1, 1.0, 2.5, -0.0, 1e-7, 1e21, 1.5e300, 2**53 - 1, chance.random(), 12345678.9])


def _anything(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(5 if depth > 2 else 7)
    if kind < 5:
        return [None, True, _number(chance), _text(chance), "x"][kind]
    inner = [_anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    return inner if kind == 5 else {_text(chance) or "k": one for one in inner}


def _tree(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    below = [_tree(chance, depth + 1) for _ in range(chance.randrange(3 if depth < 3 else 1))]
    return {"name": _text(chance), **({"below": below} if below or chance.random() < 0.5 else {})}


def _line(chance: random.Random) -> dict[str, Any]:
    more: dict[str, Any] = {"count": chance.randrange(9), "price": chance.choice([None, "12.50", 3, 2.5])}
    return {"SKU": _text(chance), **{key: more[key] for key in more if chance.random() < 0.6}}


Maker = Callable[[random.Random], Any]
KINDS: list[tuple[Any, Maker]] = [
    (str, _text),
    (Annotated[str, Field(min_length=1)], lambda chance: _text(chance) + "x"),
    (Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)], _text),
    (int, lambda chance: chance.choice([0, -5, 2**53 - 1, 1.0, "7", 2**53 + 1])),
    (float, _number),
    (float, lambda chance: chance.choice([1, "1.5", 1e21])),
    (bool, lambda chance: chance.choice([True, False, "yes", 0])),
    (Decimal, lambda chance: chance.choice(["12.50", "1E+3", 3, 2.5, "0.10", "99999999999999999999.01"])),
    (datetime, lambda chance: chance.choice(["2026-01-31T09:30:00+02:00", "2026-01-31T09:30:00Z", 1700000000])),
    (date, lambda chance: chance.choice(["2026-01-31", "2026-01-31T00:00:00"])),
    (time, lambda chance: chance.choice(["09:30", "09:30:00.5+01:00"])),
    (timedelta, lambda chance: chance.choice(["PT45M", 90.5, "-P3DT0.000001S", 0.1])),
    (UUID, lambda chance: "123E4567-E89B-12D3-A456-426614174000"),
    (HttpUrl, lambda chance: chance.choice(["https://example.com", "http://EXAMPLE.com:80/a b"])),
    (AnyUrl, lambda chance: "postgres://u:p@host/db"),
    (Path, lambda chance: chance.choice(["/tmp//x/", "a/../b"])),
    (IPv4Address, lambda chance: "192.0.2.1"),
    (IPv6Network, lambda chance: "2001:db8::/32"),
    (bytes, lambda chance: chance.choice(["abc", "ä"])),
    (Base64Bytes, lambda chance: "YWJj"),
    (ByteSize, lambda chance: chance.choice(["1.5 MiB", 12])),
    (Json[list[int]], lambda chance: "[1, 2]"),
    (Colour, lambda chance: chance.choice(["red", "blue"])),
    (Level, lambda chance: chance.choice([1, 2])),
    (Literal["a", 1, None], lambda chance: chance.choice(["a", 1, None])),
    (int | str, lambda chance: chance.choice([1, "1", "a", 1.0])),
    (int | float | None, lambda chance: chance.choice([1, 1.0, 2.5, None, 1e21])),
    (Decimal | str, lambda chance: chance.choice([1.5, "1.5", "a"])),
    (bool | int | str, lambda chance: chance.choice([True, 1, "true"])),
    (list[str], lambda chance: [_text(chance) for _ in range(chance.randrange(4))]),
    (list[list[int]], lambda chance: [[], [1, 2]]),
    (tuple[int, str], lambda chance: [1, "a"]),
    (dict[str, int], lambda chance: {chance.choice(["a.b", "", "__proto__", "ä", "[0]", "~0", "a"]): 1}),
    (dict[int, str], lambda chance: {"7": "x", "-1": "y"}),
    (dict[str, Any], lambda chance: {"k": _anything(chance)}),
    (Any, _anything),
    (Line, _line),
    (list[Line], lambda chance: [_line(chance) for _ in range(chance.randrange(3))]),
    (Tree, _tree),
    (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        lambda chance: chance.choice([{"kind": "cat"}, {"kind": "dog", "name": "Rex"}, {"kind": "dog"}]),
    ),
    (Cat | Dog, lambda chance: chance.choice([{"kind": "cat", "lives": 3}, {"kind": "dog", "name": None}])),
    (Loose, lambda chance: {"id": chance.choice([1, "1"]), "more": _anything(chance), "a.b": 1.0}),
    (Labels, lambda chance: {"a": "b", "": "c"}),
    (Total, lambda chance: {"net": 1.5, "tax": 1}),
    (Pair, lambda chance: {"left": 1, "Right": "r"}),
    (Point, lambda chance: chance.choice([{"x": 1}, {"x": 1.5, "y": -0.0}])),
    (Annotated[str, BeforeValidator(lambda text: text.strip())], _text),
    (Annotated[float, PlainSerializer(lambda one: round(one, 2))], lambda chance: chance.choice([1.5, 1.234])),
    (Grade, lambda chance: chance.choice(["good", "poor"])),
    (Rights, lambda chance: chance.choice([1, 2])),
    (Size, lambda chance: chance.choice([[1, 2], [3]])),
    (Box[int], lambda chance: {"inside": 1, "Label": _text(chance)}),
    (Box[list[Line]], lambda chance: {"inside": [_line(chance)]}),
    (Branch, lambda chance: {"is_a": "branch", "below": [{"is_a": "leaf", "value": "1.50"}, {"is_a": "branch"}]}),
    (
        Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(_kind_of)],
        lambda chance: chance.choice([{"kind": "cat", "lives": 2}, {"kind": "dog"}]),
    ),
    (Sum, lambda chance: chance.choice([0, 7])),
    (Lines, lambda chance: [_line(chance) for _ in range(chance.randrange(3))]),
    (Sparse, lambda chance: chance.choice([{}, {"at": "2026-01-31T09:30:00"}, {"how-much": "2"}])),
    (Sent, lambda chance: chance.choice([{"To": "a"}, {"To": "b", "copies": ["c"]}])),
    (Renaming, lambda chance: chance.choice([{"sum": "1.50"}, {"amount": 2}])),
    (Plainly, lambda chance: {"colour": "red", "code": chance.choice([12, " a ", "b"])}),
    (Strictly, lambda chance: {"on": "2026-01-31", "count": 3}),
    (Shown, lambda chance: {"net": chance.choice(["1.50", 2])}),
    (dict[date, Decimal], lambda chance: {"2026-01-31": "1.50", "2026-02-01": 2}),
    (dict[UUID, bool], lambda chance: {"123E4567-E89B-12D3-A456-426614174000": True}),
    (dict[Grade, list[int]], lambda chance: {"good": [1], "poor": []}),
    (dict[Decimal, str], lambda chance: {"1.50": "a", "2": "b"}),
    (dict[tuple[int, int], str], lambda chance: {"1,2": "a"}),
    (dict[str, dict[str, Line]], lambda chance: {"a": {"b": _line(chance)}, "": {}}),
    (OrderedDict[str, int], lambda chance: {"b": 1, "a": 2}),
    (defaultdict[str, list[int]], lambda chance: {"a": [1]}),
    (deque[int], lambda chance: [3, 1]),
    (Sequence[Decimal], lambda chance: ["1.50", 2]),
    (Mapping[str, Any], lambda chance: {"k": _anything(chance)}),
    (tuple[int, ...], lambda chance: [1, 2, 3]),
    (tuple[()], lambda chance: []),
    (JsonValue, _anything),
    (Json[Any], lambda chance: chance.choice(['{"b": 1, "a": [1.0]}', "null", '"x"'])),  # type: ignore[misc]  # a type at run time
    (Json[Line], lambda chance: '{"SKU": "x", "count": 2}'),
    (IPv4Interface, lambda chance: "192.0.2.1/24"),
    (IPvAnyAddress, lambda chance: chance.choice(["192.0.2.1", "2001:DB8::1"])),
    (Pattern[str], lambda chance: chance.choice(["^a+$", "[0-9]{3}"])),
    (Annotated[date, Field(ge=date(2020, 1, 1))], lambda chance: "2026-01-31"),
    (Annotated[timedelta, Field(gt=timedelta(0))], lambda chance: chance.choice(["PT1S", 3.25])),
    (Annotated[Decimal, Field(max_digits=6, decimal_places=2, ge=0)], lambda chance: chance.choice(["12.50", 3])),
    (Annotated[float, Field(multiple_of=0.25, le=100)], lambda chance: chance.choice([0.25, 1, 99.75])),
    (Annotated[str, Field(pattern="^[A-Z]{2}[0-9]+$")], lambda chance: "AB12"),
    (Annotated[list[int], Field(min_length=1, max_length=3)], lambda chance: [1]),
    (AwareDatetime, lambda chance: chance.choice(["2026-01-31T09:30:00.123456+05:45", "2026-01-31T09:30:00Z"])),
    (datetime | date, lambda chance: chance.choice(["2026-01-31", "2026-01-31T09:30:00Z"])),
    (UUID | Grade | int | None, lambda chance: chance.choice(["good", 3, None, str(UUID(int=5))])),
    (Literal["a"] | Literal[1] | Colour, lambda chance: chance.choice(["a", 1, "red"])),
    (list[tuple[str, Decimal]], lambda chance: [["a", "1.50"], ["b", 2]]),
    (Base64Str, lambda chance: "YWJj"),
    (complex, lambda chance: chance.choice(["1+2j", 3])),
]
UNFIT: list[tuple[Any, Maker]] = [
    (SecretStr, lambda chance: "hunter2"),
    (list[SecretStr], lambda chance: ["hunter2"]),
    (set[str], lambda chance: ["b", "a", "c"]),
    (frozenset[int], lambda chance: [3, 1, 2]),
    (Annotated[str, AfterValidator(counted)], lambda chance: "x"),
    (Annotated[str, PlainSerializer(lambda one: "***")], lambda chance: "hunter2"),
    (Annotated[float, PlainSerializer(lambda one: f"{one:.2f} EUR")], lambda chance: 1.5),
    (Annotated[str, Field(exclude=True)], lambda chance: "hidden"),
    (Annotated[str, Field(validation_alias="in")], lambda chance: "x"),
    (Annotated[str, Field(serialization_alias="out")], lambda chance: "x"),
    (Masked, lambda chance: {"number": "4111"}),
    (Unsorted, lambda chance: {"tags": ["b", "a", "c"]}),
    (NotPast, lambda chance: {"on": "2099-01-01"}),
    (Annotated[int, Field(ge=2**60)], lambda chance: 2**60),
    (Annotated[str, Field(validation_alias="in", serialization_alias="out")], lambda chance: "x"),
    (Annotated[str, Field(validation_alias=AliasPath("in", 0))], lambda chance: "x"),
    (SecretBytes, lambda chance: "hunter2"),
    (Secret[int], lambda chance: 7),
    (dict[str, SecretStr | None], lambda chance: {"k": "hunter2"}),
    (Iterable[int], lambda chance: [1, 2]),
    (Callable[[], None], lambda chance: "x"),
    (InstanceOf[Purse], lambda chance: {"name": "x"}),
    (PastDate, lambda chance: "2020-01-31"),
    (AsNumber, lambda chance: {"wait": chance.choice(["PT45M", 0.5]), "raw": "YWJj"}),
    (Rights, lambda chance: 3),
    (Forgetful, lambda chance: {"a": 1, "b": 2}),
    (Swapping, lambda chance: {"low": 1, "high": 2}),
]
NAMES = ("amount", "userId", "userID", "order_id", "to", "note", "x1", "type_", "from_", "list_", "count", "data")
ALIASES = ("from", "class", "a.b", "a b", "~is", "0", "ä", "__proto__", "[x]", "Some Name", "userid")


def made(number: int) -> tuple[type[BaseModel], dict[str, Any], bool]:
    """Return a model, what is asked for with it, and whether it is unfit on purpose."""
    chance = random.Random(number)
    names = chance.sample(NAMES, chance.randrange(1, 6))
    aliases = chance.sample(ALIASES, len(names))
    unfit = chance.choice(names) if chance.random() < 0.15 else None
    has_generator = chance.random() < 0.2
    fields: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for name, alias in zip(names, aliases, strict=True):
        kind, value_of = chance.choice(UNFIT if name == unfit else KINDS)
        settings: dict[str, Any] = {"alias": alias} if chance.random() < 0.3 and name != unfit else {}
        is_optional = chance.random() < 0.4 and name != unfit
        if is_optional and chance.random() < 0.5:
            kind, settings = kind | None if _can_be_or(kind) else kind, {**settings, "default": None}
            kind = kind if _can_be_or(kind) else Any
        elif kind is UUID and is_optional:
            settings["default_factory"] = uuid4
        elif kind is datetime and is_optional:
            settings["default_factory"] = datetime.now
        else:
            is_optional = False
        fields[name] = (kind, Field(**settings)) if settings else (kind, ...)
        if not is_optional or chance.random() < 0.6:
            asked = None if is_optional and "default" in settings and chance.random() < 0.3 else value_of(chance)
            given[settings.get("alias") or (to_camel(name) if has_generator else name)] = asked
    config = ConfigDict(extra=chance.choice(["ignore", "forbid", "allow"]), populate_by_name=chance.random() < 0.3)
    if has_generator:
        config["alias_generator"] = to_camel
    if config["extra"] == "allow":
        given["Further"] = _anything(chance)
    model = create_model(f"Made{number}", __config__=config, __module__=__name__, **fields)
    return model, given, unfit is not None


def _can_be_or(kind: Any) -> bool:
    try:
        kind | None  # whether this can be written is asked
    except TypeError:
        return False
    return True
