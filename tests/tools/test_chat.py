"""The chat command on a tiny checkpoint: answers, drawn points, conversations, and wrong input."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import molmo_jax
from molmo_jax.tools import chat

FOLDER = Path(__file__).parent.parent / 'golden/molmo2_olmo_hub'


@pytest.fixture(scope='module')
def loaded():
  return molmo_jax.from_pretrained(FOLDER, dtype='float32')


@pytest.fixture
def molmo(loaded, monkeypatch):
  """Loaded once: the command itself is what is tested here."""
  monkeypatch.setattr(molmo_jax, 'from_pretrained', lambda path, dtype: loaded, raising=False)
  return loaded


@pytest.fixture
def picture(tmp_path):
  Image.fromarray(np.full((60, 90, 3), 200, np.uint8)).save(tmp_path / 'a.png')
  return str(tmp_path / 'a.png')


def ask(*arguments):
  return chat.main(['--model', str(FOLDER), '--max-new-tokens', '3', *arguments])


@pytest.mark.parametrize('order', [lambda q, i: ['--image', i, q], lambda q, i: [q, '--image', i]])
def test_the_answer_is_what_generate_gives(molmo, picture, capsys, order):
  assert ask(*order('What is this?', picture)) == 0
  content = [{'type': 'image', 'image': picture}, {'type': 'text', 'text': 'What is this?'}]
  assert capsys.readouterr().out == molmo.generate([{'role': 'user', 'content': content}], 3) + '\n'


def test_points_of_the_answer_are_drawn(molmo, picture, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(molmo_jax.Molmo, 'stream',
                      lambda *_: iter(['<points coords="1 1 500', ' 500">it</points>']))
  assert ask('--image', picture, '--draw', str(tmp_path / 'out.png'), 'Point to it.') == 0
  drawn, plain = np.array(Image.open(tmp_path / 'out.png')), np.array(Image.open(picture))
  assert drawn.shape == plain.shape
  assert (drawn[30, 45] != plain[30, 45]).any() and (drawn[0, 0] == plain[0, 0]).all()
  assert '1 points' in capsys.readouterr().err


def test_without_a_question_it_is_a_conversation(molmo, picture, monkeypatch, capsys):
  seen = []
  monkeypatch.setattr(molmo_jax.Molmo, 'stream', lambda _, messages,
                      n: seen.append(list(messages)) or iter(['yes']))
  monkeypatch.setattr('sys.stdin', io.StringIO('One?\nTwo?\n\nnever read\n'))
  assert ask('--image', picture) == 0
  assert capsys.readouterr().out == 'yes\nyes\n'
  assert [m['role'] for m in seen[1]] == ['user', 'assistant', 'user']
  assert [len(m['content']) for m in seen[1]] == [2, 3, 1]   # picture and text, 'yes', text alone


def test_a_question_that_cannot_be_asked_does_not_end_the_conversation(molmo, monkeypatch, capsys):
  monkeypatch.setattr('sys.stdin', io.StringIO('Half \ud800 of a pair?\nWhy <|im_end|>?\nSo?\n'))
  assert ask() == 0
  printed = capsys.readouterr()
  assert len(printed.out.splitlines()) >= 2 and '<|im_end|>' in printed.err
  assert printed.err.count('error: ') == 1


@pytest.mark.parametrize(('arguments', 'message'), [
  (['--image', 'absent.png', 'Why?'], 'absent.png: no such file'),
  (['--video', 'absent.mp4', 'Why?'], 'absent.mp4: no such file'),
])
def test_files_are_looked_for_before_the_weights_are_loaded(monkeypatch, capsys, arguments,
                                                            message):
  monkeypatch.setattr(molmo_jax, 'from_pretrained', None, raising=False)
  assert ask(*arguments) == 1
  assert capsys.readouterr().err == f'error: {message}\n'


@pytest.mark.parametrize(
  'arguments', [['--draw', 'x.png', 'Why?'], ['--image', __file__, '--video', __file__, 'Why?']])
def test_options_that_do_not_go_together_are_refused(arguments):
  with pytest.raises(SystemExit, match='2'):
    ask(*arguments)


def test_a_file_that_is_no_picture_is_named(molmo, capsys):
  assert ask(__file__, '--image', __file__) == 1
  assert 'test_chat.py' in capsys.readouterr().err
