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


Kind = Generator[Mapping[str, Ask], Mapping[str, str], Mapping[str, float]]


def caption(prediction: str, example: Example) -> Kind:
  """Captions: share of the reference's statements that the caption states (recall), and of the
  caption's own statements that the reference states (consistency). First the harmonic mean; then
  both, also by category of statement."""
  data = metadata_of(example)
  expected = [re.sub(r'^\s*\d+[.)]\s*', '', statement) for statement in data['statements']]
  replied = yield {'recall': Ask(_stated_prompt(expected, prediction)),
                   'statements': Ask(_statements_prompt(prediction))}
  own = replies.statements(replied['statements'])
  verdicts = {'recall': replies.stated(replied['recall'], len(expected))}
  categories = {'recall': list(data.get('categories') or []),
                'consistency': [category for _, category in own]}
  if own:
    replied = yield {'consistency': Ask(
      _stated_prompt([text for text, _ in own], data['reference']))}
    verdicts['consistency'] = replies.stated(replied['consistency'], len(own))
  means = {name: replies.share(verdicts.get(name, [])) for name in ('recall', 'consistency')}
  by_category = {f'{name}_{category}': replies.share(
    [v for v, c in zip(found, categories[name]) if c == category])
                 for name, found in verdicts.items()
                 for category in dict.fromkeys(categories[name])}
  return {'f1': _harmonic(*means.values())} | means | by_category


def events(prediction: str, example: Example) -> Kind:
  """Dream-1K: share of the reference's events that the description entails (recall), and the other
  way round.
  """
  reference = example.answers[0]
  expected = list(metadata_of(example)['events']) or [reference]
  replied = yield {'recall': Ask(_entailment_prompt(expected, prediction)),
                   'events': Ask(_events_prompt(prediction))}
  recall = replies.entailed(replied['recall'], len(expected))
  own = replies.events(replied['events'])
  precision = 1.0
  if own:
    replied = yield {'precision': Ask(_entailment_prompt(own, reference))}
    precision = replies.entailed(replied['precision'], len(own))
  return {'f1': _harmonic(precision, recall), 'recall': recall, 'consistency': precision}


def mlvu(prediction: str, example: Example) -> Kind:
  """MLVU generation: two marks from 1 to 5, 0 where the reply gives none; first their sum."""
  data = metadata_of(example)
  question = example.conversations[0][0].content
  if data['task_type'] == 'sub_scene':
    names, reference = (
      'accuracy', 'relevance'), f'What the answer must say:\n{data.get("scoring_points", "")}'
    meaning = ('accuracy: how much of what it must say the answer says correctly, averaged over '
      'the points (1: misses it, 3: touches it, 5: says it exactly). relevance: how far the answer '
      'keeps to the question, right or wrong (1: beside the point, 5: nothing else).')
  else:
    names, reference = ('completeness', 'reliability'), f'Reference summary:\n{example.answers[0]}'
    meaning = ('completeness: how much of the main content of the reference the answer covers (1: '
      'hardly any, 5: all). reliability: how free the answer is of errors and contradictions; '
      'additions that do not contradict the reference cost nothing (1: many errors, 5: none).')
  prompt = ('Rate an answer to a question about a '
    f'video.\n\nQuestion:\n{question}\n\n{reference}\n\nAnswer:\n{prediction}\n\nGive two marks '
    f'from 1 to 5. {meaning}\n\nExplain both briefly, then end with a JSON object '
    f'{{"score_{names[0]}": …, "score_{names[1]}": …}}.')
  replied = yield {'marks': Ask(prompt)}
  marks = {f'{data["task_type"]}_{name}': replies.mark(replied['marks'], f'score_{name}')
           for name in names}
  return {'total': sum(marks.values())} | marks


def open_qa(prediction: str, example: Example) -> Kind:
  """PixMo ask-model-anything: judged against the picture and against the reference.

  Right if one of them says correct or mostly correct; unsure and a refusal are neither. Questions
  'How many …' are left
  out: they have no score.
  """
  question = example.conversations[0][0].content
  if question.strip().lower().startswith('how many'):
    return {}
  replied = yield {
    'image': Ask(_verdict_prompt(question, prediction, None), with_images=True),
    'reference': Ask(_verdict_prompt(question, prediction, example.answers[0]))}
  image, reference = (replies.verdict(replied[step]) for step in ('image', 'reference'))
  right = [verdict in ('correct', 'mostly correct') for verdict in (image, reference)]
  return {'overall': any(right), 'image_correct': right[0], 'reference_correct': right[1],
          'valid': (image is not None) / 2 + (reference is not None) / 2}


def math_vista(prediction: str, example: Example) -> Kind:
  """MathVista as published: the judge extracts the short answer, then normalised and compared with
  the reference.
  """
  data = metadata_of(example)
  extraction = _short_answer(prediction.strip(), data['answer_type'], example.options)
  if extraction is None:
    choices = '\n'.join(f'({letter}) {choice}'
                        for letter, choice in zip('ABCDEFGH', example.options))
    replied = yield {'extraction': Ask(
        'Extract the final answer from a response to a question. Reply with the answer alone: the '
        'letter of a choice where there are choices, else a number or a few '
        f'words.\n\nQuestion:\n{data.get("query", "")}\n{choices}\n\nResponse:\n{prediction}')}
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
    replied = yield {'verdict': Ask(
        f'{example.conversations[0][0].content}\n\nThe right answer is: {example.answers[0]}\nA '
        f'response is: {prediction}\n\nDoes the response mean the right answer? Reply with one '
        'word, "correct" or "wrong".')}
    score = replies.is_correct(replied['verdict'])
  return {'score': score}


def video_ocr(prediction: str, example: Example) -> Kind:
  """MME-VideoOCR: the local rule, and the judge for answers that are translations."""
  if metadata_of(example)['eval_method'] != 'gpt_assisted_scoring':
    return BENCHMARKS['mme_videoocr'].scores(prediction, example, 'mme_videoocr')
  replied = yield {'verdict': Ask(
      'One of two texts is to be a translation of the other. Do they mean the same? Small '
      'differences of grammar and style do not count. Reply with one word, "correct" or '
      f'"wrong".\n\n1: {example.answers[0]}\n2: {prediction}')}
  return {'score': replies.is_correct(replied['verdict'])}


def _harmonic(a: float, b: float) -> float:
  return 2 * a * b / (a + b) if a + b else 0.0


def _numbered(items: Sequence[str]) -> str:
  return '\n'.join(f'{number}. {item}' for number, item in enumerate(items, start=1))


def _stated_prompt(statements: Sequence[str], text: str) -> str:
  return ('Below are statements about a video, and then a caption of it. Say of every statement '
    'whether the caption states '
    f'it.\n\nStatements:\n{_numbered(statements)}\n\nCaption:\n{text.strip() or "(no caption)"}\n\nReply '
    'with one line per statement, in order, and nothing else, for example:\n1. Stated\n2. Not '
    'Stated')


def _statements_prompt(text: str) -> str:
  return ('Take a caption of a video apart into atomic statements: each says one thing and is '
    'understood by itself. Give each one category of this list: '
    f'{", ".join(replies.CATEGORIES)}.\n\nCaption:\n{text.strip()}\n\nReply with one line per '
    'statement and nothing else, in the form:\n1. statement | category')


def _entailment_prompt(events: Sequence[str], description: str) -> str:
  return ('Below are events, and then a description of a video. Say of every event whether the '
    'description entails it ("entailment"), contradicts it ("contradiction") or neither '
    f'("neutral").\n\nEvents:\n{_numbered(events)}\n\nDescription:\n{description.strip()}\n\nReply '
    f'with a JSON object and nothing else: {{"events": [{{"event": "…", "relationship": "…"}}, …]}}')


def _events_prompt(description: str) -> str:
  return ('List the key events of this description of a video, ten at most. An event is an action '
    'or a movement, not a state, nor a cut or a movement of the camera; it is a sentence of at '
    'most ten words that cannot be divided, with nouns in the place of '
    f'pronouns.\n\nDescription:\n{description.strip()}\n\nReply with a JSON object and nothing '
    f'else: {{"events": ["…", …]}}')


def _verdict_prompt(question: str, answer: str, reference: str | None) -> str:
  if reference is None:
    task = ('Look at the picture and judge whether the answer is correct. Facts count; an '
      'interpretation that can be debated is no error. An answer that it cannot be told is correct '
      'if the picture really does not tell.')
  else:
    task = (f'Reference answer: {reference}\n\nJudge whether the answer agrees with the reference '
      'in what matters. Details that only one of them has do not count. Where they differ without '
      'contradicting one another, say unsure.')
  allowed = [v for v in replies.VERDICTS if reference is not None or v != 'unsure']
  return (f'Question: {question}\nAnswer: {answer}\n\n{task}\n\nReply with one sentence of '
    f'explanation and then, on a line of its own, one of: {", ".join(allowed)}.')


KINDS: dict[str, Callable[[str, Example], Kind]] = {
  'judged_caption': caption, 'judged_events': events, 'judged_mlvu': mlvu,
  'judged_open_qa': open_qa,
  'math_vista': math_vista, 'temp_compass': temp_compass, 'mme_videoocr': video_ocr,
}
