"""Critique fine-tuning under `accelerate launch`; the same settings as `cft train`.

    accelerate launch --config_file recipes/accelerate/zero3.yaml recipes/cft.py \
        --config recipes/qwen2.5-math-7b/cft.yaml --output_dir runs/qwen2.5-math-7b-cft
"""

import sys

from cft_trl.cli import entry

if __name__ == "__main__":
    entry(["train", *sys.argv[1:]])
