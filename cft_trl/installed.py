"""What of the extras is installed, asked before anything is loaded or generated that would be lost without it.

require("grade", "grading", "mpmath")   # cft: grading needs mpmath, which is not installed; pip install …
"""

from __future__ import annotations

import importlib.util

from cft_trl.errors import CFTError

# Distributions whose name is not their module's.
_DISTRIBUTIONS = {"math_verify": "math-verify", "latex2sympy2_extended": "latex2sympy2_extended"}


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported.

    Example:
        >>> is_installed("json"), is_installed("no_such_module")
        (True, False)
    """
    return importlib.util.find_spec(module) is not None


def require(extra: str, what: str, *modules: str) -> None:
    """Refuses to begin without a library.

    Args:
        extra: The extra of cft-trl that brings it.
        what: What needs it, as the message's first words.
        modules: Names to import.

    Raises:
        CFTError: One is not installed; the message names the extra.

    Example:
        >>> require("eval", "grading", "no_such_module")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: grading needs no_such_module, which is not installed; pip install 'cft-trl[eval]'
    """
    for module in modules:
        if not is_installed(module):
            name = _DISTRIBUTIONS.get(module, module)
            raise CFTError(f"{what} needs {name}, which is not installed; pip install 'cft-trl[{extra}]'")
