"""A vocabulary with more rows than the tokenizer has pieces: none of them is ever said, and all else is as before."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from m3video.errors import CheckpointError
from m3video.evaluation.asking import answer_many
from m3video.model.generation import generate
from m3video.model.m3 import checkpoint, inputs
from m3video.model.m3.answer import FramesQuestion, GeneratedAnswer, answer_batch, answer_prompt
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from m3video.model.next_token import NextToken
from m3video.model.tokenizer import FastText, SentencePieceText, TextCodec, load_text
from tests.model.tiny import WORDS, load_tiny, save_words, tiny_config

TIMES = [1.0, 2.0]
QUESTIONS = ("what is it", "is it red")
PADDING = 24
Save = Callable[[Path], object]


def save_pieces(folder: Path) -> None:
    """A sentencepiece tokenizer."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS[5:]), "what is it? frame 1 is red"]),
        model_writer=written,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())


def save_words_with_gaps(folder: Path) -> None:
    """A tokenizer.json whose ids are no row without a hole."""
    raw = Tokenizer(models.WordLevel({word: 2 * n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)


KINDS: dict[str, tuple[Save, str]] = {
    "sentencepiece": (save_pieces, "vicuna_v1"),
    "words": (save_words, "rendered"),
    "words with gaps": (save_words_with_gaps, "rendered"),
}


def ids_of(codec: TextCodec) -> set[int]:
    """The ids that stand for something, as the tokenizer's library tells them."""
    if isinstance(codec, SentencePieceText):
        return set(range(codec._model.get_piece_size()))
    assert isinstance(codec, FastText)
    return set(codec._tokenizer.get_vocab().values())


@pytest.fixture(scope="module", params=KINDS)
def models_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sequence[LoadedModel]:
    """A model whose vocabulary is that of its tokenizer, and the same with rows that would always win."""
    save, style = KINDS[request.param]
    folder, both = tmp_path_factory.mktemp("m"), []
    save(folder)
    pieces = ids_of(load_text(folder))
    size = max(pieces) + 1
    without = sorted({*range(size + PADDING)} - pieces)
    config = tiny_config(prompt_style=style)
    for padding in (0, PADDING):
        config.text_config.vocab_size = size + padding
        torch.manual_seed(5)
        model = M3VideoForConditionalGeneration(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.shape[0] == size + padding:
                    made = torch.Generator().manual_seed(len(name))
                    parameter.copy_(torch.randn(size + PADDING, parameter.shape[1], generator=made)[: len(parameter)])
        place = folder if not padding else tmp_path_factory.mktemp("padded")
        model.save_pretrained(place)
        save(place)
        loaded = checkpoint.load(str(place), device="cpu", dtype="float32")
        said = range(size)
        loaded.model.lm_head.register_forward_hook(
            lambda _m, _i, logits, wins=padding > 0, without=without, said=said: _raised(logits, wins, without, said)
        )
        both.append(loaded)
    return both


def _raised(logits: torch.Tensor, wins: bool, without: list[int], said: range) -> torch.Tensor:
    """Ids without a piece are far ahead, or, in the model to compare with, far behind."""
    logits = logits.clone()
    logits[..., [i for i in without if wins or i in said]] = 1e4 if wins else -1e4
    return logits


def all_ways(loaded: LoadedModel) -> list[str]:
    made = torch.Generator().manual_seed(9)
    visual = pack(torch.randn(2, 576, 16, generator=made), [9, 1])
    blocks = [visual.frame(0), visual.frame(1)]
    said = [Prefix(loaded, visual, times_seconds=TIMES).answer(QUESTIONS[0], max_new_tokens=8).text]
    held = Prefix(loaded, visual, times_seconds=TIMES)
    said += [held.answer(question, max_new_tokens=8).text for question in QUESTIONS]
    asked = [FramesQuestion(visual, question, TIMES) for question in QUESTIONS]
    said += [one.text for one in answer_batch(loaded, asked, max_new_tokens=8) if isinstance(one, GeneratedAnswer)]
    said += [one.text for one in answer_many(loaded, blocks, QUESTIONS, times_seconds=TIMES, max_new_tokens=8)]
    said.append(answer_prompt(loaded, "frame <image> what", blocks[:1], max_new_tokens=8).text)
    assert len(said) == 8
    return said


def test_padding_is_never_said_and_changes_no_answer(models_of: Sequence[LoadedModel]) -> None:
    plain, padded = map(all_ways, models_of)
    assert padded == plain
    assert any(plain), "the models say nothing at all"


def test_nan_in_the_padding_is_no_failure(models_of: Sequence[LoadedModel]) -> None:
    plain, padded = models_of
    expected = all_ways(plain)
    size = plain.config.text_config.vocab_size
    hook = padded.model.lm_head.register_forward_hook(
        lambda _m, _i, logits: torch.cat([logits[..., :size], logits[..., size:] * torch.nan], dim=-1)
    )
    assert all_ways(padded) == expected
    hook.remove()


def test_decoding_leaves_out_ids_without_a_piece(models_of: Sequence[LoadedModel]) -> None:
    codec = models_of[1].codec
    ids = codec.encode("what is it")
    size = models_of[1].config.text_config.vocab_size
    strangers = list(codec.without_piece(size))
    assert len(strangers) >= PADDING
    assert set(strangers) == {*range(size)} - ids_of(codec)
    mixed = [strangers[0], *ids, *strangers, 10**6, -1]
    assert codec.decode(mixed) == codec.decode(ids) == "what is it"
    assert codec.decode(strangers) == ""


def test_a_vocabulary_of_the_tokenizers_size_is_left_alone(tmp_path: Path) -> None:
    save_words(tmp_path)
    logits = torch.randn(2, len(WORDS))
    scores, finite = NextToken(load_text(tmp_path)).scores(logits)
    assert scores is logits
    assert finite.tolist() == [True, True]
    # A vocabulary that is smaller than the tokenizer has nothing to leave out either.
    assert NextToken(load_text(tmp_path)).scores(logits[:, :9])[0].shape == (2, 9)


def test_a_tokenizer_with_more_ids_than_the_vocabulary_is_one_line(models_of: Sequence[LoadedModel]) -> None:
    loaded = models_of[0]
    rows = loaded.config.text_config.vocab_size
    inputs.embed(loaded, [rows - 1], [])
    with pytest.raises(CheckpointError, match=rf"tokenizer knows id {rows}, its vocabulary ends at {rows - 1}"):
        inputs.embed(loaded, [1, rows], [])


def test_likelihoods_are_those_of_the_tokens_that_were_chosen(tmp_path: Path) -> None:
    """Read again in one pass with its answer, the prompt gives each token of it the same likelihood."""
    loaded = load_tiny(tmp_path / "m")
    embeds = loaded.model.get_input_embeddings()(torch.tensor([[1, 7, 9, 8]]))
    found = generate(loaded, embeds, max_new_tokens=6)
    whole = torch.cat([embeds, loaded.model.get_input_embeddings()(torch.tensor([found.ids]))], dim=1)
    with torch.inference_mode():
        logits = loaded.model.lm_head(loaded.model.model(inputs_embeds=whole).last_hidden_state[0, 3:])
    logs, _ = NextToken(loaded.codec).scores(logits.float())
    targets = [*found.ids, loaded.codec.eos_id][: len(found.logs_A)]
    for log_V, target, log, odds in zip(logs.log_softmax(-1), targets, found.logs_A, found.odds_A, strict=True):
        others = log_V.clone()
        others[target] = -torch.inf
        assert log == pytest.approx(float(log_V[target]), abs=1e-4)
        assert odds == pytest.approx(float(log_V[target] - others.max()), abs=1e-4)
    assert len(found.logs_A) == len(found.ids) + (len(found.ids) < 6)


class OnlyOne:
    """A constraint that allows one token."""

    def allowed(self, scores_V: torch.Tensor) -> torch.Tensor:
        only = torch.full_like(scores_V, -torch.inf)
        only[9] = scores_V[9]
        return only

    def accept(self, token: int) -> None:
        assert token == 9


def test_a_constrained_answer_has_no_likelihoods(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m")
    embeds = loaded.model.get_input_embeddings()(torch.tensor([[1, 7, 9, 8]]))
    found = generate(loaded, embeds, max_new_tokens=3, constraint=OnlyOne())
    assert (found.ids, found.logs_A, found.odds_A) == ([9, 9, 9], [], [])
