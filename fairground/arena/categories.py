"""What a conversation is about, by plain rules on what the person wrote, and in which language.

A leaderboard by category needs the same rule for every vote, one that anyone can read and run again, so these are
words and marks, not a model's opinion. Their precision and recall on prompts that were labelled by hand are in
docs/findings/categories.md. Words are English: a prompt in another language gets the categories that depend on marks,
length and turns alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from fairground.arena.style import outside_code

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

TITLES = {
    "code": "Code",
    "maths": "Maths",
    "creative-writing": "Creative writing",
    "instruction-following": "Instruction following",
    "hard": "Hard prompts",
    "short": "Short prompts",
    "long": "Long prompts",
    "multi-turn": "Several turns",
}
RULES = {
    "code": "fenced or unmistakable source code, or asks for a program, a function, a query or markup",
    "maths": "formulas, or quantities with a question of how many, how much, how likely; names of branches of maths",
    "creative-writing": "asks for a story, poem, song, joke, speech, letter, slogan, script or character",
    "instruction-following": "says what form the answer must have: a format, a length, words to use or to leave out",
    "hard": "two points or more: one for code or maths, one for each demand on the form (two at most), one for 30 "
    "words and one more for 80, one for asking for proof, design, analysis or steps",
    "short": "the first prompt has 12 words or fewer",
    "long": "the first prompt has 200 words or more",
    "multi-turn": "two prompts or more",
}
UNKNOWN = "und"  # ISO 639's own code for undetermined
SHORT, SOME, MANY, LONG = 12, 30, 80, 200  # words
LONGEST = 20_000  # characters of a prompt that the rules look at
LEAST_CONFIDENCE = 0.5
# The most written ones, by ISO 639-1: among all 140 that the library knows, a short prompt in English loses to Breton.
LANGUAGES = {
    "af": "Afrikaans", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali",
    "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "ga": "Irish", "gl": "Galician", "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "is": "Icelandic", "it": "Italian",
    "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh", "kn": "Kannada", "ko": "Korean", "ky": "Kyrgyz", "lo": "Lao",
    "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi",
    "ms": "Malay", "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "ps": "Pashto",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "si": "Sinhala", "sk": "Slovak", "sl": "Slovene",
    "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese",
    "zh": "Chinese",
}  # fmt: skip


def _any(alternatives: str, **parts: str) -> re.Pattern[str]:
    """A pattern from lines of alternatives; `<name>` in a line stands for another such text."""
    for name, part in parts.items():
        alternatives = alternatives.replace(f"<{name}>", f"(?:{_joined(part)})")
    return re.compile(_joined(alternatives), re.IGNORECASE | re.MULTILINE)


def _joined(alternatives: str) -> str:
    return "|".join(line.strip() for line in alternatives.strip().splitlines())


_LANGUAGE_OF_CODE = r"""
    python|java(?:script)?|typescript|c\+\+|c#|golang|rust|ruby|php|perl|kotlin|swift|scala|haskell|matlab|sql|bash
    shell|powershell|html|css|svg|regex|regular expression|latex|verilog|assembly|numpy|pandas|react|django
"""
_CODE = _any(
    r"""
    ^[ \t]*(?:def \w+\(|class \w+[:({]|import \w+$|from \w+ import |\#include\s*<|public (?:static|class) )
    ^[ \t]*(?:function \w+\(|(?:const|let|var) \w+ =|SELECT .{1,200} FROM )
    \b<language>\s+(?:code|program|script|function|class|query|snippet|method|one-liner|app|page|website|module)\b
    \b<language>\s+(?:library|decorator|regex|command)\b
    \b(?:in|using|with)\s+<language>(?!\w)
    \b(?:write|give|create|generate|develop|build|fix|debug|optimi[sz]e)\b[^.?!\n]{0,40}\b<language>(?!\w)
    \b(?:write|implement|develop|create|code|fix|debug|refactor|optimi[sz]e|complete|build)\b[^.?!\n]{0,40}\b<thing>\b
    \b(?:stack ?trace|traceback|segfault|null ?pointer|compil(?:er|ation) error|syntax error|pull request)
    \b(?:git (?:commit|rebase|merge)|source code|time complexity|what does this (?:function|code)|bug in (?:this|my) )
    """,
    language=_LANGUAGE_OF_CODE,
    thing=r"""
    functions?|programs?|scripts?|algorithms?|class|code(?! of)|unit tests?|source|api|website|web ?page|web ?app
    compiler|parser|query|dockerfile|makefile
    """,
)
_KEYWORD = _any(  # JSON, formulas or a table may stand in a fence too
    r"\b(?:def|class|import|return|function|const|let|var|if|for|while|print|select|public|int|void|include|echo)\b"
)
_PLAY = _any(r"\b(?:video|film|movie|tv|radio|podcast|stage|sales|call|theat(?:re|er)|play)\s+script|\bscreenplay")
_MATHS = _any(
    r"\b<branch>\b",
    branch=r"""
    equations?|inequalit(?:y|ies)|integrals?|derivatives?|differentiate|polynomials?|quadratic|logarithms?|matri(?:x|ces)
    eigen\w+|vectors?|theorem|lemma|geometry|algebra\w*|calculus|trigonometr\w+|arithmetic|probabilit(?:y|ies)
    permutations?|factorials?|prime numbers?|remainder|divisible|square root|circumference|hypotenuse|perimeter
    (?:area|volume|radius) of|least common multiple|greatest common divisor|standard deviation|math(?:s|ematic\w*)?
    """,
)
_FORMULA = _any(
    r"""
    \$[^$\n]*[\\^_=][^$\n]*\$
    \\\(|\\\[|\\(?:frac|sum|int|sqrt)\b
    \b[a-z]\s?\^\s?[\d({]
    \b[a-z]\(\s?[a-z\d]\s?\)\s*=
    \b\d*[a-z]\s?[-+*/]\s?[a-z\d]+\s*[=<>]
    \d\s?[-+*/×÷^]\s?\d+\s*(?:=|\?|$)
    \|[^|\n]{1,30}\|\s*[<>=]
    \d\s?[×÷]\s?\d
    \bwhat(?:'s| is) \d+(?:\.\d+)? ?(?:[-+*/x^]|times|plus|minus|divided)
    """
)
_QUANTITY = _any(
    r"""
    \bhow (?:many|much|old|far|fast|likely)\b
    \bwhat(?:'s| is| was| will be| would be)? (?:the |his |her |their |its )?<quantity>\b
    \b(?:calculate|compute|solve)\b
    """,
    quantity=r"""
    total|sum|average|mean|probability|percentage|percent|difference|product|ratio|chance|odds|area|cost|price|profit
    distance|speed|remainder
    """,
)
_NUMBER = _any(
    r"""
    \d
    \b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|hundred|half|twice|double|triple|dozen)\b
    \b(?:dice|coins?)\b
    """
)
_CREATIVE = _any(
    r"""
    \b<make>\b[^.?!\n]{0,80}\b<text>\b
    \b(?:in the style of|as a (?:haiku|poem|limerick|sonnet|song|story|rap)|once upon a time|short story)\b
    \b(?:tell (?:me )?(?:a|another) joke|rhym(?:e|es|ing)|write creatively)\b
    \b(?:persuasive|heartfelt|funny|humorous|love|witty|moving)\b[^.?!\n]{0,20}\b(?:e-?mail|letter|essay|speech|text)\b
    \b(?:pretend|picture|imagine) (?:yourself )?(?:to be|you['’]re|as (?:if|though))\b|\b(?:picture|pretend) yourself\b
    \b(?:role-?play|embody|embrace the role|persona of|(?:speak|talk|write|answer|reply) (?:like|as if))\b
    """,
    make=r"""
    write|compose|craft|create|tell|draft|pen|make up|invent|continue|give|generate|rewrite|rephrase|describe|construct
    """,
    text=r"""
    stor(?:y|ies)|poems?|haikus?|sonnets?|limericks?|songs?|lyrics|jokes?|puns?|riddles?|novels?|fairy ?tales?|fables?
    tales?|plays?|screenplay|scripts?|dialogue|monologue|blog|speech|toast|slogans?|taglines?|headlines?|adverts?
    advertisements?|product descriptions?|pitch|raps?|ballads?|verses?|characters?|scenes?|diary|journal entry|obituary
    parody|paragraphs? about|opening paragraph|eulogy|chord progression|melody|cover letter|press release
    """,
)
_COUNT = r"\d+|one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|fifty|a hundred"
_DEMANDS = (
    _any(  # a length
        r"\b<bound>\s+<count>[\s-]+(?:words?|sentences?|paragraphs?|characters?|lines?|bullets?|points?|items?|pages?)\b",
        bound=r"""
        in|under|within|at most|at least|exactly|(?:fewer|less|more|no more|no longer) than|up to|maximum(?: of)?
        """,
        count=_COUNT,
    ),
    _any(  # how many
        r"\b<give>\s+(?:me\s+)?(?:exactly\s+|just\s+|only\s+)?<count>\b(?!\s*(?:%|percent|dollars))",
        give=r"list|give|name|provide|suggest|propose|write|describe|include|with|use|only use|share|identify",
        count=_COUNT,
    ),
    _any(  # a format
        r"\b(?:as|in|using|into|only|valid|a|the)\s+(?:a\s+|valid\s+|proper\s+){0,3}<format>\b",
        format=r"""
        json|yaml|csv|xml|markdown|html|svg|table|bullet(?:ed)?[- ]?(?:points?|list)?|numbered list|latex
        iambic pentameter
        """,
    ),
    _any(  # a layout or an order
        r"""
        \bbullet[- ]points?\b|\bper line\b|\bline-by-line\b|\bin the format\b|\bformat(?:ted)? (?:of|as|like)\b
        \bone (?:book|line|word|item|per line|sentence) (?:per|a|on each|each|only)\b
        \beach (?:word|item|one)? ?on a (?:separate|new) line\b
        \bin (?:alphabetical|chronological|descending|ascending|reverse) order\b|\bsort (?:the )?\w+
        \bin (?:all )?(?:caps|capital letters|lower ?case|upper ?case)\b
        """
    ),
    _any(  # this and nothing else
        r"""
        \b(?:reply|answer|respond|output|return)\s+(?:\w+\s+)?(?:with |in |using )?(?:only|just|nothing|solely)\b
        \bnothing else\b|\b(?:yes or no|one word)\b
        \bonly (?:the|a|with) (?:name|answer|number|word|code|function|result|letter)\b
        """
    ),
    _any(  # what to leave out
        r"\b<without>\s+(?:us|explain|includ|start|begin|mention|say|writ|utter|add|repeat|using|any|giv|show)\w*",
        without=r"do not|don['’]t|never|avoid|without|refrain from|except|leave out|exclude|must not|no more than",
    ),
    _any(  # how it starts or ends
        r"\b(?:start|begin|end|finish)(?:s|ning|ing)? (?:every|each|the|your|with|it)\b[^.?!\n]{0,40}\b<part>\b",
        part="with|letter|word|sentence|phrase",
    ),
    _any(  # brevity
        r"""
        \b(?:be|keep it|please be|keep the \w+) (?:concise|brief|short|succinct)\b
        \b(?:in|as) (?:a |one )?(?:short |single |brief )(?:paragraph|sentence|line)\b
        \bconcise(?:ly)? (?:bullet|answer|summary|list)
        """
    ),
    _any(
        r"\b(?:must|should|has to|needs to) (?:contain|include|use|start|end|begin|rhyme|be (?:in|under|exactly|at))\b"
    ),
)
_DEEP = _any(
    r"\b<deed>\b",
    deed=r"""
    prove|proof|derive|justify|analy[sz]e|evaluate|critique|compare|design|architect|optimi[sz]e|trade-?offs?
    step[- ]by[- ]step|reasoning|explain (?:your|how|why)|elaborate|complexity|edge cases?|assumptions?|constraints?
    implications?|strateg(?:y|ies)|propose|devise|investigate|algorithm|implement
    """,
)


def categories(turns: Sequence[str]) -> tuple[str, ...]:
    """The categories of a conversation, in TITLES' order, from the prompts that the person wrote, first to last.

    What a prompt is about is asked of the first alone, as later ones lean on answers; its form ("multi-turn") of all.
    """
    if not turns:
        return ()
    prompt = turns[0][:LONGEST]
    prose = "\n".join(outside_code(prompt))
    words = len(prompt.split())
    fenced = "```" in prompt and len(_KEYWORD.findall(prompt.partition("```")[2])) >= 2
    code = fenced or bool(_CODE.search(prompt) and not _PLAY.search(prompt))
    maths = not code and bool(
        _FORMULA.search(prose)
        or (_QUANTITY.search(prose) and len(_NUMBER.findall(prose)) >= 2)
        or (_MATHS.search(prose) and (_QUANTITY.search(prose) or _DEEP.search(prose)))
    )
    demands = sum(1 for demand in _DEMANDS if demand.search(prose))
    signs = (code or maths) + min(demands, 2) + (words >= SOME) + (words >= MANY) + bool(_DEEP.search(prose))
    holds = {
        "code": code,
        "maths": maths,
        "creative-writing": not code and bool(_CREATIVE.search(prose)),
        "instruction-following": demands >= 1,
        "hard": signs >= 2,
        "short": words <= SHORT,
        "long": words >= LONG,
        "multi-turn": len(turns) > 1,
    }
    return tuple(name for name in TITLES if holds[name])


def language(text: str) -> str:
    """The language's ISO 639-1 code, or "und" where the text is too short or too mixed to say.

    By py3langid (Lui and Baldwin's langid.py, 2012: naive Bayes over byte n-grams), offline, on the text outside
    fenced code. It says a language where its probability is at least LEAST_CONFIDENCE.
    """
    prose = " ".join(outside_code(text)).strip()
    if sum(map(str.isalpha, prose)) < 2:
        return UNKNOWN
    found, confidence = _identifier().classify(prose[:4000])
    return str(found) if confidence >= LEAST_CONFIDENCE else UNKNOWN


@cache
def _identifier() -> LanguageIdentifier:
    # Unpacking its table takes half a second, so it waits for the first prompt.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
