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

from molmo_jax.preprocess.types import EncodingError, TokenSequence

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
    length = 2 / math.sqrt(max(loss_tokens, 1)) if self.root_length else 1.0
    return self.scale * length / (math.sqrt(branches) if self.root_branches else 1.0)

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
  # Molmo v1: the EOS of a branch is an input before the next branch, and branches count from 1
  eos_between: bool = False


def build_sequence(conversations: Sequence[Sequence[str]], media_tokens: Sequence[np.ndarray] = (),
                   *, tokenize: Tokenize, bos_id: int, eos_id: int,
                   rules: SequenceRules = SequenceRules(),
                   branch_weights: Sequence[LossWeight | None] = ()) -> TokenSequence:
  """Builds the sequence of one example.

  Args:
    conversations: message strings of every conversation, user first, alternating. One conversation
      with an odd number of messages is a prompt: its last target is a dummy 0, its weights mean
      nothing. `<|image|>` says where media goes: once per media input in one conversation, or once
      in the first message of every branch of a tree over one input. Without it all media follows
      BOS.
    media_tokens: int [T] tokens of every image, or of the video, in order.
    tokenize: text → ids, without BOS and EOS; the text is trusted, role markers become special
      tokens.
    bos_id: first token of the sequence.
    eos_id: ends every answer.
    rules: loss weights and limits.
    branch_weights: one per conversation, which replaces `rules.loss_weight` where it is not None.

  Raises:
    EncodingError: no messages, media cut off by `max_sequence_length`, a prompt that does not fit,
      placeholders that do not match the media, a branch that starts with its answer, or no loss
      token left.
  """
  if not conversations or not all(conversations):
    raise EncodingError('there is no conversation, or one without messages')
  is_tree, is_prompt = len(conversations) > 1, len(conversations[0]) % 2 == 1
  if is_tree and any(len(c) % 2 for c in conversations):
    raise EncodingError(
      'a message tree is for training: every conversation must end with an answer')

  shared, conversations = (_texts_before_media(conversations, len(media_tokens)) if is_tree
                           else ([], conversations))
  media = [_tokens(ids, MEDIA) for ids in media_tokens]
  inside = not is_tree and _placeholders(conversations[0], len(media)) > 0
  prefix = np.concatenate([_tokens([bos_id], TEXT), *(_tokens(tokenize(t), TEXT) for t in shared),
                           *([] if inside else media)])
  branches = [_encode_conversation(c, media if inside else [], tokenize, eos_id, rules)
              for c in conversations]
  if is_tree:
    branches = _select_branches(branches, len(prefix), rules)
  if rules.eos_between:   # the target of an EOS is the next branch's first token, without weight
    branches = [
      np.concatenate([branch, *(_tokens(b[:1, 0], TEXT) for b in branches[i + 1:i + 2])])
      for i, branch in enumerate(branches)]
  weights = [_weights(branch, given or rules.loss_weight, len(branches),
                      eos_counts=not is_tree or rules.eos_between)
             for branch, given in zip(branches, branch_weights or [None] * len(branches))]

  tokens, kinds = _inputs(prefix, branches).T.copy()
  lengths = [len(b) - 1 for b in branches]
  # Text-only trees restart at 0, not after BOS: the released models were trained that way.
  start = len(prefix) if media or not is_tree else 0
  ids = [PREFIX_SEGMENT, *(n + rules.eos_between for n in range(len(branches)))]
  # The weights of a prompt are not shifted to the predicted token: the official code leaves them
  # so, and nothing trains on them.
  sequence = TokenSequence(
    tokens=tokens, targets=_targets(prefix, branches)[:, 0].copy(),
    loss_weights=(_inputs if is_prompt else _targets)(np.zeros(len(prefix)), weights).astype(
      np.float32),
    positions=np.concatenate([np.arange(len(prefix)), *(start + np.arange(n) for n in lengths)]
                             ).astype(np.int32),
    segments=np.repeat(ids if is_tree else [0, 0], [len(prefix), *lengths]).astype(np.int32))
  return _fit(sequence, kinds, rules.max_sequence_length, is_prompt)


def _tokens(ids: Sequence[int] | np.ndarray, kind: int) -> np.ndarray:
  """int32 [n,2]: the id and the kind of each token."""
  return np.stack([np.asarray(ids, np.int32), np.full(len(ids), kind, np.int32)], axis=1)


def _inputs(prefix: np.ndarray, branches: Sequence[np.ndarray]) -> np.ndarray:
  """What is put in: everything but the last token of each branch."""
  return np.concatenate([prefix, *(branch[:-1] for branch in branches)])


def _targets(prefix: np.ndarray, branches: Sequence[np.ndarray]) -> np.ndarray:
  """What is predicted at each input; after the prefix, the first token of the first branch."""
  return np.concatenate([prefix[1:], branches[0][:1], *(branch[1:] for branch in branches)])


def _placeholders(messages: Sequence[str], media: int) -> int:
  counts = [message.count(IMAGE_PLACEHOLDER) for message in messages]
  if any(counts[1::2]):
    raise EncodingError(f'{IMAGE_PLACEHOLDER} stands in an answer; it may only stand in a user '
                        'message')
  if sum(counts) not in (0, media):
    raise EncodingError(f'the conversation has {sum(counts)} {IMAGE_PLACEHOLDER} for {media} '
                        'images; write one per image, or none to put all images first')
  return sum(counts)


def _texts_before_media(conversations: Sequence[Sequence[str]],
                        media: int) -> tuple[list[str], Sequence[Sequence[str]]]:
  """Moves what precedes `<|image|>` in a tree's branches into their common prefix."""
  counts = {_placeholders(c, media) for c in conversations}
  if counts == {0}:
    return [], conversations
  if counts != {1} or not all(IMAGE_PLACEHOLDER in c[0] for c in conversations):
    raise EncodingError(f'with several conversations, {IMAGE_PLACEHOLDER} must stand once in the '
                        'first message of each (and there must be one image), or in none')
  parts = [c[0].split(IMAGE_PLACEHOLDER) for c in conversations]
  return ([before for before, _ in parts if before],
          [[after, *c[1:]] for (_, after), c in zip(parts, conversations, strict=True)])


def _encode_conversation(messages: Sequence[str], media: Sequence[np.ndarray], tokenize: Tokenize,
                         eos_id: int, rules: SequenceRules) -> np.ndarray:
  """All tokens of a conversation: what is predicted, so one more than what is put in."""
  parts, waiting = [], iter(media)
  for index, message in enumerate(messages):
    if index % 2:
      silent = rules.last_message_loss_only and index < len(messages) - 1
      answer = [*tokenize(message), eos_id][:rules.max_answer_length]
      parts.append(_tokens(answer, TEXT if silent else LOSS))
      continue
    before, *pieces = message.split(IMAGE_PLACEHOLDER)
    parts.append(_tokens(tokenize(before), TEXT))
    for piece in pieces:
      parts += [next(waiting), _tokens(tokenize(piece), TEXT)]
  if len(messages) % 2:
    parts.append(_tokens([NO_TARGET], TEXT))
  return np.concatenate(parts)


def _select_branches(branches: Sequence[np.ndarray], prefix_length: int,
                     rules: SequenceRules) -> list[np.ndarray]:
  kept: list[np.ndarray] = []
  length = prefix_length
  limit, most_text = (math.inf if n is None else n
                      for n in (rules.max_sequence_length, rules.max_text_tokens))
  for index, branch in enumerate(branches):
    if kept and length - prefix_length >= most_text:
      break
    first_loss = int(np.argmax(branch[:, 1] == LOSS))
    if first_loss == 0:
      raise EncodingError(f'conversation {index} has no words before its answer; a branch of a '
                          'message tree needs some')
    if kept and length + first_loss >= limit:
      break
    kept.append(branch)
    length += len(branch) - (not rules.eos_between)
  return kept


def _weights(branch: np.ndarray, weight: LossWeight, branches: int, eos_counts: bool) -> np.ndarray:
  loss = branch[:, 1] == LOSS
  # Molmo2's training counted a branch's loss tokens before its EOS was attached as a target.
  counted = int(loss.sum()) - int(not eos_counts and loss[-1])
  return loss * weight.value(counted, branches)


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
