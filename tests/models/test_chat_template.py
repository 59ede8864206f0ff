"""Rendered conversations equal Transformers'; a template that means harm ends soon, in a sentence."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from fairground.errors import RequestError, TemplateError
from fairground.models.chat_template import ChatTemplate
from fairground.types import Message

CHAT = (
    Message("system", "Be brief. <b>&amp;"),
    Message("user", " Hi,  you!\n"),
    Message("assistant", "Hello 🎉"),
    Message("user", "2 + 2?"),
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
        "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama-3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{#- The system message -#}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
""",
    "mistral": """{%- set ns = namespace(index=0, found=false) %}
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message.role not in ["user", "assistant"] %}{%- continue %}{%- endif %}
    {%- if message["role"] == "user" %}
        {%- set ns.index = ns.index + 1 %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST] " ~ message["content"] ~ "[/INST]" }}{%- endif %}
    {%- else %}{% generation %}{{- " " + message["content"]|trim + eos_token }}{% endgeneration %}{%- endif %}
{%- endfor %}
{{ ns.index }} of {{ user_messages|length }}
""",
    "everything": """{% macro turn(m, n=1) %}
[{{ m.role|upper }}{{ n }}] {{ m.content|replace("<", "(")|e }}{{ caller() }}{% endmacro %}
  {% for m in messages %}
    {% call turn(m, loop.index) %}!{% endcall %}
    {% if loop.index == 3 %}{% break %}{% endif %}
  {% endfor %}
{% set text %}{{ messages|map(attribute='content')|join(' / ') }}{% endset %}
{{ text|length }} {{ messages|tojson }} {{ messages[0]|tojson(indent=2) }}
{{ {'b': [1, 2.5, none], 'a': true}|tojson(sort_keys=true) }}
{{ "%s-%05.1f" % ("a", 2) }} {{ "{:>4}|{}".format(1, "x") }}
{{ [3, 1, 2]|sort|reverse|list }} {{ {'a': 1}.items()|list }}
{{ range(5)|select('odd')|list }} {{ 'a,b'.split(',') }}
{{ 'x' * 3 }} {{ 2 ** 10 }} {{ 7 // 2 }} {{ -1 }} {{ unk_token }}
{{ messages[::-1][0].content[:3] }} {{ none }} {{ missing }} {{ missing is defined }} {{ 'abc'|indent(2, true) }}
{{ dict(a=1)|length }} {{ [1, 2]|sum }} {{ 1.25|round(1) }} {{ 'a b'|title|center(9) }}
{{ messages|groupby('role')|length }}
{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }} {% filter lower %}ABC{% endfilter %} {{ documents is none }}
""",
}


@pytest.fixture(scope="module")
def reference():
    """Transformers' rendering, by its own function."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(source: str, messages: tuple[Message, ...], prompt: bool) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return render_jinja_template([chat], chat_template=source, add_generation_prompt=prompt, **TOKENS)[0][0]

    return render


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
def test_equals_transformers(reference, name: str, prompt: bool) -> None:
    ours = ChatTemplate(TEMPLATES[name], bos="<s>", eos="</s>", special_tokens={"unk_token": "<unk>"})
    for messages in (CHAT, CHAT[1:], CHAT[1:2]):
        assert ours.render(messages, add_generation_prompt=prompt) == reference(TEMPLATES[name], messages, prompt)


def test_a_token_that_the_model_lacks_is_undefined() -> None:
    assert ChatTemplate("{{ bos_token is defined }}").render(CHAT) == "False"
    assert ChatTemplate("{{ bos_token }}{{ eos_token }}", bos="<s>", eos="</s>").render(CHAT) == "<s></s>"


def test_the_date_is_today() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(CHAT) in (
        str(datetime.now().year),
        str(time.gmtime().tm_year),
    )


def test_without_a_template_there_is_a_plain_form_that_says_so() -> None:
    plain = ChatTemplate(None)
    assert plain.fallback
    assert plain.note is not None
    assert "no chat template" in plain.note
    chat = [Message("system", "S"), Message("user", "U"), Message("assistant", "A"), Message("user", "V")]
    assert plain.render(chat) == "System: S\n\nUser: U\n\nAssistant: A\n\nUser: V\n\nAssistant:"
    assert plain.render(chat[:2], add_generation_prompt=False) == "System: S\n\nUser: U"
    assert not ChatTemplate("x").fallback
    assert ChatTemplate("x").note is None


def test_no_messages_are_a_bad_request() -> None:
    for source in (None, "x"):
        with pytest.raises(RequestError, match="no messages"):
            ChatTemplate(source).render([])


def test_a_rendering_is_fast() -> None:
    template = ChatTemplate(TEMPLATES["chatml"])
    template.render(CHAT)
    best = min(_seconds(template) for _ in range(50))
    assert best < 1e-3


def _seconds(template: ChatTemplate) -> float:
    begin = time.perf_counter()
    template.render(CHAT)
    return time.perf_counter() - begin


LONG = "{% set s = 'a' * 4000000 %}"
HARMFUL = {
    # for ever
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "writing loops": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "filtered loops": "{% for a in range(99999) if a > 99999 %}{% endfor %}" * 1000,
    "macros": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a set block": "{% set x %}{% for a in range(9999) %}{% for b in range(9999) %}"
    + "{% endfor %}" * 2
    + "{% endset %}",
    "a test in a filter": "{% set r = range(99999)|list %}{{ range(99999)|select('in', r)|list }}",
    "comparisons": LONG + "{% if s[1:] == s[:-1] %}{% endif %}" * 1000,
    # too deep
    "a macro of itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "a block of itself": "{% block b %}{{ self.b() }}{% endblock %}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a long sum": "{{ " + "+".join(["1"] * 9999) + " }}",
    "a long source": "x" * 100_000,
    # too large
    "text times": "{{ 'a' * 10**12 }}",
    "safe text times": "{{ ('a'|safe) * 10**12 }}",
    "a list times": "{{ ['a' * 1000000] * 1000000 }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "squares": "{% set n = namespace(a=2) %}{% for i in range(9999) %}{% set n.a = n.a * n.a %}{% endfor %}",
    "doubled text": "{% set n = namespace(a='a') %}{% for i in range(99) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
    "added text": "{% set n = namespace(a='a') %}{% for i in range(99) %}{% set n.a = n.a + n.a %}{% endfor %}",
    "doubled lists": "{% set n = namespace(a=[1]) %}{% for i in range(99) %}{% set n.a = [n.a, n.a] %}{% endfor %}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a format as wide as it is told": "{{ '%*d' % (1000000000, 1) }}",
    "a wide format method": "{{ '{:1000000000}'.format(1) }}",
    "a nested format method": "{{ '{:{}}'.format(1, 1000000000) }}",
    "a repeated format": LONG + "{{ ('{0}' * 100000).format(s) }}",
    "centre": "{{ 'a'.center(1000000000) }}",
    "centre of safe text": "{{ ('a'|safe).center(1000000000) }}",
    "the filter centre": "{{ 'a'|center(1000000000) }}",
    "indent": "{{ 'a'|indent(1000000000, true) }}",
    "indented JSON": "{{ messages|tojson(indent=1000000000) }}",
    "replace": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "the filter replace": "{{ ('a' * 99999)|replace('a', 'b' * 99999) }}",
    "a mapped replace": "{{ range(99999)|map('replace', '', 'b' * 9999)|list }}",
    "join": "{{ ('b' * 99999).join(range(99999)|map('string')|list) }}",
    "the filter join": "{{ range(99999)|join('b' * 99999) }}",
    "a macro's buffer": "{% macro m() %}{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endmacro %}{{ m() }}",
    "strip": LONG + "{{ s.strip('b' * 3000000 ~ 'a') }}",
    "trim": LONG + "{{ s|trim('b' * 3000000 ~ 'a') }}",
    "rfind": LONG + "{{ s.rfind('b' ~ 'a' * 2000000) }}",
    "round": "{{ 1.5|round(100000000, 'ceil') }}",
    "a sum of lists": "{{ ([[1]] * 9999)|sum(start=[]) }}",
    "bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "many values": LONG + "".join("{% set s" + str(i) + " = s ~ '' %}" for i in range(99)),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_template_ends_soon(name: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(TemplateError, match=r"^The model's chat template was stopped, because it\b.*; .*\.$"):
        ChatTemplate(HARMFUL[name], time_limit=0.2).render(CHAT)
    assert time.perf_counter() - begin < 2


FORBIDDEN = {
    "a class": "{{ ''.__class__ }}",
    "a class's ancestors": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "by subscript": "{{ ''['__class__'] }}",
    "by filter": "{{ messages|attr('__class__') }}",
    "by map": "{{ messages|map(attribute='__class__')|list }}",
    "by format": "{{ '{0.__class__}'.format(1) }}",
    "a function's globals": "{{ raise_exception.__globals__ }}",
    "through a constructor": "{{ cycler.__init__.__globals__ }}",
    "changing the messages": "{{ messages.append(1) }}",
    "a namespace's insides": "{{ namespace(__class__=1) }}",
    "translate": "{{ 'a'.translate({97: 'b'}) }}",
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_forbidden_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match=r"which templates may not; do not trust this model's files\.$"):
        ChatTemplate(FORBIDDEN[name]).render(CHAT)


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ x", "{% for x in y %}", "{% while true %}", "a\n{{ x|no_such_filter }}"]
)
def test_a_malformed_template_names_the_line(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^The model's chat template is malformed in line \d: .*\.$"):
        ChatTemplate(source).render(CHAT)


@pytest.mark.parametrize(
    "source", ["{{ 1 / 0 }}", "{{ x.y.z }}", "{{ 'a' + 1 }}", "{% include 'x' %}", "{{ lipsum() }}"]
)
def test_a_failing_template_is_a_sentence(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^The model's chat template fails on this conversation \(.*\.$"):
        ChatTemplate(source).render(CHAT)


def test_a_template_may_refuse_a_conversation() -> None:
    with pytest.raises(TemplateError, match=r"refuses this conversation: Roles must\s?alternate\.$"):
        ChatTemplate("{{ raise_exception('Roles must\nalternate.') }}").render(CHAT)


def test_the_limits_are_the_callers() -> None:
    with pytest.raises(TemplateError, match="1,000 characters"):
        ChatTemplate("{% for i in range(200) %}0123456789{% endfor %}", output_limit=1000).render(CHAT)
    assert len(ChatTemplate("{{ messages[0].content }}").render([Message("user", "x" * 3_000_000)])) == 3_000_000
