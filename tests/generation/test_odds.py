"""P(right) at the verdict: the same from a model here and from what an endpoint tells, under real tokenizers."""

from __future__ import annotations

import math
import os

import pytest
import torch
from conftest import make_model
from families import FAMILIES, overfit
from peft import LoraConfig, get_peft_model

from cft_trl.data.prompts import Wording
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.generation.local import LocalModel
from cft_trl.generation.odds import NO_OTHER_WORD, NO_VERDICT, NOT_FOUND, Odds, other_word, read_here, read_told
from cft_trl.generation.types import Choice, Generation

ASKED = [{"role": "user", "content": "Is it right?"}]
TEXTS = [
    "Six sevens are 42 — as it says.\n\nConclusion: right [END]",
    "It is 41.\n\nConclusion: wrong",
    "**Conclusion:** Wrong.",
    'So {"verdict": "right"}',
    "Conclusion: The solution is incorrect.",
    "Final verdict: \\boxed{right}",
    "Conclusion: the answer is not correct.",
    "The step √2·√2 = 2 holds 🙂.\nConclusion: correct\n",
    "I would write wrong for wrong.\n\nConclusion: wrong\n\nwrong wrong? No more to say.",
]
NAMES = ["qwen2.5", "llama2", "glm4"]
REAL = [pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "llama3", "gemma3", "deepseek-v3")]


def written(tokenizer, text: str) -> Generation:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Generation(text, "stop", 1, len(ids), ids=tuple(ids))


@pytest.mark.parametrize("adapted", [False, True])
def test_only_the_last_logits_are_computed(adapted, tokenizer):
    model = make_model(tokenizer)
    if adapted:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    local, seen = LocalModel(model, tokenizer), []
    plain = model(torch.tensor([[*local._row(ASKED, 1).prompt, 5, 6]])).logits[0, -1].log_softmax(-1)
    model.get_output_embeddings().register_forward_hook(lambda head, given, made: seen.append(made.shape[1]))
    assert torch.allclose(local.next_token_logprobs(ASKED, [5, 6]), plain, atol=1e-5)
    assert seen == [1]


def told(model: LocalModel, made: Generation, top: int) -> list[Choice]:
    """What a server would tell of these tokens: each decoded by itself, as vLLM does."""

    def show(token: int) -> str:
        return model.decode([token])

    choices = []
    for at, token in enumerate(made.ids):
        logprobs = model.next_token_logprobs(ASKED, made.ids[:at])
        best = torch.topk(logprobs, top)
        others = tuple((show(i), float(p)) for p, i in zip(best.values, best.indices.tolist(), strict=True))
        choices.append(Choice(show(token), float(logprobs[token]), others))
    return choices


@pytest.fixture(scope="module", params=NAMES + REAL)
def model(request):
    tokenizer = FAMILIES[request.param].tokenizer()
    made = LocalModel(make_model(tokenizer), tokenizer)
    made.model.lm_head.weight.data.normal_(std=0.6)  # so that some words are likely and some are not
    return made


@pytest.mark.parametrize("text", TEXTS)
def test_an_endpoint_tells_what_the_model_says_here(model, text):
    made = written(model.tokenizer, text)
    here = read_here(model, ASKED, made)
    assert here.missing is None
    assert 0 < here.p_right < 1
    assert not here.bounded
    size = len(model.tokenizer)
    there = read_told(text, told(model, made, size if size < 5000 else 20))
    assert there.verdict == here.verdict
    if there.missing:  # SentencePiece's tokens are shown without their space: only behind one they are known
        assert there.missing == NOT_FOUND
        assert model.decode([model.vocabulary.get("▁the", 0)]) == "the"
        assert '"right' in text or "{right" in text
    elif there.bounded:
        assert there.low <= here.p_right <= there.high
        assert there.p_right in (there.low, there.high)
    else:
        assert there.p_right == pytest.approx(here.p_right, abs=1e-4)


OWN = {
    "pair": Wording(verdicts=Verdicts(("reject", "accept"), "accept")),
    "grades": Wording(verdicts=Verdicts(("1", "2", "3", "4", "5"), "4")),
    "words": Wording(verdicts=Verdicts(("poor", "fair", "good", "excellent"), "good")),
}


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        ("pair", "It fails for [].\n\nConclusion: reject [END]"),
        ("pair", "I accept this.\n\n**Conclusion:** Accept."),
        ("grades", "2 of 4 wishes are met.\nConclusion: 3 [END]"),
        ("grades", "Grade: 5/5"),
        ("words", "Conclusion: excellent [END]"),
    ],
)
def test_words_of_ones_own_here_and_behind_an_endpoint(model, wording, text):
    made = written(model.tokenizer, text)
    here = read_here(model, ASKED, made, OWN[wording])
    assert here.verdict == OWN[wording].verdicts.stated(text).verdict
    assert read_here(model, ASKED, made).missing, "without the words there is no verdict"
    if here.missing:  # two grades that begin with one token cannot be told apart by it
        assert wording == "words"
        return
    assert 0 < here.p_right < 1
    size = len(model.tokenizer)
    there = read_told(text, told(model, made, size if size < 5000 else 20), OWN[wording])
    if there.bounded:
        assert there.low <= here.p_right <= there.high
    elif not there.missing:
        assert there.p_right == pytest.approx(here.p_right, abs=1e-4)


def test_with_grades_it_is_the_share_of_the_good_ones():
    grades = {"1": 0.05, "2": 0.1, "3": 0.2, "4": 0.5, "5": 0.1}
    others = tuple((word, math.log(p)) for word, p in grades.items())
    choices = [Choice("Conclusion:", 0.0), Choice(" ", 0.0), Choice("4", math.log(0.5), others)]
    odds = read_told("Conclusion: 4", choices, OWN["grades"])
    assert odds.p_right == pytest.approx(0.6 / 0.95)
    assert odds.verdict == "right"
    few = [*choices[:2], Choice("2", math.log(0.1), others[1:4])]
    odds = read_told("Conclusion: 2", few, OWN["grades"])
    assert odds.verdict == "wrong"
    assert odds.low <= 0.6 / 0.95 <= odds.high, "1 and 5 are not told, so only what it lies between is known"


@pytest.mark.parametrize(
    ("words", "right_from", "written", "told"),
    [
        (tuple(map(str, range(1, 11))), "6", "10", {"1": 0.5, "9": 0.2, "2": 0.1}),  # "10" is "1", "0"
        (tuple(map(str, range(1, 11))), "6", "1", {"1": 0.5, "9": 0.2, "2": 0.1}),
        (tuple(map(str, range(1, 11))), "6", "7", {"7": 0.5, "1": 0.2, "2": 0.1}),  # "1" for both 1 and 10
        (("wrong", "right", "rightly"), "right", "right", {"right": 0.5, "wrong": 0.3}),
        (("B", "A", "A+"), "A", "B", {"B": 0.5, "A": 0.3}),
    ],
)
def test_a_token_that_begins_two_of_the_words_tells_neither(words, right_from, written, told):
    others = tuple((word, math.log(p)) for word, p in told.items())
    first = next(word for word in (written, written[:1]) if word in told)
    choices = [Choice("Conclusion:", 0.0), Choice(" ", 0.0), Choice(first, math.log(told[first]), others)]
    choices += [Choice(written[len(first) :], 0.0)] if written != first else []
    odds = read_told(f"Conclusion: {written}", choices, Wording(verdicts=Verdicts(words, right_from)))
    assert (odds.p_right, odds.missing) == (None, NOT_FOUND)


def test_a_token_of_its_own_tells_a_word_that_begins_like_another():
    wording = Wording(verdicts=Verdicts(("B", "A", "A+"), "A"))
    others = tuple((word, math.log(p)) for word, p in {" A": 0.5, " A+": 0.2, " B": 0.3}.items())
    odds = read_told("Conclusion: A", [Choice("Conclusion:", 0.0), Choice(" A", math.log(0.5), others)], wording)
    assert odds.p_right == pytest.approx(0.7)


def test_two_of_the_other_words_that_begin_alike_are_not_told_apart():
    words = ("reject", "weak reject", "weak accept", "accept")
    others = ((" accept", math.log(0.6)), (" weak", math.log(0.3)), (" reject", math.log(0.1)))
    choices = [Choice("Conclusion:", 0.0), Choice(" accept", math.log(0.6), others)]
    odds = read_told("Conclusion: accept", choices, Wording(verdicts=Verdicts(words, "weak accept")))
    assert odds == Odds("right", missing=NO_OTHER_WORD)


def test_the_figure_is_that_of_the_two_words_in_their_place(tokenizers):
    model = LocalModel(make_model(tokenizers("chatml")), tokenizers("chatml"))
    for text, sides in (
        ("Conclusion: right [END]", (" right", " wrong")),
        ("Conclusion: wrong [END]", (" wrong", " right")),
    ):
        made = written(model.tokenizer, text)
        right, wrong = (
            model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in ("right", "wrong")
        )
        assert len(right) == len(wrong) == 1
        before = model.tokenizer("Conclusion:", add_special_tokens=False)["input_ids"]
        logprobs = model.next_token_logprobs(ASKED, before)
        r, w = logprobs[right[0]].exp(), logprobs[wrong[0]].exp()
        assert read_here(model, ASKED, made).p_right == pytest.approx(float(r / (r + w)), abs=1e-6), sides


def test_a_word_that_is_not_told_is_bounded():
    head = [Choice("Conclusion", 0.0), Choice(":", 0.0)]
    right = Choice(
        " right", math.log(0.9), ((" right", math.log(0.9)), (" fine", math.log(0.05)), (" so", math.log(0.02)))
    )
    odds = read_told("Conclusion: right", [*head, right])
    assert odds.bounded
    assert odds.p_right == odds.low == pytest.approx(0.9 / 0.92)
    assert odds.high == 1.0
    wrong = Choice(
        " wrong", math.log(0.9), ((" wrong", math.log(0.9)), (" fine", math.log(0.09)), (" so", math.log(0.009)))
    )
    odds = read_told("Conclusion: wrong", [*head, wrong])
    assert odds.p_right == odds.high == pytest.approx(0.001 / 0.901)  # no more is left for it than 0.001
    assert odds.low == 0.0


def test_what_only_begins_like_the_word_is_not_taken_for_it():
    choice = Choice(" correct", math.log(0.9), ((" correct", math.log(0.9)), (" in", math.log(0.08))))
    assert read_told("Conclusion: correct", [Choice("Conclusion:", 0.0), choice]).bounded
    choice = Choice(" correct", math.log(0.6), ((" correct", math.log(0.6)), (" incor", math.log(0.2))))
    assert read_told("Conclusion: correct", [Choice("Conclusion:", 0.0), choice]).p_right == pytest.approx(0.75)


def test_letters_one_by_one():
    letters = [Choice(letter, 0.0) for letter in "Conclusion: "]
    first = Choice("w", math.log(0.3), (("r", math.log(0.6)), ("w", math.log(0.3))))
    odds = read_told("Conclusion: wrong", [*letters, first, *(Choice(letter, 0.0) for letter in "rong")])
    assert odds.p_right == pytest.approx(2 / 3)


def test_what_cannot_be_read_has_no_figure_and_says_why():
    assert read_told("I do not know.", [Choice("I", 0.0)]) == Odds(None, missing=NO_VERDICT)
    assert read_told("Conclusion: the solution isn't right.", []).missing == NO_OTHER_WORD
    assert read_told("结论: 错误", [Choice("结论: 错误", 0.0)]).missing == NO_OTHER_WORD
    assert read_told("Conclusion: wrong", [Choice("something else", 0.0)]).missing == NOT_FOUND
    assert read_told("Conclusion: wrong", [Choice("Conclusion: wrong", 0.0)]).missing == NOT_FOUND  # no likeliest told


@pytest.mark.parametrize(
    ("word", "other"),
    [("right", "wrong"), ("Correct", "Incorrect"), ("FALSE", "TRUE"), ("flawed", "correct"), ("Not correct", "Correct"),
     ("not right", "right"), ("isn't right", None), ("错误", None)],
)  # fmt: skip
def test_other_words(word, other):
    assert other_word(word) == other


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif("CFT_VLLM_PYTHON" not in os.environ, reason="no vLLM here (set CFT_VLLM_PYTHON)")
@pytest.mark.parametrize("name", ["qwen3-base", "llama2"])
def test_vllm_gives_the_same_figure(name, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    from cft_trl.evaluation.rank_run import RankSettings, ask_for_odds, critique_requests
    from cft_trl.generation.open import opened

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    overfit(FAMILIES[name], "padded", tmp_path)
    folder = str(tmp_path / "padded")
    trained = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trained.model.norm.weight.data *= 0.45  # the same words, less surely
    trained.save_pretrained(folder)
    found = {}
    for kind in ("transformers", "vllm"):
        with opened(kind, folder, dtype="float32") as critic:
            settings = RankSettings(max_new_tokens=64, prompt_preset="paper")
            asked = [
                ("What is 6 x 7?", "6 x 7 = 43"),
                ("What is 6 x 7?", "6 x 7 = 42"),
                ("What is 6 x 7?", "6 x 7 = 44"),
            ]
            requests = [critique_requests(critic, *pair, settings)[0] for pair in asked]
            found[kind] = [(made.text, odds) for made, odds in ask_for_odds(critic, requests)]
    assert any(odds.p_right is not None and 0.001 < odds.p_right < 0.999 for _, odds in found["transformers"])
    for (text, here), (told_text, there) in zip(*found.values(), strict=True):
        assert text.removesuffix(" [END]").strip() == told_text.strip()
        assert here.verdict == there.verdict
        assert here.missing == there.missing
        if there.bounded:
            assert there.low <= here.p_right <= there.high
        elif here.p_right is not None:
            assert there.p_right == pytest.approx(here.p_right, abs=1e-4)
