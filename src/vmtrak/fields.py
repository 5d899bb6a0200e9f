"""The rules of single values, shared by every input: text, names, addresses, amounts, dates.

`parse` is the one way in: a form and a JSON body both become a mapping and meet here.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from email_validator import (
    SPECIAL_USE_DOMAIN_NAMES,
    EmailNotValidError,
    validate_email,
)
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from vmtrak.errors import Invalid

# Many a company's domain is called corp.local; mail reaches it from within. The list is the
# library's own switch, for every address that is read.
SPECIAL_USE_DOMAIN_NAMES[:] = [name for name in SPECIAL_USE_DOMAIN_NAMES if name != "local"]

LARGEST_ID = 2**63 - 1
"""What SQLite's INTEGER and PostgreSQL's BIGINT both hold."""

LAST = "\U0010ffff"
"""Stands for "empty" in sort keys: after every text, as PostgreSQL sorts NULL by default."""

LONGEST_EMAIL = 320
"""Characters: 64 before the @, 255 behind it (RFC 5321)."""

_NONCHARACTER = 0xFFFE
_FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LINE_KEEPING = frozenset("\n\t")
_MAC_FORMS = re.compile(
    r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|(?:[0-9a-f]{2}-){5}[0-9a-f]{2}"
    r"|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}|[0-9a-f]{12}"
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?Z)?"
)


class Input(BaseModel):
    """Base of all inputs. Unknown names are ignored: scripts send back rows as they read them."""

    # Some fields are passwords, and Pydantic's errors repeat what was wrong.
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


def given(patch: Input) -> dict[str, Any]:
    """The fields that a patch sets. Raises `Invalid` if there are none."""
    values = patch.model_dump(exclude_unset=True)
    if not values:
        raise Invalid({"body": ["names no field to change"]})
    return values


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], data: Mapping[str, Any]) -> M:
    """Make the input, or raise `Invalid` with every field's messages."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Invalid(_by_field(error)) from None


def _by_field(error: ValidationError) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0]) if detail["loc"] else "body"
        message = _message(detail)
        if message not in fields.setdefault(name, []):
            fields[name].append(message)
    return fields


def _message(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind in {"literal_error", "enum"}:
        return f"must be one of {context['expected']}".replace("'", "")
    bounds = {
        "greater_than": "gt",
        "greater_than_equal": "ge",
        "less_than": "lt",
        "less_than_equal": "le",
    }
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    if kind in bounds:
        return f"must be {words[bounds[kind]]} {context[bounds[kind]]:,}"
    if kind in {"string_too_long", "too_long"}:
        return f"must be at most {context['max_length']:,} characters"
    plain = {
        "string_type": "must be text",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "int_type": "must be a whole number",
        "float_parsing": "must be a number",
        "float_type": "must be a number",
        "finite_number": "must be a number",
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "int_parsing_size": "is too large",
        "model_type": "must be an object",
        "model_attributes_type": "must be an object",
    }
    return plain.get(kind, detail["msg"])


def wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("vmtrak", "{why}", {"why": message})


def blank_to_none(value: object) -> object:
    """The contract: an empty text means null, for every field."""
    return None if isinstance(value, str) and not value.strip() else value


def fold(value: str) -> str:
    """The form in which names are compared: without regard to case or to how accents are coded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).casefold())


def same(one: str, other: str) -> bool:
    """Whether two names are one, without regard to case or to blanks around them."""
    return fold(one.strip()) == fold(other.strip())


def _invisible(character: str) -> bool:
    return character in _FILLERS or unicodedata.category(character) == "Cf"


def _printable(character: str, *, lines: bool) -> bool:
    if lines and character in _LINE_KEEPING:
        return True
    return not (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or character in _BIDI
        or ord(character) & _NONCHARACTER == _NONCHARACTER
    )


@dataclass(frozen=True, slots=True)
class Text:
    """Optional text of at most `most` characters; `lines` allows line breaks and tabs."""

    most: int
    lines: bool = False

    def check(self, value: object) -> object:
        if value is None:
            return None
        if not isinstance(value, str):
            raise wrong("must be text")
        text = value.strip()
        if all(_invisible(character) or character.isspace() for character in text):
            return None  # characters that nobody sees are as good as nothing
        if self.lines:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not all(_printable(character, lines=self.lines) for character in text):
            raise wrong("must not contain control characters")
        if len(text) > self.most:
            raise wrong(f"must be at most {self.most:,} characters")
        return text or None

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "maxLength": self.most}, {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class Visible(Text):
    """Optional text of at most `most` characters, each of which can be seen."""

    def check(self, value: object) -> object:
        text = Text.check(self, value)
        if isinstance(text, str) and any(_invisible(character) for character in text):
            raise wrong("must not contain invisible characters")
        return text


@dataclass(frozen=True, slots=True)
class Required(Visible):
    """Text that must not be empty, of at most `most` characters."""

    def check(self, value: object) -> object:
        return _required(Visible.check(self, value))

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "minLength": 1, "maxLength": self.most}


def _required(value: object) -> object:
    if value is None:
        raise wrong("is required")
    return value


def _address(value: object) -> object:
    value = blank_to_none(value)
    if value is None:
        return None
    if not isinstance(value, str) or "%" in value:
        raise wrong("must be an IPv4 or IPv6 address")
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError:
        raise wrong("must be an IPv4 or IPv6 address") from None


def address_key(value: str | None) -> str:
    """A text that sorts addresses by number, IPv4 before IPv6, none last."""
    if value is None:
        return LAST
    address = ipaddress.ip_address(value)
    return f"{address.version}{int(address):0{address.max_prefixlen // 4}x}"


def _mac(value: object) -> object:
    value = blank_to_none(value)
    if value is None:
        return None
    if not isinstance(value, str) or not _MAC_FORMS.fullmatch(value.strip().lower()):
        raise wrong("must be a MAC address such as 00:50:56:9a:01:fe")
    digits = re.sub(r"[^0-9a-f]", "", value.lower())
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _day(value: object) -> object:
    value = blank_to_none(value)
    if value is None or (isinstance(value, date) and type(value) is date):
        return value
    if not isinstance(value, str) or not _DATE.fullmatch(value.strip()):
        raise wrong("must be a date as YYYY-MM-DD")
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        raise wrong("is not a date of the calendar") from None


def _instant(*, last: bool) -> Callable[[object], object]:
    def check(value: object) -> object:
        value = blank_to_none(value)
        if value is None or isinstance(value, datetime):
            return value
        if not isinstance(value, str) or not _INSTANT.fullmatch(value.strip()):
            raise wrong("must be YYYY-MM-DD or a time such as 2026-11-22T08:30:00Z")
        text = value.strip()
        if _DATE.fullmatch(text):
            text += "T23:59:59Z" if last else "T00:00:00Z"
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            raise wrong("is not a time of the calendar") from None

    return check


def as_number(value: object) -> object:
    value = blank_to_none(value)
    if isinstance(value, bool):
        raise wrong("must be a number")
    return _read(value.strip()) if isinstance(value, str) else value


def _read(text: str) -> int | float:
    """A typed number, read as JSON would read it, so that both doors say the same of it."""
    if not _NUMBER.fullmatch(text):
        raise wrong("must be a number")
    number = float(text)
    return int(text) if text.lstrip("+-").isdigit() and abs(number) < 2**64 else number


def whole(value: float | None) -> float | None:
    """16 rather than 16.0: what people typed, and what earlier clients expect."""
    return int(value) if value is not None and value == int(value) else value


def _email(value: object) -> object:
    value = blank_to_none(value)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_EMAIL:
        raise wrong("must be an e-mail address")
    try:
        return validate_email(
            value.strip(), check_deliverability=False, test_environment=True
        ).normalized
    except EmailNotValidError:
        raise wrong("must be an e-mail address") from None


Address = Annotated[
    str | None,
    BeforeValidator(_address),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "ipv4"},
                {"type": "string", "format": "ipv6"},
                {"type": "null"},
            ]
        }
    ),
]
Mac = Annotated[
    str | None,
    BeforeValidator(_mac),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$"},
                {"type": "null"},
            ]
        }
    ),
]
Day = Annotated[
    date | None,
    BeforeValidator(_day),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}),
]
_INSTANT_SCHEMA = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
Instant = Annotated[datetime | None, BeforeValidator(_instant(last=False)), _INSTANT_SCHEMA]
LastInstant = Annotated[datetime | None, BeforeValidator(_instant(last=True)), _INSTANT_SCHEMA]
"""As `Instant`, but a date alone means its last second."""
Count = Annotated[int | None, Field(gt=0, le=1_000_000), BeforeValidator(as_number)]
Amount = Annotated[
    Annotated[float, Field(gt=0, le=1_000_000_000)] | None,
    AfterValidator(whole),
    BeforeValidator(as_number),
]
Reference = Annotated[int | None, Field(gt=0, le=LARGEST_ID), BeforeValidator(as_number)]
Email = Annotated[
    str | None,
    BeforeValidator(_email),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}]}),
]
RequiredEmail = Annotated[
    str,
    BeforeValidator(_required),
    BeforeValidator(_email),
    WithJsonSchema({"type": "string", "format": "email"}),
]
