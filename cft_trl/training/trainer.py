"""`CFTTrainer`: TRL's `SFTTrainer` for critique rows.

    trainer = CFTTrainer("smollm2-135m", CFTConfig("out"), train_dataset=rows)
    trainer.train()
    # train: rows 3,230: kept 3,110, shortened 112, dropped 8 (8 longer than 2,048 tokens even without any response); …
    # {'loss': 1.21, 'critique_loss': 1.21, 'verdict_accuracy': 0.86, 'verdict_accuracy_right': 0.91, …}

It changes three things and leaves the rest to TRL: how rows become tokens (`preparation.py`), which positions the
LM head scores on a CPU (`trl_internals.py`), and what is measured and weighted at the verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers.trainer_utils import rotate_checkpoints
from trl import SFTTrainer, pack_dataset

from cft_trl.data.prompts import Prompting
from cft_trl.errors import CFTError
from cft_trl.hub.run_card import write_model_card
from cft_trl.models.chat_templates import as_trained, turn_end_ids
from cft_trl.models.names import hub_commit, is_bundled
from cft_trl.models.portable import make_portable
from cft_trl.models.run_record import provenance
from cft_trl.training.callbacks import RecordRun, ReportRows
from cft_trl.training.checkpoints import seal, whole_or_gone
from cft_trl.training.checks import check_arguments, check_prepared_columns, check_trainer, settle
from cft_trl.training.collator import DataCollatorForCritique
from cft_trl.training.config import CFTConfig
from cft_trl.training.finite import FiniteWatch
from cft_trl.training.fsdp2 import settle_fsdp2, without_tied_copies
from cft_trl.training.heap import freed_memory_kept
from cft_trl.training.launch import check_launch
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.metrics import TargetMetrics, weigh_verdicts
from cft_trl.training.mixture import DatasetPart, evaluated_parts, named, parts_record, prepare_rows, take_mixtures
from cft_trl.training.prefix_sharing.attention import is_layout, use_shared_attention, use_varlen_attention
from cft_trl.training.prefix_sharing.packs import SharingReport, share_dataset
from cft_trl.training.preparation import FEATURE_COLUMNS, RowEncoder
from cft_trl.training.rows_once import all_rows, deal_out, map_kwargs, told_repeats, whole_stream, without_repeats
from cft_trl.training.runs import check_prepared, prepared_identities
from cft_trl.training.starting import base_name, for_trl, open_named, settings_of, take_back
from cft_trl.training.trl_internals import fused_head, whole_models
from cft_trl.training.turns import (
    add_end_tokens,
    ends_of_labels,
    freeze_run_dates,
    mend_generation_config,
    tell_turns,
    turn_record,
)


class CFTTrainer(SFTTrainer):
    """Trains a causal language model to predict critiques (or, by `args.objective`, refinements or answers).

    Same constructor as `trl.SFTTrainer`; datasets are rows of any layout that `cft_trl.to_records` reads, or a list of
    `DatasetPart`s, a mixture (see `cft_trl.training.mixture`); `args` is a `CFTConfig` (default:
    `CFTConfig("<model>-CFT")`). A dataset that already has `input_ids` and `labels` is used as it is (packed, if
    `packing` asks for it and it is not).

    Logged beside TRL's metrics, in training and evaluation, at no extra forward pass:
        `critique_loss` (`target_loss` for other objectives): mean negative log-likelihood per target token, nats,
            never weighted.
        `verdict_accuracy`, `verdict_accuracy_right`, `verdict_accuracy_wrong`: share of critiques whose verdict word
            is the model's top prediction when it is given everything before (all tokens of the word), over all
            critiques and over those that say right or wrong; `verdict_count`: how many there were.
        Of a mixture also each part's loss, `loss_NAME`; see `cft_trl.training.metrics`.

    Attributes:
        processing_class: The tokenizer; its chat template asks with what the rows were trained behind
            (`cft_trl.models.chat_templates.as_trained`), so give it, not the one of the base, to what asks this model.
        parts: "train" and "eval" -> the parts, where that dataset is a mixture.
        preparation: dataset name -> `PreparationReport`, what became of each row; of a part `train/NAME`.
        sharing: dataset name -> `SharingReport`, what `share_prefixes` saved.
        generated: scores of freely written critiques (`cft_trl.evaluation.critic`) for the card, if there are any.

    Raises:
        CFTError: anything the user can put right, in one line (see `cft_trl.errors`).

    Example:
        >>> from datasets import load_dataset
        >>> from cft_trl import CFTConfig, CFTTrainer
        >>> rows = load_dataset("TIGER-Lab/WebInstruct-CFT", "WebInstruct-CFT-50K", split="train")  # doctest: +SKIP
        >>> CFTTrainer("Qwen/Qwen2.5-Math-7B", CFTConfig("out"), train_dataset=rows).train()  # doctest: +SKIP
    """

    _tag_names = ["trl", "cft"]  # noqa: RUF012 - TRL declares it so

    def __init__(
        self,
        model: Any,
        args: CFTConfig | None = None,
        data_collator: DataCollatorForCritique | None = None,
        train_dataset: Dataset | IterableDataset | list[DatasetPart] | None = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        args = settings_of(args, model)
        check_launch(args)
        self._base_model = base_name(model)
        model, self._revision, processing_class = open_named(model, args, processing_class)
        self._tell(settle(args, model, kwargs.get("peft_config")))
        self.parts, train_dataset, eval_dataset = take_mixtures(args, train_dataset, eval_dataset)
        check_arguments(args, train_dataset, data_collator, processing_class, kwargs)
        self.preparation: dict[str, PreparationReport] = {}
        self.sharing: dict[str, SharingReport] = {}
        self.generated: dict[str, Any] | None = None
        self._dates: dict[str, str] = {}
        self._label_ends: list[int] = []
        self._row_limit = args.max_length
        self._finite = FiniteWatch()
        with whole_models():
            super().__init__(
                model=model,
                args=for_trl(args),
                data_collator=data_collator,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                **kwargs,
            )
        self.args: CFTConfig = take_back(args, self.args)
        self._settle_model()
        self._settle_batches(data_collator)
        self._settle_turns()
        self._keep_record(train_dataset)

    def _settle_model(self) -> None:
        check_trainer(self)
        settle_fsdp2(self.accelerator, self.model, self.args.accelerator_config.gradient_accumulation_kwargs)
        model, self._varlen = self.accelerator.unwrap_model(self.model), False
        if self.args.share_prefixes:
            use_shared_attention(model, self._row_limit or self.args.pack_length)
        elif self.padding_free and self.args.varlen_attention:
            self._varlen = use_varlen_attention(model, self._row_limit, self.accelerator.device.type)
        self._target_metrics = {
            mode: TargetMetrics(self.args.objective, self.accelerator, evaluation=mode == "eval")
            for mode in ("train", "eval")
        }
        self._target_metrics["train"].begin(named(self.parts.get("train")))
        self._tell(mend_generation_config(self.model))

    def _settle_batches(self, collator: DataCollatorForCritique | None) -> None:
        self._tell(told_repeats(self.train_dataset, self.args))
        if collator is None:
            # Set now because TRL accepts no collator together with packing; the batches are the same, with one
            # tensor more for the verdicts.
            self.data_collator = DataCollatorForCritique(
                self.processing_class,
                objective=self.args.objective,
                pad_to_multiple_of=self.args.pad_to_multiple_of,
                padding_free=self.padding_free,
                share_prefixes=bool(self.args.share_prefixes),
                varlen_attention=self._varlen,
                return_verdict_mask=True,
            )

    def _settle_turns(self) -> None:
        if self.preparation:
            # Rows are written with the given template (`_tokenizer`); from here on this one asks, and is saved.
            self.processing_class: Any = as_trained(self._tokenizer)
            self.callback_handler.processing_class = self.processing_class
        self._tell(*tell_turns(self._tokenizer, self._end_ids, self.processing_class))

    def _keep_record(self, train_dataset: Dataset | IterableDataset | None) -> None:
        """Has the run write down what it is, before all that writes into its folder."""
        self.add_callback(ReportRows(self.preparation))
        base = {"name": self._base_model, "commit": hub_commit(self._base_model, self._revision)}
        if is_bundled(self.model.config._name_or_path):
            base["weights"] = "Q4_1"
        parts = self.parts.get("train")
        rows = parts_record(parts, self.preparation, "train") if parts else provenance(train_dataset)
        about = {"base_model": base, "dataset": rows}
        about["turns"] = turn_record(self._tokenizer, self._end_ids, self._dates, self.model)
        sharing = {name: {**vars(report), "ratio": report.ratio} for name, report in self.sharing.items()}
        self.record = RecordRun(about | {"sharing": sharing}, self._base_model)
        self.callback_handler.callbacks.insert(0, self.record)

    @property
    def _end_ids(self) -> list[int]:
        """The tokens that end an answer, with loss. A stream's rows have not gone by when training begins."""
        counted = list(self.preparation["train"].ends) if "train" in self.preparation else self._label_ends
        if counted or "train" not in self.preparation:
            return counted
        return turn_end_ids(self._tokenizer) or [self._tokenizer.eos_token_id]

    def _tell(self, *lines: str | None) -> None:
        if PartialState().is_main_process:
            print(*(line for line in lines if line), sep="\n", end="\n" if any(lines) else "", flush=True)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        model = self.accelerator.unwrap_model(self.model)
        add_end_tokens(model, self._end_ids)
        super()._save(output_dir, without_tied_copies(model, state_dict))
        if self.args.should_save and hasattr(model, "peft_config"):  # PEFT saves the adapter alone
            model.generation_config.save_pretrained(output_dir or self.args.output_dir)

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        columns = dataset.column_names or list(next(iter(dataset), {}))
        if not columns:
            raise CFTError(f"the {dataset_name} dataset is empty; give at least one row")
        if "input_ids" in columns:
            return self._accept_prepared(dataset, columns, args, packing, dataset_name)
        processing_class = self._tokenizer  # `evaluate` gives the one that asks as was trained
        self._dates = self._dates or freeze_run_dates(processing_class, args.output_dir)
        prompting = Prompting(args.objective, args.sft_target, args.wording)
        encoder = RowEncoder(processing_class, prompting, self._row_limit, args.over_length, f"{dataset_name} dataset")
        # What `evaluate` is given later under that name is no mixture.
        parts = self.parts.get(dataset_name) if dataset_name not in self.preparation else None
        with PartialState().main_process_first():  # the others find the first one's result in the cache
            dataset, reports = prepare_rows(parts or dataset, encoder, dataset_name, args)
            if args.shuffle_dataset:
                dataset = dataset.shuffle(seed=args.seed)
            if args.share_prefixes:
                dataset = self._share(dataset, args, dataset_name)
            elif packing:
                dataset = pack_dataset(dataset, self._row_limit, args.packing_strategy, map_kwargs(dataset, args))
        self.preparation.update(reports)
        if isinstance(dataset, Dataset) and PartialState().is_main_process:
            print(*reports.values(), sep="\n", flush=True)
            if dataset_name in self.sharing:
                print(self.sharing[dataset_name], flush=True)
        return dataset

    def _share(self, dataset: Dataset, args: CFTConfig, name: str) -> Dataset:
        if isinstance(dataset, IterableDataset):
            raise CFTError(f"share_prefixes needs all rows of the {name} dataset at hand, a stream has not")
        length = args.pack_length or self._row_limit
        assert length is not None  # the settings want one of the two
        dataset, self.sharing[name] = share_dataset(dataset, length, name, args.dataset_num_proc)
        return dataset

    def _accept_prepared(self, dataset, columns: list[str], args: CFTConfig, packing: bool, name: str):
        """A tokenised dataset is used as it is; only rows that are not in packs yet are packed, if asked for."""
        check_prepared_columns(dataset, columns, self._row_limit, name)
        if name == "train":
            self._label_ends = ends_of_labels(dataset, self._tokenizer)
        if "seen_until" in columns:
            return dataset
        if args.share_prefixes and "seq_lengths" not in columns:
            return self._share(dataset, args, name)
        if packing and "seq_lengths" not in columns:
            dataset = dataset.select_columns([column for column in FEATURE_COLUMNS if column in columns])
            dataset = pack_dataset(dataset, self._row_limit, args.packing_strategy, map_kwargs(dataset, args))
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for column in ("verdict_mask", "seen_until"):
            if column not in self._signature_columns:
                self._signature_columns: list[str] = [*self._signature_columns, column]

    def _track_num_input_tokens(self, inputs):
        if is_layout(inputs.get("attention_mask")):  # whose numbers are places, not ones
            inputs = {name: value for name, value in inputs.items() if name != "attention_mask"}
        super()._track_num_input_tokens(inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        verdict_mask, row_lengths = inputs.pop("verdict_mask", None), inputs.pop("row_lengths", None)
        metrics = self._target_metrics["train" if self.model.training else "eval"]
        weight = self.args.verdict_weight
        # Kept from TRL, which would count tokens by it: the layout of shared prefixes, an integer per token.
        layout = {"attention_mask": inputs.pop("attention_mask")} if is_layout(inputs.get("attention_mask")) else {}

        def forward(**batch):
            outputs = model(**batch, **layout)
            if batch.get("fused_lm_head"):
                metrics.add(outputs, batch["input_ids"], verdict_mask, row_lengths)
                if weight != 1.0 and verdict_mask is not None:
                    outputs.log_probs = weigh_verdicts(outputs.log_probs, verdict_mask, weight)
            return outputs

        with fused_head(self.args.device):
            return super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)

    def _get_dataloader(self, dataset, description, batch_size, *args, **kwargs):
        total, training = batch_size * self.args.world_size, kwargs.get("is_training", False)
        stream = whole_stream(dataset, total, endless=training)
        with all_rows(self.args, but_for=training):
            return deal_out(stream, super()._get_dataloader(stream, description, batch_size, *args, **kwargs))

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches = without_repeats(epoch_iterator, self.train_dataset, self.args, self.accelerator.gradient_state)
        return super().get_batch_samples(batches, num_batches, device)

    def training_step(self, *args, **kwargs):
        with fused_head(self.args.device):  # for the backward pass
            loss = super().training_step(*args, **kwargs)
        self._finite.add(loss)
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._finite.check_step(self, grad_norm)
        return grad_norm

    def train(self, resume_from_checkpoint: Any = None, *args, **kwargs):
        self._target_metrics["train"].clear()
        prepared = prepared_identities(self.train_dataset, self.eval_dataset)
        if resume_from_checkpoint:
            check_prepared(Path(self.args.output_dir), prepared)
        self.record.about["identity"] = {**self.record.about.get("identity", {}), **prepared}
        try:
            with freed_memory_kept(self.accelerator.device.type):
                result = super().train(resume_from_checkpoint, *args, **kwargs)
            if self.state.global_step == 0:
                raise CFTError(f"nothing was trained: no row could be used ({self.preparation.get('train')})")
            self._finite.check_weights(self, self.model_wrapped)
        except BaseException:
            for callback in self.callback_handler.callbacks:
                getattr(callback, "broken_off", lambda: None)()
            raise
        return result

    def _run_epoch(self, *args, **kwargs):
        # transformers looks at max_steps after a step only: a finished run would get one more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model, trial):
        """transformers' checkpoint, sealed; older ones go (`save_total_limit`) only when it is.

        Raises:
            CFTError: the disk is full; what was half-written is removed, the earlier checkpoints stay.
        """
        self._finite.check_weights(self, model)
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with whole_or_gone(folder):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()  # the others' random states and shards are part of it
                if self.args.should_save:
                    seal(folder)
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate_checkpoints(str(folder.parent), limit, self.state.best_model_checkpoint, use_mtime=True)

    def evaluate(self, eval_dataset=None, *args, **kwargs):
        self._target_metrics["eval"].begin(named(evaluated_parts(self.parts, eval_dataset)))
        return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, *args, **kwargs):
        result = super().predict(*args, **kwargs)
        self._target_metrics["eval"].clear()  # predict logs nothing, so nobody has taken them
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs and self.state.global_step == self._initial_global_step:
            logs.pop("train_loss")  # a mean of no steps, which transformers gives as 0
        mode = "train" if self.model.training else "eval"
        values = self._target_metrics[mode].pop()
        # Evaluation over several datasets logs each under its own prefix, which only the other keys tell.
        prefix = next((f"{name.removesuffix('_runtime')}_" for name in logs if name.endswith("_runtime")), "eval_")
        logs.update({prefix + name if mode == "eval" else name: value for name, value in values.items()})
        super().log(logs, start_time)

    def save_model(self, output_dir=None, _internal_call=False):
        """Saves model and tokenizer so that other tools read them too (see `cft_trl.models.portable`).

        transformers calls it for a checkpoint, before its other files, and again before it pushes.
        """
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            for note in make_portable(output_dir or self.args.output_dir):
                if not _internal_call:  # once, not with every checkpoint
                    print(f"note: {note}", flush=True)

    def create_model_card(self, model_name=None, dataset_name=None, tags=None) -> None:
        """Writes the model card from this run into `args.output_dir` (see `cft_trl.hub.run_card`).

        Args:
            model_name: The title; by default `<base model>-<OBJECTIVE>`.
            dataset_name: What the rows are called.
            tags: Further tags of the card, one or a list.
        """
        if not self.is_world_process_zero():
            return
        generated = {"generated": self.generated} if self.generated else {}
        evaluations = [e for e in self.state.log_history if any(name.startswith("eval_") for name in e)]
        write_model_card(
            Path(self.args.output_dir),
            base_model=self._base_model,
            config=self.args,
            preparation=self.preparation,
            dataset_name=dataset_name,
            metrics={**(evaluations[-1] if evaluations else {}), **generated},
            model_name=model_name,
            tags=[tags] if isinstance(tags, str) else tags,
        )
