"""Message strings and media tokens as one sequence: targets, loss weights, positions, segments.

Source: docs/training.md §3.2–3.5, §13.6; docs/model.md §5.2, §8.1. One conversation gives

    BOS  media  user  answer EOS  user  answer EOS

and several conversations about the same media (a message tree) give

    BOS  media | user  answer | user  answer EOS user  answer | …
    ^ prefix     ^ branch 0     ^ branch 1

where the last token of a branch has EOS as its target without EOS being an input, positions restart
after the prefix in every branch, and segments (prefix 10000, branch i i) keep branches from seeing
each other. In Molmo v1, EOS is an input between branches too (its target, the next branch, has no
weight), and branches count from 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from molmo_jax.preprocess.types import EncodingError

IMAGE_PLACEHOLDER = '<|image|>'
PREFIX_SEGMENT = 10000
NO_TARGET = 0                                 # target of the last token of a prompt, never trained

TEXT, LOSS, MEDIA = 0, 1, 2                   # kinds of tokens

Tokenize = Callable[[str], Sequence[int]]


@dataclasses.dataclass(frozen=True)
class LossWeight:
  """Weight of every loss token of a conversation: the product of its terms."""
  scale: float = 1.0
  root_length: bool = False                   # 2/√(number of loss tokens of the conversation)
  root_branches: bool = False                 # 1/√(number of conversations in the sequence)

  def value(self, loss_tokens: int, branches: int) -> float:
    """Weight of each loss token of a conversation (docs/training.md)."""
    weight = self.scale
    if self.root_length:
      weight *= 2 / math.sqrt(max(loss_tokens, 1))
    if self.root_branches:
      weight /= math.sqrt(branches)
    return weight

  def with_terms(self, given: float | Mapping[str, float | bool | None] | None) -> LossWeight:
    """The loss weight of a conversation that has one of its own.

    None: this weight; a number: that weight per token and nothing else; an object: the terms that
    it names, and the others as they are.
    """
    if given is None or isinstance(given, Mapping):
      terms = {'weight': 'scale', 'root_length': 'root_length', 'root_subsegments': 'root_branches'}
      return dataclasses.replace(self, **{
        terms[name]: value for name, value in (given or {}).items() if value is not None})
    return LossWeight(given)


@dataclasses.dataclass(frozen=True)
class TreeFormat:
  """How the branches of a message tree follow each other."""
  # the EOS of a branch is an input before the next branch
  eos_between: bool = False
  first_segment: int = 0                      # segment of the first branch


TREE_FORMATS = {'molmo2': TreeFormat(), 'molmo_v1': TreeFormat(eos_between=True, first_segment=1)}

LOSS_WEIGHTS = {
  'none': LossWeight(),
  'root_subsegments': LossWeight(root_branches=True),
  'root_subsegments_root_tokens': LossWeight(root_length=True, root_branches=True),
}


@dataclasses.dataclass(frozen=True)
class SequenceRules:
  """What carries loss, and what does not fit into a sequence."""
  loss_weight: LossWeight = LOSS_WEIGHTS['none']    # of answers
  last_message_loss_only: bool = False  # only the last message of a conversation carries loss
  # branches whose first answer would start beyond it are dropped with all later ones (the first is
  # always kept); a training sequence that is longer still is cut
  max_sequence_length: int | None = None
  # no branch is added to a tree that has this many tokens in its branches
  max_text_tokens: int | None = None
  max_answer_length: int | None = None  # answers are cut to this many tokens, EOS included
  # how branches follow each other; nothing without branches
  tree_format: TreeFormat = TREE_FORMATS['molmo2']


@dataclasses.dataclass(frozen=True)
class TokenSequence:
  """A sequence without its visual arrays; fields as in `types.Encoded`."""
  tokens: np.ndarray                          # int32 [S]
  targets: np.ndarray                         # int32 [S]
  loss_weights: np.ndarray                    # float32 [S]
  positions: np.ndarray                       # int32 [S]
  segments: np.ndarray                        # int32 [S]


@dataclasses.dataclass(frozen=True)
class _Tokens:
  """Tokens and the kind of each."""
  ids: np.ndarray                             # int32 [n]
  kinds: np.ndarray                           # int8 [n]

  @classmethod
  def of(cls, ids: Sequence[int], kind: int) -> _Tokens:
    return cls(np.asarray(ids, np.int32).reshape(-1), np.full(len(ids), kind, np.int8))

  @classmethod
  def join(cls, parts: Sequence[_Tokens]) -> _Tokens:
    return cls(np.concatenate([np.zeros(0, np.int32), *(p.ids for p in parts)]),
               np.concatenate([np.zeros(0, np.int8), *(p.kinds for p in parts)]))

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, part: slice) -> _Tokens:
    return _Tokens(self.ids[part], self.kinds[part])


def build_sequence(
    conversations: Sequence[Sequence[str]],
    media_tokens: Sequence[np.ndarray] = (),
    *,
    tokenize: Tokenize,
    bos_id: int,
    eos_id: int,
    rules: SequenceRules = SequenceRules(),
    branch_weights: Sequence[LossWeight | None] | None = None,
) -> TokenSequence:
  """Builds the sequence of one example.

  Args:
    conversations: message strings of every conversation, user first, alternating. One conversation
      with an odd number of messages is a prompt: its last target is a dummy 0, its weights mean
      nothing. `<|image|>` says where media
      goes: once per media input in one conversation, or once in the first message of every branch
      of a tree over one input. Without it all media follows BOS.
    media_tokens: int [T] tokens of every image, or of the video, in order.
    tokenize: text → ids, without BOS and EOS; the text is trusted, role markers become special
      tokens.
    bos_id: first token of the sequence.
    eos_id: ends every answer.
    rules: loss weights and limits.
    branch_weights: replaces `rules.loss_weight` where it is not None, one per conversation.

  Raises:
    EncodingError: no messages, media cut off by `max_sequence_length`, a prompt that does not fit,
      placeholders that do not match the media, a branch that starts with its answer, or no loss
      token left.
  """
  if not conversations or not all(conversations):
    raise EncodingError('there is no conversation, or one without messages')
  is_tree, tree_format = len(conversations) > 1, rules.tree_format
  is_prompt = len(conversations[0]) % 2 == 1
  if is_tree and any(len(c) % 2 for c in conversations):
    raise EncodingError(
      'a message tree is for training: every conversation must end with an answer')

  prefix_texts, conversations = _texts_before_media(conversations, media_tokens) if is_tree else (
    [], conversations)
  media = [_Tokens.of(m, MEDIA) for m in media_tokens]
  inside = not is_tree and _placeholders(conversations[0], len(media)) > 0
  prefix = _Tokens.join([_Tokens.of([bos_id], TEXT),
                         *(_Tokens.of(tokenize(t), TEXT) for t in prefix_texts),
                         *([] if inside else media)])
  branches = [_encode_conversation(c, media if inside else [], tokenize, eos_id,
                                   rules.last_message_loss_only, rules.max_answer_length)
              for c in conversations]
  if is_tree:
    branches = _select_branches(branches, len(prefix), rules.max_sequence_length,
                                rules.max_text_tokens, tree_format)
  # the target of an EOS is the next branch's first token, without weight
  if is_tree and tree_format.eos_between:
    branches = [_Tokens.join(
      [branch, *(_Tokens.of(n.ids[:1], TEXT) for n in branches[i + 1:i + 2])])
                for i, branch in enumerate(branches)]
  weights = [_weights(branch, rules.loss_weight if given is None else given, len(branches),
                      eos_counts=not is_tree or tree_format.eos_between)
             for branch, given in zip(branches, branch_weights or [None] * len(branches),
                                      strict=False)]

  lengths = [len(b) - 1 for b in branches]
  # Text-only trees restart at 0, not after BOS: the released models were trained that way.
  start = len(prefix) if media or not is_tree else 0
  first_segment = tree_format.first_segment
  sequence = TokenSequence(
    tokens=np.concatenate([prefix.ids, *(b.ids[:-1] for b in branches)]),
    targets=np.concatenate([prefix.ids[1:], branches[0].ids[:1], *(b.ids[1:] for b in branches)]),
    loss_weights=_align_weights(weights, len(prefix), is_prompt).astype(np.float32),
    positions=np.concatenate(
      [np.arange(len(prefix)), *(start + np.arange(n) for n in lengths)]).astype(np.int32),
    segments=np.repeat([PREFIX_SEGMENT, *range(first_segment, first_segment + len(branches))]
                       if is_tree else [0, 0],
                       [len(prefix), *lengths]).astype(np.int32),
  )
  kinds = np.concatenate([prefix.kinds, *(b.kinds[:-1] for b in branches)])
  return _fit(sequence, kinds, rules.max_sequence_length, is_prompt)


def _placeholders(messages: Sequence[str], media: int) -> int:
  count = 0
  for index, message in enumerate(messages):
    here = message.count(IMAGE_PLACEHOLDER)
    if here and index % 2:
      raise EncodingError(f'{IMAGE_PLACEHOLDER} stands in an answer; it may only stand in a user '
        'message')
    count += here
  if count not in (0, media):
    raise EncodingError(f'the conversation has {count} {IMAGE_PLACEHOLDER} for {media} images; '
                        'write one per image, or none to put all images first')
  return count


def _texts_before_media(conversations: Sequence[Sequence[str]],
                        media_tokens: Sequence[np.ndarray]) -> tuple[list[str], list[list[str]]]:
  """Moves what precedes `<|image|>` in a tree's branches into their common prefix."""
  counts = [_placeholders(c, len(media_tokens)) for c in conversations]
  if not any(counts):
    return [], [list(c) for c in conversations]
  if set(counts) != {1} or not all(IMAGE_PLACEHOLDER in c[0] for c in conversations):
    raise EncodingError(f'with several conversations, {IMAGE_PLACEHOLDER} must stand once in the '
      'first message of each (and there must be one image), or in none')
  parts = [c[0].split(IMAGE_PLACEHOLDER) for c in conversations]
  return ([before for before, _ in parts if before],
          [[after, *c[1:]] for (_, after), c in zip(parts, conversations, strict=True)])


def _encode_conversation(messages: Sequence[str], media: Sequence[_Tokens], tokenize: Tokenize,
                         eos_id: int, last_message_loss_only: bool,
                         max_answer_length: int | None) -> _Tokens:
  """All tokens of a conversation: what is predicted, so one more than what is put in."""
  parts, waiting = [], list(media)
  for index, message in enumerate(messages):
    if index % 2:
      silent = last_message_loss_only and index < len(messages) - 1
      answer = [*tokenize(message), eos_id][:max_answer_length]
      parts.append(_Tokens.of(answer, TEXT if silent else LOSS))
      continue
    for piece_index, piece in enumerate(message.split(IMAGE_PLACEHOLDER)):
      if piece_index:
        parts.append(waiting.pop(0))
      parts.append(_Tokens.of(tokenize(piece) if piece else [], TEXT))
  if len(messages) % 2:
    parts.append(_Tokens.of([NO_TARGET], TEXT))
  return _Tokens.join(parts)


def _select_branches(branches: list[_Tokens], prefix_length: int, max_sequence_length: int | None,
                     max_text_tokens: int | None, tree_format: TreeFormat) -> list[_Tokens]:
  kept: list[_Tokens] = []
  length = prefix_length
  for index, branch in enumerate(branches):
    first_loss = int(np.argmax(branch.kinds == LOSS))
    if first_loss == 0:
      raise EncodingError(f'conversation {index} has no words before its answer; a branch of a '
        'message tree needs some')
    if kept and max_sequence_length is not None and length + first_loss >= max_sequence_length:
      break
    kept.append(branch)
    length += len(branch) - (not tree_format.eos_between)
    if max_text_tokens is not None and length - prefix_length >= max_text_tokens:
      break
  return kept


def _weights(branch: _Tokens, weight: LossWeight, branches: int, eos_counts: bool) -> np.ndarray:
  loss = branch.kinds == LOSS
  # Molmo2's training counted a branch's loss tokens before its EOS was attached as a target.
  counted = int(loss.sum()) - int(not eos_counts and loss[-1])
  return loss * weight.value(counted, branches)


def _align_weights(weights: Sequence[np.ndarray], prefix_length: int,
                   is_prompt: bool) -> np.ndarray:
  if is_prompt:
    # Not shifted to the predicted token: the official code leaves prompts as they are, and nothing
    # trains on them.
    return np.concatenate([np.zeros(prefix_length), weights[0][:-1]])
  return np.concatenate([np.zeros(prefix_length - 1), weights[0][:1], *(w[1:] for w in weights)])


def _fit(sequence: TokenSequence, kinds: np.ndarray, limit: int | None,
         is_prompt: bool) -> TokenSequence:
  length = len(sequence.tokens)
  if limit is not None and length > limit:
    if is_prompt:
      raise EncodingError(f'the prompt has {length} tokens; max_sequence_length is {limit}')
    media_end = int(np.flatnonzero(kinds == MEDIA).max(initial=-1)) + 1
    if media_end > limit:
      raise EncodingError(f'the visual tokens end at token {media_end}; max_sequence_length is '
        f'{limit}')
    sequence = TokenSequence(**{k: v[:limit] for k, v in vars(sequence).items()})
  if not is_prompt and not np.any(sequence.loss_weights > 0):
    raise EncodingError('no loss token is left: the answer is empty, has weight 0, or starts '
      f'after token {limit}')
  return sequence
