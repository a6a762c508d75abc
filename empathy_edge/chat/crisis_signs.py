"""Patterns of what people in danger say openly, each with examples, which are tests.

A few plain patterns: they find what is said openly, miss most of what is hinted at, and assess nobody. Rules
with `is_certain=False` also find many harmless messages: in a chat a missed crisis is worse than a false
alarm, in a report it is the other way round.
"""

from __future__ import annotations

from empathy_edge.text.rules import Rule

_BY_ACCIDENT = r"""\s+(?:(?:badly|again|slightly|yesterday|today|a\s+bit|a\s+little)\s+)?
    (?:by\s+(?:accident|mistake)\b|accidentally\b
      |on\s+(?:an?|the|that|this|broken)\s+
       (?!(?:bad|regular|daily|day|arms?|wrists?|legs?|thighs?|inside|weekend)\b)
      |(?:(?:while|when)\s+(?:i\s+was\s+)?)?
       (?:cook|bak|chop|slic|peel|shav|garden|play|runn|climb|ski|skat|cycl|danc|train|exercis|lift
         |carry|open|clean|iron|work|jump|fall|slipp|tripp|swimm|fix|repair|mov|paint|hik|sew|mow)ing\b
      |when\s+i\s+(?:fell|slipped|tripped|opened|lifted|dropped|shaved|jumped)\b)"""
"""What follows where people say that they hurt themselves and mean an accident."""

SIGNS = (
    Rule(
        "names an act against oneself",
        pattern=r"""(?:kill|hang|shoot|drown|poison|strangle|unalive)(?:ing)?\s+myself\b
            (?!\s+(?:in\s+the\s+foot|an?\s+(?:e-?mail|text|message|reminder)|with\s+my\s+cooking)\b)
            |(?:nearly|almost)\s+killed\s+myself\b
             (?!\s+(?:laughing|tripping|falling|slipping|running|carrying|getting|on\s+(?:the|that|those)\b))
            |(?:if\s+i|(?:should|could|would)\s+have|wish\s+i\s+had|wish\s+i'd)\s+(?:just\s+|had\s+)?
             (?:killed|hanged|shot|drowned|poisoned)\s+myself\b(?!\s+in\s+the\s+foot\b)
            |(?:want\s+to|wanna|gonna|going\s+to|might|should)\s+(?:just\s+)?kms\b""",
        finds=(
            "sometimes I just want to kill myself",
            "I keep thinking of hanging myself",
            "i am going to kill myself tonight",
            "I'm so close to killing myself and nobody knows it",
            "Yesterday I wanted to drown myself in the lake.",
            "i have been googling how to poison myself",
            "If I had a gun I would shoot myself.",
            "I bought a rope to hang myself",
            "I almost killed myself last month and never told anyone",
            "honestly i want to kms",
            "Would it be wrong to unalive myself?",
            "should i just kill myself? at least it would be quiet then",
            "Would they cry if I hanged myself?",
            "I should have killed myself years ago",
        ),
        ignores=(
            "I could kill for a coffee",
            "They are killing the forest",
            "I don't want to shoot myself in the foot by asking for too much money",
            "I'll shoot myself an email so I don't forget it",
            "my feet are killing me after that wedding",
            "I nearly killed myself tripping over the cat",
            "I could have shot myself in the foot with that answer",
            "Where should I hang my self-portrait?",
            "we ran ten kms this morning",
            "i am drowning in work this week",
            "My wife says I will poison the whole family with my cooking",
            "My uncle shot himself when I was nine.",
            "The neighbour's dog was poisoned and I feel so sorry for him",
            "mum will kill me when she sees the car",
        ),
    ),
    Rule(
        "wants to jump",
        pattern=r"""(?:want(?:ed)?\s+to|wanna|going\s+to|gonna|think(?:ing)?\s+(?:of|about)|feel\s+like
              |could\s+just
              |should\s+just|might|urge\s+to|about\s+to)\s+(?:just\s+)?
            (?:(?:jump|throw\s+myself|jumping|throwing\s+myself)\s+(?:off|from|under)
              |(?:jump|throw\s+myself|step|jumping|throwing\s+myself|stepping)\s+in\s+front\s+of)\s+
            (?:a|the|this|that|my|our)\s+(?:\w+\s+)?
            (?:bridge|roof|building|balcony|cliff|tower|train|tram|bus|truck|lorry|car)\b
            (?!\s+(?:into\s+the|with\s+a)\b)""",
        finds=(
            "I keep thinking about jumping off a bridge",
            "I want to jump in front of a train",
            "i could just jump off the roof and it would be over",
            "Some days I feel like throwing myself under a bus.",
            "I'm going to jump off the railway bridge tonight",
            "When I stand there I get the urge to jump from the balcony",
            "i wanted to step in front of a truck this morning",
            "I was about to throw myself off a cliff when my phone rang",
            "thinking of jumping from my balcony again",
            "I might throw myself in front of that train.",
            "gonna jump off a building, nobody cares anyway",
        ),
        ignores=(
            "We went bungee jumping off a bridge in Austria",
            "My boss threw me under the bus in that meeting",
            "the cat wants to jump off the roof",
            "If all your friends jump off a bridge, do you do it too?",
            "We want to jump off the old bridge into the river, like every summer",
            "I want to jump on the next train to Paris",
            "A man jumped in front of our train and I can't stop seeing it",
            "I saw someone jump from a building on the news",
            "I am thinking about walking over the bridge instead of taking the bus",
            "My daughter keeps jumping off the sofa",
            "they want to build a bridge in front of the station",
            "I want to jump with joy",
        ),
    ),
    Rule(
        "ends one's life",
        pattern=r"""(?:(?<!the\s)end|ending)\s+it\s+all\b
            |(?:end|ending)\s+my\s+(?:own\s+)?life\b(?!\s+as\s+an?\b)
            |(?:take|taking)\s+my\s+(?:own\s+)?life\b
             (?!\s+(?:back|seriously|savings|for\s+granted|in(?:to)?\s+my\s+(?:own\s+)?hands
                     |in(?:to)?\s+a\s+(?:new|better|different))\b)
            |(?:nearly|almost)\s+(?:ended|took)\s+my\s+(?:own\s+)?life\b
            |put(?:ting)?\s+an\s+end\s+to\s+(?:it\s+all|my\s+(?:own\s+)?life)\b""",
        finds=(
            "I'm going to end it all tonight",
            "I think of taking my own life",
            "i want to end my life",
            "Last year I tried to take my life.",
            "I have thought about ending it all since she left",
            "Why shouldn't I take my own life, who would care",
            "I almost ended my life in March",
            "part of me wants to put an end to it all",
            "I just want to end it all, I am so tired",
            "ending my life is the only thing I can think about",
            "I've decided to end my own life after the holidays",
        ),
        ignores=(
            "I ended my contract",
            "That is the end of it",
            "I want to take it all in",
            "In the end it all worked out",
            "by the end it all felt like a bad joke",
            "I want to take my life back after this divorce",
            "Time to take my life in a new direction",
            "They want me to take my life savings out of the bank",
            "i ended my relationship last night",
            "The doctors could not save him and he lost his life",
            "She ended her life two years ago and I still miss her.",
            "we could take it all home and sort it there",
            "I am ending my life as a student next month",
            "When will this week end? It all takes so long",
        ),
    ),
    Rule(
        "says suicide",
        pattern=r"""suicidal\b(?!\s+(?:drivers?|driving|speed)\b)
            |(?<!political\s)(?<!career\s)(?<!social\s)(?<!financial\s)(?<!commercial\s)suicide\b
             (?!\s+(?:squad|bomb|bomber|bombers|bombing|attacks?|attacker|mission|doors?|vests?|rates?
              |statistics
                     |prevention\s+(?:day|week|month|course|training))\b)""",
        finds=(
            "I have been suicidal for weeks",
            "I think about suicide",
            "i am suicidal and i don't know who to tell",
            "Suicide feels like the only way out.",
            "I tried to commit suicide when I was nineteen",
            "the suicidal thoughts are back",
            "I almost committed suicide last winter",
            "I had a suicide attempt last year and it is starting again",
            "is suicide really so wrong if nobody needs you",
            "I called the suicide hotline but hung up",
            "I'm planning my suicide",
            "some nights suicide is all I can think of",
        ),
        ignores=(
            "We queued two hours for Suicide Squad",
            "A suicide bomber killed nine people at the market",
            "Asking him for a raise now would be career suicide",
            "That speech was political suicide",
            "wearing that to school is social suicide",
            "This project is a suicide mission and everyone in the team knows it",
            "Our coach made us run suicides until we could not breathe",
            "My uncle collects old cars with suicide doors",
            "The suicide rate among farmers has gone up again",
            "We put posters up for suicide prevention week",
            "I read The Virgin Suicides at school",
            "The suicidal drivers on this motorway scare me",
            "he sprays too much insecticide on the roses",
            "The police treat it as a homicide.",
        ),
    ),
    Rule(
        "wants to die",
        pattern=r"""(?<!you\s)(?<!don't\s)(?<!dont\s)(?<!not\s)(?<!didn't\s)
            (?:want|wanted|wanna|wish|wished|plan|planning|rather|i\s+deserve
              |(?:i\s+am|i'?m|feel)\s+(?:\w+\s+)?ready)\s+(?:(?:to|2)\s+)?(?:just\s+)?
            (?:die\b(?!\s+(?:my|the|her|his)\s+(?:\w+\s+)?(?:hair|beard|eyebrows|jeans|shirt|dress|wool)\b)
              |be\s+dead\b(?!\s+(?:on\s+time|sure|certain|serious|honest|last|quiet)\b)
              |be\s+gone\s+for\s+good\b)
            |(?:don'?t|do\s+not|didn't)\s+want\s+to\s+die,?\s+(?:but|i\s+just|just)\b
            |let\s+me\s+(?:just\s+)?die\b(?!\s+(?:my|her|his)\b)
            |(?:hope|pray)\s+(?:that\s+)?i\s+(?:just\s+)?die\b(?!\s+(?:old|happy|before|at)\b)""",
        finds=(
            "I want to die.",
            "I would rather be dead",
            "i just want to die",
            "I wanna die so bad",
            "I'm ready to die and I have made my peace with it",
            "Since he left I have wanted to die every single day.",
            "I wish to be dead, is that a sin?",
            "i deserve to die for what i did to them",
            "I'd rather die than go back to that house",
            "I don't want to die, I just want it to stop hurting",
            "I want to be gone for good",
            "it makes me want to just die",
            "please just let me die",
            "I hope I die in my sleep tonight",
        ),
        ignores=(
            "I am afraid that my car is going to die soon",
            "My dog died this morning.",
            "I don't want to die, the operation scares me so much",
            "do you want to die? put your helmet on",
            "I want to die my hair blue",
            "I want to be dead sure before I sign anything",
            "my laptop is ready to die, it shuts down every hour",
            "He wants to die at home, the nurses told us",
            "I want these weeds to die",
            "i never wanted him to die",
            "She wished her ex would die",
            "We want to be dead on time for once",
            "I do not want to die alone like my aunt",
            "I would rather dye it at home",
            "I hope I die old and happy in my garden",
            "My sister let me die her hair pink",
        ),
    ),
    Rule(
        "will die by one's own hand",
        pattern=r"(?:die|dying|death|dead)\s+(?:by|at)\s+my\s+own\s+hands?\b",
        finds=(
            "I'm going to die by my own hand",
            "one day i will die by my own hand, i am sure of it",
            "I always thought I would die by my own hands.",
            "I keep picturing my death by my own hand",
            "I dream of dying by my own hand",
            "My death at my own hands would surprise nobody",
            "by summer i'll be dead by my own hand",
            "I know I will die at my own hand, I just don't know when.",
            "Would dying at my own hands hurt my parents very much?",
            "if this goes on I am going to die by my own hands",
        ),
        ignores=(
            "I'm going to die if I see one more of these forms",
            "I built this table with my own hands",
            "The king died by his own hand",
            "my grandfather died by her side, holding her hand",
            "I made the whole dress by hand",
            "He put the dog to sleep with his own hands and it broke him",
            "i hurt my own hand with the hammer",
            "My plants always die in my hands",
            "The battery is dead, I had to crank it by hand",
            "We buried the bird with our own hands",
            "She died by the window, in her own bed.",
        ),
    ),
    Rule(
        "wishes to be dead",
        pattern=r"""i\s+(?:\w+\s+)?wish(?:ed)?\s+(?:that\s+)?i
            (?:\s+(?:was|were)\s+(?:dead\b(?!\s+(?:sure|certain|wrong|tired)\b)|never\s+born\b)
              |\s+(?:wasn't|weren't)\s+(?:alive|born)\b
              |(?:\s+had|'d)\s+(?:never\s+been\s+born|never\s+existed|died(?!\s+(?:it|my\s+hair)\b))\b
              |\s+(?:didn't|did\s+not)\s+exist\b
              |\s+could\s+(?:just\s+)?(?:die|be\s+dead|stop\s+existing)\b(?!\s+my\s+hair\b))""",
        finds=(
            "I wish I was dead",
            "I wish I were never born",
            "i wish i was dead like my brother",
            "I often wish I had never been born.",
            "I wish I'd died in that crash instead of her",
            "sometimes i wish i could just die in my sleep",
            "I really wish I wasn't alive",
            "I wish that I didn't exist",
            "I wish I had never existed, everyone would be happier",
            "I wished I were dead the whole evening",
            "i just wish i could stop existing for good",
        ),
        ignores=(
            "I wish I was taller",
            "I wish I was dead sure about this job",
            "I wish he was never born, that man ruined us",
            "I wish I had never been there",
            "i wish i could just sleep in once",
            "I wish my phone wasn't dead",
            "I wish I had died it a darker colour, my jeans look odd",
            "She wishes she had never met him",
            "I wish I could die my hair without mum noticing",
            "We wish you a happy birthday",
            "I wish grandpa were still alive",
            "i wish this day didn't exist in the calendar",
        ),
    ),
    Rule(
        "does not want to live",
        pattern=r"""(?:don'?t|do\s+not|no\s+longer)\s+(?:really\s+|even\s+)?(?:want\s+to|wanna)\s+
            (?:live\b(?!\s+(?:there|here|near|on|alone|like|at|by|next|together|far|off|under|that|abroad
              |a\s+lie
                             |in(?!\s+this\s+(?:world|body)\b)|with(?!\s+this\s+(?:pain|guilt|shame)))\b)
              |be\s+alive\b|exist\b(?!\s+on\b)
              |wake\s+up\s+(?:again\b(?!\s+at\b)|any\s?more\b|ever\b|tomorrow(?=\s*(?:[.!,]|$))))""",
        finds=(
            "I don't want to live anymore",
            "I no longer want to exist",
            "i dont wanna live",
            "I do not want to be alive right now",
            "I don't want to wake up tomorrow.",
            "Since the funeral I don't really want to live.",
            "i don't want to exist anymore",
            "I don't want to live with this pain for another year",
            "I don't want to live in this world without her",
            "honestly I don't even want to be alive",
            "I no longer want to live in this body",
            "when I lie down I don't want to wake up ever",
            "I no longer want to live and I don't know how to tell my wife",
        ),
        ignores=(
            "I do not want to live there",
            "I don't want to live with my parents",
            "I don't want to live in a big city",
            "i dont want to live alone after the break-up",
            "I don't want to live on noodles until payday",
            "I don't want to wake up at five every morning",
            "We no longer want to live next to the motorway",
            "I don't want to wake up tomorrow with a sore throat",
            "I don't want to live a lie and pretend to be happy with him",
            "the mice don't want to leave alive, it seems",
            "She doesn't want to live abroad because of her mum",
            "I don't want to exist on coffee during the exams",
        ),
    ),
    Rule(
        "sees no reason to live",
        pattern=r"""(?:no|any|the)\s+(?:reason|point|sense)\s+
            (?:to\s+(?:live|stay\s+alive|be\s+alive|go\s+on\s+living|keep\s+living)
              |(?:in|for|of)\s+(?:living|being\s+alive|staying\s+alive|going\s+on\s+living))\b
            (?!\s+(?:there|here|in|with|near|at|on|so|apart|together|rooms?|costs)\b)
            |life\s+(?:is\s+not|isn'?t|is\s+no\s+longer)\s+worth\s+living\b
            |nothing\s+(?:left\s+)?worth\s+living\s+for\b
            |(?:nothing|no\s?one|nobody)\s+(?:left\s+)?to\s+live\s+for\b
            |lost\s+(?:the|my|all)\s+will\s+to\s+live\b
             (?!\s+(?:in|at|during|halfway|waiting|while|reading|somewhere|on)\b)""",
        finds=(
            "There is no reason to live.",
            "I don't see any point in living",
            "i have nothing left to live for",
            "I have lost the will to live",
            "There is no point in going on living without him.",
            "can you tell me any reason to stay alive",
            "i see no sense in living any more",
            "Since my son died I have no one to live for",
            "I've lost all will to live, every day is grey",
            "There is no reason to keep living when it never gets better",
            "I can't find any reason to go on living",
            "what's the point of living",
            "my life is no longer worth living",
            "there is nothing worth living for",
        ),
        ignores=(
            "There is no reason to worry",
            "I lost the will to live in that queue",
            "There's no point in living so far from work",
            "I see no reason to live in London if I can work from home",
            "there is no point in waiting for him",
            "We lost the will to live halfway through his speech",
            "I have nothing to live on until Friday",
            "My kids give me every reason to live",
            "Is there any point in leaving a note for the postman?",
            "i see no reason to live together before the wedding",
            "He has something to live for now that the baby is here",
            "There's no reason to give in",
            "A house without a dog is not worth living in",
            "what is the point of living rooms nobody sits in",
        ),
    ),
    Rule(
        "thinks others are better off",
        pattern=r"""better\s+off\s+
            (?:dead\b
              |without\s+me\b(?!\s+(?:playing|driving|singing|cooking|talking|as)\b
                |\s+(?:in|on)\s+(?:goal|the\s+(?:team|band|choir|kitchen|project))\b)
              |if\s+i\s+(?:was|were)\s+(?:dead|gone|never\s+born|not\s+(?:here|around|alive))\b
              |if\s+i\s+(?:wasn't|weren't|didn't|did\s+not|died|disappeared)\b)""",
        finds=(
            "everyone would be better off without me",
            "My kids are better off without me.",
            "i'd be better off dead",
            "They would all be better off if I was gone",
            "You would be better off if I weren't here anymore",
            "I really think my husband is better off without me",
            "everybody is better off if i didn't exist",
            "Maybe I am better off dead, then it stops.",
            "the whole family would be better off if I died",
            "People are better off without me and I know it",
            "My mother would have been better off if I were never born",
        ),
        ignores=(
            "I am better off without him",
            "You're better off without her, believe me",
            "We would be better off with a smaller car",
            "the team is better off without me in goal",
            "I'd be better off if I saved some money each month",
            "He left off where I had started",
            "They are better off than us",
            "I am sure you are better off without that job",
            "Everyone is better off without me singing",
            "am i better off if i rent or buy",
            "She said I would be better off alone",
            "The party was better without me driving everyone home",
        ),
    ),
    Rule(
        "hurts oneself",
        pattern=rf"""(?:cut|cutting|hurt|hurting|harm|harming|harmed|burn|burning)\s+myself\b
            (?!{_BY_ACCIDENT}|\s+(?:off|out|loose|short|some\s+slack|a\s+(?:slice|piece|bit)|with\s+the\s+iron
              |at\s+(?:the\s+gym|training|practice|football))\b)
            |(?:burned|burnt|scratched)\s+myself\s+(?:on\s+purpose|deliberately|with\s+a\s+(?:cigarette
              |lighter))\b""",
        finds=(
            "I keep hurting myself",
            "i cut myself again last night",
            "I want to hurt myself so that it stops in my head",
            "I hurt myself on purpose yesterday.",
            "I have started cutting myself again after two years",
            "The urge to burn myself is so strong today",
            "I burned myself with a cigarette and it helped for a minute",
            "nobody knows that i harm myself",
            "When I feel empty I cut myself, then I feel something",
            "I promised to stop hurting myself but I can't",
            "I cut myself on the arm when my parents fight",
            "i harmed myself at school in the toilets",
        ),
        ignores=(
            "I cut myself while cooking",
            "I hurt myself on the stairs",
            "I cut myself shaving this morning",
            "i burned myself on the oven, stupid me",
            "I should cut myself some slack",
            "I hurt myself playing football and can't work this week",
            "I have cut myself off from my old friends",
            "I'm burning myself out with this job",
            "I cut myself a slice of cake",
            "I hurt myself badly when I fell off the ladder",
            "He hurt himself and I was not there for him",
            "My sister used to cut herself when she was young",
            "cut myself by accident with a bread knife, it needed stitches",
        ),
    ),
    Rule(
        "overdoses",
        pattern=r"""(?:i|i'?ve|i\s+have|and|to|wanna|gonna|might|could|should|of|about)\s+
            (?:just\s+|almost\s+|nearly\s+|once\s+|deliberately\s+)?overdos(?:e|ed|ing)\b
            (?!\s+on\s+(?:\w+\s+)?(?:chocolate|coffee|caffeine|sugar|cake|cheese|sweets|candy|vitamins?
              |christmas|tv
              |music|sun|cuteness|cookies)\b)
            |overdos(?:e|ed|ing)\s+on\s+purpose\b
            |(?:take|taking|(?:^|i\s+|i\s+\w+\s+)took|i\s+have\s+taken|i'?ve\s+taken)\s+an\s+overdose\b""",
        finds=(
            "I took an overdose on purpose",
            "I overdosed on pills",
            "i want to overdose tonight",
            "I have been thinking about overdosing on my sleeping pills.",
            "I might just overdose, it seems easy",
            "took an overdose last night and woke up anyway",
            "I've taken an overdose and I am scared now",
            "What happens if I take an overdose of paracetamol?",
            "i almost overdosed in january and no one noticed",
            "I'm planning to overdose when they are on holiday",
            "Every night I think of taking an overdose",
        ),
        ignores=(
            "The nurse told us about overdoses",
            "I overdosed on chocolate at Easter",
            "My cousin overdosed last year and we buried him in May",
            "i think i overdosed on christmas music",
            "Can you overdose on carrots?",
            "A singer I loved died of an overdose",
            "I don't want to overdose on caffeine before the exam",
            "She took an overdose and now she is in hospital",
            "The paramedics see an overdose every weekend",
            "He overdosed in the flat below us and I found him",
            "I took a double dose of cough syrup by mistake",
            "we overdosed on sun at the beach and look like lobsters",
        ),
    ),
    Rule(
        "says self-harm",
        pattern=r"""self[-\s]?(?:harm(?:ed|ing)?|injur(?:y|e|ed|ing))\b
            (?!\s+(?:awareness|training|policy|statistics|rates?)\b)""",
        finds=(
            "I have been self-harming again",
            "i self harm and hide it under long sleeves",
            "I self-harmed last night for the first time in a year.",
            "How do I stop self harming?",
            "my self-harm is getting worse",
            "I went back to selfharm after the break-up",
            "I feel the need to self-injure when he shouts",
            "Self-harm is the only thing that calms me down",
            "nobody at work knows about my self injury",
            "I was clean from self harm for 90 days and then I failed",
            "i'm self-harming because nothing else helps",
        ),
        ignores=(
            "That did her no harm",
            "I wouldn't harm a fly myself",
            "I bought a self-help book",
            "He has no self-control around sweets",
            "It can't do any harm to ask",
            "We had self-harm awareness training at school today",
            "my self-esteem is so low since the interview",
            "The storm did no harm to the house itself",
            "I live in harmony with myself again",
            "he is so selfish and harms everyone around him",
            "She got herself injured at work",
            "I took a selfie, no harm done",
        ),
    ),
    Rule(
        "hints at a way to die",
        is_certain=False,
        pattern=r"""(?:want\s+to|wanna|going\s+to|gonna|ready\s+to)\s+(?:just\s+)?end\s+it
             (?=\s*(?:$|[.,!?;]|now\b|tonight\b|today\b|already\b|here\b))
            |(?:think(?:ing)?\s+(?:of|about)|imagin(?:e|ing)|want(?:ed)?\s+to|wanna|feel\s+like|tempted\s+to
              |could\s+just)\s+(?:just\s+)?(?:driv|steer|crash|rid)(?:e|ing)?\s+
             (?:my|the|this)\s+(?:car|bike|truck|van)\s+(?:straight\s+|right\s+)?
             (?:into|off)\s+(?:a|the|that)\s+(?:\w+\s+)?
             (?:tree|wall|bridge|river|cliff|lorry|truck|pillar|road|lake)\b
            |(?:been|started|am|i'm)\s+cutting(?:\s+again)?(?=\s*(?:$|[.,!?;]))
            |(?:want\s+to|wanna|going\s+to|rather|will)\s+(?:just\s+)?(?:follow|join)\s+(?:her|him|them)
             (?=\s*(?:$|[.,!?;]|to\s+the\s+grave\b|in\s+(?:heaven|death|the\s+grave)\b))""",
        finds=(
            "I want to end it",
            "i am ready to end it. tonight",
            "I'm going to end it now",
            "I keep thinking about driving my car into a tree",
            "Sometimes I imagine steering the car off the bridge.",
            "i could just crash my bike into a wall",
            "I've been cutting.",
            "i started cutting again",
            "She died in May and I want to follow her",
            "I will just follow him, what else is left",
            "I want to join them in heaven",
            "gonna end it tonight",
        ),
        ignores=(
            "I want to end it with him, he cheated",
            "We are going to end it as friends",
            "My son crashed the car into a tree",
            "I am thinking about driving my car into town",
            "I want to drive the van to the lake",
            "I have been cutting the hedge all day",
            "I started cutting my own hair",
            "I am cutting onions and crying",
            "I want to follow her to Berlin",
            "I will join them for dinner",
            "i want to follow him on his tour",
            "Let us end it here with a toast",
            "I want to end it on a high note",
        ),
    ),
    Rule(
        "does not want to go on",
        is_certain=False,
        pattern=r"""(?:don'?t|do\s+not)\s+(?:want\s+to|wanna)\s+
            (?:be\s+here|be\s+around|go\s+on|carry\s+on|keep\s+going|wake\s+up(?:\s+in\s+the\s+morning)?)\b
            (?=\s*(?:[.!,]|any\s?more|any\s?longer|like\s+this|without|$))
            |(?:no|any|a)\s+(?:reason|point)\s+(?:to\s+(?:go\s+on|carry\s+on|keep\s+going)|in\s+(?:going
              |carrying)\s+on)\b
            (?=\s*(?:[.!?,]|any\s?more|any\s?longer|like\s+this|without|$))""",
        finds=(
            "I don't want to go on.",
            "I don't want to be here anymore",
            "i dont want to go on like this",
            "I do not want to carry on without him",
            "I just don't wanna be here any more",
            "some days I don't want to keep going",
            "I'm tired and I don't want to be around any longer.",
            "Since she died I don't want to go on anymore",
            "i don't want to be here, nothing matters",
            "I don't want to carry on anymore, I've tried everything",
            "honestly i do not want to go on!",
            "I don't see a reason to keep going",
            "I don't want to wake up in the morning",
        ),
        ignores=(
            "I don't want to go on holiday with them",
            "I don't want to go on about it",
            "I don't want to be around smokers",
            "i don't want to be here at six in the morning",
            "We don't want to carry on with the kitchen until the money is there",
            "I don't want to keep going to that gym",
            "He doesn't want to be here for my birthday",
            "I don't want to be here when the landlord comes",
            "You don't want to go on the big wheel with a full stomach",
            "I do not want to go on a date with him",
            "I don't want to carry only bad memories of her",
            "do you want to go on?",
            "There is no reason to go on a diet",
            "I don't want to wake up the baby",
        ),
    ),
    Rule(
        "wants never to wake up",
        pattern=r"""(?:(?:and|to|would|could|i'd|just|rather|then)\s+never|sleep\s+and\s+not)\s+wake\s+up\b
            (?!\s+(?:on\s+time|in\s+time|early|before|at|to|with|when|until|every|in\s+the\s+(?:night
              |middle))\b)
            |(?:hope|hoping|wish|pray|praying)\s+(?:that\s+)?i\s+
             (?:don'?t|do\s+not|won'?t|wouldn't|didn't|never)\s+(?:have\s+to\s+)?wake\s+up\b
             (?!\s+(?:late|too|early|before|with|at|so|when|in\s+the\s+(?:night|middle))\b)
            |not\s+wake\s+up\s+(?:again|any\s?more|ever)\b""",
        finds=(
            "I want to sleep and never wake up",
            "i wish i could fall asleep and never wake up",
            "Every night I hope that I don't wake up.",
            "I'd like to go to bed and never wake up again",
            "I pray I won't wake up tomorrow",
            "It would be nice to just not wake up again",
            "I could lie down and just never wake up",
            "i hope i never wake up",
            "Sometimes I wish I didn't wake up in the morning",
            "I want to close my eyes and then never wake up",
            "i just want to go to sleep and not wake up",
            "falling asleep and not wake up any more, that is my dream",
        ),
        ignores=(
            "My son never wakes up before nine",
            "My alarm is broken and I never wake up on time",
            "I hope I don't wake up late for the flight",
            "I go to bed at two and never wake up before noon",
            "My grandmother went to sleep and never woke up",
            "i never wake up early at weekends",
            "I hope the baby doesn't wake up again",
            "The dog was put to sleep, she will never wake up now",
            "I hope I don't wake up with a hangover",
            "He had the operation and didn't wake up again",
            "Did you wake up when the storm came?",
            "it is hard for me to wake up in winter",
            "I'd like to sleep and not wake up every hour",
        ),
    ),
    Rule(
        "should be gone",
        is_certain=False,
        pattern=r"""i\s+should\s+(?:just\s+|probably\s+|really\s+)?
            (?:die\b(?!\s+my\b)|disappear\b(?!\s+before\b)|be\s+dead\b(?!\s+(?:tired|certain|sure)\b)
              |not\s+(?:be\s+alive|exist)\b|never\s+have\s+been\s+born\b)
            |i\s+(?:just\s+)?(?:want\s+to|wanna)\s+(?:just\s+)?(?:disappear|vanish)\b(?!\s+(?:into\s+the|to
              |on|for\s+an?)\b)
            |i\s+feel\s+like\s+dying\b(?!\s+(?:my|the|her|his)\b)""",
        finds=(
            "I should just disappear.",
            "i should be dead, not him",
            "Maybe I should die, then they are rid of me",
            "I think I should just die",
            "I should not exist",
            "I should probably disappear from everyone's life",
            "everything I touch breaks, i should never have been born",
            "I should really be dead by now",
            "It was my fault and I should not be alive",
            "i should disappear and let them be happy",
            "My father is right, I should just die.",
            "I just want to disappear forever",
            "i feel like dying",
        ),
        ignores=(
            "I should just go home",
            "I should die my hair again",
            "That spider should die",
            "I should disappear before my boss sees me here",
            "i should be dead tired but I can't sleep",
            "Should I just be honest with her?",
            "This stain should disappear in the wash",
            "I should be there by six",
            "My debts should just disappear, I wish",
            "I should diet after Christmas",
            "He should be dead, but he survived the crash without a scratch",
            "I should not be alone with him",
            "I want to disappear into the woods for a weekend",
            "I feel like dying my hair red",
        ),
    ),
    Rule(
        "imagines being gone",
        is_certain=False,
        pattern=r"""(?:if|when|once|after)\s+i\s+(?:was|were)\s+
            (?:gone\b(?!\s+(?:for|last|on|to|that|in|over|at|from)\b)|dead\b(?!\s+(?:tired|broke|drunk|set)\b)
              |no\s+longer\s+(?:here|alive|around)\b)
            |(?:if|when|once)\s+(?:i'm|im|i\s+am)\s+(?:dead\b(?!\s+tired\b)|no\s+longer\s+(?:here|alive)\b)
            |if\s+i\s+(?:wasn't|weren't)\s+(?:alive\b|(?:here|around)\s+any\s?more\b)""",
        finds=(
            "Nobody would miss me if I was gone.",
            "what would happen to my cats if i was dead",
            "Would you be sad if I were no longer here?",
            "Would it be easier for mum when I am dead",
            "I imagine how they feel once I'm dead",
            "if i wasn't here anymore they could finally rest",
            "Everything would be simpler if I weren't alive.",
            "I wonder who would find me if I was dead",
            "They would only notice if I were gone",
            "My parents would fight less if I was no longer around",
            "when i'm dead they will be sorry",
        ),
        ignores=(
            "Call me when I am gone for the day",
            "When I was gone for two weeks nobody watered the plants",
            "My sister sat with me when I was dead tired",
            "If I was going to Spain, would you come?",
            "when i was gone last summer they painted my room",
            "If my phone is dead, call the landline",
            "If it were gone I would notice",
            "The bread was gone when I was finally home",
            "Dad was already dead when I was called",
            "once i was in bed I felt better",
            "If I wasn't here at nine they would start without me",
            "I felt lost when he was no longer here",
        ),
    ),
    Rule(
        "would not be missed",
        is_certain=False,
        pattern=r"""(?:no\s?one|nobody|not\s+a\s+soul|who|anyone|anybody)\s+(?:would|will)\s+(?:even\s+
              |ever\s+|really\s+)?
            (?:notice|care|mind|cry|be\s+sad|miss\s+me)\s+(?:or\s+\w+\s+)?(?:if|when)\s+i(?:\s+just)?
            (?:\s+(?:disappeared|disappear|vanished|vanish|died|die|stopped\s+existing|never\s+came\s+back
              |did\s+it)
              |\s+(?:was|were)\s+(?:gone|dead)|'m\s+(?:gone|dead)|\s+am\s+(?:gone|dead)|\s+wasn't\s+(?:here
              |there))\b
            |(?:no\s?one|nobody)\s+(?:would|will)\s+(?:even\s+|ever\s+|really\s+)?miss\s+me\b
             (?!\s+(?:at|for\s+an?|on|in|tonight|tomorrow)\b)""",
        finds=(
            "nobody would notice if I disappeared",
            "No one would even care if I died.",
            "Nobody will miss me",
            "i think no one would notice if i just vanished",
            "who would cry if I was gone",
            "Would anyone care if I never came back? I doubt anyone would care if I died",
            "Nobody would mind if I stopped existing",
            "not a soul would be sad if I died tomorrow",
            "no one will ever miss me, that's just how it is",
            "Nobody would notice or care if I disappeared for good.",
            "noone would miss me i am sure",
        ),
        ignores=(
            "Nobody would notice if I left the meeting early",
            "No one would care if I wore jeans to the office",
            "Nobody will miss me at the party, I'm not a dancer",
            "who would mind if I opened the window?",
            "Nobody noticed that my cat had disappeared",
            "No one would care if he lost his job",
            "i miss my mum so much since she died",
            "Nobody would notice if that old tree died",
            "I would be so sad if you disappeared from my life",
            "no one will miss me for an hour, let's get a coffee",
            "Nobody would mind if I took the last biscuit",
            "Who will notice when the milk is gone?",
        ),
    ),
    Rule(
        "cannot bear more",
        is_certain=False,
        pattern=r"""(?:can'?t|cannot|can\s+not)\s+(?:really\s+|just\s+)?
            (?:(?:do|take|bear|stand)\s+(?:this|it|life)\s+any\s?(?:more|longer)\b
              |(?:go|carry)\s+on\b(?=\s*(?:[.!,]|$|any\s?more|any\s?longer|like\s+this|without)))
            |want\s+(?:it|this|everything)\s+(?:all\s+)?to\s+(?:end|stop|be\s+over)\b
            |(?:don'?t|do\s+not)\s+(?:want\s+to|wanna)\s+live\s+like\s+this\b
            |done\s+with\s+(?:life|living)\b(?!\s+(?:in|with|at|on|here|there)\b)
            |(?:tired|sick)\s+of\s+(?:living|life|being\s+alive|existing)\b
             (?!\s+(?:in|with|at|on|out|off|like|here|there|alone|next|near|under|from|by|together)\b)""",
        finds=(
            "I can't do this anymore",
            "i cant take it any more",
            "I cannot go on like this.",
            "I just want it all to end",
            "I'm so tired of living",
            "I can't carry on anymore, I really can't",
            "i want everything to stop",
            "I don't want to live like this",
            "I cannot bear this any longer",
            "tired of being alive, tired of everything",
            "I can't go on without her",
            "I am sick of life.",
            "I'm done with life",
        ),
        ignores=(
            "I can't do this exercise with my knee",
            "I can't stand my neighbours anymore",
            "I can't go on holiday this year",
            "i cant take the bus anymore since they closed the line",
            "I'm tired of living in a tiny flat",
            "I want this summer to never end",
            "I can't carry on a conversation with him",
            "He can't do his job anymore because of his back",
            "We are sick of living out of boxes",
            "I can't bear to watch it",
            "I want the meeting to be over so I can go home",
            "I am tired of lifting heavy boxes",
            "can you do this for me? I have no time anymore",
            "I am done with living in the city",
        ),
    ),
    Rule(
        "says goodbye",
        is_certain=False,
        pattern=r"""this\s+is\s+(?:my\s+|the\s+)?(?:last\s+|final\s+)?goodbye\b
            (?!\s+(?:to\s+(?:sugar|coffee|cigarettes|smoking|the|my\s+(?:old|job|car|flat))|party|card|gift
              |present)\b)
            |goodbye\s+(?:everyone|everybody|world|forever|for\s+ever)\b
            |this\s+is\s+my\s+last\s+(?:message|night|day\s+alive|words)\b(?!\s+(?:in|at|shift|here)\b)
            |(?:won'?t|will\s+not)\s+be\s+(?:alive|(?:here|around)\s+(?:much\s+longer|tomorrow(?=\s*(?:[.!]
              |$))))\b
            |(?:said|saying|say)\s+(?:all\s+)?my\s+(?:last\s+|final\s+)?goodbyes\b""",
        finds=(
            "this is goodbye",
            "I guess this is my last goodbye.",
            "Goodbye everyone, I'm sorry for it all",
            "goodbye world",
            "I won't be here much longer",
            "I won't be alive next week and it feels okay",
            "This is my last message, thank you for listening",
            "i have said all my goodbyes",
            "You have been kind to me but I won't be here tomorrow.",
            "This is the final goodbye, please look after my dog",
            "I wrote to my friends and am saying my goodbyes tonight",
        ),
        ignores=(
            "This is a goodbye party for my boss",
            "This is goodbye to sugar, I start my diet today",
            "My mum kissed me goodbye at the station",
            "I could not say goodbye to my dad before he died",
            "I won't be here tomorrow because I see the dentist",
            "he left without saying goodbye",
            "This is my last night in Rome and I love it",
            "We said our goodbyes at the airport and cried",
            "This is my last night shift this month",
            "I hate goodbyes",
            "The milk won't be good much longer",
            "how do i say goodbye in french",
        ),
    ),
    Rule(
        "wrote a goodbye",
        pattern=r"""(?:wrote|write|writing|written)\s+(?:\w+\s+){0,2}
            (?:suicide\s+(?:letter|note)s?\b
              |(?:goodbye|farewell)\s+(?:letter|note|message)s?\b
               (?!\s+(?:to|for)\s+(?:(?:my|our|the|his|her)\s+)?(?:old\s+|favourite\s+)?
                 (?:colleagues?|team|boss|class|teachers?|coach|office|job|company|customers|students
              |readers)\b))""",
        finds=(
            "I wrote a goodbye letter to my mum",
            "i have written a suicide note",
            "Today I am writing my goodbye letters",
            "I wrote farewell notes for my children.",
            "should i write a suicide note or just go",
            "I've written a goodbye message to all my friends and I will send it at midnight",
            "I started writing a farewell letter last night",
            "Last week I wrote my suicide letter, it lies in the drawer",
            "I want to write a goodbye note so that they understand it",
            "wrote a goodbye letter, tore it up, wrote it again",
            "I have written a farewell message for my wife",
        ),
        ignores=(
            "I wrote a letter to my mum",
            "I wrote a farewell letter to my colleagues on my last day",
            "Can you help me write a goodbye message for my team?",
            "We are writing a farewell note for our teacher",
            "i wrote him a note that the food is in the fridge",
            "I never wrote to say goodbye and now he is dead",
            "She left a goodbye letter and we read it at the funeral",
            "They found a suicide note in his jacket",
            "He has written a good letter, by the way",
            "I have to write a goodbye speech",
            "I wrote a love letter and never sent it",
            "writing notes helps me to study",
        ),
    ),
    Rule(
        "cuts or burns the skin",
        pattern=rf"""(?:cut|cutting|slit|slitting|slice|slicing)\s+(?:open\s+)?my\s+(?:own\s+)?
            (?:arms?|wrists?|legs?|thighs?|skin|throat)\b
            (?!\s+(?:out|off)\b|{_BY_ACCIDENT})
            |(?:burn|burning|burned|burnt)\s+my\s+(?:own\s+)?(?:arms?|wrists?|legs?|thighs?|skin|hands?)\s+
            (?:on\s+purpose|deliberately|with\s+(?:a\s+)?(?:cigarettes?|lighter))\b""",
        finds=(
            "I cut my wrists again",
            "i want to slit my wrists",
            "I keep cutting my arms when everyone is asleep",
            "I sit in the bath and think about slitting my wrists.",
            "Last night I cut my thighs with a razor",
            "i cut my skin to feel anything at all",
            "I was cutting my legs for years and started again",
            "I could just slit my own throat",
            "My mum saw that I cut my arm and she cried",
            "thinking of cutting open my wrists",
            "I cut my arms when I feel empty",
            "I burnt my arm on purpose",
            "when i am alone i burn my legs with a lighter",
        ),
        ignores=(
            "I cut my leg when I fell off the bike",
            "I cut my arm on a rusty nail",
            "I always cut my legs shaving",
            "i cut my hair myself and it looks awful",
            "My landlord is cutting my heating",
            "I cut my skin by accident while I was cooking",
            "The paper cut my finger",
            "They cut his arm open to take the bullet out",
            "He slit the envelope with a knife",
            "I broke my wrist and have a cut on my chin",
            "I cut my arm again climbing over the fence",
            "I slice my own bread",
            "I burned my hand on the kettle",
        ),
    ),
    Rule(
        "hits oneself",
        is_certain=False,
        pattern=r"""(?:hit|hitting|bang|banging|smash|smashing|slam|slamming)\s+my\s+head\s+(?:against|on
              |into)\s+
            (?:(?:the|a|my|this)\s+)?(?:wall|walls|floor|door|desk|table|ground)\b(?!\s+(?:trying
              |with\s+this|over)\b)
            |(?:hitting|punch|punching|slap|slapping)\s+myself\b""",
        finds=(
            "I keep banging my head against the wall",
            "i hit my head against the wall until it goes quiet",
            "When I am angry I start hitting myself",
            "I punch myself in the face and nobody sees it.",
            "I was banging my head on the floor again last night",
            "I slam my head into the door when he screams at me",
            "i can't stop slapping myself when i make a mistake",
            "I want to smash my head against a wall",
            "She found me hitting my head on the table",
            "punching myself is the only way to calm down",
            "I feel the need to bang my head into walls",
        ),
        ignores=(
            "He turned my head",
            "I hit my head on the shelf and have a bump now",
            "I'm banging my head against a brick wall with this office",
            "That song is stuck in my head, it's a hit",
            "My baby bangs his head against the cot",
            "The ball hit my head in the first half",
            "i am banging my head against the wall trying to fix this printer",
            "I hit the wall at kilometre thirty",
            "A branch hit me on the head",
            "I nodded my head and went to the door",
            "My head is banging after last night",
            "The neighbours are banging on the wall again",
        ),
    ),
    Rule(
        "scratches until it bleeds",
        pattern=r"""scratch(?:ed|ing)?\s+my\s+(?:own\s+)?(?:arms?|legs?|skin|face|wrists?|hands?|thighs?)\s+
            (?:bloody|raw|open|(?:until|till)\s+(?:(?:it|they|the\s+skin|i)\s+(?:\w+\s+)?(?:bleeds?|bled
              |bleeding|hurts?)
              |there\s+(?:is|was)\s+blood|i\s+(?:see|saw|feel)\s+(?:the\s+)?(?:blood|pain)))\b
            (?!.{0,60}\b(?:itch|itches|itchy|itching|eczema|rash|allergy|bites?)\b)""",
        finds=(
            "I scratch my arms until they bleed",
            "i keep scratching my skin bloody",
            "When I panic I scratch my legs open.",
            "I scratched my face until it bled and then I felt calm",
            "I sit in my room scratching my wrists raw",
            "i scratch my arms till i see blood",
            "I was so angry at myself, I scratched my hands bloody",
            "I scratch my thighs until it hurts enough",
            "scratching my arms until they are bleeding is all that helps",
            "I scratched my wrist until there was blood on the sheets",
            "After every fight I scratch my own skin until it bleeds",
        ),
        ignores=(
            "I scratch my arms when it itches",
            "I scratched my legs in the brambles",
            "The cat scratched my face",
            "i scratched my arm on the fence",
            "I keep scratching my skin raw because of the eczema",
            "I scratched my car and my dad is furious",
            "We had to start from scratch until it was done",
            "I scratch my skin till I fall asleep, these mosquitoes are awful",
            "The wool sweater scratches my arms",
            "I can scratch my legs until the cast comes on again",
            "My cat scratches the sofa until I open the door",
            "I scratched my head, it made no sense",
        ),
    ),
    Rule(
        "takes all pills",
        pattern=r"""(?:take|taking|took|swallow|swallowing|swallowed)\s+
            (?:all\s+(?:of\s+)?(?:my|the|these|those|her|his)\s+(?:\w+\s+)?
               (?:pills|tablets|meds|medicine|medication|painkillers|antidepressants|paracetamol)
              |(?:the|a)\s+whole\s+(?:pack|packet|box|bottle|strip)\s+of\s+(?:my\s+)?(?:\w+\s+)?
               (?:pills|tablets|painkillers|paracetamol|ibuprofen|aspirin))\b
            (?!\s+(?:every|each|daily|regularly|on\s+time|as\s+\w+|in\s+the\s+(?:morning|evening)|back
              |(?:with|after|before)\s+(?:breakfast|lunch|dinner|meals?|food|bed)|out|away|home|to\s+the\b)\b)
            |(?:pills|tablets|painkillers)\b.{0,60}\b(?:take|taking|swallow|swallowing)\s+
             (?:them\s+all|all\s+of\s+them)\b(?!\s+(?:back|away|out|home|to\b|on\b|with\b))""",
        finds=(
            "I think of taking all my pills",
            "I could swallow the whole bottle of pills",
            "i took all my sleeping pills an hour ago",
            "What if I take all of these painkillers at once?",
            "I took a whole packet of paracetamol.",
            "There are forty tablets in the drawer and I want to take them all",
            "i swallowed all the pills i could find",
            "I'm sitting here with my meds, thinking about taking all my medication",
            "I want to take all my medicine and go to sleep",
            "I have saved up my pills and I could swallow all of them",
            "she has no idea that I want to take all her tablets",
            "I've been thinking of taking all my antidepressants",
        ),
        ignores=(
            "I take my pills in the morning",
            "I take all my tablets with breakfast",
            "I took all the boxes to the car",
            "There are ten puppies and I would take them all",
            "Please take all of them home, I have too many plums",
            "I took all my pills as prescribed and still feel dizzy",
            "i have to take all my old medicine back to the chemist",
            "My dog swallowed the whole pack of biscuits",
            "He swallowed his pride and called me",
            "I take all my medication every day and it works",
            "The nurse took all the tablets away from him",
            "I forgot to take my pills again",
        ),
    ),
    Rule(
        "asks for a deadly dose",
        pattern=r"""how\s+many\s+(?:of\s+)?(?:(?:my|these|the)\s+)?(?:\w+\s+)?(?:pills|tablets|painkillers)\s+
            (?:it\s+)?would\s+(?:it\s+)?take\b(?!\s+to\s+(?!(?:die|kill|end|overdose|never|not
              |stop\s+my\s+heart)\b))
            |how\s+(?:many|much)\s+(?:\w+\s+){0,3}(?:i\s+(?:need|must|should|have)|(?:do|does|would|must
              |should)\s+(?:i|it))\s+
             (?:\w+\s+){0,2}to\s+(?:die|kill\s+me|kill\s+myself|overdose)\b
            |how\s+(?:many|much)\s+(?:of\s+)?(?:\w+\s+){1,3}(?:is|are|would\s+be)\s+(?:deadly|lethal|fatal)\b
             (?!\s+(?:for|to)\s+(?:my|a|the|our)\s+\w+)
            |(?:lethal|deadly|fatal)\s+dose\s+of\s+(?:my\s+)?(?:\w+\s+)?
             (?:pills|tablets|painkillers|paracetamol|ibuprofen|aspirin|insulin|medication|antidepressants)\b
             (?!\s+(?:for|to)\s+(?:my|a|the|our)\s+\w+)""",
        finds=(
            "how many sleeping pills would it take",
            "how many of my pills would it take to never wake up again",
            "How many paracetamol do I need to die?",
            "how much insulin does it take to kill me",
            "I was wondering how many tablets it would take",
            "How many painkillers are deadly?",
            "how much aspirin would be fatal",
            "What is a lethal dose of sleeping pills?",
            "How many tablets would it take to die",
            "i need to know how much of it i must swallow to overdose",
            "Can you tell me the deadly dose of insulin",
        ),
        ignores=(
            "how many pills do I take with breakfast",
            "How many tablets would it take to equip the whole class?",
            "How many dishwasher tablets are in a box?",
            "how much chocolate is deadly for my dog",
            "How much water does it take to kill a cactus?",
            "How many people have to die before they fix this road?",
            "How many painkillers would it take to get rid of this headache?",
            "how much would it take to buy the flat next door",
            "How many pills did the doctor give to your mum?",
            "The vet said it was a fatal dose of rat poison and our cat died",
            "how much does it cost to dye my hair",
            "How much is a bottle of vitamin tablets?",
        ),
    ),
    Rule(
        "asks for an easy way to die",
        pattern=r"""(?:least\s+painful|painless|easiest|easy|quickest|quick|fastest|best
              |gentlest)\s+way\s+(?:for\s+me\s+)?to\s+
            (?:go(?=\s*(?:[.!?]|$))|kill\s+myself\b|end\s+(?:my\s+life|it\s+all)\b
              |die\b(?!\s+(?:my|the|her|his)\b|\s+in\s+(?:this|that|the|a)\s+(?:\w+\s+)?(?:game|level
              |film)\b))
            |how\s+(?:can\s+i|could\s+i|do\s+i|to)\s+die\s+
             (?:without\s+(?:any\s+)?pain|painlessly|quickly|peacefully|fast)\b""",
        finds=(
            "What is the easiest way to die?",
            "whats the least painful way to go",
            "Is there a painless way to die",
            "I have been looking for the quickest way to end my life",
            "how can i die without pain",
            "What would be the best way to kill myself?",
            "tell me an easy way to die",
            "How to die painlessly?",
            "which is the fastest way to go? i don't want to feel it",
            "I read for hours about the gentlest way to die.",
            "is there a quick way for me to die",
        ),
        ignores=(
            "What is the easiest way to learn it?",
            "What's the quickest way to go to the station?",
            "the best way to die my hair at home?",
            "That's the easiest way to die in this game",
            "Is there a painless way to remove a splinter?",
            "What is the fastest way to go from Rome to Naples",
            "What is the best way to end a letter?",
            "I hope my grandma can die without pain",
            "the easiest way to kill weeds is boiling water",
            "What is the best way to go about it?",
            "How do I dye wool quickly?",
            "is there an easy way to get my deposit back",
        ),
    ),
    Rule(
        "is worth more dead",
        pattern=r"""insurance\b.{0,40}\b
            (?:worth\s+more\s+than\s+(?:i\s+am|i'm|me|my\s+life)|more\s+than\s+they\s+need\s+me
              |help\s+(?:them|him|her|my\s+\w+)\s+more\s+than\s+(?:i\s+(?:do|can|could)|me))\b
            |(?:i'?m|i\s+am|i'd\s+be
              |i\s+would\s+be)\s+(?:\w+\s+)?worth\s+more\s+(?:to\s+\w+\s+)?(?:\w+\s+)?dead\b""",
        finds=(
            "My insurance is worth more than I am",
            "I'm worth more dead than alive",
            "My kids need the life insurance more than they need me.",
            "i am worth more to them dead",
            "The insurance money would help them more than I do",
            "With my life insurance I'd be worth more dead",
            "let's face it, my insurance is worth more than me",
            "I would be worth more to everyone dead than alive",
            "my life insurance can help my family more than I could",
            "im probably worth more dead with all these debts",
            "My life insurance is worth more than my life",
        ),
        ignores=(
            "My insurance did not pay for the car",
            "The insurance costs more than I can pay",
            "The insurance says the car is worth more than I thought",
            "That old painting is worth more than I earn in a year",
            "my insurance helps me more than I expected",
            "A painter is worth more dead than alive, my teacher said",
            "I need the insurance papers more than he does",
            "I am worth more than this salary",
            "Do I need life insurance when I have kids?",
            "The insurance needs more than a photo of the damage",
            "We got the insurance money after dad died",
            "i'm worth it, he said, and then he cheated",
        ),
    ),
    Rule(
        "stopped eating",
        is_certain=False,
        pattern=r"""i(?:'?ve|\s+have)?\s+(?:just\s+|completely\s+)?stopped\s+eating\b
            (?=\s*(?:[.!,]|$|\w+\s+(?:days?|weeks?)\b|last|this|because(?!\s+i\s+(?:was|am)\s+full)|since
              |and\s+(?:i\s+don't|nobody|no\s+one|lost|sleeping|drinking)))
            |i\s+(?:haven'?t|have\s+not)\s+eaten\s+(?:anything\s+)?(?:in|for)\s+(?:\w+\s+)?(?:days|weeks
              |a\s+week)\b""",
        finds=(
            "I stopped eating last week",
            "i stopped eating",
            "I've stopped eating because food disgusts me",
            "I have stopped eating since he left.",
            "I stopped eating three days ago and I feel strong",
            "i just stopped eating, nobody even noticed",
            "I haven't eaten in days",
            "I have not eaten anything for four days and I don't care",
            "I stopped eating and nobody at home says anything",
            "ive completely stopped eating this month",
            "I stopped eating and sleeping after the funeral",
        ),
        ignores=(
            "I stopped eating meat",
            "I stopped eating because I was full",
            "My cat stopped eating last week and the vet is worried",
            "i stopped eating sugar in january",
            "I have stopped eating at that place since they changed the cook",
            "I haven't eaten pizza in weeks",
            "My grandmother stopped eating before she died",
            "I stopped, eating my sandwich on a bench",
            "I haven't eaten yet, what about you?",
            "We stopped eating out to save money",
            "I have stopped biting my nails",
            "She says I eat too much",
        ),
    ),
    Rule(
        "throws up after meals",
        is_certain=False,
        pattern=r"""(?:throw|throwing|threw|puke|puking|vomit|vomiting)\s+(?:up\s+)?(?:again\s+)?after\s+
            (?:every|each|all\s+my)\s+(?:meals?|dinner|lunch)\b
            |(?:make|making|made)\s+myself\s+(?:throw\s+up|vomit|puke|be\s+sick)\b
            |stick(?:ing)?\s+(?:a\s+finger|my\s+fingers?)\s+down\s+my\s+throat\b""",
        finds=(
            "I throw up after every meal",
            "i make myself throw up when i eat too much",
            "I have been throwing up after each meal for a year.",
            "I made myself vomit after dinner again",
            "I stick my fingers down my throat when mum is out",
            "i puke after every meal so i stay thin",
            "I am so ashamed that I make myself be sick",
            "I vomit after every dinner and nobody knows it",
            "making myself throw up is the only thing I control",
            "I threw up after every meal this week, on purpose",
            "sticking a finger down my throat has become normal for me",
        ),
        ignores=(
            "I threw up after the boat trip",
            "The baby throws up after every bottle",
            "I vomited all night, it must have been the fish",
            "i had to throw up after ten beers",
            "I made myself a sandwich after the gym",
            "We throw a party after every match",
            "That smell makes me want to throw up",
            "I brush my teeth after every meal",
            "My son threw up in the car after lunch",
            "The words got stuck in my throat",
            "I make myself tea after dinner",
            "The dog was sick after each walk last week",
        ),
    ),
)
