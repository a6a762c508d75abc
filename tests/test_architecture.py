"""docs/architecture.md names every folder, in the order of the layers that `make lint` checks."""

import tomllib

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOP = ("bench", "devices", "export", "prompts")


def layers() -> list[list[str]]:
    """The contract's layers, from top to bottom: the names of their modules, without the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    lines = [line.split(" | ") for line in contract["layers"]]
    return [[name.strip().removeprefix("empathy_edge.") for name in line] for line in lines]


def test_every_folder_and_module_has_a_layer() -> None:
    inside = (path for path in (ROOT / "empathy_edge").iterdir() if not path.name.startswith("_"))
    names = {path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").is_file()}
    named = {name.partition(".")[0] for line in layers() for name in line}
    assert named == names | set(TOP)


def test_the_page_has_the_layers_in_their_order() -> None:
    picture = PAGE.split("```")[1]
    places = [picture.index(line[0].replace(".", "/").removeprefix("empathy_edge/")) for line in layers()]
    assert places == sorted(places)
    for line in layers():
        for name in line:
            assert name.replace(".", "/") in picture, name
