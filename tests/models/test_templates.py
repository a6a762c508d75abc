"""--template: which one is meant, whether it fits, and that everything after it follows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import pytest

from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.built_in_templates import built_in_template
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, named_templates, read_template, render
from empathy_edge.formats.template_sandbox import with_fixed_date
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.models.templated_folder import template_for
from empathy_edge.models.templates import (
    checkpoint_with_template,
    name_with_template,
    names_with_template,
    tuned_with_template,
)
from empathy_edge.runs.settings import ExportSettings, ReplySettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.system.files import own_file
from tests.conftest import assert_one_clear_error, run_command

ASKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }} asks\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HI = [{"role": "user", "content": "Hi."}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bare(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model without its template."""
    shutil.copytree(tiny_model, tmp_path / "bare", ignore=shutil.ignore_patterns("*.jinja"))
    return tmp_path / "bare"


@pytest.fixture
def bare_gguf(exported: Path, tmp_path: Path) -> Path:
    """A GGUF without a template, as from elsewhere."""
    content = (exported / "gguf-f16" / "model.gguf").read_bytes()
    file = tmp_path / "bare.gguf"
    file.write_bytes(content.replace(b"tokenizer.chat_template", b"tokenizer.some_template"))
    return file


@pytest.fixture
def named(bare: Path) -> Path:
    """A model with three named templates, in the two places where transformers looks for them."""
    config = bare / "tokenizer_config.json"
    templates = [{"name": "default", "template": "plain"}, {"name": "rag", "template": ASKING}]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": templates}))
    (bare / "additional_chat_templates").mkdir()
    (bare / "additional_chat_templates" / "brief.jinja").write_text(ASKING.replace("asks", "says"))
    return bare


def _template_of_gguf(file: Path) -> str:
    return str(gguf.GGUFReader(file).fields["tokenizer.chat_template"].contents())


def test_templates_are_found_where_transformers_5_looks(named: Path) -> None:
    from transformers import AutoTokenizer

    assert set(named_templates(named)) == {"default", "rag", "brief"}
    (named / "chat_template.jinja").write_text("newest")
    assert read_template(named) == AutoTokenizer.from_pretrained(named).chat_template["default"] == "newest"
    seeing = named.parent / "seeing"
    seeing.mkdir()
    (seeing / "chat_template.json").write_text(json.dumps({"chat_template": "a processor's"}))
    assert read_template(seeing) == "a processor's"


def test_another_of_several_named_templates_is_chosen(named: Path) -> None:
    for name, word in (("rag", "asks"), ("brief", "says")):
        chosen = checkpoint_with_template(str(named), name)
        assert named_templates(chosen.path).keys() == {"default"}
        assert render(read_template(chosen.path), HI).startswith(f"<|im_start|>user {word}\nHi.")
    assert read_template(named) == "plain"  # the user's folder stays as it is
    assert_one_clear_error(
        run_command("chat", named, "--template", "rug", input="Hi"), 2, "Did you mean rag?"
    )
    no_default = named / "tokenizer_config.json"
    no_default.write_text(no_default.read_text().replace('"default"', '"tools"'))
    refused = run_command("chat", named, input="Hi")
    assert_one_clear_error(refused, 2, "brief", "rag", "tools", "none named 'default'", "--template")


@pytest.mark.slow
def test_another_of_several_named_templates_is_exported(named: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    made = run_command("export", named, "--template", "rag", "--to", "gguf-f16", "--out", out)
    assert made.returncode == 0, made.stderr
    assert _template_of_gguf(out / "gguf-f16" / "model.gguf") == ASKING


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, ["no chat template", "--template", "smollm2"]),
        ("chatlm", ["no such template or file", "Built in: alpaca", "Did you mean chatml?"]),
        ("no.jinja", ["no such template or file"]),
        ("llama-3", ["has no token <|start_header_id|>", "chatml"]),
        ("{% for m in messages %}", ["cannot be rendered"]),
        ("{{ messages.__init__.__globals__ }}", ["cannot be rendered"]),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", ["would never stop"]),
        ("{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}", ["<|eot_id|>", "no token of"]),
        ("{{ bos_token }}" + ASKING, ["begins with <|im_start|> twice"]),
    ],
)
def test_what_does_not_fit_is_one_error(
    template: str | None, words: list[str], bare: Path, tmp_path: Path
) -> None:
    if template and "{" in template:
        (tmp_path / "given.jinja").write_text(template)
        template = str(tmp_path / "given.jinja")
    options = ["--template", template] if template else []
    assert_one_clear_error(run_command("chat", bare, "--once", *options, input="Hi"), 2, *words)


def test_a_beginning_that_the_tokenizer_wants_must_be_written(bare: Path, tmp_path: Path) -> None:
    stored = json.loads((bare / "tokenizer.json").read_text())
    stored["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A"}}],
    }
    (bare / "tokenizer.json").write_text(json.dumps(stored))
    file = tmp_path / "given.jinja"
    file.write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    with pytest.raises(EmpathyEdgeError, match=r"does not begin with <\|im_start\|>"):
        name_with_template(str(bare), str(file))
    opened = Path(name_with_template(str(bare), "alpaca"))  # a built-in one writes it where it is wanted
    assert render(read_template(opened), HI, bos="<|im_start|>").startswith("<|im_start|>Below")


def test_a_gguf_without_template_is_given_one(bare_gguf: Path, exported: Path, tiny_model: Path) -> None:
    before = bare_gguf.read_bytes()
    refused = run_command("chat", bare_gguf, "--once", input="Hi")
    assert_one_clear_error(refused, 2, "no chat template", "--template", "smollm2")
    own = tiny_model / "chat_template.jinja"
    talked = run_command(
        "chat",
        bare_gguf,
        "--once",
        "--template",
        own,
        "--temperature",
        "0",
        "--max-new-tokens",
        "8",
        input="Hi",
    )
    assert talked.returncode == 0, talked.stderr
    opened = find_model(name_with_template(str(bare_gguf), str(own)))
    assert opened.name == str(bare_gguf) and (opened.path / "model.gguf").samefile(bare_gguf)
    with_own, given = open_runtime(exported / "gguf-f16"), open_runtime(opened.path)
    assert given.encode(GOLDEN_CONVERSATION) == with_own.encode(GOLDEN_CONVERSATION)
    given.close()
    with_own.close()
    assert bare_gguf.read_bytes() == before
    other = find_model(name_with_template(str(bare_gguf), "zephyr"))
    assert len({opened.identity, other.identity, find_model(str(bare_gguf)).identity}) == 3


def test_measured_and_answered_with_it(bare_gguf: Path, tmp_path: Path) -> None:
    measured = run_command(
        "bench", bare_gguf, "--suite", "chat", "--template", "chatml", "--repetitions", "1",
        "--max-new-tokens", "2", "--dialogues", _one_turn(tmp_path), "--json", tmp_path / "bench.json",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    assert json.loads((tmp_path / "bench.json").read_text())["artifacts"][0]["artifact"] == "bare.gguf"
    rows = []
    for template in ("chatml", "zephyr"):
        out = tmp_path / f"{template}.jsonl"
        answered = run_command(
            "respond", bare_gguf, "--template", template, "--dialogues", sample_dialogues(),
            "--max-prompts", "1", "--max-new-tokens", "4", "--out", out,
        )  # fmt: skip
        assert answered.returncode == 0, answered.stderr
        rows.append(json.loads(out.read_text()))
    assert rows[0]["model"] != rows[1]["model"]


def _one_turn(folder: Path) -> Path:
    file = folder / "turns.jsonl"
    file.write_text(json.dumps({"turns": ["Hi.", "Bye."]}) + "\n")
    return file


@pytest.mark.slow
def test_an_onnx_artifact_answers_with_another(exported_onnx: Path) -> None:
    for artifact in ("onnx-int4", "onnx-portable-int8"):
        talked = run_command(
            "chat",
            exported_onnx / artifact,
            "--once",
            "--template",
            "zephyr",
            "--max-new-tokens",
            "4",
            input="Hi",
        )
        assert talked.returncode == 0, talked.stderr
        opened = open_runtime(name_with_template(str(exported_onnx / artifact), "zephyr"))
        assert opened.encode(HI) == opened.tokenize("<|user|>\nHi.<|im_end|>\n<|assistant|>\n")
        opened.close()


def test_a_base_that_ships_as_it_is_keeps_its_template(
    tiny_model: Path, exported: Path, tmp_path: Path
) -> None:
    """`gguf-lora-…` copies the base's GGUF; its template is not the one that adapters were trained with."""
    from empathy_edge.export.artifacts import run

    converted = ModelRef(str(exported / "gguf-f16" / "model.gguf"), "checkpoint", tiny_model)
    base = checkpoint_with_template(converted, "zephyr")
    settings = ExportSettings(artifacts=("gguf-lora-f16",))
    with pytest.raises(EmpathyEdgeError, match=r"gguf-lora-f16: model\.gguf stays as it is.*Merge them"):
        run(base=base, adapters=[tmp_path], out=tmp_path / "out", settings=settings)


@pytest.mark.slow
def test_a_reference_without_template_is_given_one(bare: Path, exported: Path, tmp_path: Path) -> None:
    """The replies of a baseline are drawn on a GGUF made of it, and compared with torch."""
    from empathy_edge.bench.check.baseline.drawing import draw_records, require_same_model, with_misplaced
    from empathy_edge.bench.check.prompts import read_prompts
    from empathy_edge.export.artifacts import reference_gguf

    refused = run_command("baseline", bare, "--out", tmp_path / "none.json.gz")
    assert_one_clear_error(refused, 2, "no chat template", "--template", "smollm2")
    reference = find_model(name_with_template(str(bare), "smollm2"))
    folder = reference_gguf(reference)
    assert folder is not None and reference.name == str(bare)
    runtime, own = open_runtime(folder), open_runtime(exported / "gguf-f16")  # whose template is SmolLM2's
    assert runtime.encode(GOLDEN_CONVERSATION) == own.encode(GOLDEN_CONVERSATION)
    settings = ReplySettings(max_new_tokens=8, samples=2, temperature=0.5)
    drawn = draw_records(runtime, read_prompts(None, 3, 0), settings, tmp_path / "drawn.jsonl")
    runtime.close()
    own.close()
    require_same_model(reference, with_misplaced(drawn), settings.temperature)


def test_the_model_itself_where_it_has_the_template(
    tiny_model: Path, exported: Path, own_cache: Path
) -> None:
    artifact = str(exported / "gguf-f16")
    file = str(tiny_model / "chat_template.jinja")
    assert names_with_template([str(tiny_model), artifact], file) == [str(tiny_model), artifact]
    assert names_with_template([str(tiny_model)], "default") == [str(tiny_model)]
    assert not (own_cache / "templates").exists()


def test_identity_and_weights(tiny_model: Path) -> None:
    plain = find_model(str(tiny_model))
    chosen = checkpoint_with_template(str(tiny_model), "zephyr")
    again = find_model(str(chosen.path))
    assert again.identity == chosen.identity != plain.identity
    assert again.sha256 == plain.sha256 and again.name == str(tiny_model)
    assert (chosen.path / "model.safetensors").samefile(tiny_model / "model.safetensors")
    assert checkpoint_with_template(str(tiny_model), "zephyr").path == chosen.path
    later = tiny_model.parent / "later"
    shutil.copytree(tiny_model, later)
    first = checkpoint_with_template(str(later), "zephyr")
    config = later / "config.json"
    config.write_text(config.read_text() + "\n")
    assert checkpoint_with_template(str(later), "zephyr").path != first.path  # a changed model is read again
    shutil.rmtree(later)


@pytest.mark.parametrize("name", [".", "./", "../bare/../bare"])
def test_a_model_in_the_current_folder(name: str, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bare)
    (bare / "tf_model.h5").write_bytes(b"large")
    opened = Path(name_with_template(name.replace("bare", bare.name), "zephyr"))
    assert (opened / "config.json").is_file() and read_template(opened) != ""
    assert (opened / "tf_model.h5").samefile(bare / "tf_model.h5")


@pytest.mark.parametrize("damaged", [[], {"processors": ["x"]}, {"single": [{"SpecialToken": "a"}]}])
def test_a_damaged_tokenizer_is_said(damaged: object, bare: Path) -> None:
    file = bare / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": damaged or [1]}))
    with pytest.raises(EmpathyEdgeError, match="its post_processor is damaged"):
        name_with_template(str(bare), "zephyr")


def test_a_template_is_given_as_a_file(bare: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match="write the template into a file"):
        name_with_template(str(bare), "{% for message in messages %}{{ message.content }}{% endfor %}" * 9)


def test_links_that_we_made_are_followed_and_no_others(tiny_model: Path, tmp_path: Path) -> None:
    chosen = checkpoint_with_template(str(tiny_model), "zephyr")
    assert own_file(chosen.path / "model.safetensors") == (tiny_model / "model.safetensors").resolve()
    (tmp_path / "secret.json").write_text("{}")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "tokenizer_config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(EmpathyEdgeError, match="outside its folder"):
        own_file(foreign / "tokenizer_config.json")


def test_the_users_template_wins_over_an_adapters(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "chat_template.jinja").write_text(ASKING)
    assert template_for(tiny_model, [adapter]) == ASKING
    chosen = checkpoint_with_template(str(tiny_model), "zephyr", [adapter])
    assert template_for(chosen.path, [adapter]) == built_in_template("zephyr", begins_with_bos=False)
    assert f"zephyr (--template), not the one beside {adapter}" in " ".join(capsys.readouterr().err.split())
    own = checkpoint_with_template(str(tiny_model), "default", [adapter])
    assert template_for(own.path, [adapter]) == read_template(tiny_model)


def test_a_tuned_model_keeps_its_template(bare: Path, tiny_model: Path) -> None:
    tuned, base = tuned_with_template(str(tiny_model), str(bare), "zephyr")
    assert tuned == str(tiny_model) and "<|user|>" not in read_template(Path(tuned))
    tuned, base = tuned_with_template(str(bare), str(bare), "zephyr")
    assert read_template(Path(tuned)) == read_template(base.path)


def test_a_template_with_a_date_is_the_same_every_day(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    template = '{{ strftime_now("%d %b %Y") }}' + ASKING
    assert render(template, HI).startswith("26 Jul 2024")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = with_fixed_date(template)
    assert tokenizer.apply_chat_template(HI, tokenize=False) == render(template, HI, generate=False)


@pytest.mark.slow
def test_from_training_to_the_phone(bare: Path, tmp_path: Path) -> None:
    """Rows, adapter, merged checkpoint, GGUF and ONNX have the template; no later command must repeat it."""
    from empathy_edge.runtimes.torch_loading import load_base

    rows, recipe, tuned, out = (tmp_path / name for name in ("rows", "recipe.yaml", "tuned", "exported"))
    made = run_command(
        "distill", "--data", "sample", "--reference", "first-draft", "--model", "editor",
        "--max-sft", "4", "--max-pairs", "4", "--out", rows,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    steps = "{epochs: 1, batch_size: 4, micro_batch_size: 2}"
    recipe.write_text(f"name: tiny\nsft: {steps}\ndpo: {steps}\n")
    trained = run_command(
        "finetune", rows, "--base", bare, "--template", "zephyr", "--recipe", recipe, "--out", tuned
    )
    assert trained.returncode == 0, trained.stderr
    zephyr = built_in_template("zephyr", begins_with_bos=False)
    loaded = load_base(checkpoint_with_template(str(bare), "zephyr").path, "fp32", [], tmp_path / "scratch")
    rendered = loaded.tokenizer.apply_chat_template(HI, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|user|>\nHi.<|im_end|>\n<|assistant|>\n"
    for step in ("sft", "dpo"):
        assert (tuned / step / "adapter" / "chat_template.jinja").read_text() == zephyr
    adapters = [word for step in ("sft", "dpo") for word in ("--adapter", tuned / step / "adapter")]
    done = run_command("export", *adapters, "--to", "gguf-f16", "--to", "onnx-portable-int8", "--out", out)
    assert done.returncode == 0, done.stderr
    assert _template_of_gguf(out / "gguf-f16" / "model.gguf") == zephyr
    assert read_template(out / "merged") == read_template(out / "onnx-portable-int8") == zephyr
    talked = run_command("chat", out / "onnx-portable-int8", "--once", "--max-new-tokens", "4", input="Hi")
    assert talked.returncode == 0, talked.stderr
    other = run_command(
        "finetune", rows, "--base", bare, "--template", "chatml", "--recipe", recipe, "--out", tuned
    )
    assert_one_clear_error(other, 2, "other settings", "--update")
