"""Each family's kind of tokenizer gives the same ids in llama.cpp as in transformers, also for hard text."""

import json
import shutil
import unicodedata
from pathlib import Path

import gguf
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.gguf import vocabulary, writer
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.runtimes import open_runtime

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}"
    "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HARD = [
    "I can't, won't, shouldn't've… they'RE late, I'D say 'S fine",
    "Édgar über Ärger; naïve façade — Łódź, İstanbul, Ø, ß, ÿ",
    "👩‍👩‍👧‍👦 crying 😢😢😢 🇩🇪 👍🏽 ✈️ ❤️",
    "今天我的狗死了。我很难过。 とても悲しいです。 너무 슬퍼요",
    "أنا حزين جدا ١٢٣ שלום עולם, מה שלומך?",
    "1 12 123 1234 12345 3.14159 1,000,000 ½ ² Ⅷ ४२",
    "def f(x):\n\treturn {'a': [x**2 for x in range(10)]}  # ok\n\n\n",
    "a  b   c    d     e\t\tf \n g\r\nh   \n\n   i ",
    "   leading", "trailing   ", " ", "  ", "\n", "\n\n\n", "\t", " \n \n ",
    "<b>bold</b> &amp; http://x.y/z?q=1&r=2#frag user@mail.example",
    "ALLCAPS camelCase snake_case kebab-case Title Case iPhone McDonald's",
    "!!!???... -- --- *** ((())) [[]] {{}} <<>> `code` ~tilde~ ^caret^ $5.00 €5 £5 50% #1",
    "zero\u200bwidth\u200djoin soft\u00adhyphen nb\u00a0space thin\u2009space ideographic\u3000space",
    "हिन्दी में ไทย ภาษา Ελληνικά Русский Հայերեն ქართული አማርኛ",
    "\U0001d54f\U0001d556 \ufb01 \u1e9e \u0130",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
]  # fmt: skip


def corpus() -> list[str]:
    """At least 500 lines: the sample dialogues, and hard lines alone and at the end of others."""
    dialogues = read_dialogues(sample_dialogues())
    lines = [item.utterance for item in dialogues] + [item.responses[0].text for item in dialogues]
    return lines + HARD + [f"{line}{hard}" for line, hard in zip(lines[::3], HARD * 20, strict=False)]


def byte_level(pattern: str | None, digits: bool = False, ignore_merges: bool = False) -> Tokenizer:
    """Byte-level BPE, trained on half of the corpus, splitting text as one family does."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if pattern is None:
        steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
    else:
        steps = [pre_tokenizers.Split(Regex(pattern), "isolated")]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, pre_tokenizers.ByteLevel.alphabet())


def sentencepiece(prepend: bool) -> Tokenizer:
    """SentencePiece's BPE with byte fallback as in transformers: Gemma's (no space before), or Llama 2's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prepend else replace
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    # Trained on words, as SentencePiece does: no piece goes on past a space.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained = json.loads(train(tokenizer, []).to_str())
    trained["pre_tokenizer"] = None
    for byte in range(256):
        trained["model"]["vocab"][f"<0x{byte:02X}>"] = len(trained["model"]["vocab"])
    # SentencePiece knows every way to a piece, not only the one by which training came to it.
    vocab = trained["model"]["vocab"]
    merges = []
    for piece in sorted(vocab, key=lambda piece: vocab[piece]):
        if piece not in SPECIAL and not piece.startswith("<0x"):
            splits = [[piece[:cut], piece[cut:]] for cut in range(1, len(piece))]
            merges += [split for split in splits if split[0] in vocab and split[1] in vocab]
    trained["model"]["merges"] = merges
    return Tokenizer.from_str(json.dumps(trained))


def train(tokenizer: Tokenizer, alphabet: list[str]) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=3000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus()[::2], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


KINDS = {
    "llama-bpe": lambda: byte_level(pattern_of("llama-bpe"), ignore_merges=True),
    "qwen2": lambda: byte_level(pattern_of("qwen2")),
    "tekken": lambda: byte_level(pattern_of("tekken"), ignore_merges=True),
    "smollm": lambda: byte_level(None, digits=True),
    "gpt-2": lambda: byte_level(None),
    "gemma": lambda: sentencepiece(prepend=False),
    "llama 2": lambda: sentencepiece(prepend=True),
}


def pattern_of(name: str) -> str:
    return next(pattern for pattern, found in vocabulary.PRE_TOKENIZERS.items() if found == name)


def save(tokenizer: Tokenizer, model: Path, folder: Path) -> Path:
    """The tiny model's weights, cut to the tokenizer's size, beside it."""
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tiny = LlamaForCausalLM.from_pretrained(model)
    tiny.resize_token_embeddings(tokenizer.get_vocab_size())
    tiny.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=CHATML
    ).save_pretrained(folder)
    return folder


def has_combining_marks(line: str) -> bool:
    return any(unicodedata.category(char).startswith("M") for char in line)


def test_tokens_without_embeddings_are_said(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were left out without a word."""
    shutil.copytree(tiny_model, tmp_path / "model")
    writer.write_float(tmp_path / "model", tmp_path / "model.gguf")
    assert "leaves" not in capsys.readouterr().err
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    rows = json.loads((tmp_path / "model" / "config.json").read_text())["vocab_size"]
    added = {**tokenizer["added_tokens"][0], "id": rows + 1, "content": "<|[bold]mood|>"}
    tokenizer["added_tokens"].append(added)
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))
    writer.write_float(tmp_path / "model", tmp_path / "model.gguf")
    said = " ".join(capsys.readouterr().err.split())
    assert f"tokens up to {rows + 1}, but there are {rows} rows of embeddings: the GGUF leaves 1 out" in said
    assert "'<|[bold]mood|>'" in said


@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_the_same(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    import llama_cpp

    from empathy_edge.system.quiet import quiet_stderr

    tokenizer = KINDS[kind]()
    folder = save(tokenizer, tiny_model, tmp_path / "model")
    writer.write_float(folder, tmp_path / "model.gguf")
    with quiet_stderr():
        llama = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    lines = corpus()
    assert len(lines) >= 500
    if kind == "tekken":
        # llama.cpp's own rule for it does not know combining marks (Devanagari, Thai); see docs/export.md.
        lines = [line for line in lines if not has_combining_marks(line)]
        assert len(lines) >= 500
    wrong = {}
    for line in lines:
        wanted = tokenizer.encode(line, add_special_tokens=False).ids
        found = llama.tokenize(line.encode(), add_bos=False, special=True)
        if wanted != found:
            wrong[line] = (wanted, found)
    first = next(iter(wrong.items()), None)
    assert not wrong, f"{len(wrong)} of {len(lines)} differ: {first}"
    assert llama.token_bos() == 1 and llama.token_eos() == 2
    assert llama.tokenize(b"a", add_bos=True)[0] == 1  # the tokenizer's own beginning


def test_answers_are_told_apart_in_every_vocabulary(tiny_model: Path, tmp_path: Path) -> None:
    """The review's A7: with SentencePiece all digits had the token `▁`, and every verdict was a tie."""
    for kind in KINDS:
        folder = save(KINDS[kind](), tiny_model, tmp_path / kind)
        writer.write_float(folder, tmp_path / f"{kind}.gguf")
        runtime = open_runtime(tmp_path / f"{kind}.gguf", threads=1, context=64)
        found = [runtime.answer_tokens(digit) for digit in "012"]
        runtime.close()
        assert len(set().union(*found)) == sum(len(tokens) for tokens in found) >= 3, kind


def test_the_name_in_a_gguf_tells_nothing_of_folders(tiny_model: Path, tmp_path: Path) -> None:
    """The review's C9: apps showed "export-merged", and the names of local folders."""
    folder = tmp_path / "my-secret-project" / "merged"
    shutil.copytree(tiny_model, folder)
    for name, wanted in (("", "llama-3M"), ("SmolLM2-135M-Instruct-fine-tuned",) * 2):
        writer.write_float(folder, tmp_path / "model.gguf", "f16", name)
        assert gguf.GGUFReader(tmp_path / "model.gguf").fields["general.name"].contents() == wanted


def test_a_tokenizer_that_llama_cpp_lacks_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = save(byte_level(r"\w+|\W+"), tiny_model, tmp_path / "model")
    with pytest.raises(EmpathyEdgeError, match="splits text in a way that our own writer does not know"):
        writer.write_float(folder, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf")) and not list(tmp_path.glob("*.tmp"))
