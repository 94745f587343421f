"""Conclusions as people and models word them, by what they mean.

A reading is opposite when it is "right" where that is not meant, or "wrong" where that is not meant. No reading is
never opposite, but it may be lost: the tests look at both.
"""

# Praise that is limited, doubted or contradicted. What is meant is at most "wrong", never "right".
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

# What is meant is "wrong".
WRONG = """
wrong
Wrong.
**wrong**
*Incorrect*
__wrong__
"wrong"
wrong!
WRONG [END]
incorrect, the sum is 12
wrong, although the method is right
wrong, but the method is correct
wrong because of step 2
wrong since 3 x 4 is 12
wrong: step 2 adds instead of multiplying
wrong; the correct answer is 12
wrong - 3 x 4 is 12
wrong (3 x 4 is 12)
not right
not correct
not at all correct
not entirely right
not quite right
far from right
anything but correct
nowhere near correct
by no means right
no longer correct
hence wrong
clearly wrong
the solution is wrong
the solution is incorrect
the solution is not right
the solution isn't correct
the solution is not fully correct
the solution is flawed
the solution is invalid
the answer is wrong
the final answer is wrong
the final answer, 13, is incorrect
the answer 13 is wrong
the boxed answer is incorrect
the answer is not correct
the answer cannot be right
the answer can't be correct
the student's answer is wrong
the student's solution is therefore incorrect
the response is inaccurate
the proof is invalid
the derivation is flawed
the reasoning is right up to step 3, so the solution is wrong
the method is right, but the answer is wrong
the setup is correct, however the result is wrong
although the method is right, the answer is wrong
while the first steps are correct, the final answer is incorrect
the first two steps are right; the answer is wrong
it is wrong
this is incorrect
that's wrong
it's not right
I find the solution wrong
I consider the answer incorrect
I conclude that the solution is wrong
we must conclude that the answer is incorrect
it reaches the wrong answer
it arrives at an incorrect result
it does not reach the correct answer
the student gets the wrong answer
the student fails to reach the right answer
the student did not arrive at the correct answer
the student's work leads to a wrong result
step 3 is wrong, so the solution is wrong
the solution contains an error in step 2 and is incorrect
""".strip().split("\n")

# What is meant is "right".
RIGHT = """
right
Right.
**correct**
*Right*
"correct"
right!
RIGHT [END]
correct, and well explained
correct, with no errors
correct in all steps
correct in every step
correct in full
correct in its entirety
correct on all counts
correct throughout
correct overall
correct as it stands
correct as stated
correct because 3 x 4 = 12
right since both roots were tested
right; every step follows
right: all steps hold
right - every step follows
right (all steps checked)
right, but it could be shorter
correct, although the explanation could be clearer
correct. However, it could be more concise.
not wrong
not incorrect
entirely correct
completely right
absolutely correct
therefore right
clearly correct
the solution is right
the solution is correct
the solution is entirely correct
the solution is indeed right
the solution is not wrong
the solution is valid and complete
the answer is right
the final answer is correct
the final answer, 12, is correct
the answer 12 is right
the boxed answer is correct
the student's answer is right
the student's solution is therefore correct
the response is accurate
all steps are correct
all steps and the final answer are correct
each step is correct and the answer is right
although the method is unusual, the solution is correct
while lengthy, the solution is correct
it is right
this is correct
that's right
I find the solution correct
I conclude that the solution is right
we can conclude that the answer is correct
there is no doubt that the solution is correct
no errors were found, so the solution is correct
it reaches the correct answer
it arrives at the right result
the student gets the right answer
the solution is correct and free of errors
the solution is correct, without any mistakes
""".strip().split("\n")

# Neither; or blame that was mended, denied or only supposed: not "wrong".
NEITHER = """
there is nothing wrong with the solution
I found nothing wrong
there is no wrong step
no wrong steps
it has no incorrect steps
it never takes a wrong step
the wrong answer is avoided
not entirely wrong
not completely wrong
hardly wrong
possibly wrong
the solution may be wrong
the solution would be wrong if x were negative
wrong only if x is negative
wrong unless x is positive
wrong at first, but corrected in step 4
the solution was wrong at first, but the student fixed it
the solution was initially wrong but recovers
I do not think the solution is wrong
I don't think it's wrong
the student claims that the answer key is wrong
the key is wrong
wrong. Wait, 3 x 4 is 12 after all.
wrong. On second thought, both signs are right.
to say that it is wrong would be a mistake
it would be wrong to call the answer right
nothing is wrong
there isn't anything wrong with it
no step is wrong
none of the steps is wrong
I cannot find a wrong step
I see no wrong step
Is anything wrong? No.
The claim that the solution is wrong is false
Those who say the solution is wrong are mistaken
It is a mistake to think the solution is wrong
The solution is not wrong at all
The answer key, not the solution, is wrong
The question is wrong
only the notation is wrong
The solution looked wrong but is right
The solution seems wrong at first, yet it is right
wrong in notation only, the answer is right
wrong? No, right.
It could not be more right
The alternative answer is wrong
All other answers are wrong
The other solution is wrong
Option B is wrong
The reference answer is wrong
The solution rules out the wrong answers
The solution refutes a wrong argument
The solution avoids the incorrect approach
""".strip().split("\n")
