"""`CFTConfig`: TRL's `SFTConfig` with the published defaults and the few settings critique training adds.

    CFTConfig("out")                                       # the paper's 7B settings
    CFTConfig("out", objective="sft", sft_target="right_only")     # the verified-SFT baseline, same rows

Published settings (arXiv 2501.17703, section 4.1): learning rate 5e-6, cosine, warm-up 0.1, one epoch, 2048 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from trl import SFTConfig

from cft_trl.data.prompt_templates import read_template
from cft_trl.data.prompts import OBJECTIVES, PRESETS, SFT_TARGETS, PresetName, Wording, make_wording
from cft_trl.data.verdict_vocabulary import FORMS, plain_verdicts, read_mapping, read_verdicts
from cft_trl.errors import CFTError
from cft_trl.training.lengths import OVER_LENGTH

MIXTURE_STRATEGIES = ("first_exhausted", "all_exhausted")


@dataclass
class CFTConfig(SFTConfig):
    """Settings of a critique fine-tuning run; every `SFTConfig` and `TrainingArguments` field works too.

    Args:
        objective: what the student predicts. `"cft"`: the critique, from query and response. `"cgd"`: the
            refinement, from query, response and critique. `"sft"`: an answer, from the query.
        sft_target: which answer `objective="sft"` learns: `"response"` (as found), `"right_only"` (as found, rows
            judged right only), `"refinement"` (the teacher's own answer).
        prompt_preset: `"paper"` reproduces the published user turn byte for byte; `"compact"` says the same in
            fewer tokens; `"per_step"` numbers the solution's steps and asks for a judgement of each.
        prompt: a prompt of your own in the preset's place: a Jinja2 template's file, or its text (docs/domains.md).
        verdicts: the words that critiques conclude with: `{right: accept, wrong: reject}`, or grades from the worst to
            the best, `{grades: [1, 2, 3, 4, 5], right_from: 4}`; default right and wrong.
        max_length: longest row in tokens, prompt, target and end token together; None sets no limit.
        over_length: what happens to a longer row. `"shorten_response"`: the response loses its tail, the critique
            stays whole. `"drop"`: the row is left out and counted. `"error"`: the run stops.
        verdict_weight: multiplies the loss of the verdict word's tokens (`objective="cft"`); 1.0 is the paper's.
        share_prefixes: `True` computes what the prompts of several rows begin with once and packs the rows as trees
            (see `cft_trl.training.prefix_sharing`); `"auto"` does so where it saves tokens and packs plainly elsewhere.
            Loss and gradients are those of the rows one by one. A batch counts packs, as with `packing`.
        pack_length: most tokens of a pack of shared prefixes; default `max_length`.
        varlen_attention: on a CPU, rows of a pack attend to themselves by a call each instead of one with a mask of
            length x length (`packing`, `padding_free`); losses and gradients are the same. On a GPU, and where the
            model's attention cannot be replaced, it changes nothing.
        mixture_strategy: how many rows a mixture with weights has. `"first_exhausted"`: as many as there are without
            any row twice. `"all_exhausted"`: as many as it takes to have every row of every part; those of the parts
            that are too small are repeated.
        bf16: default: on where the device computes in it: most GPUs, and with `use_cpu` CPUs that have
            AVX512-BF16.

    Raises:
        CFTError: a value is unknown or two options contradict each other.

    Example:
        >>> CFTConfig("out", use_cpu=True, report_to="none").learning_rate
        5e-06
    """

    objective: str = field(default="cft", metadata={"help": "What the student predicts: cft, cgd or sft."})
    sft_target: str = field(
        default="response", metadata={"help": "Answer that objective sft learns: response, right_only or refinement."}
    )
    prompt_preset: str = field(default="paper", metadata={"help": "Wording of prompts: paper, compact or per_step."})
    prompt: str | None = field(default=None, metadata={"help": "A prompt of your own: a Jinja2 file, or its text."})
    verdicts: dict | str | None = field(
        default=None, metadata={"help": "Words for right and wrong, or grades: {right: accept, wrong: reject}."}
    )
    over_length: str = field(
        default="shorten_response",
        metadata={"help": "Row longer than max_length: shorten_response, drop or error."},
    )
    verdict_weight: float = field(default=1.0, metadata={"help": "Factor on the loss of the verdict's tokens."})
    share_prefixes: str = field(
        default="false", metadata={"help": "Compute prompts that several rows share once: true, false or auto."}
    )
    pack_length: int | None = field(
        default=None, metadata={"help": "Most tokens of a pack of shared prefixes; default max_length."}
    )
    varlen_attention: bool = field(
        default=True, metadata={"help": "On a CPU, compute a pack's rows by themselves instead of under a mask."}
    )
    mixture_strategy: str = field(
        default="first_exhausted",
        metadata={"help": "Mixtures with weights: first_exhausted (no row twice) or all_exhausted (rows repeated)."},
    )

    learning_rate: float = field(default=5e-6, metadata={"help": "Peak learning rate (published: 5e-6)."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule (published: cosine)."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Warm-up: a number of steps, or below 1 a share of all steps (published: 0.1)."}
    )
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the rows (published: 1)."})
    max_length: int | None = field(default=2048, metadata={"help": "Longest row in tokens (published: 2048)."})

    def __post_init__(self) -> None:
        _one_of("objective", self.objective, OBJECTIVES)
        _one_of("sft_target", self.sft_target, SFT_TARGETS)
        _one_of("prompt_preset", self.prompt_preset, tuple(PRESETS))
        self._read_wording()
        _one_of("over_length", self.over_length, OVER_LENGTH)
        _one_of("mixture_strategy", self.mixture_strategy, MIXTURE_STRATEGIES)
        # As a field it is a word, which is what flags are read as; from here on it is true, false or "auto".
        self.share_prefixes = _switch("share_prefixes", self.share_prefixes)  # type: ignore[assignment]
        if self.bf16 is None and not self.fp16:
            self.bf16: bool | None = _has_fast_bf16(self.use_cpu)
        if self.use_cpu:
            self.dataloader_pin_memory = False  # pinning serves copies to a device, and warns where there is none
        self._check_numbers()
        super().__post_init__()
        self._check_contradictions()

    @property
    def wording(self) -> PresetName | Wording:
        """What rows are asked in: the preset's name, or a `Wording` where the settings have more."""
        return make_wording(cast(PresetName, self.prompt_preset), self.prompt, self.verdicts, self.objective)

    @property
    def critique_wording(self) -> PresetName | Wording:
        """What the model is asked for critiques in, now and later: without a template of cgd, for that shows one."""
        template = self.prompt if self.objective == "cft" else None
        return make_wording(cast(PresetName, self.prompt_preset), template, self.verdicts)

    def _read_wording(self) -> None:
        """The settings keep a template's text, and the verdict words in their one form, whatever was given."""
        if isinstance(self.verdicts, str):
            self.verdicts = read_mapping(self.verdicts, "verdicts", FORMS)
        self.verdicts = plain_verdicts(read_verdicts(self.verdicts))
        if self.prompt is not None:
            if self.prompt_preset != "paper":
                raise CFTError(f"prompt stands in the place of prompt_preset={self.prompt_preset}; give one of the two")
            if self.objective == "sft":
                raise CFTError("prompt with objective=sft: the student sees the query alone; leave prompt out")
            self.prompt = read_template(self.prompt)
        _ = self.wording

    def _check_numbers(self) -> None:
        for name, least in (
            ("per_device_train_batch_size", 1),
            ("per_device_eval_batch_size", 1),
            ("gradient_accumulation_steps", 1),
            ("pad_to_multiple_of", 1),
            ("learning_rate", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, int | float) and value < least:
                raise CFTError(f"{name}={value}: give {least} or more")

    def _check_contradictions(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise CFTError(f"max_length={self.max_length}: give a positive number of tokens, or none for no limit")
        if self.verdict_weight < 0:
            raise CFTError(f"verdict_weight={self.verdict_weight}: give 0 or more (1.0 leaves the loss as it is)")
        if self.verdict_weight != 1.0:
            if self.objective != "cft":
                raise CFTError(
                    f"verdict_weight={self.verdict_weight} with objective={self.objective}: "
                    "only critiques (objective cft) hold a verdict; leave verdict_weight at 1.0"
                )
            if self.loss_type != "nll" or self.label_smoothing_factor > 0:
                raise CFTError("verdict_weight needs loss_type=nll and label_smoothing_factor=0; change one of them")
        if self.sft_target != "response" and self.objective != "sft":
            raise CFTError(
                f"sft_target={self.sft_target} with objective={self.objective}: sft_target belongs to objective=sft"
            )
        if self.packing and self.packing_strategy == "wrapped":
            raise CFTError(
                "packing_strategy=wrapped cuts critiques in two and lets rows see each other; use packing_strategy=bfd"
            )
        if self.packing and self.max_length is None:
            raise CFTError("packing=true needs max_length, the size of a pack; set it or turn packing off")
        if self.completion_only_loss is False or self.assistant_only_loss:
            raise CFTError(
                "completion_only_loss=false and assistant_only_loss=true contradict critique training, where exactly "
                "the target has loss; leave both unset"
            )
        self._check_sharing()

    def _check_sharing(self) -> None:
        if not self.share_prefixes:
            if self.pack_length is not None:
                raise CFTError(f"pack_length={self.pack_length} belongs to share_prefixes; set share_prefixes=auto")
            return
        if self.max_length is None and self.pack_length is None:
            raise CFTError("share_prefixes needs max_length or pack_length, the size of a pack; set one of them")
        if self.pack_length is not None and self.pack_length < (self.max_length or 1):
            raise CFTError(
                f"pack_length={self.pack_length} is smaller than max_length={self.max_length}, so that a row would "
                "not fit into a pack; raise pack_length or lower max_length"
            )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise CFTError(f"{name}={value}: unknown; give one of {', '.join(allowed)}")


def _switch(name: str, value: object) -> bool | str:
    """True, False or "auto"; from the command line they come as words."""
    switches: dict[str, bool | str] = {"true": True, "false": False, "auto": "auto"}
    switch = switches.get(str(value).lower())
    if switch is None:
        raise CFTError(f"{name}={value}: unknown; give true, false or auto")
    return switch


def _has_fast_bf16(use_cpu: bool) -> bool:
    """TRL turns bf16 on everywhere. On a CPU without its instructions that is about 20 times slower than fp32; on
    one with AVX512-BF16 it makes a step of SmolLM2-135M 1.5 to 1.7 times faster."""
    import torch
    from transformers.utils import is_torch_bf16_gpu_available

    if not use_cpu:  # without it transformers refuses bf16 where there is no accelerator
        return is_torch_bf16_gpu_available()
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())
