"""Options that would be ignored are refused, each with its name."""

import pytest

from empathy_edge.cli import run_cli


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("model.gguf --suite chat --cold", "--cold belongs to --suite standard"),
        ("model.gguf --suite chat --until-stable", "--until-stable belongs to --suite standard"),
        ("model.gguf --suite chat --prompt-tokens 64", "--prompt-tokens belongs to --suite standard"),
        ("model.gguf --suite chat --decode-tokens 8", "--decode-tokens belongs to --suite standard"),
        ("model.gguf --suite chat --baseline a.json", "--baseline belongs to --suite standard"),
        ("model.gguf --max-new-tokens 8", "--max-new-tokens belongs to --suite chat"),
        ("model.gguf --dialogues a.jsonl", "--dialogues belongs to --suite chat"),
        ("model.gguf --tolerance 0.2", "--tolerance belongs to --baseline"),
        ("predict --device pixel-8 --artifact a.gguf --unseen b.csv", "--unseen belongs to --validate"),
        ("predict --validate a.csv --device pixel-8", "--device has no effect with --validate"),
        ("predict --validate a.csv --prompt-tokens 9", "--prompt-tokens has no effect with --validate"),
        ("device termux a.gguf --llama-bench b --out phone", "--llama-bench belongs to android"),
        ("ingest a.csv --artifact a.gguf --device pixel-8 --out mine.yml", "give mine.yaml"),
    ],
)
def test_an_option_without_effect_is_refused(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["bench", *command.split()]) == 2
    said = capsys.readouterr().err
    assert said.count("Error: ") == 1 and words in " ".join(said.split())
