"""The Space: everything is in the package `cft_trl.demo`; CFT_MODEL and CFT_BASE_MODEL say which models it shows."""

import os

if os.environ.get("SPACES_ZERO_GPU"):
    import spaces  # noqa: F401  before anything that imports torch

from cft_trl.demo import serve

if __name__ == "__main__":
    serve()
