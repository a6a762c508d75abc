"""The Action and the examples for build servers: their commands are run as shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT


@pytest.fixture
def environment(baseline_file: Path, exported: Path) -> dict[str, str]:
    """An artifact and its baseline, as an action or a job gets them."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ARTIFACTS": str(exported / "gguf-f16"),
        "BASELINE": str(baseline_file),
        "OPTIONS": "",
        "UNDECIDED": "fail",
    }


def bash(script: str, folder: Path, environment: dict[str, str]) -> int:
    """Run as GitHub and GitLab do: an error ends the script."""
    return subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=environment).returncode


def test_the_actions_check(environment: dict[str, str], tmp_path: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    assert set(step["env"]) <= set(environment)
    summary = tmp_path / "summary.md"
    variables = {**environment, "GITHUB_STEP_SUMMARY": str(summary)}
    assert bash(step["run"], tmp_path, variables) == 0
    assert "gguf-f16 keeps it" in summary.read_text() and (tmp_path / "check.xml").exists()
    strict = variables | {"OPTIONS": "--min-win-rate 0.4999"}
    assert bash(step["run"], tmp_path, strict) == 4
    assert bash(step["run"], tmp_path, strict | {"UNDECIDED": "pass"}) == 0
    assert bash(step["run"], tmp_path, variables | {"ARTIFACTS": "nowhere.gguf"}) == 2


def test_the_job_of_gitlab(environment: dict[str, str], tmp_path: Path) -> None:
    job = yaml.safe_load((ROOT / "docs" / "examples" / "gitlab.yml").read_text())["empathy"]
    assert bash("\n".join(job["script"]), tmp_path, environment) == 0
    assert (tmp_path / job["artifacts"]["reports"]["junit"]).exists()
    assert job["allow_failure"]["exit_codes"] == 4


def test_the_workflow_gives_what_the_action_takes() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    workflow = yaml.safe_load((ROOT / "docs" / "examples" / "github.yml").read_text())
    given = workflow["jobs"]["empathy"]["steps"][-1]["with"]
    needed = {name for name, item in action["inputs"].items() if item.get("required")}
    assert needed <= set(given) <= set(action["inputs"])
