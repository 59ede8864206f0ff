"""Answers that reveal who wrote them: a battle whose answer names its model or its maker is no longer blind.

Three things reveal: the name of one of the models that stand for the draw; a maker or family of models, said of
oneself ("I am Claude", "trained by OpenAI"); and the same in a few other languages. A maker's name alone reveals
nothing, since people ask about Google and Mistral (a wind) as about anything else. Known names count with their
capital letters alone ("an apple" is none), those of the draw in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Makers and families that models say they are of, right or wrong: a small model trained on others' answers that calls
# itself ChatGPT still moves its voter.
KNOWN = (
    "OpenAI", "ChatGPT", "GPT", "Anthropic", "Claude", "Google", "DeepMind", "Gemini", "Gemma", "Bard", "PaLM", "Meta",
    "Facebook", "LLaMA", "Mistral", "Mixtral", "Mistral AI", "Microsoft", "Phi", "Copilot", "Alibaba", "Qwen", "Tongyi",
    "DeepSeek", "Cohere", "Command R", "xAI", "Grok", "Nvidia", "Nemotron", "Databricks", "DBRX", "Vicuna", "LMSYS",
    "Alpaca", "Koala", "Dolly", "EleutherAI", "Pythia", "GPT-Neo", "GPT-J", "StableLM", "Stability AI", "SmolLM",
    "Hugging Face", "Falcon", "Technology Innovation Institute", "BigScience", "BLOOM", "Baichuan", "Yi", "01.AI",
    "Moonshot", "Kimi", "Zhipu", "ChatGLM", "GLM", "MiniMax", "Amazon", "IBM", "Granite", "OLMo", "AllenAI",
    "Allen Institute for AI", "Apple", "Zephyr", "Nous", "Hermes", "Open Assistant", "OpenAssistant", "InternLM",
    "Tencent", "Hunyuan", "Baidu", "ERNIE", "ByteDance", "Doubao", "Reka", "AI21", "Jamba", "Inflection", "Pi",
    "Perplexity", "Fairground", "通义千问", "阿里巴巴", "深度求索", "百度", "智谱",
)  # fmt: skip

# "I am", and what may stand between it and the name: "I am a large language model named Vicuna". Not any words: "I am
# not sure that Google" says nothing of the speaker.
_SELF = (
    r"\b(?:i\s*am|i['’]m|my\s+name\s+is|you\s+can\s+call\s+me|you['’]re\s+(?:talking|chatting|speaking)\s+(?:to|with)|"
    r"je\s+suis|je\s+m['’]appelle|ich\s+bin|ich\s+hei(?:ß|ss)e|mein\s+name\s+ist|soy|me\s+llamo|eu\s+sou|me\s+chamo|"
    r"io\s+sono|sono|mi\s+chiamo)\s+"
    r"(?:(?:the|an?|ein|une?|um|new|large|small|open|helpful|friendly|language|ai|chat|virtual|digital|model|models|"
    r"llm|assistant|chatbot|bot|modelo|modèle|sprachmodell|assistent|asistente|based|on|from|by|of|called|named|known|as|"
    r"von|de|di|name|is)[\s,]+){0,8}"
)
# "trained by", said of oneself: "BERT is a language model developed by Google" is an answer, not a confession.
_MADE = (
    r"\b(?:i\s+(?:am|was|have\s+been)|i['’](?:m|ve\s+been)|as\s+an?\s+(?:\w+\s+){0,3}?(?:ai|model|assistant|chatbot|llm)|"
    r"my\s+(?:makers?|creators?|developers?)\s+(?:is|are)|(?:ich\s+(?:bin|wurde)|je\s+(?:suis|fus)|j['’]ai|fui|soy|he\s+sido|"
    r"sono\s+stato))\b(?:[^.!?\n]{0,80}\b(?:by|at|from|von|par|por|da)\s+|\s+)"
    r"(?:the\s+)?(?:(?:researchers?|engineers?|team|people|company|folks)\s+(?:(?:at|of|from|named|called)\s+)?)?"
)
_MAKING = re.compile(
    r"(?:train|develop|creat|made|built|buil[dt]|design|releas|fine-?tun|makers?|power|entwickel|entra[iîí]n|développ|cré[ée]|"
    r"desarroll|addestrat|svilupp)",
    re.IGNORECASE,
)
_CHINESE = r"我(?:是|叫)(?:由|一个|一款)?[^。！？\n]{0,12}?"
VERB_AFTER = 20  # characters: in German the verb comes last
_VERSION = r"(?:[\s-]?v?\d+(?:\.\d+)*)?"
_SHORTEST_NAME = 4  # characters: a model named "yi" or "pi" in the draw would be found in any text


def discloses(answer: str, names: Iterable[str]) -> str | None:
    """The passage of the answer that reveals its maker, or None.

    `names`: the models in the draw, by every name that would reveal them (name, family, maker). A name that has a
    digit or a mark inside ("commons-gpt2-4m", "GPT-J"), which is no plain word, reveals wherever it stands; a plain
    word ("smollm", "mistral", a maker) only where the answer says it of itself.
    """
    given = sorted({name.strip() for name in names if name.strip()}, key=lambda name: (-len(name), name))
    telling = [name for name in given if len(name) >= _SHORTEST_NAME and not name.replace(" ", "").isalpha()]
    if telling and (found := _whole(telling).search(answer)):
        return _passage(found)
    given_too = f"|(?i:{_names(given)})" if given else ""
    for lead in (_SELF, _MADE, _CHINESE):
        end = "" if lead is _CHINESE else r"(?!\w)"
        for found in re.finditer(rf"(?i:{lead})(?:{_names(KNOWN)}{given_too}){_VERSION}{end}", answer):
            if lead is not _MADE or _MAKING.search(answer, found.start(), found.end() + VERB_AFTER):
                return _passage(found)
    return None


def _whole(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{_names(names)})(?![\w-])", re.IGNORECASE)


def _names(names: Iterable[str]) -> str:
    """Alternatives, longest first; a space, hyphen or underscore in a name stands for any of the three or none."""
    longest = sorted(set(names), key=lambda name: (-len(name), name))
    return "|".join(r"[\s_-]?".join(re.escape(part) for part in re.split(r"[\s_-]+", name) if part) for name in longest)


def _passage(found: re.Match[str]) -> str:
    return " ".join(found[0].split())
