"""Reading what came over the wire, the same way at both doors."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, StringConstraints
from starlette.requests import Request

from vmtrak.errors import Invalid
from vmtrak.fields import LARGEST_ID, Input, parse, wrong
from vmtrak.reachability import MOST_TARGETS

M = TypeVar("M", bound=BaseModel)


def number(text: str, name: str = "id") -> int:
    """An identifier; raises `Invalid` for what can be none."""
    if not is_number(text):
        raise Invalid({name: ["must be a whole number from 1 on"]})
    return int(text)


def is_number(text: str) -> bool:
    """Whether a text can be an identifier. The length comes first: reading digits costs time."""
    short = len(text) <= len(str(LARGEST_ID))
    return short and text.isascii() and text.isdigit() and 0 < int(text) <= LARGEST_ID


def query(request: Request, model: type[M], *, blanks: bool = True) -> M:
    """The query string as an input. A form sends its empty fields: `blanks` False leaves them out.

    Raises `Invalid` for a parameter that is given more than once.
    """
    given = [(k, v) for k, v in request.query_params.multi_items() if v or blanks]
    known = {info.alias or name for name, info in model.model_fields.items()}
    names = [name for name, _ in given if name in known]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid({name: ["is given more than once"] for name in twice})
    return parse(model, dict(given))


def _numbers(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else []
    if not parts or not all(is_number(part) for part in parts):
        raise wrong("must be whole numbers joined by commas")
    if len(parts) > MOST_TARGETS:
        raise wrong(f"must be at most {MOST_TARGETS} numbers")
    return value


class Ids(Input):
    """Numbers joined by commas, at most 50."""

    ids: Annotated[str, StringConstraints(pattern=r"^[0-9]+(,[0-9]+)*$"), BeforeValidator(_numbers)]

    def numbers(self) -> list[int]:
        return list(dict.fromkeys(int(part) for part in self.ids.split(",")))
