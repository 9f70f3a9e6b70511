"""TempCompass without a language model as the judge (docs/training.md §5.3, §13.2). Every score is
0 or 1.
"""

from __future__ import annotations

import re

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
