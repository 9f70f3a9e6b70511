"""Option letters of the video benchmarks, each read by its own rule (docs/training.md §5.3)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from molmo_jax.metrics.means import mean_by, mean_of

_LONE_LETTER = re.compile(r'\b[A-D]\b')

_VIDEO_MME_PREFIXES = (
  'The best answer is', 'The correct answer is', 'The answer is', 'The answer',
  'The best option is',
  'The correct option is', 'Best answer:', 'Best option:', 'Answer:', 'Option:',
)
# Upstream's list lacks two commas, so that four prefixes are two that never occur.
_VIDEO_MME_FUSED = ('The best option isThe correct option is', 'Best answer:Best option:')
_LONG_VIDEO_PREFIXES = _VIDEO_MME_PREFIXES[:8]


def parse_perception_test(response: str) -> int:
  """Index of the first capital A…D that stands alone as a word; −1 without one."""
  found = _LONE_LETTER.search(response)
  return 'ABCD'.index(found.group()) if found else -1


def parse_video_mme(response: str, *, all_prefixes: bool = False) -> str:
  """Video-MME: the first of the characters ABCD after known answer prefixes are deleted; '' without
  one.

  Upstream bug, reproduced: four prefixes ('The best option is', 'The correct option is', 'Best
  answer:', 'Best option:') are never deleted, so that 'Best option: C' is B; `all_prefixes` deletes
  them.
  """
  kept = _VIDEO_MME_PREFIXES[:4] + _VIDEO_MME_FUSED + _VIDEO_MME_PREFIXES[8:]
  return _first_of('ABCD', response, _VIDEO_MME_PREFIXES if all_prefixes else kept)


def video_mme_means(rows: Sequence[Mapping[str, str]], *,
                    count_unreadable: bool = False) -> dict[str, float]:
  """Mean scores of Video-MME: 'short', 'medium', 'long', 'medium_long', 'all', and of every
  category and task.

  Args:
    rows: examples with 'prediction', 'answer', 'duration', 'sub_category' and 'task_type'.
    count_unreadable: upstream bug, reproduced by default: a response without a letter is left out
      of every mean; True counts it as wrong.

  Returns:
    Means; NaN for a duration without examples.
  """
  scored = [(row, float(letter == row['answer'])) for row in rows
            if (letter := parse_video_mme(row['prediction'])) or count_unreadable]
  means = {name: mean_of(score for row, score in scored if row['duration'] in durations)
           for name, durations in (
               ('short', ('short',)), ('medium', ('medium',)), ('long', ('long',)),
               ('medium_long', ('medium', 'long')))}
  means['all'] = mean_of(score for _, score in scored)
  means |= mean_by(((row['sub_category'], score) for row, score in scored), 'all_category_')
  return means | mean_by(((row['task_type'], score) for row, score in scored), 'all_task_')


def parse_long_video_bench(response: str, *, guess: bool = True,
                           rng: np.random.Generator | None = None) -> str | None:
  """LongVideoBench: the first of the characters ABCDE after known answer prefixes are deleted.

  Without one a random letter, as upstream (from `rng`, or without it one that depends on the
  response alone), or None if not `guess`. 'Answer:' is not among the prefixes ('Answer: D' is A).
  """
  letter = _first_of('ABCDE', response, _LONG_VIDEO_PREFIXES)
  if letter or not guess:
    return letter or None
  place = zlib.crc32(response.encode('utf-8', 'surrogatepass')) if rng is None else int(
    rng.integers(5))
  return 'ABCDE'[place % 5]


def _first_of(letters: str, response: str, prefixes: Sequence[str]) -> str:
  for prefix in prefixes:
    response = response.replace(prefix, '')
  return next((character for character in response if character in letters), '')


def lv_bench(answer: str, prediction: str) -> float:
  """LVBench: 1 if the prediction starts with the letter with which the answer starts, case aside.
  """
  return float(prediction.strip().lower().startswith(answer.strip().lower()[:1]))


def vinoground(gold: str, prediction: str) -> bool:
  """Vinoground: whether the prediction starts or ends with the letter."""
  text = prediction.strip()
  return text.startswith(gold) or text.endswith(gold)


def mlvu_multiple_choice(target: str, prediction: str) -> bool:
  """MLVU's helper: whether the character before the first ')', or the whole text without one, is
  the letter.
  """
  place = prediction.find(')')
  return (prediction if place < 0 else prediction[max(place - 1, 0):place]) == target


def video_hallucer(answer: str, prediction: str) -> bool:
  """VideoHallucer: whether the prediction says 'yes' or 'no' as the answer does; where it says
  both, it says 'yes'.
  """
  text = prediction.lower()
  said = 'yes' if 'yes' in text else 'no' if 'no' in text else ''
  return said == answer.strip().lower()


def contains_answer(answer: str, prediction: str) -> float:
  """1 if every part of the answer (separated by ';') occurs in the prediction, case and kind of
  apostrophe aside.

  Upstream first reduces the prediction to one of the letters ABCD, with which no text can be
  contained; that is not reproduced.
  """
  text = _plain(prediction)
  return float(all(part.strip() in text for part in _plain(answer).split(';')))


def _plain(text: str) -> str:
  return text.replace('\u2019', "'").lower()


_LETTER = re.compile(r'([A-D])([.)])?')
_CAPTION_WORDS = ('Sentence', 'Option', 'Caption')


def temp_compass_score(task: str, answer: str, prediction: str, question: str = '', *,
                       use_caption_rule: bool = False) -> float:
  """The score of one question of TempCompass.

  'yes_no': the prediction starts with yes or no as the answer says, case aside ('Nope' is no).
  Everything else: see `temp_compass_choice`.

  Upstream bug, reproduced: 'caption_matching' is scored as multiple choice; `use_caption_rule`
  takes `temp_compass_caption`, which upstream has and never calls.
  """
  if task == 'yes_no':
    text = prediction.lower()
    said = 'yes' if text.startswith('yes') else 'no' if text.startswith('no') else None
    return float(said == answer.strip().lower())
  if task == 'caption_matching' and use_caption_rule:
    return temp_compass_caption(question, answer, prediction)
  return temp_compass_choice(answer, prediction)


def temp_compass_choice(answer: str, prediction: str) -> float:
  """1 if the prediction is the answer, or its letter A…D alone, or starts with the letter and '.'
  or ')'.
  """
  if prediction == answer:
    return 1.0
  found = _LETTER.match(prediction)
  if found is None:
    return 0.0
  letter, mark = found.groups()
  if mark:
    return float(letter == answer.split('.')[0])
  return float(prediction == letter == answer[:1])


def temp_compass_caption(question: str, answer: str, prediction: str) -> float:
  """1 if the prediction names the option of the answer, one of the lines 'Caption A: text' of the
  question.

  Accepted: the whole line, its text (also behind 'X) '), and its name with or without the word
  (Sentence, Option, Caption) and with or without a final period.
  """
  for line in question.split('\n')[1:]:
    if line != answer:
      continue
    name, _, text = line.partition(': ')
    index = name
    for word in _CAPTION_WORDS:
      index = index.replace(f'{word} ', '')
    behind = prediction.split(') ')[1] if ') ' in prediction else prediction
    return float(prediction in (line, text) or behind == text
                 or prediction.removesuffix('.') in (name, index))
  return 0.0
