"""What a reply means: one table, checked on what servers were seen to answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cft_trl.generation.replies import Trouble, how_it_ended, read_answer, read_status, retry_after

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases" / "endpoint-replies.jsonl"
RIGHT = {  # by the case's place in the file
    0: ("fatal", "quota"),
    1: ("fatal", "quota"),
    2: ("retry", "429 quota"),
    3: ("retry", "429"),
    4: ("final", "content filter"),
    5: "Step 1 fails.\n\nConclusion: wrong [END]",
    6: ("retry", "finish_reason insufficient_system_resource"),
    7: "length",
    8: (300, 20),
    9: ("final", "bad request"),  # which dialect.py learns from
    10: ("final", "context length"),
}


def reply(content="Sound.", finish_reason="stop", **more) -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish_reason}], **more})


@pytest.mark.parametrize("at", RIGHT)
def test_what_servers_were_seen_to_answer(at):
    if not CASES.is_file():
        pytest.skip("no shared cases here")
    case = json.loads(CASES.read_text().splitlines()[at])
    if case["status"] == 200:
        found = read_answer(json.dumps(case["body"]))
    else:
        body, wait = case["body"], retry_after(case.get("headers", {}))
        found = read_status(case["status"], body.get("error", body), wait=wait)
    if isinstance(found, Trouble):
        assert (found.then, found.reason) == RIGHT[at]
        assert found.wait == (35592 if at == 3 else 0)
    else:
        assert RIGHT[at] in (
            found.text,
            found.finish_reason,
            (found.prompt_tokens, found.completion_tokens),
        )


@pytest.mark.parametrize(
    ("status", "error", "then", "reason"),
    [
        (402, {}, "fatal", "quota"),
        (412, {"message": "the account is suspended"}, "fatal", "quota"),
        (400, {"message": "The limit was reached", "code": "billing_hard_limit_reached"}, "fatal", "quota"),
        (403, {"message": "Your credit balance is too low to access the API"}, "fatal", "quota"),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "fatal", "quota"),
        (429, [{"error": {"message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}}],
         "retry", "429 quota"),
        (429, {"message": "slow down"}, "retry", "429"),
        (403, {"message": "no", "metadata": {"reasons": ["x"], "flagged_input": "..."}}, "final", "content filter"),
        (403, {"message": "forbidden"}, "fatal", "403"),
        (400, {"message": "Content Exists Risk"}, "final", "content filter"),
        (400, {"message": "data_inspection_failed"}, "final", "content filter"),
        (413, {"message": "Request too large"}, "final", "context length"),
        (422, {"detail": "`inputs` tokens + `max_new_tokens` must be <= 4096"}, "final", "context length"),
        (400, {"message": "the request exceeds the available context size"}, "final", "context length"),
        (400, {"message": "max_tokens=3200 cannot be greater than max_model_len=2048."}, "final", "context length"),
        (400, {"message": "no chat template is defined"}, "final", "bad request"),
        (400, "<html>oops</html>", "final", "bad request"),
        (400, None, "final", "bad request"),
        (404, {}, "fatal", "404"),
        (405, {}, "fatal", "404"),
        (529, {"message": "overloaded"}, "retry", "529"),
        (424, {"message": "Request failed during generation"}, "retry", "424"),
        (498, {"message": "Flex tier capacity exceeded"}, "retry", "498"),
        (403, {"message": "Credit limit exceeded. Please add credits", "type": "credit_limit"}, "fatal", "quota"),
        (403, {"message": "Key limit exceeded (total limit)."}, "fatal", "quota"),
        (400, {"message": "You have reached your specified API usage limits."}, "fatal", "quota"),
        (400, {"message": "Budget has been exceeded! Max budget: 10.0", "type": "budget_exceeded"}, "fatal", "quota"),
        (429, {"message": "您的账户已欠费", "code": "1113"}, "fatal", "quota"),
        (400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}], "fatal", "401"),
        (400, [{"error": {"message": "User location is not supported for the API use."}}], "fatal", "403"),
        (400, {"message": "Organization has been restricted."}, "fatal", "403"),
        (400, [{"error": {"message": "The input token count (1200) exceeds the maximum allowed (10)."}}],
         "final", "context length"),
        (400, {"message": "Prompt 超长", "code": "1261"}, "final", "context length"),
        (400, {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}, "final", "content filter"),
        (400, {"message": "ContentPolicyViolationError: The response was filtered"}, "final", "content filter"),
    ],
)  # fmt: skip
def test_what_an_error_means(status, error, then, reason):
    found = read_status(status, error)
    assert (found.then, found.reason) == (then, reason)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("stop", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("STOP", "stop"), (None, None), ("", None),
        ("length", "length"), ("max_tokens", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("content_filter", "filtered"), ("sensitive", "filtered"), ("RECITATION", "filtered"),
        ("refusal", "filtered"), ("server_error", "retry"), ("FinishReason.STOP", "stop"),
        ("model_context_window_exceeded", "length"), ("error", "retry"), ("abort", "retry"),
        ("insufficient_system_resource", "retry"),
        ("ran_away", "ran_away"), ({"odd": 1}, "{'odd': 1}"),
    ],
)  # fmt: skip
def test_how_an_answer_ended(said, means):
    assert how_it_ended(said) == means


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[" * 100_000, "malformed JSON"),
        ('{"a":' * 100_000, "malformed JSON"),
        ('{"usage": ' + "9" * 5000 + "}", "malformed JSON"),
        ("<!DOCTYPE html><title>x</title>", "web page"),
        ("", "malformed JSON"),
        ("null", "malformed JSON"),
        ('{"choices": []}', "malformed JSON"),
        ('{"choices": [{"message": null}]}', "malformed JSON"),
        (reply(content=[{"type": "text", "text": {"no": "text"}}]), "malformed JSON"),
        (reply(content=7), "malformed JSON"),
        (json.dumps({"error": {"message": "Provider returned error", "code": 502}}), "502"),
        (json.dumps({"error": "it broke"}), "500"),
        (reply(content=None), "empty answer"),
        (reply(content=[{"type": "thinking", "thinking": []}]), "empty answer"),
        (reply(finish_reason="sensitive"), "content filter"),
        (reply(content="", finish_reason="max_tokens"), "no room"),
    ],
)
def test_a_reply_that_is_no_answer_costs_that_reply_only(body, reason):
    assert read_answer(body).reason == reason


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2.0}, (3, 2)),
        ({"prompt_tokens": "3", "completion_tokens": " 2 "}, (3, 2)),
        ({"prompt_tokens": -1, "completion_tokens": True}, (None, None)),
        ({"prompt_tokens": "many", "completion_tokens": [2]}, (None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": "9" * 40}, (None, None)),
        ("none", (None, None)),
        (None, (None, None)),
    ],
)
def test_counts_are_numbers_or_unknown(usage, counts):
    found = read_answer(reply(usage=usage))
    assert (found.prompt_tokens, found.completion_tokens) == counts


def test_content_in_parts_and_a_byte_order_mark_are_read():
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Step 1 "}, "fails.", {"text": " So."}]
    assert read_answer("\ufeff" + reply(parts)).text == "Step 1 fails. So."


def test_a_used_up_balance_is_one_whatever_the_status():
    found = read_answer(json.dumps({"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}))
    assert (found.then, found.reason) == ("fatal", "quota")
