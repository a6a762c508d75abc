"""Recipes: checked before anything starts, all faults at once."""

from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.runs.recipe import load_recipe, recipe_names
from tests.conftest import assert_one_clear_error, run_command


def test_shipped_recipes_load() -> None:
    assert set(recipe_names()) >= {"quickstart", "paper"}
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_three_faults_are_reported_at_once(tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(
        "name: bad\nsft: {epochs: -1}\ndpo: {beta: many}\nexport: {artifacts: [gguf-q9]}\nbench: {warp: 9}\n"
    )
    result = run_command("run", recipe, "--out", tmp_path / "out")
    assert_one_clear_error(
        result,
        2,
        "4 faults",
        "sft.epochs",
        "dpo.beta",
        "export.artifacts: no such artifact: gguf-q9",
        "bench.warp",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [\n"])
def test_a_recipe_that_is_no_mapping(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(EmpathyEdgeError, match=r"odd\.yaml"):
        load_recipe(str(path))


def test_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(EmpathyEdgeError, match="quickstart"):
        load_recipe("slowstart")


def test_micro_batch_must_divide_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "batch.yaml"
    path.write_text("name: batch\nsft: {batch_size: 8, micro_batch_size: 3}\n")
    with pytest.raises(EmpathyEdgeError, match="micro_batch_size 3 does not divide"):
        load_recipe(str(path))
