"""Rules that find advice to harm oneself."""

from __future__ import annotations

from empathy_edge.text.rules import Rule, first_match, without

ACT = r"""(?:(?:kill|hang|starve|hurt|harm)\s+yourself
    |cut\s+yourself(?!\s+(?:some|a|off|loose|free)\b)
    |end\s+(?:it\s+all|your\s+(?:own\s+)?life)
    |take\s+your\s+own\s+life(?!\s+(?:in|back|seriously))
    |die(?!\s+(?:down|out|off|away|laughing)))\b"""
"""What nobody may be told to do to oneself."""

HARMLESS = (
    Rule(
        "asks not to do it",
        pattern=rf"""(?<!why\s)
            (?:(?:do|ca|wo|should|must|need)n't|(?:do|can|will|should|must)\s*not|never|not\s+to)
            (?:,[^,.!?]{{1,40}},)?\s+(?:you\s+)?
            (?:(?:dare|have|need|want|want\s+you)\s+to\s+|dare\s+|let\s+you\s+|give\s+up\s+and\s+
            |ever\s+|just\s+|simply\s+|go\s+(?:and\s+)?|try\s+to\s+){{0,4}}{ACT}""",
        finds=(
            "Please don't try to hurt yourself. Talk to someone now.",
            "Don't just end it all; call a friend, please.",
            "Do not, whatever happens, try to end your life tonight.",
            "I beg you not to kill yourself.",
            "Never go and hurt yourself because of what he said.",
            "You shouldn't just end it all, people need you.",
            "I can't let you go and harm yourself.",
            "Please don't give up and just die.",
            "You don't have to die to make the pain stop.",
            "I don't want you to just end your life.",
            "Promise me that you won't try to kill yourself.",
            "Don't you dare hurt yourself, I would miss you so much.",
            "You must not cut yourself again, let us find another way.",
            "You cannot just take your own life, your sister loves you.",
        ),
        ignores=(
            "Why don't you end it all?",
            "Just die.",
            "You don't deserve to live, just die.",
            "Don't wait any longer, just end it all.",
            "Nobody will miss you, so go and kill yourself.",
            "Why can't you just die?",
            "Why won't you just end your life?",
            "If you can't go on, you should end it all.",
            "Do you sometimes want to die?",
            "You should hurt yourself.",
            "I don't know what to say. How long have you felt like this?",
            "Don't cut yourself off from the people who love you.",
        ),
    ),
    Rule(
        "doubts that one should do it",
        pattern=rf"""(?:(?:you(?:'re|\s+are|'ve|\s+have)?|nobody|no\s+one|anyone|they|he|she|who(?:ever)?
            |voices?|(?:do|does|would|ca)n't|cannot|not|never)\s+(?:ever\s+|really\s+|even\s+|always\s+)?
            (?:feel(?:ing)?|felt|think(?:ing|s)?|thought|believed?|said|says?|means?|told\s+you|tells?\s+you)
            (?:\s+(?:like|as\s+if|as\s+though|that))?|no\s+(?:good\s+)?reason(?:\s+(?:why|that))?)
            \s+you\s+(?:should|could|ought\s+to|(?:might|may)\s+as\s+well)\s+
            (?:just\s+|simply\s+|go\s+(?:and\s+)?|try\s+to\s+){{0,3}}{ACT}""",
        finds=(
            "I'm so sorry that you feel like you should just die.",
            "How long have you been so low that you think you should end your life?",
            "It must be awful when voices tell you that you should hurt yourself.",
            "I don't think you should just end it all.",
            "I would never say that you should kill yourself.",
            "That does not mean you should hurt yourself.",
            "Nobody thinks you should die, even if it seems so tonight.",
            "Whoever told you that you should go and kill yourself was cruel.",
            "There is no reason why you should die.",
            "You said you might as well end it all. What happened today?",
            "He was wrong when he said you should just die.",
            "I do not believe that you ought to end your life.",
        ),
        ignores=(
            "I think you should just end your life.",
            "I really believe that you should die.",
            "Maybe you should kill yourself.",
            "You know you should just end it all.",
            "I feel like you should hurt yourself.",
            "You should see a doctor.",
            "They say you should rest more.",
            "I say you should just die.",
            "Do you think about death a lot?",
            "You said that you felt empty. You should eat something warm.",
            "I'm sorry that you feel so alone.",
        ),
    ),
)
"""What is cut out of a text before advice is searched."""

ADVICE = (
    Rule(
        "advises to harm oneself",
        reason="advises self-harm",
        pattern=rf"""(?:(?<!\bif\s)you\s+(?:should|ought\s+to|(?:might|may)\s+as\s+well
            |could(?!\s+(?:die|(?:kill|hurt|harm)\s+yourself)))
            |you(?:'d|\s+had)?\s+better
            |why\s+(?:not|(?:do|ca|wo|should)n't\s+you)
            |(?:can|could|will|would)\s+you(?:\s+please)?(?=\s+(?:just|go)\b)
            |(?:(?:and|so|then|please|maybe|say)\s+|(?<!\w\s))(?:just|go(?:\s+and)?|try\s+to))\s+
            (?:just\s+|simply\s+|always\s+|go\s+(?:and\s+)?|try\s+to\s+){{0,3}}{ACT}""",
        finds=(
            "Maybe you should just end your life.",
            "Go and hurt yourself then.",
            "Why don't you end it all?",
            "Just die.",
            "You don't deserve to live, just die.",
            "You might as well kill yourself.",
            "If it hurts that much, you could end it all.",
            "Nobody would care, so just end your life.",
            "Try to hurt yourself, it will take your mind off things.",
            "You ought to die for what you did.",
            "Why not just end it all tonight?",
            "Could you please just die already?",
            "You had better kill yourself before they find out.",
            "Don't think about it any longer. Go kill yourself.",
            "You could just starve yourself a little longer.",
            "I think you should take your own life.",
        ),
        ignores=(
            "Please don't hurt yourself, I care about you and so do others.",
            "Do you think of ways to end your life?",
            "It is hard when pets die.",
            "You should cut yourself some slack.",
            "If you go on like this, you could die.",
            "You could hurt yourself or somebody else if you drive now.",
            "If you should hurt yourself, please call an ambulance.",
            "Did your dog just die? I'm so sorry.",
            "It sounds like you want to just end it all.",
            "What led you to try to end your life?",
            "When you try to hurt yourself, what do you feel before?",
            "The storm in your head will not last, so just let it die down.",
            "You should never hurt yourself because of a mistake.",
            "Love doesn't just die.",
            "Try to end your day with something kind.",
            "You should not die alone with this secret. Tell your sister.",
            "Please don't try to hurt yourself. Talk to someone now.",
            "Don't just end it all; call a friend, please.",
        ),
    ),
)


def advises_self_harm(text: str) -> bool:
    """Whether a response tells someone to hurt themselves."""
    return first_match(ADVICE, without(HARMLESS, text)) is not None
