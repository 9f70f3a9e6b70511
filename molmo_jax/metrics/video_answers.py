"""Answers of the video benchmarks, each read by its own rule (docs/training.md §5, §13.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from molmo_jax.metrics.choices import guess_letter
from molmo_jax.metrics.means import mean_by, mean_of
from molmo_jax.metrics.text_answers import WORDS

_LONE_LETTER = re.compile(r'\b[A-D]\b')

_VIDEO_MME_PREFIXES = WORDS['answer_prefixes']
_PREFIXES = _VIDEO_MME_PREFIXES[:8]             # without 'Answer:' and what follows it
# Upstream's list lacks two commas, so that four prefixes are two that hardly ever occur.
_VIDEO_MME_FUSED = (*_PREFIXES[:4], ''.join(_PREFIXES[4:6]), ''.join(_PREFIXES[6:]),
                    *_VIDEO_MME_PREFIXES[8:])


def parse_perception_test(response: str) -> int:
  """Index of the first capital A…D that stands alone as a word; −1 without one."""
  found = _LONE_LETTER.search(response)
  return 'ABCD'.index(found.group()) if found else -1


def parse_video_mme(response: str, *, all_prefixes: bool = False) -> str:
  """Video-MME: the first of the characters ABCD after known answer prefixes are deleted; or ''.

  Upstream bug, reproduced: four prefixes ('The best option is', 'The correct option is', 'Best
  answer:', 'Best option:') are never deleted, so that 'Best option: C' is B; `all_prefixes` deletes
  them.
  """
  return _first_of('ABCD', response, _VIDEO_MME_PREFIXES if all_prefixes else _VIDEO_MME_FUSED)


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
  durations = {'short': ('short',), 'medium': ('medium',), 'long': ('long',),
               'medium_long': ('medium', 'long')}
  means = {name: mean_of(score for row, score in scored if row['duration'] in group)
           for name, group in durations.items()}
  means['all'] = mean_of(score for _, score in scored)
  means |= mean_by(((row['sub_category'], score) for row, score in scored), 'all_category_')
  return means | mean_by(((row['task_type'], score) for row, score in scored), 'all_task_')


def parse_long_video_bench(response: str, *, guess: bool = True,
                           rng: np.random.Generator | None = None) -> str | None:
  """LongVideoBench: the first of the characters ABCDE after known answer prefixes are deleted.

  Without one a random letter, as upstream (from `rng`, or without it one that depends on the
  response alone), or None if not `guess`. 'Answer:' is not among the prefixes ('Answer: D' is A).
  """
  letter = _first_of('ABCDE', response, _PREFIXES)
  return letter or guess_letter(response, 'ABCDE', guess, rng)


def _first_of(letters: str, response: str, prefixes: Sequence[str]) -> str:
  response = response.strip()
  for prefix in prefixes:
    response = response.replace(prefix, '')
  return next((character for character in response if character in letters), '')


def lv_bench(answer: str, prediction: str) -> float:
  """LVBench: 1 if the prediction starts with the answer's first character, case aside."""
  return float(prediction.lower().strip().startswith(answer.lower().strip()[:1]))


def vinoground(gold: str, prediction: str) -> bool:
  """Vinoground: whether the prediction starts or ends with the letter, case aside ('an' is A)."""
  text, letter = prediction.strip().lower(), gold.lower()
  return text[:len(gold)] == letter or text[-len(gold):] == letter


def mlvu_multiple_choice(target: str, prediction: str) -> bool:
  """MLVU's helper: whether the character before the first ')', or the whole text without one, is
  the letter; whitespace at the ends does not count.
  """
  text = prediction.strip()
  place = text.find(')')
  return (text if place < 0 else text[:place][-1:]) == target


def video_hallucer(answer: str, prediction: str) -> bool:
  """VideoHallucer: whether the prediction says 'yes' or 'no' as the answer does; where it says
  both, it says 'yes'.
  """
  text = prediction.lower()
  said = 'yes' if 'yes' in text else 'no' if 'no' in text else ''
  return said == answer.lower().strip()


def contains_answer(answer: str, prediction: str) -> float:
  """MME-VideoOCR: 1 if every part of the answer (separated by ';') occurs in the prediction, case
  and kind of apostrophe aside, else 0.

  Upstream first reduces the prediction to one of the letters ABCD, with which no text can be
  contained; that is not reproduced.
  """
  answer, text = (part.replace('\u2019', "'").lower() for part in (answer, prediction))
  return float(all(part.strip() in text for part in answer.split(';')))


_OPTION = re.compile(r'([A-D])([.)])')
_CAPTION_WORDS = ('Sentence', 'Option', 'Caption')


def temp_compass_score(task: str, answer: str, prediction: str, question: str = '', *,
                       use_caption_rule: bool = False) -> float:
  """TempCompass without a language model as the judge: the score of one question, 0 or 1.

  'yes_no': the prediction starts with yes or no as the answer says, case aside ('Nope' is no).
  Everything else: see `temp_compass_choice`.

  Upstream bug, reproduced: 'caption_matching' is scored as multiple choice; `use_caption_rule`
  takes `temp_compass_caption`, which upstream has and never calls.
  """
  if task == 'yes_no':
    text = prediction.lower()
    said = 'yes' if text.startswith('yes') else 'no' if text.startswith('no') else None
    return float(said == answer)
  if task == 'caption_matching' and use_caption_rule:
    return temp_compass_caption(question, answer, prediction)
  return temp_compass_choice(answer, prediction)


def temp_compass_choice(answer: str, prediction: str) -> float:
  """1 if the prediction is the answer, or its letter A…D alone or before '.' or ')', else 0."""
  if prediction == answer:
    return 1.0
  found = _OPTION.match(prediction)
  letter = found.group(1) if found else prediction if prediction in tuple('ABCD') else None
  return float(letter == answer[:1])


def temp_compass_caption(question: str, answer: str, prediction: str) -> float:
  """1 if the prediction names the option of the answer, one of the lines 'Caption A: text' of the
  question.

  Accepted: the whole line, its text (also behind 'X) '), and its name with or without the word
  (Sentence, Option, Caption) and with or without periods. Of several options that the prediction
  names, the last counts: a name counts after a text, and a text after a line.
  """
  lines = question.split('\n')[1:]
  names, texts = ([f'{line}: '.split(': ')[part] for line in lines] for part in (0, 1))
  bare = []
  for name in names:
    for word in _CAPTION_WORDS:
      name = name.replace(f'{word} ', '')
    bare.append(name)
  behind = prediction.split(') ')[1] if ') ' in prediction else prediction
  said = [line for line in lines if line == prediction]
  said += [text for text in texts if text in (prediction, behind)]
  unstopped = prediction.replace('.', '')
  said += [name for name in names + bare if name in (prediction, unstopped)]
  name, _, text = answer.partition(': ')
  accepted = (answer, answer.split(':')[0], text.split(': ')[0], *name.split()[1:2])
  return float(bool(said) and said[-1] in accepted)
