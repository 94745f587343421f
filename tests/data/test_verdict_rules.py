"""The verdict grammar's table of rules: each reads its sentences, in its turn."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cft_trl.data import verdict_grammar as grammar

RULES = yaml.safe_load(Path(__file__).with_name("verdict_rules.yaml").read_text(encoding="utf-8"))
CASES = [(rule, sentence, said) for rule, sentences in RULES.items() for sentence, said in sentences.items()]


def read(sentence: str) -> str:
    """What the first statement of a sentence says, as the file writes it."""
    said = [one for tokens in grammar.sentences(sentence, 0, len(sentence)) for one in grammar.statements(tokens)]
    return f"{said[0].kind} {said[0].verdict or 'none'}" if said else "nothing"


def test_every_rule_has_sentences_in_the_tables_order():
    assert list(RULES) == [rule.name for rule in grammar.GOVERNED] + [name for name, _ in grammar.UNCLEAR]


@pytest.mark.parametrize(("rule", "sentence", "said"), CASES, ids=[sentence for _, sentence, _ in CASES])
def test_what_a_sentence_says(rule, sentence, said):
    assert read(sentence) == said


@pytest.mark.parametrize("rule", RULES)
def test_without_its_rule_a_sentence_is_read_otherwise(rule, monkeypatch):
    monkeypatch.setattr(grammar, "GOVERNED", tuple(one for one in grammar.GOVERNED if one.name != rule))
    monkeypatch.setattr(grammar, "UNCLEAR", tuple(one for one in grammar.UNCLEAR if one[0] != rule))
    assert any(read(sentence) != said for sentence, said in RULES[rule].items())
