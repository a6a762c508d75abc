"""`from empathy_edge import …`: what is imported, and that packages of the same names stay packages."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import empathy_edge
from tests.conftest import ROOT
from tests.test_cli import HEAVY


def run_python(script: str) -> str:
    """What a script prints in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_no_library() -> None:
    names = "bench, chat, check, distill, export, finetune, DistillSettings, EmpathyEdgeError"
    loaded = run_python(
        f"import sys\nfrom empathy_edge import {names}\n"
        f"print([name for name in {(*HEAVY, 'click')!r} if name in sys.modules])"
    )
    assert loaded == "[]"
    light = run_python("import sys, empathy_edge\nprint('pydantic' in sys.modules, 'rich' in sys.modules)")
    assert light == "False False"


@pytest.mark.parametrize(
    "imports",
    [
        "from empathy_edge import export",
        "import empathy_edge\nexport = empathy_edge.export",
        "import empathy_edge.export.record\nfrom empathy_edge import export",
        "from empathy_edge import export\nimport empathy_edge.export.record as record\nassert record.Details",
        "from empathy_edge.export import record\nfrom empathy_edge import export",
        "from empathy_edge.api import export",
    ],
)
def test_a_name_is_the_function_whatever_was_imported_before(imports: str) -> None:
    """Called without a model it says so; the packages below the name can be reached by it, too."""
    said = run_python(
        f"{imports}\nimport inspect\nfrom empathy_edge import EmpathyEdgeError\n"
        "assert callable(export) and 'verify' in inspect.signature(export).parameters\n"
        "try:\n    export(None, 'out')\nexcept EmpathyEdgeError as error:\n    print(error)"
    )
    assert said == "export: give a model or adapters."


def test_packages_of_the_functions_names_stay_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    import empathy_edge.distill.filters as filters

    assert empathy_edge.distill.filters is filters
    for name in empathy_edge.CALLABLE_PACKAGES:
        package = getattr(empathy_edge, name)
        assert package is sys.modules[f"empathy_edge.{name}"] and package.__path__
        assert package.__call__ is getattr(empathy_edge.api, name)
    with monkeypatch.context() as patched:
        patched.setattr("empathy_edge.distill.filters.VERSION", "another")
        assert filters.VERSION == "another"


def test_every_name_is_there_and_an_unknown_one_is_not() -> None:
    assert set(empathy_edge.__all__) == set(empathy_edge.api.__all__)
    for name in empathy_edge.__all__:
        assert callable(getattr(empathy_edge, name)), name
        assert name in dir(empathy_edge)
    with pytest.raises(ImportError, match="cannot import name 'destill'"):
        from empathy_edge import destill  # noqa: F401


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_a_type_checker_sees_the_functions(tmp_path: Path) -> None:
    """User code: right calls pass, wrong ones are found. Below `empathy_edge` nothing has to be checked."""
    package = tmp_path / "empathy_edge"  # links, as files of `export` are not where their import name says
    package.mkdir()
    for path in [*(ROOT / "empathy_edge").iterdir(), ROOT / "export", ROOT / "bench", ROOT / "prompts"]:
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path, target_is_directory=path.is_dir())
    user = ROOT / "tests" / "api" / "user_code.py"
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        ROOT / "pyproject.toml",
        "--cache-dir",
        tmp_path / "cache",
    ]
    done = subprocess.run(
        [*command, user], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"MYPYPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
