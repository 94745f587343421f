"""`cft rank`: which of several responses is best, by how surely a critic finds each right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import (
    PRESET_OPTION,
    add_model_options,
    at_least_0,
    open_backend,
    positive,
    preset_option,
    share,
    whole_number,
)
from cft_trl.errors import CFTError
from cft_trl.generation.names import BACKENDS

HELP = """\
Best of N by a critic: a critique-tuned model critiques each response, and what counts is how probable "right" is where
its critique comes to the verdict, against "wrong". With reference answers: best of N, majority and weighted majority
side by side, graded strictly.

examples:
  cft solve runs/mine --input problems.jsonl --output solved.jsonl --samples 8 --temperature 0.7
  cft rank runs/critic solved.jsonl                               runs/rank-critic/: ranked.jsonl, rank.json
  cft rank runs/critic solved.jsonl --critiques 4 --temperature 0.7
  cft rank Qwen/Qwen2.5-Math-7B rows.jsonl --backend vllm         starts a vLLM server
  cft rank my-model rows.jsonl --backend endpoint --base-url http://localhost:8000/v1
  cft rank runs/critic --serve --port 8100                        POST /v1/score {"query": …, "responses": […]}

DATA is a file, folder or Hub id of rows: query with responses (a list) or response (one row each), and reference_answer
where it is known. A critique without a verdict has no score and is counted. The same command again goes on where an
interrupted run was; more --critiques add to those that are there.
"""
_TITLES = {
    "best_of_n": "best of N", "weighted_majority": "weighted majority", "majority": "majority",
    "pass_at_n": "one of N is right (pass@N)", "mean": "mean of the responses",
}  # fmt: skip


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Flags that do not go together; else as what it calls.
    """
    parser = CommandParser("cft rank", HELP, usage="cft rank MODEL DATA [options]")
    parser.add_argument("model", help="folder, Hub id or smollm2-135m; with --backend endpoint the model's name there")
    parser.add_argument("data", nargs="?", help="see above")
    parser.add_argument("--critiques", type=positive, default=1, help="of each response, averaged (default 1)")
    parser.add_argument("--temperature", type=at_least_0, default=0.0, help="of the critiques; 0 is greedy (default)")
    parser.add_argument("--top-p", type=share, default=1.0, help="default 1, all tokens")
    parser.add_argument("--seed", type=whole_number, default=0, help="draws the same critiques again (default 0)")
    parser.add_argument("--limit", type=positive, help="the first so many questions")
    parser.add_argument("--backend", choices=BACKENDS, default="transformers")
    parser.add_argument("--base-url", help="the endpoint's address; it must tell log probabilities (logprobs)")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with its key (default %(default)s)")
    parser.add_argument("--extra", help="fields of each request, as '{reasoning_effort: low, temperature: null}'")
    add_model_options(parser)
    parser.add_argument("--prompt-preset", type=preset_option, metavar="PRESET", help=PRESET_OPTION)
    parser.add_argument("--max-new-tokens", type=positive, default=1024, help="per critique (default %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=16, help="for transformers (default %(default)s)")
    parser.add_argument("--ask-again", action="store_true", help="ask everything anew; the old answers stay, unused")
    parser.add_argument("--output", type=Path, help="folder (default runs/rank-MODEL)")
    parser.add_argument("--serve", action="store_true", help="answer POST /v1/score and /v1/rerank until Ctrl-C")
    parser.add_argument("--host", default="127.0.0.1", help="where --serve listens (default %(default)s)")
    parser.add_argument("--port", type=whole_number, default=8100, help="of --serve (default %(default)s; 0: any)")
    parser.add_argument("--key-env", metavar="NAME", help="variable with the key that --serve asks its clients for")
    given = parser.parse_args(argv)
    if given.serve == (given.data is not None):
        raise CFTError("give either DATA to rank, e.g. cft rank MODEL rows.jsonl, or --serve, not both")
    if given.serve and (given.output or given.limit or given.ask_again):
        raise CFTError("--serve keeps nothing: --output, --limit and --ask-again belong to DATA")
    key = None
    if given.key_env and not (key := os.environ.get(given.key_env, "")):
        raise CFTError(f"--key-env {given.key_env}: the variable is not set")
    from cft_trl.data.prompts import own_verdicts
    from cft_trl.evaluation.rank_run import RankSettings
    from cft_trl.models.trained_prompt import trained_preset

    sampling = {name: getattr(given, name) for name in ("critiques", "temperature", "top_p", "seed", "max_new_tokens")}
    RankSettings(**sampling)  # what is wrong with it is told before a model is looked for
    questions, failures = _questions(given) if given.data else ([], 0)
    with open_backend(given) as backend:
        preset = given.prompt_preset or trained_preset(
            given.model, backend.commit(), on_hub=given.backend != "endpoint"
        )
        settings = RankSettings(**sampling, prompt_preset=preset)
        if given.serve:
            return _serve(backend, settings, given.host, given.port, key)
        from cft_trl.evaluation.rank_run import run_rank

        output = given.output or Path("runs") / f"rank-{Path(given.model).name}"
        result = run_rank(
            questions, settings, backend, output, data=given.data, failures=failures, ask_again=given.ask_again
        )
    _print(result, output)
    if words := own_verdicts(preset):
        print(f"The critiques conclude with {words.told}; P(right) is that of {' or '.join(words.of_right)}.")
    return 3 if result["unscored_responses"] == result["responses"] else 0


def _questions(given: Any) -> Any:
    from cft_trl.evaluation.candidates import read_questions

    return read_questions(given.data, given.limit)


def _serve(backend: Any, settings: Any, host: str, port: int, key: str | None) -> int:
    from cft_trl.evaluation.rank_server import Scorer, make_server

    # Bound first: minutes of loading are not spent on a port that is taken.
    scorer = Scorer(None, backend.model, settings)
    with make_server(scorer, host, port, key) as server:
        scorer.model = backend.generator()
        print(f"scores at http://{host}:{server.server_address[1]}/v1/score; Ctrl-C ends it", flush=True)
        server.serve_forever()
    return 0


def _print(result: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    low, high = result["n"]
    n = str(low) if low == high else f"{low} to {high}"
    if result["figures"]:
        table = Table(title=f"{result['graded']} questions, N = {n}, by {result['model']}")
        for column in ("", "right", "95% interval"):
            table.add_column(column, justify="left" if not column else "right")
        for name, title in _TITLES.items():
            figure = result["figures"][name]
            table.add_row(title, f"{figure['score']:.1%}", "{:.0%} to {:.0%}".format(*figure["interval_95"]))
        console.print(table)
        gap = result["figures"]["over_majority"]
        console.print(
            "Best of N over majority: {:+.1%} ({:+.0%} to {:+.0%}, p = {:.2g})".format(
                gap["difference"], *gap["interval_95"], gap["p"]
            ),
            highlight=False,
        )
    else:
        console.print(
            f"{result['questions']} questions ranked, N = {n}; none has a reference answer, so nothing is graded"
        )
    told = [f"{count} x {reason}" for reason, count in result["missing"].items()]
    if result["bounded"]:
        told.append(f"{result['bounded']} with the other word not among the 20 likeliest: its bound is taken")
    if told:
        console.print(
            f"Of {result['critiques_made']} critiques: {'; '.join(told)}. {result['unscored_responses']} of "
            f"{result['responses']} responses and {result['unscored_questions']} questions have no score.",
            highlight=False,
        )
    console.print(f"Ranked rows: {output}/ranked.jsonl; figures: {output}/rank.json", highlight=False, soft_wrap=True)
