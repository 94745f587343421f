"""The Space: an app in which a reader solves, critiques and compares with a critique-tuned model.

    cft demo --model runs/mine --base-model smollm2-135m     # here, http://127.0.0.1:7860
    cft demo --model ORG/MODEL --deploy ORG/SPACE            # on the Hub

Read in this order: settings.py (what may be set), loaded.py (which model it is), runtime.py (the models, on a CPU, a
GPU, ZeroGPU or behind an endpoint), asks.py (what a visitor may ask for), rendering.py and views.py (texts made
harmless, then shown), actions.py (what happens when a button is pressed), page.py and browse_tab.py (the tabs), app.py
(all of it, served), deploy.py (the Space on the Hub).
"""

from cft_trl.demo.app import build, serve
from cft_trl.demo.settings import DemoSettings

__all__ = ["DemoSettings", "build", "serve"]
