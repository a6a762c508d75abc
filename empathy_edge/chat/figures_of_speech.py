"""Harmless phrases that are cut out of a message before signs of danger are searched, each with examples."""

from __future__ import annotations

from empathy_edge.text.rules import Rule

FIGURES_OF_SPEECH = (
    Rule(
        "laughs",
        pattern=r"""(?:i|we)\s+(?:was\s+|were\s+|just\s+|all\s+|both\s+|had\s+to\s+)?laugh(?:ed
              |ing)?\s+so\s+(?:hard|much)\s+
            (?:that\s+)?(?:i|we)\s+
            (?:wanted\s+to\s+die|(?:nearly|almost)\s+(?:died|killed\s+myself)|could\s+have\s+died
              |thought\s+i\s+would\s+die)(?:\s+laughing\b|(?=\s*(?:[.!?,;)]|$)))
            |(?:(?:want|wanted|going|about|ready)\s+to\s+|wanna\s+|rather\s+|could\s+(?:have\s+)?|nearly\s+
              |almost\s+)?
             (?:die|died|dying)\s+(?:laughing|of\s+laughter|from\s+laughing|with\s+laughter)\b
            |(?:kill|killing|killed)\s+(?:myself|ourselves)\s+(?:laughing|with\s+laughter)\b""",
        finds=(
            "I laughed so hard I wanted to die laughing",
            "I was killing myself laughing",
            "we laughed so hard that i nearly died",
            "I wanted to die laughing when the cake fell on the floor",
            "My brother tells it so well, I could die laughing every time.",
            "I almost killed myself laughing at his face",
            "i was laughing so hard I wanted to die!",
            "We both laughed so much we almost died",
            "I nearly died of laughter at the wedding",
            "When grandpa dances we are killing ourselves laughing",
            "I want to die laughing whenever she does that voice",
            "I had to laugh so hard I thought I would die, the teacher was not amused",
        ),
        ignores=(
            "I laughed to hide it, but I want to kill myself tonight.",
            "Everyone laughed so hard at me that I want to die.",
            "Everybody laughed so hard I wanted to die",
            "they laughed and I wanted to die",
            "I can't laugh any more, I just want to die",
            "I want to die. Laughing is something for others",
            "I laughed so hard my stomach hurts",
            "I heard them laughing so hard that I want to kill myself",
            "He would laugh if I killed myself in front of him",
            "She laughed when I said that I am suicidal",
            "we laughed so hard last year and now he wants to die",
            "i laughed so hard i wanted to die because it was the only way not to cry",
        ),
    ),
    Rule(
        "exaggerates",
        pattern=r"""(?:(?:want|wanted|wish|wished|going|about|ready)\s+to\s+|wanna\s+|could\s+(?:have\s+)?
              |nearly\s+|almost\s+)?
            (?:die|died|dying)\s+of\s+(?:pure\s+|sheer\s+)?
            (?:embarrassment|boredom|cuteness|curiosity|envy|jealousy|happiness|joy|excitement|cringe)\b
            |(?<!want\sto\s)(?<!wanna\s)(?<!wish\sto\s)(?<!rather\s)(?:die|died|dying)\s+of\s+(?:pure\s+
              |sheer\s+)?shame\b
            |(?<!want\s)(?<!wanted\s)(?<!wish\s)(?<!ready\s)(?<!plan\s)(?<!planning\s)(?<!going\s)
              (?<!deserve\s)
             to\s+die\s+for\b""",
        finds=(
            "I wanted to die of embarrassment",
            "This cake is to die for",
            "I could die of embarrassment",
            "i want to die of boredom in this class",
            "She called me mum in front of everyone and I nearly died of shame.",
            "The view from up there is to die for!",
            "I am dying of curiosity, tell me",
            "her new kitten, I want to die of cuteness",
            "I wanted to die of sheer boredom at that conference",
            "my aunt makes a lasagne to die for",
            "When I saw their house I wanted to die of envy",
            "I wanna die of happiness, she said yes",
        ),
        ignores=(
            "I want to die.",
            "I want to die of shame for what I did",
            "I'm so ashamed, I want to die",
            "i want to die for real this time",
            "I am ready to die for nothing at all, I just want out",
            "She is dying of cancer",
            "My father died of a stroke in June",
            "I would rather die of shame than tell my parents",
            "It is boring here and I want to die",
            "I was so embarrassed that I wanted to end my life",
            "He died for his country",
            "I am planning to die for months now",
        ),
    ),
    Rule(
        "would rather die than do something small",
        pattern=r"""rather\s+(?:die|be\s+dead)\s+than\s+(?:ever\s+)?
            (?:wear|watch|dance|sing|camp|read|listen\s+to|cook|clean|iron|jog|play|queue|support|cheer
              |drive|shop
              |(?:be\s+)?(?:seen|caught)\s+(?:in|with|wearing))\b""",
        finds=(
            "I'd rather die than wear that dress",
            "i would rather die than watch another season of that show",
            "I would rather die than sing in front of my class.",
            "He would rather be dead than caught wearing a tie, and so would I",
            "I'd rather die than listen to his podcast again",
            "My son would rather die than clean his room",
            "i'd rather die than ever camp in the rain again",
            "Honestly, I would rather die than dance at their wedding",
            "I'd rather be dead than seen in those shoes",
            "Rather die than queue for two hours in this heat lol",
            "I would rather die than play golf with my boss",
        ),
        ignores=(
            "I'd rather die than live like this",
            "I would rather be dead",
            "i would rather die than go back to him",
            "I'd rather die than eat again",
            "I would rather die than tell anyone what he did to me",
            "I'd rather be dead than a burden for my kids",
            "i'd rather wear the blue one than the red one",
            "I would rather die tonight than wait for the results",
            "I'd rather watch a film than go out",
            "She would rather stay than leave him",
            "I'd rather die than wake up to another day",
            "I would rather die. Reading does not help anymore",
        ),
    ),
    Rule(
        "works too hard",
        pattern=r"""(?:i'?m|i\s+am|i\s+was|been|we're|we\s+are)\s+(?:\w+\s+)?killing\s+(?:myself|ourselves)\s+
            (?:at\s+(?:the\s+gym|work)|with\s+(?:overtime|work|this\s+(?:diet|job|essay))
              |for\s+(?:this|that)\s+(?:job|exam|company|client|degree|team)
              |over\s+(?:this|that|my)\s+(?:essay|thesis|report|project|exam)
              |to\s+(?:finish\s+(?:the|this|that|my|our)\s+(?:report|thesis|essay|project|work|order|house)
                |meet\s+(?:the|this|that|our)\s+deadlines?|pay\s+(?:the|my|our)\s+(?:rent|bills|loan|debts)
                |please\s+(?:my|the|his|her)\s+\w+|impress\s+\w+)\b|working|studying|training|revising)\b""",
        finds=(
            "I've been killing myself at work and nobody says thanks",
            "i am killing myself for this job",
            "I'm killing myself with overtime and the boss goes home at four",
            "We have been killing ourselves to meet the deadline on Friday.",
            "I was killing myself over that report all weekend",
            "im killing myself studying for the finals",
            "I have been killing myself at the gym and lost one kilo",
            "I'm really killing myself to please my mother-in-law",
            "she earns twice as much while I am killing myself working nights",
            "I've been killing myself over my thesis since March",
            "I'm killing myself to pay the rent",
        ),
        ignores=(
            "I am killing myself tonight",
            "I'm thinking of killing myself at work",
            "i keep thinking about killing myself with pills",
            "My job makes me want to kill myself",
            "I have been thinking about killing myself over Christmas",
            "I'm killing time at work",
            "work is killing me",
            "I am killing myself to be with my son again",
            "I want to kill myself, I can't study any more",
            "I work so hard and still I want to end it all",
            "He is working himself to death",
            "I am close to killing myself and go training as if nothing was wrong",
            "I'm killing myself to finish it",
            "i am killing myself to meet my mum again",
            "I am killing myself to finish this pain",
        ),
    ),
    Rule(
        "talks about a work",
        pattern=r"""(?<!wrote\sa\s)(?<!write\sa\s)(?<!writing\sa\s)(?<!my\s)
            (?:movie|film|book|novel|song|series|documentary|game|article|poem|podcast|story|essay|episode
              |play|lecture
              |lesson|thriller|musical)s?\s+
            (?:(?:that|which)\s+(?:is|was|are|were)\s+|(?:is|was|are|were)\s+)?(?:all\s+|really\s+|partly\s+)?
            (?:about|on)\s+(?:(?:an?|the|two|some)\s+)?(?:(?!my\b)\w+\s+)?
            (?:suicide\b
              |suicidal(?:\s+(?:man|woman|boy|girl|teenagers?|teens?|people|person|mother|father|student
              |poet|king))?\b)
            |suicide\s+squad\b
            |(?:band|album\s+by|concert\s+by|listen\s+to|listening\s+to|listened\s+to
              |fan\s+of)\s+suicidal\s+tendencies\b""",
        finds=(
            "We watched Suicide Squad",
            "I saw a film about suicide",
            "a film about suicide",
            "i'm reading a book about a suicidal poet, it is quite good",
            "The song is about suicide but it sounds so cheerful.",
            "There was a documentary on teenage suicide on tv yesterday",
            "we have to write an essay about suicide in Hamlet",
            "My brother is a fan of Suicidal Tendencies and plays them all day",
            "Did you hear that podcast about the suicide of a pop star?",
            "I didn't like the novel, it was a story about two suicidal teenagers",
            "suicide squad was the worst film i have ever seen",
            "Our teacher showed us a series that is partly about suicide",
        ),
        ignores=(
            "I have been suicidal for weeks",
            "I read the whole book and thought about suicide",
            "i wrote a song about suicide because i am so close to it",
            "The film made me suicidal",
            "I am writing a book about my suicide",
            "I need to talk about suicide",
            "My story is about to end with suicide",
            "I watched a film and then planned my suicide",
            "a book about gardening",
            "My poems about suicide are no longer just poems",
            "In every game I play I think of suicide",
            "This song is about dying and I want to die",
            "I have suicidal tendencies, my doctor says",
        ),
    ),
    Rule(
        "tells of another's death",
        pattern=r"""(?<!i\s)(?<!almost\s)(?<!nearly\s)(?<!have\s)(?<!i've\s)(?<!i\shad\s)(?:committed
              |commits)\s+suicide\b
            |(?<!i\s)(?<!nearly\s)(?<!almost\s)(?<!have\s)(?<!i\shad\s)died\s+(?:by|of|from
              |through)\s+suicide\b
            |lost\s+(?:him|her|them|someone|(?:my|a|our|his|her|their)\s+(?:best\s+|old\s+|older\s+
              |little\s+|younger\s+)?
              \w+)\s+to\s+suicide\b
            |(?:his|her|their|(?:father|mother|dad|mum|mom|brother|sister|son|daughter|friend|cousin|uncle
              |aunt|husband
              |wife|neighbour|partner|grandfather|grandmother)'s)\s+suicide\b""",
        finds=(
            "My brother committed suicide last spring and I miss him",
            "We lost our son to suicide",
            "my best friend died by suicide when we were seventeen",
            "I never got over my father's suicide.",
            "A boy from my daughter's class committed suicide, what do I tell her?",
            "i lost her to suicide and i can't talk to anyone about it",
            "He left no letter, and his suicide came out of nowhere",
            "In the last chapter the doctor commits suicide",
            "My uncle died of suicide, but in the family we say heart attack",
            "The neighbours still talk about her suicide",
            "I lost a colleague to suicide this year",
            "After my sister's suicide my parents split up",
        ),
        ignores=(
            "I almost committed suicide last winter",
            "I lost my job and I am close to suicide",
            "I think about suicide every day since my brother died",
            "i nearly died by suicide in may",
            "She died and now I think of suicide",
            "My suicide would hurt my parents",
            "I want to commit suicide like my dad did",
            "My brother died in a car crash",
            "I lost all hope, only suicide is left",
            "He committed a crime",
            "my own suicide is planned for friday",
            "I have lost everything and turn to suicide in my thoughts",
            "Would they come to the funeral if I committed suicide?",
            "i have almost committed suicide twice",
            "I wish I had died by suicide back then",
        ),
    ),
)
"""What is no sign, although a pattern of SIGNS may find it."""
