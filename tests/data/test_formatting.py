"""Facts are put into words when they are drawn: anew in every epoch, the same after a resume."""

from __future__ import annotations

import json

import numpy as np
import pytest

from molmo_jax.data.facts import fact
from molmo_jax.data.formatting import Formatter, WordedManifest
from molmo_jax.data.manifest import ManifestError, read_manifest
from molmo_jax.data.record import parse_record
from molmo_jax.data.wordings import WordingsError, fields_of, read_wordings

CHOICE = {'style': 'a_okvqa_mc', 'question': 'Why?', 'options': ['rain', 'sun'], 'right': 1}
POINTS = {'style': 'pointing', 'label': 'cups', 'points': [[1, [[0.25, 0.5]]]]}


def example(*facts, **more):
  return parse_record({'image': 'a.png', 'facts': list(facts)} | more, 'm.jsonl:1')


def draws(record, prompts='molmo2', count=60):
  formatter = Formatter(prompts)
  return [formatter(record, np.random.default_rng(i)) for i in range(count)]


def questions(drawn):
  return [e.conversations[0][0].content for e in drawn]


def test_a_draw_depends_on_its_random_numbers_alone_and_epochs_differ():
  record = example(CHOICE)
  assert questions(draws(record)) == questions(draws(record))
  assert len(set(questions(draws(record)))) > 40
  assert all('sun' in e.conversations[0][1].content or len(e.conversations[0][1].content) < 8
             for e in draws(record))


def test_the_stage_decides_how_facts_are_asked():
  assert set(questions(draws(example(POINTS), 'style_only'))) == {'cups'}
  assert len(set(questions(draws(example(POINTS))))) > 10
  assert {e.conversations[0][1].content for e in draws(example(POINTS))} == {
    '<points coords="1 1 250 500">cups</points>'}


def test_a_tree_becomes_a_dialogue_as_often_as_the_record_says():
  facts = [{'style': 'user_qa', 'question': q, 'answers': ['a']} for q in ('x?', 'y?')]
  drawn = draws(example(*facts, dialogue=0.2), count=1000)
  share = np.mean([len(e.conversations) == 1 for e in drawn])
  assert share == pytest.approx(0.2, abs=0.04)
  assert {len(e.conversations[0]) for e in drawn if len(e.conversations) == 1} == {4}


def test_benchmarks_ask_without_an_answer_and_always_alike(tmp_path):
  (tmp_path / 'm.jsonl').write_text(json.dumps({'image': 'a.png', 'facts': [POINTS]}) + '\n')
  manifest = WordedManifest(read_manifest(tmp_path / 'm.jsonl'), Formatter())
  assert [len(e.conversations[0]) for e in manifest] == [1]
  assert manifest[0] == manifest[0] and len(manifest) == 1


@pytest.mark.parametrize('value, message', [
  ({'question': 'q?'}, "'facts\\[0\\]' needs 'style'"),
  ({'style': 's', 'qestion': 'q?'}, 'unknown key "qestion"; did you mean "question"'),
  (CHOICE | {'right': 2}, "'right' 2; it must be the number of an option"),
  (CHOICE | {'order': 'mixed'}, 'is "mixed"; it must be one of given, any, insert'),
  (CHOICE | {'answers': ['a']}, 'an answer is made of one of them'),
  ({'style': 's', 'messages': ['alone']}, 'as many answers as questions'),
  ({'style': 's', 'question': 'q?', 'weight': {'wieght': 1}},
   'has an unknown key "wieght"; did you mean "weight"')])
def test_facts_that_cannot_be_worded_are_named(value, message):
  with pytest.raises(ManifestError, match=message):
    fact(value, 'facts[0]')


def test_facts_and_text_do_not_stand_side_by_side():
  with pytest.raises(ManifestError, match='m.jsonl:1: .*exactly one of .*, not question and facts'):
    example(CHOICE, question='q?')


def test_there_are_20_wordings_of_every_kind_with_the_same_fields():
  for kind, texts in read_wordings().items():
    assert len(set(texts)) >= 20, kind
    assert len({fields_of(text) for text in texts}) == 1, kind


def test_a_file_replaces_the_kinds_that_it_has(tmp_path):
  def read(**kinds):
    file = tmp_path / f'{len(list(tmp_path.iterdir()))}.json'
    file.write_text(json.dumps(kinds))
    return read_wordings(str(file))

  assert read(transcript=['Say it.'])['transcript'] == ('Say it.',)
  with pytest.raises(WordingsError, match='a wording of pointing needs {label} once'):
    read(pointing=['Point.'])
  with pytest.raises(WordingsError, match="did you mean 'pointing'"):
    read(pointng=['Point.'])


def test_a_counting_question_asks_for_an_answer_without_points():
  record = example({'style': 'user_qa', 'question': 'How many?', 'answers': ['2'],
                    'no_pointing': True})
  asked = questions(draws(record))
  assert all(q.endswith('How many?') and q != 'How many?' for q in asked) and len(set(asked)) > 5


def test_a_short_answer_about_a_video_is_asked_for_in_many_wordings():
  asked = questions(draws(example({'style': 'video_short_answer', 'question': 'Why so?',
                                   'answers': ['a']})))
  assert all('Why so?' in q for q in asked) and len(set(asked)) >= 15


def test_options_have_many_layouts_of_which_some_ask_for_the_label_or_the_text_alone():
  drawn = draws(example(CHOICE), count=1500)
  answers = [e.conversations[0][1].content for e in drawn]
  assert np.mean([text == 'sun' for text in answers]) == pytest.approx(0.12, abs=0.04)
  assert np.mean(['sun' not in text for text in answers]) == pytest.approx(0.22, abs=0.04)


def test_one_label_is_asked_about_in_all_images_or_in_some_and_only_its_points_answer():
  images = [{'name': name, 'label': name.title(), 'points': [[x, 0.5]]}
            for name, x in (('cup', 0.1), ('cup', 0.2), ('cat', 0.9))]
  drawn = draws(example({'styles': ['multi_image_pointing'], 'images': images}), count=200)
  told = {e.conversations[0][1].content for e in drawn}
  assert '<points coords="1 1 100 500;2 2 200 500">Cup</points>' in told
  assert '<points coords="3 1 900 500">Cat</points>' in told and 'There are none.' in told
  assert not any('Cup' in text and '900' in text for text in told)
