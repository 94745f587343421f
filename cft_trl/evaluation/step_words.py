# ruff: noqa: RUF001
r"""Words that name a step, find fault with it, praise it, or trace the fault to another: for `first_error.py`."""

from __future__ import annotations

import re

FLAGS = re.IGNORECASE
MAX_CHARS = 100_000

ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"
)  # fmt: skip
CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: i for words in (ORDINALS, CARDINALS) for i, word in enumerate(words, 1)}

# Counted from the end.
LAST = {
    "second-to-last": 1, "second to last": 1, "next-to-last": 1, "next to last": 1, "last but one": 1,
    "penultimate": 1, "third-to-last": 2, "third to last": 2, "last but two": 2, "antepenultimate": 2,
}  # fmt: skip

# ---- what names a step -----------------------------------------------------------------------------------------------

UNIT = r"(?:steps?|paragraphs?|lines?|equations?)"
BAD = r"(?:wrong|incorrect|erroneous|false|flawed|invalid|faulty)"
# What stands before "+" or "= 5" is a formula's number, not a step's.
DIGITS = r"\d{1,3}\b(?! ?[+×/=÷]| ?\* ?\d| - |\.\d)"
# "Step 3", "steps 3 and 4" (their first), "step (3)", "Step #3", "step no. 3", "**Step 3**", "step three".
STEP_N = rf"{UNIT}(?:-(?=\d)|[\s*_`(\[#]{{0,6}})(?:no\.? ?|number )?(?P<n>{DIGITS}|(?:{'|'.join(CARDINALS)})\b)"
# "third step", "3rd step", "second calculation step", "the last step", "the second-to-last step", "the
# penultimate step"; "the first three steps" are not one.
NTH_STEP = (
    rf"\b(?P<nth>{'|'.join(LAST)}|{'|'.join(ORDINALS)}|last|final|middle|\d{{1,3}}(?:st|nd|rd|th))"
    rf"(?:,? (?:and|or|to|through) (?:the )?(?:{'|'.join(ORDINALS)}|last|final))?[ -]"
    rf"(?:(?!(?:{'|'.join(CARDINALS)}|{BAD})\b)\w+[ -])?{UNIT}\b"
)
# ProcessBench's own prompt tags paragraphs, from 0.
MENTION = re.compile(rf"\bparagraph_(?P<zero>\d{{1,3}})\b|\b{STEP_N}|{NTH_STEP}", FLAGS)
# "The error is not in step 1"; "as shown in step 1", "it contradicts step 1": step 1 is a witness.
REJECTED = re.compile(
    r"(?:\bnot|n't|rather than)(?: \w+)? (?:in|at|with|on) (?:the )?$|(?:\bnot|n't|rather than|instead of) (?:the )?$"
    r"|\b(?:except(?: for)?|apart from|aside from|other than|save for) (?:the )?$"
    r"|\b(?:multiply|subtract|divid|substitut|solv|plugg|combin|squar)ing (?:\w+ (?:to|from|into|by) )?(?:the )?$"
    r"|(?:\A|[.;:,] )\s*(?:using|given|based on|relying on|building on|taking) (?:the )?$"
    r"|(?:\A|[.;] )\s*unlike (?:the )?$|\b(?:according to|despite|contradict(?:s|ing|ed)?|(?:in)?consistent with"
    r"|agrees? with|compared (?:to|with)"
    r"|contrary to|matches|as (?:\w+ )?(?:explained|shown|stated|seen|found|computed|given|derived|established"
    r"|said) (?:in|by)"
    r"|(?:already|correctly|rightly) (?:\w+ )?(?:in|by)|(?:result|value|number|answer|taken|obtained|derived"
    r"|found) (?:from|of)"
    r"|follow(?:s|ed)? from|uses|reuses) (?:the )?$",
    FLAGS,
)
# "Everything after step 2", "from the end of step 2 on": the step that follows.
AFTER = re.compile(
    r"\b(?:everything|all|anything|(?:the )?(?:error|mistake)s? (?:\w+ )?(?:comes?|occurs?"
    r"|is)) (?:\w+ )?(?:right )?after (?:the )?$",
    FLAGS,
)
# "Step 3 is wrong because of step 2": the cause comes first.
CAUSE = re.compile(
    r"\b(?:because of|due to|owing to|caused by|inherit(?:s|ed|ing)?|carr(?:y|ies|ied|ying) over|stems? from"
    r"|comes? from"
    r"|results? from|resulting from|propagat\w+ (?:\w+ )?from|as a result of|originat\w+ (?:in|from)|(?:goes"
    r"|traces?|traced) back to"
    r"|thanks to|consequence of|on account of"
    r"|(?:repeats?|corrects?|fixes|keeps|copies|undoes|perpetuates|compounds) the (?:\w+ )?(?:errors?|mistakes?|slips?"
    r"|faults?) (?:of|in|from))\b(?: \w+'?s?){0,6}? ?$",
    FLAGS,
)
# "... but only because step 2 is": the fault is understood.
LIKEWISE = re.compile(r"(?:(?:,| and| or) ?(?:steps? )?\d{1,3})* (?:is|are|was|were|does|do|did|has|have)\W*\Z", FLAGS)
BECAUSE = re.compile(r"\b(?:because|since)\b", FLAGS)
# "Step 1 is right, unlike step 2": the step that is praised is not the one at fault.
PRAISED = re.compile(
    r"[\s*_`)\]]*(?:(?:,|and|or|&|to|through|-|–)[\s*_`]*(?:and\s+)?(?:steps?\s+)?\d{1,3}\b[\s*_`]*)*"
    r"(?:(?:is|are|was|were)(?: not|n't) (?:where|the (?:one|culprit|source|cause|problem|error|mistake))\b"
    r"|(?:is|are|was|were) (?!not\b)(?:\w+ )?(?:right|correct|fine|valid|sound|ok(?:ay)?)|holds?"
    r"|all is well)\b",
    FLAGS,
)
ROW = re.compile(rf"[ \t]*\|[\s*_`]*(?:{UNIT} *)?#?(?P<row>\d{{1,3}})[\s*_`.]*\|", FLAGS)
HEADING = re.compile(
    rf"[\s>*#_\-]*(?:[(\[]?{STEP_N}[)\]]?|(?P<item>\d{{1,3}}))[\s*_`]{{0,4}}(?:[:.)\u2013\u2014-](?!\d)[\s*_`]*|$)",
    FLAGS,
)
ANSWER_HEADING = re.compile(r"[\s>*#_\-]*(?:final )?answer\b[^:\n]{0,20}:", FLAGS)
OTHER_HEADING = re.compile(r"[\s>*#_\-]*(?:conclusion|verdict|summary|overall)\b[^:\n]{0,20}:", FLAGS)
QUOTE = re.compile(r"[\"“]([^\"“”\n]{3,300})[\"”]|`([^`\n]{3,300})`")

# ---- what finds fault ------------------------------------------------------------------------------------------------

FIRST_IS = re.compile(
    rf"\b(?:first|earliest) (?:\w+ )?(?:{BAD} {UNIT}|error|mistake)(?: is\b|:|\*|\s)*(?:(?:in|at) )?(?:{UNIT} )?"
    rf"(?P<n>{DIGITS})"
    rf"|\bno (?:\w+ )?(?:errors?|mistakes?|faults?) (?:\w+ )?(?:until|before"
    rf"|prior to) (?:the )?{UNIT} (?P<until>{DIGITS})",
    FLAGS,
)
OUTRIGHT = re.compile(
    rf"\b(?:first|earliest|initial) (?:\w+ ){{0,2}}?(?:error|mistake|flaw|problem|{BAD})\b"
    r"|\broot cause\b|\b(?:source|origin) of the (?:error|mistake|problem)\b|\bculprit\b"
    r"|\bfirst (?:goes|went|becomes) wrong\b|\b(?:goes?|went) wrong (?:first )?(?:at|in|with|from)\b",
    FLAGS,
)
NO_FAULT = re.compile(
    r"\b(?:no|any|without(?: an?y?)?|free (?:of|from)|not an?|isn't an?|zero)\s+(?:\w+\s+){0,2}?"
    r"(?:errors?|mistakes?|flaws?|problems?|issues?|faults?)(?:\s+(?:or|and|nor)\s+\w+)?\b"
    r"|(?:\b(?:not|never|nothing|no longer|neither|hardly)|n't)\s+(?:(?:say|claim|think|believe)\s+(?:\w+\s+){1,4}?)?"
    rf"(?:\w+\s+){{0,2}}?{BAD}\b"
    r"|(?:can(?:not|'t| not)|could(?:n't| not)|do(?:n't| not)|did(?:n't| not)|fail(?:ed)? to|unable to)\s+(?:\w+\s+)?"
    r"(?:find|see|spot|detect|identify|locate|discover)\s+(?:\w+\s+){0,3}?(?:errors?|mistakes?|flaws?|faults?|wrong)\b"
    r"|\bavoid(?:s|ed|ing)?\s+(?:\w+\s+){0,3}?(?:errors?|mistakes?|flaws?|slips?)\b"
    # "It is wrong to think that step 2 fails", "the claim that step 2 is wrong is mistaken"
    rf"|\b{BAD} to (?:think|say|claim|believe|suppose|call|object)\b.*|\bobjections? (?:is|are) {BAD}\b"
    rf"|\b(?:claim|objection|idea|suspicion|view|impression|charge|criticism|belief) that [^.;]*?\b(?:{BAD}|fails)\b"
    rf"[^.;]*? is (?:itself |also |in turn )?(?:{BAD}|mistaken|unfounded)\b"
    r"|\berror-free\b|\berrors? (?:bound|term|margin|estimate|propagation)\b|\bmargin of error\b",
    FLAGS,
)
FAULT = re.compile(
    r"\b(?:errors?|mistakes?|mistaken(?:ly)?|wrong(?:ly)?|incorrect(?:ly)?|inaccurate(?:ly)?|erroneous(?:ly)?|invalid"
    r"|flaw(?:s|ed)?|faulty|false|mis(?:calculat|comput|read|interpret|appl|count|took|tak|stat|understood|us)\w*"
    r"|contradict\w*|unjustified|unsupported|overlook\w*|omit\w*|omission|neglect\w*|forg[eo]t\w*|fail(?:s|ed) to"
    r"|(?:goes?|went) (?:astray|off track)|(?:breaks?|broke) down(?= (?:at|in|here|when|because|from|with)\b|\W*\Z)"
    r"|falls? apart|slips?|blunder\w*|botch\w*"
    r"|off by (?:one|an?|\$?\d)|not (?:ok(?:ay)?|fine|good)"
    r"|missing|left out|skip(?:s|ped)|(?:never|not) converted|without converting"
    r"|(?:should|ought to)(?: \w+)? (?:be|been|read|give|equal|follow)|is needed"
    r"|(?:(?:is|are|was|were|does|do|did|has|have)(?: \w+)? not|(?:is|are|was|were|does|do|did|has"
    r"|have)n't) (?:\w+ )?"
    r"(?:correct|right|true|valid|accurate|follow|hold|equal|justified|match|make sense)\w*|not correct"
    r"|the solution (?:\w+ )?(?:has|says|writes|stops|ends|answers)|instead of)\b"
    r"|\b(?:improper(?:ly)?|inconsisten\w*|circular|hallucinat\w*|unwarranted|untrue|fallac\w*|misle(?:d|ad)\w*"
    r"|deceptive(?:ly)?|illegitimate|unfounded|inappropriate(?:ly)?)\b"
    r"|\bnot [\"“$\\\d-]|[\u2717\u2718\u274c\u2716]",
    FLAGS,
)
# Fault that is only seeming: "step 2 looks wrong but is right".
SEEMING = re.compile(
    r"\b(?:looks?|looked|seems?|seemed|appears?|appeared|might|may|could|would|at first (?:sight|glance)"
    r"|suspect(?:s|ed)?"
    r"|thought|object(?:s|ed)? to)\b(?: \w+){0,4}? (?:wrong|odd|incorrect"
    r"|false|mistaken|suspicious|invalid|an? (?:error|mistake))\b",
    FLAGS,
)
PRAISE = re.compile(
    r"\b(?:right|correct(?:ly)?|fine|ok(?:ay)?|valid|sound|holds?|true|accurate|flawless)\b|[\u2713\u2714\u2705]"
    r"|\bno (?:errors?|mistakes?)\b"
    r"|\bnot (?:wrong|incorrect)\b|\bit (?:is|does)(?: not|n't)\s*\W*\Z",
    FLAGS,
)
# What speaks on about the step before.
GOES_ON = re.compile(
    r"\s*(?:but|however|yet|and|so|then|here|there|in fact|actually|unfortunately|,)*\s*[,:]?\s*"
    r"(?:(?:incorrect|wrong|mistaken|erroneous|false|improper|invalid)ly\b|this|that|it|its|which|here"
    r"|there|these|the (?:result|value|sum|product|difference|step|sign|calculation"
    r"|claim"
    r"|subtraction|addition|multiplication|division|equation|formula|reasoning|statement|conclusion|computation)"
    r"|\d|\$)",
    FLAGS,
)
# "All steps are right except step 2": the fault is in what is left out.
EXCEPTED = re.compile(
    rf"(?:\A\W*(?:apart from|aside from|except(?: for)?|other than|save for|besides|with the exception of)"
    rf"|\b(?:all|every|each|everything|the (?:rest|others?|solution"
    rf"|other steps))\b[^.;]*?[\s,](?:but(?: for)?|except(?:ing)?"
    rf"(?: for| in)?|save(?: for)?|apart from|aside from|other than|barring|with the exception of))"
    rf"\s+(?P<named>(?:the )?(?:{STEP_N}|(?:{'|'.join(ORDINALS)})\b(?! {UNIT})|{NTH_STEP}))",
    FLAGS,
)
# "Step 3 isn't." after praise; "Step 2 is." after blame that was denied.
ELLIPSIS = re.compile(
    r"[\s*_`]*(?:(?P<denied>(?:is|are|does|do|was)(?:n't| not))|(?:is|are|does|was)(?: where\b.*)?)[\s.!*_`]*\Z", FLAGS
)
# "The fourth applies the wrong rate", after words about steps.
BARE_ORDINAL = re.compile(
    rf"\A(\W*(?:(?:but|however|yet|and|then)\b,? )?(?:in )?the (?:{'|'.join(ORDINALS)}|last))(?: one)?(?=,"
    rf"| (?:\w+ly )?(?:is|was"
    r"|isn't|has|does|doesn't|contains?|makes?|applies|uses|divides|multiplies|adds|subtracts|takes|gives|loses|drops"
    r"|forgets|fails|errs|misses)\b)",
    FLAGS,
)
# "Of the four, only the second is wrong": with nothing else named, the four are steps.
OF_ALL = re.compile(
    rf"\A(\W*of (?:the|all|its) (?:{'|'.join(CARDINALS)}|\d+)(?: steps)?),? (?:only )?"
    rf"(the (?:{'|'.join(ORDINALS)}|last))"
    r"(?: one)?(?= (?:is|was|has|contains|fails|errs)\b)",
    FLAGS,
)
# Which of two it is stays open.
OPEN = re.compile(
    rf"\b(?:either|one of|whether)(?: in)? (?:the )?{UNIT}\b"
    rf"|\b(?:errors?|mistakes?|faults?|flaws?)[^.;]{{0,40}}? between {UNIT} \d+ and\b",
    FLAGS,
)
AFTERWARDS = re.compile(
    r"\s*(?:but |and )?(?:after (?:that|this|which)|from there|thereafter|afterwards|then|next)\b", FLAGS
)
SINCE = re.compile(r"\b(?:since|as|because|given that|where|while) (?:the )?$", FLAGS)
FROM = re.compile(r"(?:\A|[.;:,] )\s*from (?:the )?$", FLAGS)
THEN_THAT = re.compile(r",? (?:it|we|one|the solution)\b", FLAGS)
AND = re.compile(r"[\s*_`]*(?:,|and|or|,? and)\s*(?:the )?", FLAGS)
# "Step 3 claims 12 + 24 = 35. It is 36."
CLAIMS = re.compile(r"\b(?:claims?|says?|states?|writes?|has|puts?|gives?)\b.*=", FLAGS)
IT_IS = re.compile(
    r"\W*(?:it|this|that) (?:is|equals|gives|makes) (?:actually |really |in fact )?(?P<value>\$?\d[\d.,]*)", FLAGS
)
RIGHTLY = re.compile(r"[\s*_`]*(?:\w+ )?(?:correctly|rightly|properly)\b", FLAGS)
UP_TO = re.compile(r"\b(?:up to(?: and including)?|through|until) (?:the )?$", FLAGS)
CHINESE = (
    (r"第([一二三四五六七八九十]|\d{1,3})步|步骤 ?([一二三四五六七八九十]|\d{1,3})",
     lambda m: f" step {'一二三四五六七八九十'.find(m[1] or m[2]) + 1 or (m[1] or m[2])} "),
    (r"(?:没有|无|并无|不存在)(?:任何)?(?:错误|问题)|无误|没错", "is right"),
    (r"不正确|不对|错误|有误|出错|错了|不成立", "is wrong"),
    (r"正确|成立", "is right"),
    (r"[。！]", ". "), (r"[，；]", "; "), ("：", ": "),
)  # fmt: skip
# What the reference teacher says of a right step.
FINE = re.compile(r"\bas the solution says\b|\bwhich matches\b|\bsame result\b", FLAGS)

# ---- how a critique is cut -------------------------------------------------------------------------------------------

SENTENCE = re.compile(r"(?<=[.!?])(?<!\b[Nn]o\.)[\"'\u201d\u2019*_)]*\s+(?=[^a-z\s])")
# Halves of a sentence judge by themselves: "step 1 is right, but step 2 is not".
HALVES = re.compile(
    r",?\s+\b(?:but(?! (?:one|two) step| (?:only |merely |just )?(?:because|since)\b)|however|whereas"
    r"|while|although|though|yet)\b,?"
    r"(?!\s+(?:the solution|in|at|on|with|rather|is|lies|occurs)\b)\s+|;\s+",
    FLAGS,
)
CONCESSION = re.compile(r"\s*(?:while|although|though)\b[^,]{1,120},\s*", FLAGS)
