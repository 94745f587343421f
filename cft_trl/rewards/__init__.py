"""Rewards for training critics by reinforcement, with the signature of TRL's `GRPOTrainer`.

    from cft_trl.rewards import refinement_reward, solution_reward, verdict_reward

    trainer = GRPOTrainer(model, reward_funcs=[verdict_reward, refinement_reward, solution_reward], train_dataset=rows)

`rows` are what `cft convert --to trl-prompts` writes (`cft_trl.sources.trl_layouts.prompts_for_rl`).
"""

from cft_trl.rewards.functions import refinement_reward, solution_reward, verdict_reward

__all__ = ["refinement_reward", "solution_reward", "verdict_reward"]
