"""Patterns of what people in danger say openly, each with examples, which are tests.

A few plain patterns: they find what is said openly, miss what is hinted at, and assess nobody.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sign:
    """A verbose regular expression, with sentences that it must find and sentences that it must not."""

    pattern: str
    found: tuple[str, ...]
    not_found: tuple[str, ...] = ()


SIGNS = (
    Sign(
        r"\b(?:kill|hang|shoot|drown|poison)(?:ing)?\s+myself\b",
        found=("sometimes I just want to kill myself", "I keep thinking of hanging myself"),
        not_found=("I could kill for a coffee", "They are killing the forest"),
    ),
    Sign(
        r"\b(?:end|ending|take|taking)\s+(?:my\s+(?:own\s+)?life|it\s+all)\b",
        found=("I'm going to end it all tonight", "I think of taking my own life"),
        not_found=("I ended my contract", "That is the end of it"),
    ),
    Sign(
        r"\bsuicid(?:e|al)\b",
        found=("I have been suicidal for weeks", "I think about suicide"),
    ),
    Sign(
        r"""\b(?:want|wanted|wish|ready|plan(?:ning)?|rather)\s+(?:to\s+)?
            (?:die|be\s+dead|be\s+gone\s+for\s+good)\b""",
        found=("I want to die.", "I would rather be dead"),
        not_found=("I am afraid that my car is going to die soon", "My dog died this morning."),
    ),
    Sign(
        r"\bi(?:\s+a|')m\s+going\s+to\s+die\s+by\s+my\s+own\b",
        found=("I'm going to die by my own hand",),
        not_found=("I'm going to die if I see one more of these forms",),
    ),
    Sign(
        r"\bi\s+wish\s+i\s+(?:was|were)\s+(?:dead|never\s+born)\b",
        found=("I wish I was dead", "I wish I were never born"),
        not_found=("I wish I was taller",),
    ),
    Sign(
        r"""\b(?:don'?t|do\s+not|no\s+longer)\s+(?:want\s+to|wanna)\s+
            (?:live(?!\s+(?:there|here|in|with|near|on|alone|like))|be\s+alive|exist|wake\s+up\s+again)\b""",
        found=("I don't want to live anymore", "I no longer want to exist"),
        not_found=("I do not want to live there", "I don't want to live with my parents"),
    ),
    Sign(
        r"\b(?:no|any)\s+(?:reason|point)\s+(?:to\s+live|in\s+living|to\s+go\s+on\s+living)\b",
        found=("There is no reason to live.", "I don't see any point in living"),
        not_found=("There is no reason to worry",),
    ),
    Sign(
        r"\bbetter\s+off\s+(?:dead|without\s+me)\b",
        found=("everyone would be better off without me",),
        not_found=("I am better off without him",),
    ),
    Sign(
        r"""\b(?:cut|cutting|hurt|hurting|harm|harming|burn|burning)\s+myself\b
            (?!\s+(?:on|by\s+accident|while|when\s+cooking|shaving))""",
        found=("I keep hurting myself",),
        not_found=("I cut myself while cooking", "I hurt myself on the stairs"),
    ),
    Sign(
        r"\boverdos(?:e|ed|ing)\s+on\b",
        found=("I took an overdose on purpose", "I overdosed on pills"),
        not_found=("The nurse told us about overdoses",),
    ),
    Sign(
        r"\bself[-\s]?harm(?:ing)?\b",
        found=("I have been self-harming again",),
        not_found=("That did her no harm",),
    ),
    Sign(
        r"""\b(?:don'?t|do\s+not)\s+(?:want\s+to|wanna)\s+(?:be\s+here|be\s+around|go\s+on)\b
            (?=\s*(?:[.!,]|any\s?more|without|$))""",
        found=("I don't want to go on.", "I don't want to be here anymore"),
        not_found=("I don't want to go on holiday with them",),
    ),
    Sign(
        r"\b(?:sleep\s+and\s+)?never\s+wake\s+up\b",
        found=("I want to sleep and never wake up",),
        not_found=("My son never wakes up before nine",),
    ),
    Sign(
        r"\bi\s+should\s+(?:just\s+)?(?:die|disappear|be\s+dead)\b",
        found=("I should just disappear.",),
        not_found=("I should just go home",),
    ),
    Sign(
        r"\b(?:if|when)\s+i\s+(?:was|were)\s+(?:gone|dead|no\s+longer\s+(?:here|alive))\b",
        found=("Nobody would miss me if I was gone.",),
        not_found=("Call me when I am gone for the day",),
    ),
    Sign(
        r"""\b(?:wrote|writing|written)\s+(?:\w+\s+){0,2}
            (?:goodbye|suicide|farewell)\s+(?:letter|note)s?\b""",
        found=("I wrote a goodbye letter to my mum",),
        not_found=("I wrote a letter to my mum",),
    ),
    Sign(
        r"""\b(?:cut|cutting|slit|slitting)\s+my\s+(?:arms?|wrists?|legs?|thighs?|skin)\b
            (?!\s+(?:on|by\s+accident|while|when\s+(?:i|cooking|shaving)|shaving))""",
        found=("I cut my wrists again",),
        not_found=("I cut my leg when I fell off the bike",),
    ),
    Sign(
        r"\b(?:hit|hitting|bang|banging)\s+my\s+head\s+(?:against|on)\b",
        found=("I keep banging my head against the wall",),
        not_found=("He turned my head",),
    ),
    Sign(
        r"\bscratch(?:ing)?\s+my\s+(?:arms?|legs?|skin|face)\s+(?:until|bloody)\b",
        found=("I scratch my arms until they bleed",),
        not_found=("I scratch my arms when it itches",),
    ),
    Sign(
        r"""\b(?:tak(?:e|ing)|swallow(?:ing)?)\s+
            (?:all\s+(?:of\s+)?(?:them|my\s+(?:pills|tablets|medicine))
              |the\s+whole\s+(?:pack|bottle)\s+of\s+pills)\b""",
        found=("I think of taking all my pills", "I could swallow the whole bottle of pills"),
        not_found=("I take my pills in the morning",),
    ),
    Sign(
        r"""\bhow\s+many\s+(?:of\s+)?(?:my\s+)?(?:\w+\s+)?(?:pills|tablets)\s+
            (?:it\s+)?would\s+(?:it\s+)?take\b""",
        found=("how many sleeping pills would it take",),
        not_found=("how many pills do I take with breakfast",),
    ),
    Sign(
        r"\b(?:least\s+painful|painless|easiest|quickest)\s+way\s+to\s+(?:go|die)\b",
        found=("What is the easiest way to die?",),
        not_found=("What is the easiest way to learn it?",),
    ),
    Sign(
        r"\binsurance\b.{0,40}\b(?:worth\s+more\s+than\s+i\b|more\s+than\s+they\s+need\s+me)",
        found=("My insurance is worth more than I am",),
        not_found=("My insurance did not pay for the car",),
    ),
    Sign(
        r"""\bi(?:'ve|\s+have)?\s+stopped\s+eating\b
            (?=\s*(?:[.!,]|$|\w+\s+(?:days?|weeks?)|last|this|because|since|and))""",
        found=("I stopped eating last week",),
        not_found=("I stopped eating meat",),
    ),
    Sign(
        r"\b(?:throw(?:ing)?|threw)\s+up\s+after\s+(?:every|each)\s+meal\b",
        found=("I throw up after every meal",),
        not_found=("I threw up after the boat trip",),
    ),
)

FIGURES_OF_SPEECH = (
    Sign(
        r"laugh(?:ed|ing)?\s+(?:so\s+hard|to)|killing\s+myself\s+laughing",
        found=("I laughed so hard I wanted to die laughing", "I was killing myself laughing"),
    ),
    Sign(
        r"die\s+of\s+(?:laughter|embarrassment|boredom|shame)|to\s+die\s+for",
        found=("I wanted to die of embarrassment", "This cake is to die for"),
        not_found=("I want to die.",),
    ),
    Sign(
        r"(?:movie|film|book|novel|song|series|game|squad)\b.{0,40}\bsuicid|suicide\s+squad",
        found=("We watched Suicide Squad", "I saw a film about suicide"),
        not_found=("I have been suicidal for weeks",),
    ),
)
"""What is no sign, although a pattern of SIGNS may find it."""
