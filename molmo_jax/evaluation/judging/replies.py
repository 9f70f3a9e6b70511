"""What the replies of a judge mean: every reader accepts any text, and none fails."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

CATEGORIES = ('Object', 'Action', 'Attribute', 'Relation', 'Location', 'Quantity/Number',
              'State/Condition', 'Event', 'Motion/Trajectory', 'Pose', 'Gesture', 'Emotion/Affect',
              'Identity', 'OCR', 'Camera', 'Lighting/Weather', 'Scene/Context', 'Causation/Purpose')
VERDICTS = ('correct', 'mostly correct', 'mostly incorrect', 'incorrect', 'unsure',
            'refuse to answer')
OF_IMAGE = tuple(verdict for verdict in VERDICTS if verdict != 'unsure')   # without a reference

_NOT_STATED = re.compile(r'\bnot st[a-z]+\W*$', re.IGNORECASE)   # judges misspell it
_STATED = re.compile(r'\bstated\b', re.IGNORECASE)
_NUMBER = re.compile(r'^\s*\d+[.)]\s*')


def stated(reply: str, count: int) -> list[bool | None]:
  """For each of `count` statements, in order, whether it is stated; None where unclear."""
  lines = [line.strip() for line in reply.splitlines() if line.strip()][:count]
  found = [False if _NOT_STATED.search(line) else True if _STATED.search(line) else None
           for line in lines]
  return found + [None] * (count - len(found))


def fraction(verdicts: Sequence[bool | None]) -> float:
  """Fraction of the true among those that are not None; 0 without any."""
  said = [verdict for verdict in verdicts if verdict is not None]
  return sum(said) / len(said) if said else 0.0


def statements(reply: str) -> list[tuple[str, str]]:
  """(statement, category) of lines 'statement | category'.

  An unknown category becomes the closest one, a missing one 'Object'.
  """
  found = []
  for line in reply.splitlines():
    text, bar, category = _NUMBER.sub('', line).strip().rpartition('|')
    text, category = (text.strip(), category.strip()) if bar else (category.strip(), CATEGORIES[0])
    if text:
      found.append((text, difflib.get_close_matches(category[:40], CATEGORIES, n=1, cutoff=0.0)[0]))
  return found


def events(reply: str) -> list[str]:
  """The strings under 'events' in the reply's JSON object."""
  value = _object(reply).get('events')
  return [str(event) for event in value] if isinstance(value, list) else []


def entailed(reply: str, count: int) -> float:
  """Fraction of `count` events that the reply's JSON object calls 'entailment'."""
  value = _object(reply).get('events')
  found = [event for event in value if isinstance(event, dict)] if isinstance(value, list) else []
  hits = sum(str(event.get('relationship')).strip().lower() == 'entailment' for event in found)
  return min(hits / count, 1.0) if count else 1.0


def mark(reply: str, name: str) -> float:
  """The number behind `name` and a colon, limited to 0…5; 0 without one."""
  found = re.search(rf'{re.escape(name)}["\']?\s*:\s*(\d{{1,3}}(?:\.\d{{1,9}})?)', reply)
  return min(float(found.group(1)), 5.0) if found else 0.0


def verdict(reply: str) -> str | None:
  """The verdict in the last line, one of `VERDICTS`; None if it is none."""
  last = (reply.strip().splitlines() or [''])[-1].strip(' .*"\'').lower()
  return last if last in VERDICTS else None


def is_correct(reply: str) -> float:
  """1 if the reply says correct, 0 if it says wrong or incorrect; NaN if it says neither."""
  text = reply.lower()
  if 'wrong' in text or 'incorrect' in text:
    return 0.0
  return 1.0 if 'correct' in text else math.nan


def _object(reply: str) -> dict[str, Any]:
  start, end = reply.find('{'), reply.rfind('}')
  try:
    value = json.loads(reply[start:end + 1])
  except (ValueError, RecursionError):
    return {}
  return value if isinstance(value, dict) else {}
