"""Classes of fields, as the standard library's dataclasses are, for a program that starts anew for one login.

dataclasses compiles six functions for each class, and imports the tools that read source: together a third of an
engine's start. Here one is compiled, and the rest is inherited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


class _Field:
    """What a field's line says beside its name and type."""

    def __init__(self, default: Any, default_factory: Callable[[], Any] | None, shown: bool) -> None:
        self.default, self.factory, self.shown = default, default_factory, shown


_NONE = object()  # no default


def field(*, default: Any = _NONE, default_factory: Callable[[], Any] | None = None, repr: bool = True) -> Any:
    """A field that is more than its name and type.

    Args:
        default: its value where none is given.
        default_factory: makes that value.
        repr: whether it is shown; secrets are not.
    """
    return _Field(default, default_factory, repr)


class _Structure:
    """What all structures can do; the fields are in `__match_args__`."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()
    _shown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)


class _Frozen(_Structure):
    """They never change, so they can be keys."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__match_args__))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__qualname__}.{name} never changes")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__qualname__}.{name} never changes")


@overload
def structure(cls: type[T], /) -> type[T]: ...


@overload
def structure(*, frozen: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def structure(cls: type[T] | None = None, /, *, frozen: bool = True) -> Any:
    """Make a class of fields, in order, with their defaults: `@structure`. Structures do not inherit from each other.

    Args:
        frozen: instances never change.
    """
    return _make(cls, frozen) if cls is not None else lambda cls: _make(cls, frozen)


def is_structure(kind: object) -> bool:
    """Whether that is a class of this kind."""
    return isinstance(kind, type) and issubclass(kind, _Structure)


def names(kind: type) -> tuple[str, ...]:
    """The fields of a structure's class, in order."""
    return kind.__match_args__  # type: ignore[attr-defined, no-any-return]


def values(instance: object) -> dict[str, Any]:
    """The values of a structure's fields by name, in order."""
    return {name: getattr(instance, name) for name in names(type(instance))}


def replace(instance: T, **changes: Any) -> T:
    """The same structure with other values in some fields."""
    return type(instance)(**values(instance) | changes)


def _make(cls: type, frozen: bool) -> Any:
    content = dict(cls.__dict__)
    names = tuple(name for name, kind in content.get("__annotations__", {}).items() if not kind.startswith("ClassVar"))
    fields = {name: _field(content.pop(name, _NONE)) for name in names}
    for name in ("__dict__", "__weakref__"):
        content.pop(name, None)
    shown = tuple(name for name in names if fields[name].shown)
    made: Any = type(
        cls.__name__,
        (_Frozen if frozen else _Structure,),
        {**content, "__slots__": names, "__match_args__": names, "_shown": shown, "__qualname__": cls.__qualname__},
    )
    made.__init__ = _initializer(made, fields)
    return made


def _field(given: Any) -> _Field:
    return given if isinstance(given, _Field) else _Field(given, None, True)


def _initializer(cls: type, fields: dict[str, _Field]) -> Any:
    """`__init__`, which writes into the slots: frozen or not, and quicker than any other way."""
    known: dict[str, Any] = {"none": _NONE}
    parameters, lines = ["self"], ["pass"]
    for name, each in fields.items():
        known[f"set_{name}"] = cls.__dict__[name].__set__
        known[f"default_{name}"] = each.factory if each.factory else each.default
        value = name
        if each.factory:
            parameters.append(f"{name}=none")
            value = f"default_{name}() if {name} is none else {name}"
        else:
            parameters.append(name if each.default is _NONE else f"{name}=default_{name}")
        lines.append(f"set_{name}(self, {value})")
    exec(f"def __init__({', '.join(parameters)}): " + "; ".join(lines), known)  # noqa: S102 - of names in our own source
    return known["__init__"]
