"""Conclusions whose praise is limited, doubted or contradicted: at most "wrong" is meant, never "right"."""

LIMITED = """
right except for step 3
right, except that 3 x 4 is 12
right except where the sign is lost
correct but for the last line
correct apart from the final addition
correct aside from a slip in step 2
right, save for the unit
right other than the final answer
right up to step 3, after which it fails
right up to and including step 2
right until the third step
right till the division
right as far as it goes
right so far, but it stops too soon
right for the first two steps
right for the most part
right in method, wrong in arithmetic
right in principle
correct in spirit, but the number is off
correct in form only
correct in part
correct in magnitude but negative
correct in its approach; the arithmetic fails
right through step 4
right only in step 1
only partly right
mostly right
nearly correct
almost right
roughly right
superficially correct
conditionally correct
technically correct, but it answers another question
partially correct: the derivative is right but the root is not
close to correct
half right
right to a point
right at first glance
right at first, then it divides by the wrong number
right, although the final answer should be 12
right, though step 4 contains an error
right, but 3 x 4 = 12
right, yet the boxed answer is 13
right, however the last step fails
correct; however the boxed answer is not
correct. However, the boxed answer is not.
correct. Unfortunately, the sum in step 4 is miscalculated.
correct. Except for the sign.
correct. But the final answer is off by one.
correct with one exception: step 3
correct with a minor error in step 3
correct with an arithmetic slip
correct by luck
correct by accident, since two errors cancel
correct by changing the sign in step 2
right if the sign is flipped
right if one ignores step 3
right provided that x is positive
right assuming the misprint is mended
right as long as n is even
right when x > 0, which is not given
right before the last line
right minus the sign
right modulo the unit
right barring the last step
right besides step 3
right despite an error in step 2
right while the boxed answer is not
right whereas the reason is wrong
right. The final answer should be 12, though.
right. Step 3 contains an error.
right. Wait, 3 x 4 is 12, not 13.
right. Hmm, let me recheck step 2.
right. On reflection, step 2 fails.
right. No, the sign is lost.
right. Actually, the sign is lost.
right? wrong?
right or not
the solution is right up to the last line
the solution is right except in step 2
the solution is correct, except that the unit is missing
the solution is correct until it divides by zero
the solution is correct apart from step 5
the solution is correct for n = 1 only
the answer is correct in absolute value but has the wrong sign
the answer is correct only by coincidence
the answer is right but for the unit
the solution was right until step 4
the solution is right in its first half
the solution would be right if the sign were kept
the solution should have been right
the solution might be right
the solution could be correct
the solution may well be correct
the solution looks right but it is not
the solution seems right, but step 3 fails
the steps are correct, but the conclusion is not
all steps are correct except step 4
all steps are correct up to the last
not all steps are correct
no step is correct
none of the steps is correct
nothing in the solution is correct
neither the method nor the answer is correct
the approach is right
the student claims that the answer is right
the student believes the solution is correct
the solution says it is correct
the author insists that the result is right
I do not think that the solution is right
I don't believe the answer is correct
I don't think it's right
I doubt that the solution is right
I am not convinced that the solution is correct
I cannot confirm that the solution is right
it is not true that the solution is correct
it is false that the answer is right
it is unlikely that the solution is correct
it is unclear whether the solution is right
there is no way the solution is right
it is tempting to call the answer correct
nobody would say the solution is correct
42 is the correct answer
the correct answer is 12
right answer (B), the student has (C)
correct answer \\frac{1}{2}
the correct answer, 12, is not reached
the student never reaches the correct answer
the student is one step from reaching the correct answer
the student tries to find the correct answer
the student almost reaches the correct answer
the student stops before reaching the correct answer
instead of the correct answer it gives 13
correct the sign in step 2
correcting step 2 gives 12
the solution goes in the right direction
the right idea, the wrong number
right with reservations
correct in all but the last step
correct in every step but one
right in all steps except 4
correct as far as step 3
right on the money until the end
right; but see step 3
correct (except for the sign)
correct (mostly)
right — up to step 3
right… almost
The solution is correct save for an arithmetic slip in step 4.
The solution is correct to begin with but derails in step 4.
The first part of the solution is correct.
The solution's approach is right.
The solution is on the right track.
The answer is the right number with the wrong unit.
The final answer is right, the reasoning isn't.
The solution starts out right.
The solution is no more than half right.
The solution is right in saying that x > 0 but wrong otherwise.
Everything is right except the answer.
Everything but the answer is right.
All but the last step are correct.
All steps but the third are right.
Every step is right save one.
Steps 1-3 are correct.
Steps 1 to 3 are right, step 4 is not.
The answer would have been right had the sign been kept.
One would think the solution is right.
At first sight the solution is right.
It's correct that x=3, but the answer asks for y.
It is right that 3 x 4 = 12.
The student is right that the sum is 12.
The student is right to use the chain rule.
The student is correct in noting that n is even, yet the count is off.
Were it not for step 3, the solution would be right.
The solution is far from being right.
The solution is anything but right.
The solution cannot be considered correct.
The solution can hardly be called correct.
This is not the correct answer.
That is not the right solution.
This isn't a correct solution.
The student's answer differs from the correct answer.
The student's answer does not match the correct answer.
The answer is close to the correct answer.
The correct answer was missed.
The student had the correct answer but changed it.
The solution lacks the correct conclusion.
right/wrong: wrong
Right or wrong? Wrong.
is it right? No.
right? No, wrong.
Not sure if right.
The solution is correct, said the student.
The solution is correct according to the student.
supposedly right
It was right before it was wrong.
correct answer: 12; student's: 13
correct result is 12
right, if you ignore the sign
right — wrong unit, though
The solution is correct in 3 of 4 steps
3 of 4 steps are correct
Most steps are correct
Some steps are right
The first steps are correct
The steps before step 4 are correct
The other steps are correct
The remaining steps are right
The calculation in step 2 is correct
The arithmetic is right
half of the answer is right
part of the solution is correct
Only the answer is right
The answer to part (a) is right
The answer to the first question is correct
""".strip().split("\n")
