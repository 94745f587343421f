"""The README's ten lines, with fewer rows and steps, from an installed package."""

from datasets import Dataset

from cft_trl import CFTConfig, CFTTrainer
from cft_trl.sources.arithmetic import arithmetic_records

rows = Dataset.from_list(list(arithmetic_records(8, levels=(1,))))
config = CFTConfig("runs/mine", learning_rate=5e-4, packing=True, max_length=512, max_steps=1, report_to="none")
trainer = CFTTrainer("smollm2-135m", config, train_dataset=rows)
trainer.train()
trainer.save_model()
