"""What the `reference` teacher says, several ways each; reference.py decides which sentence is due.

    Step 2: {eq}, but the solution has {got}: an arithmetic error.

`{eq}` and `{missed}` are true equations, `{quote}` is the solution's own in double quotes, `{got}` a number it has, and
`{answer}` the right answer with its unit. Sentences are short because a student pays for every token. A name that ends
in `_last` is for an error after the last equation.
"""

RIGHT = ("{eq}, correct.", "{eq}, as the solution says.", "{eq}, which matches.", "{eq}. Right.", "{eq}, same result.")
WRONG: dict[str, tuple[str, ...]] = {
    "arithmetic": (
        "{eq}, but the solution has {got}: an arithmetic error.",
        "{eq}, not {got}, so the arithmetic is wrong.",
        "{eq}, but the solution says {got}: wrong arithmetic.",
        "{eq}. The solution has {got}, an arithmetic mistake.",
    ),
    "operation": (
        "{eq}, but the solution has {quote}: wrong operation.",
        "{eq}. The solution writes {quote}, the wrong operation.",
        "{eq} is needed, not {quote}: a wrong operation.",
        "{eq}, but {quote} is written, so the operation is wrong.",
    ),
    "misread": (
        "{eq}, but the solution has {quote}: {was} misread as {read}.",
        "{eq}. The solution writes {quote}, so it misread {was} as {read}.",
        "{eq}, not {quote}: {read} is misread, it should be {was}.",
        "{eq}, but {quote} is written: misread, {was} became {read}.",
    ),
    "missing": (
        "{missed} comes first, but the solution has {quote}: a missing step.",
        "{missed} is needed first. The solution writes {quote}, so a step is missing.",
        "{missed} must be found first, not {quote}: a step is missing.",
        "{missed} is a missing step, so {quote} is wrong.",
    ),
    "missing_last": (
        "{missed} is still needed, but the solution stops at {got}: a missing step.",
        "{missed} is a missing step; the solution ends with {got}.",
        "{missed} should follow, but a step is missing and the answer given is {got}.",
        "{missed} is left out, so the answer {got} is wrong: a missing step.",
    ),
    "conversion": (
        "{missed} comes first, but the solution has {quote}: the unit is not converted.",
        "{missed} is needed first. The solution writes {quote}, without converting the unit.",
        "{missed} must be found first, not {quote}: the unit was never converted.",
        "{missed} converts the unit, but the solution skips it and has {quote}.",
    ),
    "conversion_last": (
        "{missed} is still needed, but the solution stops at {got}: the unit is not converted.",
        "{missed} converts the unit, but the solution ends with {got}.",
        "{missed} should follow, but the answer given is {got}, so the unit was never converted.",
        "{missed} is left out, so the unit of the answer {got} is wrong.",
    ),
    "unit": (
        "{eq} {unit}, but the solution says {wrong_unit}: wrong unit.",
        "{eq} {unit}, not {wrong_unit}, so the unit is wrong.",
        "{eq}, in {unit}. The solution writes {wrong_unit}, the wrong unit.",
        "{eq} and the unit is {unit}, but the solution has {wrong_unit}: a unit error.",
    ),
    "unit_last": (
        "{answer}, but the solution says {wrong_unit}: wrong unit.",
        "{answer}, not {wrong_unit}, so the unit is wrong.",
        "{answer} is meant. The solution writes {wrong_unit}, the wrong unit.",
        "{answer}; the solution has {wrong_unit}: a unit error.",
    ),
    "method": (
        "{eq} is needed, but the solution has {quote}: a wrong step.",
        "{eq}. The solution writes {quote}, a wrong step.",
        "{eq}, not {quote}, so this step is wrong.",
        "{eq} belongs here, but {quote} is written: a wrong step.",
    ),
    "method_last": (
        "{answer}, but the solution's steps lead to {got}.",
        "{answer}, not {got}; the steps do not fit the problem.",
        "{answer} is what the problem asks for, but the solution has {got}.",
        "{answer} is right; the solution ends with {got}.",
    ),
    "answer_last": (
        "{answer}, but the solution says {got}.",
        "{answer}, not {got}, so the answer is wrong.",
        "{answer}, but {got} is given as the answer.",
        "{answer}. The solution answers {got}, which is wrong.",
    ),
}
GOING_ON = ("Then {rest}.", "From there, {rest}.", "Going on, {rest}.", "So {rest}.")
CONFIRMED = (
    "The answer is {answer}.",
    "The answer {answer} is right.",
    "So the answer is {answer}.",
    "Answer: {answer}.",
)
CORRECTED = (
    "The correct answer is {answer}.",
    "So the correct answer is {answer}.",
    "The answer should be {answer}.",
    "The right answer is {answer}.",
)
LUCKY = (
    "The answer is {answer}, matched only by luck.",
    "The answer is {answer}; the solution gets it by luck.",
    "The correct answer is {answer}, which the solution reaches by luck.",
    "The final {answer} is right, but by luck.",
)
