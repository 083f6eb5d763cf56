"""Parts of a model: described by constructor arguments (`plain:width=4`), found by their kind."""

import inspect
import re
from contextlib import suppress
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from torch import nn

from keyhole.core.layout import Shape
from keyhole.errors import BundleError, SettingError

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class Described:
    """An object described by its constructor arguments, and registered by `family` and `kind`."""

    family: ClassVar[str]
    kind: ClassVar[str]
    registry: ClassVar[dict[str, dict[str, type["Described"]]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" not in cls.__dict__:
            return
        kinds = Described.registry.setdefault(cls.family, {})
        if cls.kind in kinds:
            raise TypeError(f"two classes have the same kind: {cls.family} {cls.kind!r}")
        kinds[cls.kind] = cls

    @classmethod
    def arguments(cls) -> list[str]:
        """The names of the constructor's arguments."""
        return list(_arguments(cls))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as in scikit-learn."""
        return {name: getattr(self, name) for name in self.arguments()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments by name. Raises: SettingError for an unknown name."""
        for name, value in params.items():
            if name not in self.arguments():
                raise SettingError(
                    f"{type(self).__name__} has no argument {name!r}; it has {self.arguments()}"
                )
            setattr(self, name, value)
        return self

    def check(self) -> None:
        """Raises: SettingError for arguments of the right type with invalid values."""

    def recipe(self) -> dict[str, Json]:
        """The JSON from which `build` makes an equal object."""
        return {"kind": self.kind, **self.get_params()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"


class Part(Described, nn.Module):
    """A part of a network. A user's part is a template: `fit` copies it and binds the copy."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def bind(self, shape: Shape) -> Shape:
        """Create the weights for this input shape; returns the output shape."""
        raise NotImplementedError

    __repr__ = Described.__repr__


def kinds(family: str) -> dict[str, type[Described]]:
    """The registered kinds of a family, by name."""
    return Described.registry.get(family, {})


def build(family: str, recipe: Any) -> Any:
    """The part of a recipe; a file can name no code to run. Raises: BundleError."""
    if not isinstance(recipe, dict) or not isinstance(recipe.get("kind"), str):
        raise BundleError(f"a {family} recipe must be an object with a 'kind', got {recipe!r:.80}")
    kind = recipe["kind"]
    arguments = {name: value for name, value in recipe.items() if name != "kind"}
    cls = kinds(family).get(kind)
    if cls is None:
        raise BundleError(
            f"unknown {family} {kind!r:.80}; this version has {sorted(kinds(family))}"
        )
    if unknown := sorted(set(arguments) - set(cls.arguments())):
        raise BundleError(f"{family} {kind!r} does not know {unknown!r:.80}")
    try:
        return _build(cls, arguments)
    except Exception as fault:  # constructors raise anything
        raise BundleError(f"{family} {kind!r} cannot be built: {fault!s:.200}") from fault


def fits(value: Any, hint: Any) -> bool:
    """True if a JSON value has the type of an annotation."""
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    inner, origin = get_args(hint), get_origin(hint)
    if isinstance(hint, UnionType) or origin is Union:
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin is list:
        if not isinstance(value, list):
            return False
        simple = inner[0] in (int, float, str, bool)  # then one item of each type is checked
        items = {type(item): item for item in value}.values() if simple else value
        return all(fits(item, inner[0]) for item in items)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, inner[1]) for item in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def copy(part: Any) -> Any:
    """A fresh, unbound part with the same arguments."""
    return type(part)(**part.get_params())


def parse(family: str, text: str) -> Any:
    """The part of a text such as `plain:width=4`. Raises: SettingError that lists known names."""
    kind, _, rest = text.partition(":")
    cls = kinds(family).get(kind)
    if cls is None:
        raise SettingError(f"there is no {family} {kind!r}; choose from {sorted(kinds(family))}")
    arguments = {}
    for item in filter(None, re.split(r",(?![^\[]*\])", rest)):  # not within a list
        name, equals, value = item.partition("=")
        if not equals or name not in cls.arguments():
            raise SettingError(
                f"{family} {kind!r} does not know {item!r}; "
                f"write name=value from {cls.arguments()}"
            )
        arguments[name] = _literal(value)
    try:
        return _build(cls, arguments)
    except (TypeError, ValueError) as fault:
        raise SettingError(f"{family} {text!r:.80}: {fault}") from fault


def _build(cls: type[Described], arguments: dict[str, Any]) -> Any:
    schema = get_type_hints(cls.__init__)
    for name, value in arguments.items():
        if not fits(value, schema[name]):
            wanted = schema[name].__name__ if isinstance(schema[name], type) else schema[name]
            raise TypeError(f"{name}={value!r:.80} is not {wanted}")
    part = cls(**arguments)
    part.check()
    return part


@cache
def _arguments(cls: type[Described]) -> tuple[str, ...]:
    names = inspect.signature(cls.__init__).parameters
    return tuple(name for name in names if name not in {"self", "args", "kwargs"})  # object's own


def _literal(text: str) -> Json:
    if text.startswith("[") and text.endswith("]"):
        return [_literal(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
