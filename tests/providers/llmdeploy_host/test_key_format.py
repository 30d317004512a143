"""The form of API keys."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdeploy_host._key_format import checksum, mint, parse


def test_a_new_key_has_the_documented_form_and_its_hash_is_of_the_whole_text() -> None:
    key = mint()
    text = key.secret.reveal().decode()
    assert re.fullmatch(r"llmd_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}", text)
    assert text.split("_")[2] == key.key_id
    assert key.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert parse(text) == key or parse(text).sha256 == key.sha256


def test_keys_differ_in_id_and_in_secret() -> None:
    keys = [mint() for _ in range(200)]
    assert len({key.key_id for key in keys}) == len({key.sha256 for key in keys}) == 200
    bodies = [key.secret.reveal().decode().split("_")[3][1:43] for key in keys]
    assert all(len({body[place] for body in bodies}) > 20 for place in range(42)), "a digit hardly changes"


def test_the_key_is_not_in_the_repr() -> None:
    key = mint()
    assert key.secret.reveal().decode() not in f"{key!r} {key}"


@given(st.data())
def test_one_wrong_character_is_noticed(data: st.DataObject) -> None:
    text = mint().secret.reveal().decode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != text[place]))
    mistyped = text[:place] + other + text[place + 1 :]
    with pytest.raises(ValueError, match="API key") as caught:
        parse(mistyped)
    assert mistyped not in str(caught.value)


@given(st.text())
def test_any_other_text_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^this is not an API key of llmdeploy$"):
        parse(text)


@given(st.text(alphabet="0123456789abcXYZ", min_size=1))
def test_the_checksum_has_six_digits(body: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{6}", checksum(body))
