"""Conclusions as people and models word them, by what they mean.

A reading is opposite when it is "right" where that is not meant, or "wrong" where that is not meant. No reading is
never opposite, but it may be lost: the tests look at both. Limited praise is in verdict_phrasings_limited.py.
"""

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
