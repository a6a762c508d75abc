"""EmpatheticDialogues and ESConv as they are published."""

import json
from pathlib import Path

import pytest

from empathy_edge.formats.dialogue import Response, read_dialogues
from tests.conftest import write_rows

PUBLISHED = """conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags
hit:0_conv:1,1,proud,I ran ten miles_comma_ alone.,1,I ran ten miles_comma_ alone!,5|5|5_2|2|5,
hit:0_conv:1,2,proud,I ran ten miles_comma_ alone.,0,"Wow" is all I can say_comma_ really.,5|5|5_2|2|5,
hit:0_conv:1,3,proud,I ran ten miles_comma_ alone.,1,My knees hurt now.,5|5|5_2|2|5,
hit:0_conv:1,4,proud,I ran ten miles_comma_ alone.,0,Rest them well.,5|5|5_2|2|5
hit:1_conv:2,1,sad,My fish died.,7,My fish died.,5|5|5_2|2|5,<TAG>
hit:1_conv:2,2,sad,My fish died.,8,I am sorry.,5|5|5_2|2|5,
"""


def test_empathetic_dialogues_as_published(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text(PUBLISHED)
    found = read_dialogues(file)
    assert [item.id for item in found] == ["hit:0_conv:1-2", "hit:0_conv:1-4", "hit:1_conv:2-2"]
    assert found[0].utterance == "I ran ten miles, alone!" and found[0].emotion == "proud"
    assert found[0].responses == (Response("human", '"Wow" is all I can say, really.'),)
    assert [item["content"] for item in found[1].history] == [
        "I ran ten miles, alone!",
        '"Wow" is all I can say, really.',
    ]
    assert {item.split for item in found} == {"train"}
    (tmp_path / "test.csv").write_text(PUBLISHED)
    assert {item.split for item in read_dialogues(tmp_path / "test.csv")} == {"test"}


def test_published_rows_with_other_responses_to_choose_from(tmp_path: Path) -> None:
    """test.csv and valid.csv have a ninth field in some rows, and were refused; `|` stands between them."""
    candidates = 'What is_comma_ "it"?|So "what|No_pipe_way'
    rows = PUBLISHED.replace("Rest them well.,5|5|5_2|2|5", f"Rest them well.,5|5|5_2|2|5,,{candidates}")
    rows = rows.replace("I am sorry.,5|5|5_2|2|5,", f'"I am sorry.,5|5|5_2|2|5,,{candidates}')
    (tmp_path / "test.csv").write_text(rows)
    (tmp_path / "train.csv").write_text(PUBLISHED.replace("I am sorry.", '"I am sorry.'))
    found, plain = (read_dialogues(tmp_path / name) for name in ("test.csv", "train.csv"))
    assert [item.responses for item in found] == [item.responses for item in plain]
    saved_again = 'hit:2_conv:3,1,sad,"It rains, again.",7,"Rain, and no end.",5|5|5_2|2|5,\n'
    saved_again += 'hit:2_conv:3,2,sad,"It rains, again.",8,"Oh, no.",5|5|5_2|2|5,\n'
    saved_again += 'hit:2_conv:3,3,sad,Wet.,7,"Yes, rain.",5|5|5_2|2|5,\nhit:2_conv:3,4,sad,Wet.,8,Oh.,5,\n'
    (tmp_path / "valid.csv").write_text(PUBLISHED + saved_again)
    assert read_dialogues(tmp_path / "valid.csv")[-1].history[0]["content"] == "Rain, and no end."


def test_esconv_of_the_hub_is_no_prompt_in_json(tmp_path: Path) -> None:
    """The hub has each conversation as text; the JSON itself became the prompt."""
    turns = [{"text": "I lost my job.", "speaker": "usr"}, {"text": "Oh.", "speaker": "sys"}]
    text = json.dumps({"emotion_type": "fear", "situation": "", "dialog": turns})
    file = write_rows(tmp_path / "hub.jsonl", {"text": text}, {"text": '{"a prompt": "with braces"}'})
    first, second = read_dialogues(file)
    assert (first.utterance, first.emotion, first.responses[0].text) == ("I lost my job.", "fear", "Oh.")
    assert second.utterance == '{"a prompt": "with braces"}'


@pytest.mark.parametrize(("names", "text"), [(("seeker", "supporter"), "content"), (("usr", "sys"), "text")])
def test_esconv_as_published(names: tuple[str, str], text: str, tmp_path: Path) -> None:
    seeker, supporter = names
    turns = [
        (supporter, "Hello."),
        (seeker, "Hi."),
        (seeker, "I lost my job."),
        (supporter, "Oh."),
        (supporter, "Since when?"),
        (seeker, "Monday."),
        (supporter, "So recent."),
        (seeker, "Yes."),
    ]
    conversation = {
        "emotion_type": "anxiety",
        "problem_type": "job crisis",
        "situation": "I was fired.",
        "dialog": [{"speaker": who, text: said + "\n", "annotation": {}} for who, said in turns],
    }
    file = tmp_path / "ESConv.json"
    file.write_text(json.dumps([conversation], indent=1))
    first, second = read_dialogues(file)
    assert (first.id, first.utterance, first.emotion) == ("row-1-5", "Hi. I lost my job.", "anxiety")
    assert first.responses == (Response("human", "Oh. Since when?"),) and first.history == ()
    assert second.id == "row-1-7" and [item["role"] for item in second.history] == ["user", "assistant"]
