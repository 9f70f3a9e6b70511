"""How each judged metric asks, and what it makes of the answers (docs/training.md §5.2, §5.3).

A kind is a generator: it yields questions by step, is sent their answers, and returns scores by
name, the example's score first. The wording is our own; published numbers depend on the published
wording and on the judge, so that scores are to be compared only with scores of the same judge and
the same wording.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from molmo_jax.evaluation.judging import replies
from molmo_jax.metrics.benchmarks import BENCHMARKS
from molmo_jax.metrics.numeric_answers import to_float, to_int
from molmo_jax.metrics.open_answers import normalise_extraction
from molmo_jax.metrics.references import metadata_of
from molmo_jax.preprocess.types import Example


@dataclasses.dataclass(frozen=True)
class Ask:
  """One question to the judge."""
  prompt: str
  with_images: bool = False                   # the example's pictures belong to the question


# the wording, a macro each; plain text, so that nothing is escaped
PROMPTS: Any = jinja2.Environment(
  loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
  trim_blocks=True).get_template('prompts.jinja').module

Kind = Generator[Mapping[str, Ask], Mapping[str, str], Mapping[str, float]]


def caption(prediction: str, example: Example) -> Kind:
  """Captions: recall and consistency of statements; the first score is their harmonic mean.

  Recall: fraction of the reference's statements that the caption states; consistency: fraction of
  the caption's own statements that the reference states. Both also by category of statement.
  """
  data = metadata_of(example)
  expected = [re.sub(r'^\s*\d+[.)]\s*', '', statement) for statement in data['statements']]
  replied = yield {'recall': Ask(PROMPTS.stated(expected, prediction)),
                   'statements': Ask(PROMPTS.statements(prediction, replies.CATEGORIES))}
  own = replies.statements(replied['statements'])
  verdicts = {'recall': replies.stated(replied['recall'], len(expected))}
  categories = {'recall': list(data.get('categories') or []),
                'consistency': [category for _, category in own]}
  if own:
    replied = yield {'consistency': Ask(
      PROMPTS.stated([text for text, _ in own], data['reference']))}
    verdicts['consistency'] = replies.stated(replied['consistency'], len(own))
  means = {name: replies.fraction(verdicts.get(name, [])) for name in ('recall', 'consistency')}
  by_category = {
    f'{name}_{category}': replies.fraction([v for v, c in zip(found, categories[name])
                                            if c == category])
    for name, found in verdicts.items() for category in dict.fromkeys(categories[name])}
  return {'f1': _harmonic(*means.values())} | means | by_category


def events(prediction: str, example: Example) -> Kind:
  """Dream-1K: fraction of the reference's events that the description entails, and vice versa."""
  reference = example.answers[0]
  expected = list(metadata_of(example)['events']) or [reference]
  replied = yield {'recall': Ask(PROMPTS.entailment(expected, prediction)),
                   'events': Ask(PROMPTS.events(prediction))}
  recall = replies.entailed(replied['recall'], len(expected))
  own = replies.events(replied['events'])
  precision = 1.0
  if own:
    replied = yield {'precision': Ask(PROMPTS.entailment(own, reference))}
    precision = replies.entailed(replied['precision'], len(own))
  return {'f1': _harmonic(precision, recall), 'recall': recall, 'consistency': precision}


def mlvu(prediction: str, example: Example) -> Kind:
  """MLVU generation: two marks from 1 to 5, 0 where the reply gives none; first their sum."""
  data = metadata_of(example)
  question = example.conversations[0][0].content
  if data['task_type'] == 'sub_scene':
    names, reference = ('accuracy', 'relevance'), data.get('scoring_points', '')
  else:
    names, reference = ('completeness', 'reliability'), example.answers[0]
  replied = yield {'marks': Ask(PROMPTS.marks(question, prediction, names, reference))}
  marks = {f'{data["task_type"]}_{name}': replies.mark(replied['marks'], f'score_{name}')
           for name in names}
  return {'total': sum(marks.values())} | marks


def open_qa(prediction: str, example: Example) -> Kind:
  """PixMo ask-model-anything: judged against the picture and against the reference.

  Right if one of them says correct or mostly correct; unsure and a refusal are neither. Questions
  'How many …' are left out: they have no score.
  """
  question = example.conversations[0][0].content
  if question.strip().lower().startswith('how many'):
    return {}
  replied = yield {
    'image': Ask(PROMPTS.verdict(question, prediction, None, replies.OF_IMAGE), with_images=True),
    'reference': Ask(PROMPTS.verdict(question, prediction, example.answers[0], replies.VERDICTS))}
  image, reference = (replies.verdict(replied[step]) for step in ('image', 'reference'))
  right = [verdict in ('correct', 'mostly correct') for verdict in (image, reference)]
  return {'overall': any(right), 'image_correct': right[0], 'reference_correct': right[1],
          'valid': (image is not None) / 2 + (reference is not None) / 2}


def math_vista(prediction: str, example: Example) -> Kind:
  """MathVista as published: the judge extracts the short answer; normalised, it must match."""
  data = metadata_of(example)
  extraction = _short_answer(prediction.strip(), data['answer_type'], example.options)
  if extraction is None:
    replied = yield {'extraction': Ask(
      PROMPTS.extraction(data.get('query', ''), example.options[:8], prediction))}
    extraction = replied['extraction'].strip()
  given = normalise_extraction(extraction, question_type=data['question_type'],
                               answer_type=data['answer_type'],
                               choices=example.options, precision=data.get('precision'),
                               fix_precision=bool(data.get('fix_precision')))
  return {'score': given is not None and given == example.answers[0]}


def _short_answer(text: str, answer_type: str, choices: Sequence[str]) -> str | None:
  """The response itself where it is an answer already."""
  if text in choices or (answer_type == 'integer' and to_int(text) is not None):
    return text
  return text if answer_type == 'float' and to_float(text) is not None else None


def temp_compass(prediction: str, example: Example) -> Kind:
  """TempCompass: the local rule, and the judge where the text is neither an option nor yes or no.
  """
  score = BENCHMARKS['temp_compass'].scores(prediction, example, 'temp_compass')['score']
  task = metadata_of(example)['task']
  readable = r'(yes|no)' if task == 'yes_no' else r'[A-D]([.)]|$)'
  if not score and not re.match(readable, prediction.strip(),
                                re.IGNORECASE if task == 'yes_no' else 0):
    question = example.conversations[0][0].content
    replied = yield {'verdict': Ask(PROMPTS.same_answer(question, example.answers[0], prediction))}
    score = replies.is_correct(replied['verdict'])
  return {'score': score}


def video_ocr(prediction: str, example: Example) -> Kind:
  """MME-VideoOCR: the local rule, and the judge for answers that are translations."""
  if metadata_of(example)['eval_method'] != 'gpt_assisted_scoring':
    return BENCHMARKS['mme_videoocr'].scores(prediction, example, 'mme_videoocr')
  replied = yield {'verdict': Ask(PROMPTS.same_meaning(example.answers[0], prediction))}
  return {'score': replies.is_correct(replied['verdict'])}


def _harmonic(a: float, b: float) -> float:
  return 2 * a * b / (a + b) if a + b else 0.0


KINDS: dict[str, Callable[[str, Example], Kind]] = {
  'judged_caption': caption, 'judged_events': events, 'judged_mlvu': mlvu,
  'judged_open_qa': open_qa, 'math_vista': math_vista, 'temp_compass': temp_compass,
  'mme_videoocr': video_ocr,
}
