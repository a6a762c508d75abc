"""The page in a real Chromium that pretends to be a phone: load, chat, bench, offline, lost connections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from empathy_edge.bench.browser.template_pieces import template_pieces
from empathy_edge.chat.crisis import crisis_reply, shows_signs
from empathy_edge.chat.crisis_signs import SIGNS
from empathy_edge.chat.figures_of_speech import FIGURES_OF_SPEECH
from tests.bench.browser.chromium import Browser, browser, chromedriver
from tests.bench.browser.serving import Served, serving
from tests.bench.browser.test_results import LEAVES_OUT_THOUGHTS, THOUGHTFUL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromedriver(tmp_path_factory.mktemp("chromium")) as address:
        yield address


def results(served: Served) -> list[dict[str, object]]:
    """Everything that has come, the oldest first."""
    return [json.loads(file.read_text()) for file in sorted(served.out.glob("*.json"))]


def faults(page: Browser) -> list[str]:
    """What the browser complained of: the policy, errors of scripts, requests that failed."""
    return [line for line in page.log() if "Refused" in line or "Error" in line or "Failed" in line]


def test_load_chat_bench_reload_and_offline(
    exported: Path, wllama: object, driver: str, tmp_path: Path
) -> None:
    with (
        serving(exported / "gguf-f16", tmp_path / "out", "--threads", "2") as served,
        browser(driver) as page,
    ):
        page.open(served.url)
        page.devtools("Emulation.setCPUThrottlingRate", rate=2)
        assert "downloaded in" in page.load_model()
        assert page.run("return crossOriginIsolated")
        assert page.run("return document.documentElement.scrollWidth <= innerWidth"), (
            "it fits a narrow screen"
        )
        first = page.say("I failed my exam.")
        assert first and not first.startswith("Something")
        page.click("clear")
        assert page.say("I failed my exam.") == first, "greedy"
        assert page.say("I want to kill myself") == crisis_reply()
        page.set("phone-name", "<img src=x onerror=alert(1)>")
        assert "the same as on the host" in page.measure()
        (result,) = results(served)
        assert (result["label"], result["tokens"], result["threads"]) == ("measured-browser", "same", 2)
        assert result["load"]["fetched_bytes"] == result["model_bytes"]
        assert "Pixel 8" in result["device"]["user_agent"]
        page.open(served.url)
        assert "from the browser's cache" in page.load_model()
        page.run("document.getElementById('heat').append(new Option('3 s', '3', true, true))")
        page.measure()
        again = results(served)[1]
        assert again["load"]["fetched_bytes"] == 0
        assert sum(window["tokens"] for window in again["windows"]) >= 8
        assert faults(page) == []
        assert served.stop() == 0
        page.open(served.url)
        assert "from the browser's cache" in page.load_model()
        assert page.say("I failed my exam.") == first, "offline"
        page.click("measure")
        page.wait(lambda: page.text("bench-status").startswith("Not measured"))


def test_only_what_was_downloaded_can_be_deleted(
    exported: Path, wllama: object, driver: str, tmp_path: Path
) -> None:
    is_hidden = "return document.getElementById('forget').hidden"
    with serving(exported / "gguf-q8_0", tmp_path / "out") as served, browser(driver) as page:
        page.open(served.url)
        page.wait(lambda: page.is_enabled("load"))
        assert page.run(is_hidden)
        page.load_model()
        page.wait(lambda: not page.run(is_hidden))
        page.open(served.url)
        page.wait(lambda: not page.run(is_hidden))
        page.click("forget")
        page.wait(lambda: page.run(is_hidden))
        assert "deleted" in page.text("model-status") and faults(page) == []


def test_a_lost_connection_costs_what_was_not_there_yet(
    exported: Path, wllama: object, driver: str, tmp_path: Path
) -> None:
    with (
        serving(exported / "gguf-f16", tmp_path / "out", "--part-mb", "1") as served,
        browser(driver) as page,
    ):
        page.open(served.url)
        page.wait(lambda: page.is_enabled("load"))
        slow = {
            "offline": False,
            "latency": 20,
            "downloadThroughput": 1_500_000,
            "uploadThroughput": 1_500_000,
        }
        page.devtools("Network.enable")
        page.devtools("Network.emulateNetworkConditions", **slow)
        page.click("load")
        page.wait(lambda: page.run("return document.getElementById('model-progress').value") > 0.3)
        page.devtools("Network.emulateNetworkConditions", **{**slow, "offline": True})
        page.wait(lambda: "connection to the host was lost" in page.text("model-status"))
        page.devtools("Network.emulateNetworkConditions", **{**slow, "downloadThroughput": -1})
        page.load_model()
        assert "the same as on the host" in page.measure(), "a model in parts is the same model"
        (result,) = results(served)
        assert 0 < result["load"]["fetched_bytes"] < 0.75 * result["model_bytes"]


def test_two_phones_at_once_and_one_with_a_wrong_address(
    exported: Path, wllama: object, driver: str, tmp_path: Path
) -> None:
    with (
        serving(exported / "gguf-q8_0", tmp_path / "out", "--threads", "1") as served,
        browser(driver) as one,
        browser(driver) as two,
    ):
        one.open(served.url.replace(served.token, "x" * len(served.token)))
        assert one.run("return document.body.innerText").strip() == "Not found"
        for place, page in enumerate((one, two)):
            page.open(served.url)
            page.load_model()
            page.set("phone-name", f"phone {place}")
            page.click("measure")
        for page in (one, two):
            page.wait(lambda page=page: "The host has the figures" in page.text("bench-status"), 150)
        assert sorted(item["device"]["name"] for item in results(served)) == ["phone 0", "phone 1"]


def test_what_is_measured_while_the_page_is_hidden_is_measured_again(served: Served, driver: str) -> None:
    with browser(driver) as page:
        page.open(served.url)
        page.load_model()
        page.click("measure")
        page.wait(lambda: page.text("bench-status").startswith("Measuring"))
        page.minimize()
        page.wait(lambda: page.run("return document.visibilityState") == "hidden")
        assert not page.is_enabled("measure"), "it waits"
        page.maximize()
        page.wait(lambda: "The host has the figures" in page.text("bench-status"), 120)
    assert results(served)[-1]["hidden"] >= 1


def test_the_page_sees_the_signs_of_danger_that_the_chat_sees(served: Served, driver: str) -> None:
    texts = [text for rule in (*SIGNS, *FIGURES_OF_SPEECH) for text in (*rule.finds, *rule.ignores)]
    with browser(driver) as page:
        page.open(served.url)
        found = page.run(
            "const {signsOf} = await import('./crisis.js');"
            "const plan = await (await fetch('plan.json')).json();"
            "return arguments[0].map(signsOf(plan.crisis))",
            texts,
        )
    assert found == [shows_signs(text) for text in texts]


OPEN = """
const { Model } = await import('./model.js');
const { Chat } = await import('./chat.js');
const { modelParts } = await import('./store.js');
const plan = await (await fetch('plan.json')).json();
const { blobs } = await modelParts(plan, () => {});
const model = await Model.load(plan, blobs);
const chat = new Chat(model, plan);
const last = () => document.querySelector('#turns').lastChild.lastChild.textContent;
"""
"""The page's own parts, with the model loaded."""


def test_a_message_without_a_reply_leaves_the_conversation_as_it_was(served: Served, driver: str) -> None:
    """Stop before the first token left two messages in a row; one that was too long, nothing but itself."""
    with browser(driver) as page:
        page.open(served.url)
        found = page.run(
            OPEN + "await chat.answer('I failed my exam.');"
            "const before = JSON.stringify(chat.turns);"
            "const stopped = chat.answer('And you?');"
            "chat.isStopped = true;"
            "await stopped;"
            "const shown = [last()];"
            "await chat.answer('word '.repeat(400));"
            "shown.push(last());"
            "return { shown, before, after: JSON.stringify(chat.turns) };"
        )
    assert found["before"] == found["after"] and len(json.loads(found["after"])) == 2
    too_long = "Something went wrong: This message is too long for the model."
    assert found["shown"] == ["(stopped)", too_long]


def test_the_page_says_when_old_turns_are_left_out(served: Served, driver: str) -> None:
    with browser(driver) as page:
        page.open(served.url)
        figures = page.run(
            OPEN + "for (let turn = 0; turn < 20; turn++) {"
            "  chat.turns.push({ role: 'user', content: `I say this in turn number ${turn}.` });"
            "  chat.turns.push({ role: 'assistant', content: 'I hear you, and that sounds hard.' });"
            "}"
            "await chat.answer('I failed my exam.');"
            "return document.getElementById('chat-figures').textContent;"
        )
    assert "oldest turns are left out" in figures


def test_a_state_that_cannot_go_back_is_read_again(served: Served, driver: str) -> None:
    """wllama throws where llama.cpp cannot forget the end of a context, as of LFM2."""
    with browser(driver) as page:
        page.open(served.url)
        read, asked = page.run(
            OPEN + "const first = await model.tokenize('one two three four');"
            "const second = await model.tokenize('one two five');"
            "await model.readPrompt(first);"
            "model.wllama.kvRemove = () => Promise.reject(new Error('kvRemove unknown error'));"
            "await model.readPrompt(second);"
            "return [model.read, second];"
        )
    assert read == asked and read


def test_the_page_leaves_out_thoughts_as_the_host_does(served: Served, driver: str) -> None:
    pieces = template_pieces(LEAVES_OUT_THOUGHTS)
    assert pieces is not None
    with browser(driver) as page:
        page.open(served.url)
        script = "const { render } = await import('./model.js'); return render(...arguments)"
        found = page.run(script, pieces.model_dump(mode="json"), THOUGHTFUL)
    assert found == pieces.render(THOUGHTFUL)


def test_the_real_model(wllama: object, driver: str, tmp_path: Path) -> None:
    options = ("--threads", "1", "--rounds", "1", "--seed", "1")
    with serving("smollm2-135m", tmp_path / "out", *options) as served, browser(driver) as page:
        page.open(served.url)
        page.load_model()
        assert "NOT" not in page.measure()
        assert results(served)[0]["tokens"] in ("same", "near tie")
