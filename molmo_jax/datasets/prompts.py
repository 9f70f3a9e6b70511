"""How a question with options is asked in an evaluation (docs/training.md §4.3, §5.2).

The wording belongs to the benchmark or to the training data: a model that was trained on it answers
as it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from molmo_jax.data.choices import plain_choice
from molmo_jax.metrics.choices import LETTERS
from molmo_jax.metrics.versions import MOLMO2, is_v1

# question, options, version of the model → what the user says
Prompt = Callable[[str, Sequence[str], str], str]

LETTER_ONLY = 'Please respond with only the letter of the correct answer.'
LETTER_DIRECTLY = "Answer with the option's letter from the given choices directly."


def lettered(options: Sequence[str]) -> list[str]:
  """'A. cat', 'B. dog', …"""
  return [f'{letter}. {option}' for letter, option in zip(LETTERS, options)]


def plain(question: str, options: Sequence[str] = (), version: str = MOLMO2) -> str:
  """The question as it is: it holds its options already, or has none."""
  return question


def choose(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """A question with lettered options, as the models were trained: Molmo2 with one line of
  instruction, v1 'A: cat' and without. A question without options stays as it is.
  """
  if not options:
    return question
  if is_v1(version):
    return '\n'.join([question,
                      *(f'{letter}: {option}' for letter, option in zip(LETTERS, options)), ''])
  return plain_choice(question, options)[0]


def choose_unlabelled(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """Options without letters: of diagrams whose parts have letters of their own."""
  if is_v1(version):
    return '\n'.join([question, *options, ''])
  return plain_choice(question, options, unlabelled=True)[0]


def letter_only(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """Options with letters, and the letter alone is asked for."""
  return '\n'.join([question, *lettered(options), LETTER_ONLY])


def letter_directly(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """Options with letters, and the letter is asked for in other words."""
  return '\n'.join([question, *lettered(options), LETTER_DIRECTLY])


def given_letter_only(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """As `letter_only`, with options that bring their letters."""
  return '\n'.join([question, *options, LETTER_ONLY])


def given_letter_directly(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """As `letter_directly`, with options that bring their letters."""
  return '\n'.join([question, *options, LETTER_DIRECTLY])


def video_mme(question: str, options: Sequence[str], version: str = MOLMO2) -> str:
  """Video-MME: instruction, question, options with their own letters, and the beginning of the
  answer.
  """
  return '\n'.join(['Select the best answer to the following multiple-choice question based on the '
                    'video. Respond with only the letter (A, B, C, or D) of the correct option.',
                    question, *options, 'The best answer is:'])

