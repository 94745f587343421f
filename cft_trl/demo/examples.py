r"""What can be clicked: questions, solutions to critique, and the five worked examples of the tab Learn.

    WORKED[0].title       # "The wrong operation"
    WORKED[0].solution    # "Step 1: 4 × 6 = 24 pencils in all.\nThe answer is 24 pencils."

The first of each list is of the kind that `cft quickstart` trains a small model on, the next ones of the kind of
recipes/smollm2-135m; the last asks for more than 135 million parameters can give.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Worked:
    """A solution, a critique of it as the method's teacher would write it, and what it is an example of."""

    title: str
    what: str
    query: str
    solution: str
    critique: str
    verdict: str
    wrong_step: int | None


# label -> question
QUESTIONS = {
    "Pencils": "Rosa has 4 pencils and finds 6 more. How many pencils does she have now?",
    "A first sum": "What is $2 + 2$?",
    "Boxes": "There are 6 pencils in a box. Mira buys 7 boxes and gives 5 pencils away. How many does she keep?",
    "A rectangle": "Sam walks once around a rectangular field of 9 by 5 meters. How many meters does he walk?",
    "A sum of squares": "What is $3^2 + 4^2$?",
    "A quadratic (for larger models)": "Find the sum of all real solutions of $\\frac{x^2 - 5x + 6}{x - 3} = 2x - 7$.",
}

WORKED = (
    Worked(
        "The wrong operation",
        "The number is computed correctly, but it is the answer to another question.",
        "Rosa has 4 pencils and finds 6 more. How many pencils does she have now?",
        "Step 1: 4 × 6 = 24 pencils in all.\nThe answer is 24 pencils.",
        'Step 1: 4 + 6 = 10 is needed, not "4 × 6 = 24": a wrong operation.\nThe right answer is 10 pencils.\n'
        "Conclusion: wrong [END]",
        "wrong",
        1,
    ),
    Worked(
        "A slip in the arithmetic",
        "The plan is right and the number is not. The critique does the sum again and says where it differs.",
        "Sam walks once around a rectangular field of 8 by 4 meters. How many meters does he walk?",
        "Meters for two sides: 8 + 4 = 12\nMeters around: 12 × 2 = 22\nThe answer is \\boxed{22} meters.",
        "Step 1: 8 + 4 = 12, which matches.\nStep 2: 12 × 2 = 24, but the solution has 22: an arithmetic error.\n"
        "So the correct answer is 24 meters.\nConclusion: wrong [END]",
        "wrong",
        2,
    ),
    Worked(
        "Nothing wrong",
        "More than half of the published critiques say right: a model that only ever says wrong has learnt nothing.",
        "In a game, 8 baskets count 3 points each. With 5 extra points, how many points does Lena have?",
        "First, 8 × 3 = 24 points from play.\nThen, 24 + 5 = 29 points in total.\nThe answer is 29 points.",
        "Step 1: 8 × 3 = 24. Right.\nStep 2: 24 + 5 = 29, as the solution says.\nAnswer: 29 points.\n"
        "Conclusion: right [END]",
        "right",
        None,
    ),
    Worked(
        "It stops too early",
        "Each line is true, yet the question is not answered. The critique supplies the step that is missing.",
        "4 children share 36 candies equally. Each child eats 3 candies at once. How many candies does each "
        "child still have?",
        "First, 36 ÷ 4 = 9 candies in each share.\nThe answer is 9 candies.",
        "Step 1: 36 ÷ 4 = 9. Right.\nStep 2: 9 - 3 = 6 is a missing step; the solution ends with 9.\n"
        "The correct answer is 6 candies.\nConclusion: wrong [END]",
        "wrong",
        2,
    ),
    Worked(
        "A flaw in the reasoning",
        "Dividing by an unknown loses a solution. Small models do not see this; models of 7 billion parameters can.",
        "Solve $x^2 = 3x$ over the real numbers.",
        "Step 1: Divide both sides by $x$ to get $x = 3$.\nStep 2: Check: $3^2 = 9$ and $3 \\cdot 3 = 9$.\n"
        "The answer is $\\boxed{3}$.",
        "Step 1: dividing by $x$ is only allowed for $x \\ne 0$, so this step is wrong: it loses $x = 0$.\n"
        "Instead, $x^2 - 3x = x(x - 3) = 0$ gives $x = 0$ or $x = 3$.\nConclusion: wrong [END]",
        "wrong",
        1,
    ),
)

# label -> (question, solution)
SOLUTIONS = {worked.title: (worked.query, worked.solution) for worked in WORKED}
