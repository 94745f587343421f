"""The words that the verdict grammar knows: what is said, of what, and what turns it round, limits or reports it.

    "The student's final answer is not correct."    WHOLE noun "answer", COPULAS "is", NEGATIONS "not", RIGHT "correct"

English, in lower case, with plain apostrophes.
"""

from __future__ import annotations

import re

BREAKS = {",", ":", "\n", "/", "|", "("}


def words(text: str) -> set[str]:
    return set(text.split())


RIGHT = words("right correct valid accurate")
WRONG = words("wrong incorrect invalid inaccurate flawed erroneous mistaken")
# Only these may stand alone: "Conclusion: valid" may be the answer of a question about an argument.
BARE = words("right wrong correct incorrect")
COPULAS = words(
    "is are was were isn't isnt aren't arent wasn't wasnt weren't seem seems appear appears look looks remains be"
)
PRONOUN_COPULAS = words("it's that's he's she's")
NEGATIONS = words("not never cannot can't isnt arent wasnt fails failed")
NEGATIVE_PHRASES = {
    ("far", "from"),
    ("anything", "but"),
    ("nowhere", "near"),
    ("no", "longer"),
    ("no", "means"),
}
HEDGES = words(
    "partial almost half somewhat close neither either possibly probably likely perhaps maybe only quasi semi"
)
# Adverbs that leave "right" as it is; any other ("superficially", "conditionally") limits it.
SURE = words(
    "entirely completely fully absolutely perfectly totally wholly exactly certainly definitely clearly truly actually "
    "really surely obviously finally ultimately undoubtedly precisely accordingly consequently thoroughly strictly "
    "simply plainly evidently demonstrably unquestionably mathematically"
)
# Adverbs that leave open which of the two is meant.
UNSURE = words("hardly scarcely barely possibly probably likely perhaps maybe seemingly supposedly allegedly arguably")
# What turns round or withdraws all that its clause says, however far from the verb it stands.
DOUBTS = words(
    "no none nothing nobody neither nor doubt doubts doubtful unlikely deny denies dispute disputes reject rejects "
    "refuse false untrue unclear unsure uncertain impossible hard difficult premature tempting disagree disagrees if "
    "whether unless suppose supposing assume assuming who instead without avoids avoid"
)
# "The student claims that the answer is right" is the student's word; "I conclude that ..." is the critic's.
REPORTS = words(
    "claim claims claimed claiming think thinks thought believe believes believed believing say says said assert "
    "asserts asserted assume assumes assumed insist insists insisted state states stated argue argues argued pretend "
    "pretends hope hopes suggest suggests suggested wrote writes feel feels felt convinced pretending saying implying "
    "implies imply expects expect told heard"
)
CRITICS = words("i we critique critic review reviewer judge teacher must can safely therefore thus hence")
CLAUSE_STARTS = words("and but so because since therefore thus hence however although though while whereas") | BREAKS
ALL = words("all everything anything nothing none every step steps")
JUDGING = words("find found consider judge judged deem mark marked call rate rated declare rule grade believe")
FILLERS = words(
    "in fact indeed therefore thus hence also still just quite very so all both to as considered judged deemed found "
    "determined marked only even by"
)
ARTICLES = words("a an the")
QUALIFIERS = words("final numerical overall boxed given proposed student's end")
MODALS = words("would could should may might must will if unless whether wouldn't shouldn't")
REASONS = words("because since as due if unless except")
CONJUNCTIONS = words("but and however although though while whereas so because since that yet therefore thus hence")
# A subject begins after these.
SUBJECT_STARTS = CONJUNCTIONS | BREAKS
# A subject's head stands before these: "the method used in the solution" is about the method.
SUBJECT_ENDS = words("of in for to from with used using by at on which who where after")
# A verdict word before these is no adjective, as it is in "right triangle" and "correct value".
FOLLOWERS = words("or not with for in overall given than when at on by up from here too also after under end")
FOLLOWERS |= words(
    "until till apart aside only barring minus besides provided assuming despite throughout before through"
)
FOLLOWERS |= REASONS | CONJUNCTIONS
REACHING = re.compile(
    r"(?:reach|get|giv|obtain|arriv|lead|produc|find|yield|provid|deriv|com|conclud|end|result|choos|select|pick|stat|"
    r"report|box|submit|writ|present|offer|propos|calculat|comput|deduc|infer)(?:e|s|es|ed|ing)?|"
    r"(?:led|gave|got|goes|found|came|wrote|chose|has|had|have|is|was|contains?|makes?)"
)
SUBJECTS = {
    "whole": "solution solutions answer answers response responses result results student attempt output work proof "
    "argument explanation submission derivation conclusion",
    "steps": "reasoning step steps reason reasons",
    "part": "approach method methods idea setup set-up formula strategy start beginning process analysis "
    "interpretation part logic calculation calculations computation computations arithmetic algebra working",
    "pronoun": "it this that everything he she they which one",
}
# "Most steps", "the first answer", "steps 1 and 2", "only the answer": a part, whatever the noun.
PARTIAL = words(
    "most some first last other remaining half part many few several only just merely earlier previous initial early "
    "second third fourth two three four five majority rest"
)
# "The answer key", "the other solution", "the reference answer": not the solution that is judged.
ANOTHER = words(
    "key alternative alternate other others reference textbook question problem statement option choice premise "
    "official expected opposite competing second"
)
KINDS = {word: kind for kind, words in SUBJECTS.items() for word in words.split()}
