"""
How the reference reads the package: what its source alone does not tell, or tells at length.

* Docstrings that are put together when a class is made are those that Python has.
* The comments that begin with ``#:`` are docstrings of the attributes below them. A method
  without a docstring has that of the one it replaces.
* What a class inherits stands after what is its own, and returns what this class returns.
* The fields of a named tuple stand in its signature, with their types. They, and attributes of
  which only the docstring of their class tells, have no section of their own.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import linecache
import pathlib
import re
import sys
import typing

import griffe

ROOT = pathlib.Path(__file__).parent.parent.parent

#: Further down than any line of a source file.
AFTER_ALL = 1_000_000

#: More numbers than that in a class are listed, without a section for each.
MANY = 10


class Reading(griffe.Extension):
    def on_package(self, *, pkg: griffe.Module, **kwargs: typing.Any) -> None:
        if pkg.name != "http3_parallel":
            return
        sys.path.insert(0, str(ROOT))
        try:
            griffe.DataclassesExtension().on_package(pkg=pkg)  # while they have their fields
            classes = list(classes_of(pkg))
            for attribute in attributes_of(pkg):
                if attribute.docstring is None:
                    attribute.docstring = comment_above(attribute)
            for cls in classes:
                for method in cls.functions.values():
                    if method.docstring is None:
                        method.docstring = replaced_docstring(cls, method.name)
                if "__doc__" in cls.members:
                    cls.docstring = made_docstring(cls)
            # Exceptions have all the same; the root tells it.
            inherited = [
                (cls, inherited_by(cls)) for cls in classes if cls.module.name != "exceptions"
            ]
            for cls, members in inherited:
                for member in members:
                    cls.set_member(member.name, member)
            for cls in classes:
                shorten(cls)
        finally:
            sys.path.remove(str(ROOT))


def classes_of(module: griffe.Module) -> typing.Iterator[griffe.Class]:
    for member in module.members.values():
        if isinstance(member, griffe.Class):
            yield member
        elif isinstance(member, griffe.Module):
            yield from classes_of(member)


def attributes_of(holder: griffe.Module | griffe.Class) -> typing.Iterator[griffe.Attribute]:
    for member in holder.members.values():
        if isinstance(member, griffe.Attribute):
            yield member
        elif isinstance(member, griffe.Module | griffe.Class):
            yield from attributes_of(member)


def comment_above(attribute: griffe.Attribute) -> griffe.Docstring | None:
    path = attribute.filepath
    if attribute.lineno is None or not isinstance(path, pathlib.Path):
        return None
    text: list[str] = []
    for line in reversed(linecache.getlines(str(path))[: attribute.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        text.insert(0, line.strip().removeprefix("#:").strip())
    return griffe.Docstring("\n".join(text), parent=attribute) if text else None


def replaced_docstring(cls: griffe.Class, name: str) -> griffe.Docstring | None:
    for base in cls.mro():
        method = base.members.get(name)
        if method is not None and method.docstring is not None:
            return griffe.Docstring(method.docstring.value, parent=cls.members[name])
    return None


def made_docstring(cls: griffe.Class) -> griffe.Docstring:
    made = getattr(importlib.import_module(cls.module.path), cls.name)
    return griffe.Docstring(inspect.getdoc(made) or "", parent=cls)


def inherited_by(cls: griffe.Class) -> list[griffe.Object]:
    """Copies of the members that `cls` has from other classes of the package."""
    members = []
    for number, alias in enumerate(cls.inherited_members.values()):
        if alias.name.startswith("_") or not isinstance(alias, griffe.Alias):
            continue
        member = copy.copy(alias.final_target)
        if not isinstance(member, griffe.Function | griffe.Attribute):
            continue
        member.parent = cls
        member.lineno = AFTER_ALL + number
        if isinstance(member, griffe.Function):
            if str(member.returns) == "T_co":
                member.returns = returned_by(cls)
            elif str(member.returns) in ("Self", "_Self"):
                member.returns = griffe.ExprName(cls.name, parent=cls.parent)
        members.append(member)
    return members


def returned_by(cls: griffe.Class) -> griffe.Expr | str | None:
    """What stands for `T_co` in ``class cls(RequestMethods[...])``."""
    for base in cls.bases:
        if isinstance(base, griffe.ExprSubscript) and str(base.left).endswith("RequestMethods"):
            return base.slice
    return None


def shorten(cls: griffe.Class) -> None:
    fields = [
        member
        for member in cls.members.values()
        if isinstance(member, griffe.Attribute) and "property" not in member.labels
    ]
    if any(str(base).endswith("NamedTuple") for base in cls.bases):
        cls.set_member("__init__", constructor(cls, fields))
    numbers = [field for field in fields if re.fullmatch(r"\d+", str(field.value))]
    if len(numbers) > MANY and cls.docstring is not None:
        listed = ", ".join(f"`{field.name}`" for field in numbers if field.name.isupper())
        cls.docstring.value += f"\n\nNames: {listed}."
        for field in numbers:
            cls.del_member(field.name)
            fields.remove(field)
    described = "" if cls.docstring is None else cls.docstring.value
    for field in fields:
        told = re.search(rf"(?m)^\* .*`{field.name}`", described)
        is_data = "__init__" in cls.members or "dataclass" in cls.labels
        if field.docstring is None and (is_data or (told and field.annotation is None)):
            cls.del_member(field.name)


def constructor(cls: griffe.Class, fields: list[griffe.Attribute]) -> griffe.Function:
    kind = griffe.ParameterKind.positional_or_keyword
    parameters = [griffe.Parameter("self", kind=kind)]
    for field in fields:
        default = None if field.value is None else field.value
        parameters.append(
            griffe.Parameter(field.name, annotation=field.annotation, kind=kind, default=default)
        )
    return griffe.Function("__init__", parameters=griffe.Parameters(*parameters), parent=cls)
