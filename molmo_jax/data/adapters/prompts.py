"""Words around a dataset's fields: what is asked where it holds only a caption or a label, and
lists of options.

The wordings are this project's own (the released models were trained with others, docs/training.md
§4.2); which one a record gets is drawn once, when its manifest is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from molmo_jax.data.adapters.adapter import Context, Conversation

CAPTION = {
  'long_caption': ('Describe this image in detail.', 'Write a long description of this image.',
                   'Tell me everything you can see in this picture.',
                   'Give a thorough caption for this photo.',
                   'What is in the image? Go into detail.'),
  'transcript': ('Describe this image as if you were speaking.', 'Talk me through this picture.',
                 'Say out loud what you see in the image.'),
  'video_long_caption': ('Describe this video in detail.',
                         'Tell me everything that happens in the video.',
                         'Write a long description of this clip.'),
  'video_short_caption': ('Summarize this video.', 'What happens in this video, in short?',
                          'Give a short caption for this clip.'),
  'video_merged_caption': ('Describe what happens in this video from beginning to end.',
                           'Write a description of the whole video.', 'Narrate this video.'),
  'video_motion_caption': ('Describe the motion in this video.',
                           'Which movements can be seen in the video?'),
}
POINT = ('Point to {label}.', 'Point at all {label}.', 'Where are the {label}?', 'Show me {label}.',
         'Mark every {label} in the {medium}.', 'Find {label} and point to it.')
POINT_AND_COUNT = ('How many {label} are there?', 'Count the {label}.',
                   'How many {label} can you see in the {medium}?',
                   'What is the number of {label}? Point to each.')
TRACK = ('Track {label} at {fps} frames per second.',
         'Follow {label} through the video at {fps} fps.',
         'Where is {label} over time? Use {fps} fps.')
GROUND = ('Where do {label} first and last appear?', 'Point to the start and the end of {label}.')
TRACK_POINT = ('Track the point {query}.', 'Follow {query} through the video.')
REASON = ('Explain your reasoning first, then answer.', 'Give your reasoning before the answer.',
          'Think it through, then answer.')
OPTIONS = 'Only return the correct answer option.'


def draw(context: Context, wordings: Sequence[str], **fields: object) -> str:
  """One of the wordings."""
  return wordings[int(context.rng.integers(len(wordings)))].format(**fields)


def caption(context: Context, text: str, style: str) -> Conversation:
  """A caption; without prompts the question is empty, so that only the style's tag is left."""
  return Conversation(('' if context.prompts == 'none' else draw(context, CAPTION[style]),
                       text.strip()), style)


def pointing(context: Context, points: dict, label: str, style: str, mode: str,
             medium: str = 'image') -> Conversation:
  """Pointing at a label, which is written in lower case; without prompts the label alone is the
  question.
  """
  label = label.strip().lower()
  wordings = POINT_AND_COUNT if mode == 'point_count' else POINT
  question = label if context.prompts == 'none' else draw(context, wordings, label=label,
                                                          medium=medium)
  return Conversation((question, context.points_text(points, label, mode)), style)


def reasoned(context: Context, question: str, explanation: str, answer: str,
             style: str) -> Conversation:
  """A question that asks for the reasoning before the answer (docs/training.md §4.2)."""
  return Conversation((f'{question.strip()} {draw(context, REASON)}',
                       f'{explanation.strip()} Answer: {answer}'), style)


def choice(question: str, options: Sequence[str], answer: int, style: str) -> Conversation:
  """A multiple-choice question in the layout of evaluation, answered with letter and text
  (docs/training.md §4.3).
  """
  lines = [f'{chr(ord("A") + i)}. {option}' for i, option in enumerate(options)]
  return Conversation(('\n'.join([question.strip(), OPTIONS, *lines]), lines[answer]), style)


def shuffled_choice(context: Context, question: str, right: str, wrong: Sequence[str],
                    style: str) -> Conversation:
  """The same with the right answer in a random place among the wrong ones."""
  options, place = list(wrong), int(context.rng.integers(len(wrong) + 1))
  options.insert(place, right)
  return choice(question, options, place, style)


def answer(question: str, text: object, style: str, weight: float | None = None) -> Conversation:
  """One question and its answer."""
  return Conversation((question.strip(), str(text).strip()), style, weight)


def usual_answer(context: Context, answers: Sequence[str]) -> str:
  """The most frequent of several answers, ties drawn (docs/training.md §3.1); '' if there is none.
  """
  counts = Counter(answers).most_common()
  best = [text for text, count in counts if count == counts[0][1]]
  return best[int(context.rng.integers(len(best)))] if best else ''
