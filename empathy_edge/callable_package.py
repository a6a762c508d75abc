"""Packages that can be called: `empathy_edge.distill` is a package, and the function of the Python API.

Python binds a package to its name in `empathy_edge` when it is first imported, and so over a function of the
same name that stood there. A function there instead of the package would break
`import empathy_edge.distill.filters as filters`. So the package itself can be called. A module may have a
class of its own: "Customizing module attribute access" in the data model of Python's reference.

For type checkers and editors the name is the function: `empathy_edge/__init__.py` declares it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType


class CallablePackage(ModuleType):
    """A package that is called as the function of the same name in `empathy_edge.api`."""

    @property
    def __call__(self) -> Callable[..., object]:
        """The function. It is imported when it is first looked at: importing the package stays fast."""
        function: Callable[..., object] = getattr(
            import_module("empathy_edge.api"), self.__name__.rpartition(".")[2]
        )
        return function

    @property
    def __signature__(self) -> inspect.Signature:
        """What `inspect.signature`, `help` and notebooks show."""
        return inspect.signature(self.__call__)


def make_callable(name: str) -> None:
    """Let the package of this name be called; its `__init__.py` does that."""
    sys.modules[name].__class__ = CallablePackage
