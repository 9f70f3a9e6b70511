"""Stop strings are found wherever tokens are cut, and nothing of them is shown."""

from __future__ import annotations

import pytest

from molmo_jax.inference.stop import certain_length, find_stop, text_before_stop

PIECES = ['ab', 'c', 'STO', 'P', 'P it', 'ST', '\n']


def decode(ids):
  return ''.join(PIECES[i] for i in ids)


@pytest.mark.parametrize('ids, stop, count, text', [
  ([0, 2, 3, 1], ['STOP'], 3, 'ab'),               # spans two tokens
  ([0, 2, 4, 1], ['STOP'], 3, 'ab'),               # ends inside a token
  ([0, 1, 2], ['STOP'], None, 'abcSTO'),
  ([0, 1], ['bc'], 2, 'a'),                        # begins inside a token
  ([0, 6, 0, 6], ['\n'], 2, 'ab'),
  ([0, 2, 3], ['c', 'STOP', 'TO'], 2, 'abS'),      # the first one to be complete
  ([0, 1], [], None, 'abc'),
])
def test_an_answer_ends_with_the_token_that_completes_a_stop_string(ids, stop, count, text):
  assert find_stop(ids, decode, stop) == count
  assert text_before_stop(ids[:count], decode, stop) == text


def test_a_stop_string_before_the_least_length_does_not_count():
  assert find_stop([6, 0, 6, 1], decode, ['\n'], first=2) == 3
  assert text_before_stop([6, 0, 6], decode, ['\n']) == '\nab'


@pytest.mark.parametrize('text, certain',
                         [('a ST', 'a '), ('a S', 'a '), ('a', 'a'), ('a STx', 'a STx'),
                          ('a\ufffd', 'a')])
def test_what_may_become_a_stop_string_or_a_character_is_held_back(text, certain):
  assert text[:certain_length(text, ['STOP', 'TX'])] == certain
