"""Chat templates within bounds write what transformers writes; what goes on without end is refused, the same everywhere."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from small_models import LLAMA3

from mnpo.llm.data import templates
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.models import tiny

TALK = [
    {"role": "user", "content": " Tell me <b>more</b>, {{ please }} "},
    {"role": "assistant", "content": "Of what?"},
    {"role": "user", "content": "Käse 'n' “tea”"},
]
GOOD = [
    tiny.CHAT_TEMPLATE,
    LLAMA3,
    "{%- set ns = namespace(x='') -%}{% for m in messages[::-1] %}{% set ns.x = ns.x ~ m.content %}{% endfor %}{{ ns.x | upper }}",
    "{{ messages | tojson(indent=2) }}{% generation %}{{ messages | length }}{% endgeneration %}{{ nothing }}{% for x in nothing %}{% endfor %}",
    "{% macro f(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages if m.role == 'user' %}{{ f(m) ~ loop.index }}{% endfor %}",
    "{% for x in range(4) %}{% if x == 1 %}{% continue %}{% endif %}{{ x * 3 + 1 }},{{ '%03d|%s' % (x, 'a' * x) }}{% endfor %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v.split(' ') | join('-') | replace('e', 'ee') }}{% endfor %}{{ dict(a=1) }}",
    "{{ messages | map(attribute='role') | unique | list }}{{ '{:>9}'.format('x') }}{{ 'a\nb' | indent(4) }}{{ (1 / 3) | round(2) }}",
]  # fmt: skip
ENDLESS = {
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "it loops",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}": "it loops",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}": "it loops",
    "{% set ns = namespace(x='abcd') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}": "it builds",
    "{{ 'a' * 10**9 }}": "it builds",
    "{{ [0] * 10**9 }}": "it builds",
    "{{ '%999999999d' % 1 }}": "it builds",
    "{{ '{:999999999}'.format(1) }}": "it builds",
    "{{ 'x'.center(10**9) }}": "it counts with numbers",
    "{{ ('a' * 9999).replace('a', 'b' * 9999) }}": "it builds",
    "{% set l = ['x' * 9999] * 9999 %}{{ l | join }}": "it builds",
    "{{ 2 ** 999999 }}": "it builds",
}


def words(template: str) -> Any:
    found = tiny.tokenizer()
    found.chat_template = template
    return found


@pytest.mark.parametrize("template", GOOD)
@pytest.mark.parametrize("begun", [False, True])
def test_what_is_written_is_what_transformers_writes(template: str, begun: bool) -> None:
    tokenizer = words(template)
    expected = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=begun)
    assert templates.render(tokenizer, TALK, add_generation_prompt=begun) == expected
    templates.check(tokenizer, "here")


@pytest.mark.parametrize("template", ENDLESS)
def test_what_goes_on_without_end_is_refused_before_it_costs_anything(template: str) -> None:
    with pytest.raises(ValueError, match=rf"^the chat template of here: {ENDLESS[template]}[^\n]*$"):
        templates.check(words(template), "here")


def test_one_that_only_some_conversations_keep_busy_ends_the_run_and_not_just_the_row() -> None:
    tokenizer = words("{% if messages | length > 1 %}{{ 'a' * 10**9 }}{% endif %}")
    templates.check(tokenizer, "here")
    with pytest.raises(ValueError, match=r"^the chat template of .*: it builds"):
        Encoder(tokenizer).render(TALK, [])


def test_bounds_hold_in_threads_and_for_each_rendering_anew() -> None:
    tokenizer, found = words(tiny.CHAT_TEMPLATE), list[str]()
    threads = [
        threading.Thread(target=lambda: found.append(templates.render(tokenizer, TALK))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_long_conversation_has_room() -> None:
    long = [{"role": ("user", "assistant")[k % 2], "content": "word " * 2000} for k in range(301)]
    text = templates.render(words(GOOD[2]), long)
    assert len(text) > 2_900_000
