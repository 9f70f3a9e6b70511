"""One example as arrays: media is read and cropped, messages are tokenized, both are joined.

Source: docs/model.md §5–8, docs/training.md §3. No batching and no padding here: see data/packing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from molmo_jax.preprocess import chat, images, layout, reading, video
from molmo_jax.preprocess.sequence import (
  IMAGE_PLACEHOLDER,
  LOSS_WEIGHTS,
  SequenceRules,
  build_sequence,
)
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import (
  Encoded,
  EncodingError,
  Example,
  MediaError,
  Message,
  PreprocessConfig,
  VisualInput,
)
from molmo_jax.preprocess.windows import shift_windows

# Tokens that see each other in both directions (docs/model.md §5.1), and the design card's
# markers in their places.
VISUAL_TOKENS = ('<im_patch>', '<im_col>', '<im_start>', '<low_res_im_start>', '<frame_start>',
                 '<im_end>', '<frame_end>', '<im_low>', '<img_start_lowres>', '<row_end>',
                 '<image_start>', '<image_end>')
OPENERS = ('<im_start>', '<low_res_im_start>', '<frame_start>', '<im_low>', '<img_start_lowres>',
           '<image_start>')


def encode(example: Example, config: PreprocessConfig, tokenizer: Tokenizer, *, training: bool,
           rng: np.random.Generator | None = None) -> Encoded:
  """Reads the media of an example and builds its arrays.

  Args:
    example: one record; several conversations about the same media make a message tree.
    config: crops, frames, text.
    tokenizer: text → ids, and the ids of the extra tokens.
    training: True: all conversations with targets and loss weights, with the numbers of crops,
      images and frames for training. False: a prompt; the last answer is dropped, so that the model
      gives it, and the `…_eval` numbers hold.
    rng: order of the branches and noise of the style prefix in training; without it branches keep
      their order.

  Returns:
    Arrays as described in `types.Encoded`. Without media, `crops` is [0,h,w,3] and `pool_index`
    [0,W]; `patch_mask` is None where the configuration has none.

  Raises:
    EncodingError: a record that cannot become a sequence; the message starts with `example.source`.
    MediaError: media that cannot be read.
  """
  try:
    return _encode(example, config, tokenizer, training, rng if training else None)
  except (EncodingError, MediaError) as error:
    where = example.source or example.id
    if not where:
      raise
    raise type(error)(f'{where}: {error}') from error


def _encode(example: Example, config: PreprocessConfig, tokenizer: Tokenizer, training: bool,
            rng: np.random.Generator | None) -> Encoded:
  conversations = _checked_conversations(example, training)
  count, text = len(conversations), config.text
  order = np.arange(count) if rng is None or not text.shuffle_branches else rng.permutation(count)
  styles = example.styles or [example.style] * count
  texts = [_message_strings(conversations[i], styles[i], config, tokenizer, rng) for i in order]
  loss_weight = LOSS_WEIGHTS[text.message_weight]
  weights = [loss_weight.with_terms(w) for w in example.weights or [None] * count]
  inputs = _visual_inputs(example, config, tokenizer, training, rng)
  rules = SequenceRules(
    loss_weight, eos_between=text.tree_format == 'molmo_v1', max_text_tokens=text.max_text_tokens,
    max_sequence_length=text.max_sequence_length if training else text.max_sequence_length_eval)
  sequence = build_sequence(
    texts, [v.tokens for v in inputs], tokenize=tokenizer.encode_trusted, bos_id=tokenizer.bos_id,
    eos_id=tokenizer.eos_id, rules=rules, branch_weights=[weights[i] for i in order])
  return Encoded(
    **vars(sequence), **join_visual_inputs(inputs, config),
    visual=visual_index(sequence.tokens, tokenizer.special, first_rows(inputs)),
    feature_index=feature_index(sequence.tokens, tokenizer.special),
    frame_times=np.concatenate([v.frame_times for v in inputs if v.frame_times is not None]
                               or [np.zeros(0)]))


def visual_index(tokens: np.ndarray, special: Mapping[str, int], starts: np.ndarray) -> np.ndarray:
  """0 for text, 1 + n for the visual tokens of the n-th image or frame (n from 1).

  An image or a frame begins with its first patch, or with the marker right before that: markers are
  not counted, for an image of one crop and a video without markers around its frames lack those
  that are unique to a beginning.

  Args:
    tokens: int [S].
    special: ids of the extra tokens.
    starts: rows of `pool_index` that begin an image or a frame (`first_rows`).

  Returns:
    int32 [S].
  """
  is_visual, is_opener = (np.isin(tokens, [special[name] for name in names if name in special])
                          for names in (VISUAL_TOKENS, OPENERS))
  first = np.flatnonzero(np.isin(feature_index(tokens, special), starts))
  opens = np.zeros(len(tokens), bool)
  opens[first - is_opener[first - 1]] = True
  return np.where(is_visual, 1 + np.cumsum(opens), 0).astype(np.int32)


def feature_index(tokens: np.ndarray, special: Mapping[str, int]) -> np.ndarray:
  """For each token the row of `pool_index` whose feature is added: int32 [S], −1 for none."""
  is_patch = tokens == special['<im_patch>']
  return np.where(is_patch, np.cumsum(is_patch) - 1, -1).astype(np.int32)


def _checked_conversations(example: Example, training: bool) -> list[tuple[Message, ...]]:
  conversations = list(example.conversations)
  if not conversations:
    raise EncodingError('the record has no conversation')
  if example.images and example.video is not None:
    raise EncodingError('the record has images and a video; an example has one or the other')
  for name in ('weights', 'styles'):
    given = getattr(example, name)
    if given and len(given) != len(conversations):
      raise EncodingError(f'the record has {len(given)} {name} for {len(conversations)} '
                          'conversations')
  if not training:
    if len(conversations) > 1:
      raise EncodingError(f'a prompt is one conversation; the record has {len(conversations)}')
    if conversations[0] and conversations[0][-1].role == 'assistant':
      conversations = [conversations[0][:-1]]
  for number, messages in enumerate(conversations):
    _check_conversation(messages, number, training, example.video is not None)
  return conversations


def _check_conversation(messages: Sequence[Message], number: int, training: bool,
                        has_video: bool) -> None:
  if not messages:
    raise EncodingError(f'conversation {number} has no messages' if training else
                        f'conversation {number} has no user message to answer')
  for index, message in enumerate(messages):
    expected = 'assistant' if index % 2 else 'user'
    if message.role != expected:
      raise EncodingError(f'message {index} of conversation {number} is from {message.role!r}; '
        f'user and assistant must alternate, user first, so it must be from {expected!r}')
    if expected == 'assistant' and not message.content:
      raise EncodingError(f'message {index} of conversation {number}, an answer, is empty')
    if IMAGE_PLACEHOLDER in message.content and has_video:
      raise EncodingError(f'message {index} of conversation {number} has {IMAGE_PLACEHOLDER}, but '
                          'the record has a video; a video always comes before the text')
    if index % 2 == 0 and IMAGE_PLACEHOLDER in message.content and (
        IMAGE_PLACEHOLDER not in messages[0].content):
      raise EncodingError(f'message {index} of conversation {number} has {IMAGE_PLACEHOLDER}, but '
                          'the first has none: its answer would be given before any image; begin '
                          f'with one, or write {IMAGE_PLACEHOLDER} differently if it is mere text')
  if training and messages[-1].role != 'assistant':
    raise EncodingError(f'conversation {number} ends with a user message; there is no answer to '
      'learn')


def _message_strings(messages: Sequence[Message], style: str | None, config: PreprocessConfig,
                     tokenizer: Tokenizer, rng: np.random.Generator | None) -> list[str]:
  contents = [m.content for m in messages]
  for index, content in enumerate(contents):
    tokenizer.check_plain(content, allowed=() if index % 2 else (IMAGE_PLACEHOLDER,))
  answer = None if len(contents) % 2 else contents[-1]   # its length is what a tag may announce
  contents[0] = chat.add_style_prefix(contents[0], style, config.text.style_prefix, answer=answer,
                                      rng=rng)
  for index in range(0, len(contents), 2):
    if not contents[index].replace(IMAGE_PLACEHOLDER, ''):
      raise EncodingError(f'user message {index} is empty')
  return chat.format_messages(contents, config.text.message_format)


def _visual_inputs(example: Example, config: PreprocessConfig, tokenizer: Tokenizer, training: bool,
                   rng: np.random.Generator | None) -> list[VisualInput]:
  special, tokenize, markup = tokenizer.special, tokenizer.encode, layout.layout_format(
    config.layout_format)
  if example.video is not None:
    max_frames = config.video.max_frames if training else config.video.max_frames_eval
    frames, times = video.read_video(
      example.video, max_frames, dataclasses.replace(config.video, **example.sampling),
      fps=example.fps, clip=example.clip, rng=rng, resize=_frame_resize(config),
      max_pixels=config.max_pixels)
    return [layout.prepare_video(frames, times, example.subtitles, config.image, config.video,
                                 special, tokenize, markup)]
  max_images = config.image.max_images if training else config.image.max_images_eval
  mode = config.image.reading if training else 'composite'
  loaded = [reading.load_image(source, mode=mode, max_pixels=config.max_pixels)
            for source in example.images[:max_images]]
  max_crops = config.image.max_crops if training else config.image.max_crops_eval
  if len(example.images) > 1:
    max_crops = min(max_crops, config.image.max_multi_image_crops)
  return layout.prepare_images(loaded, config.image, max_crops, special, tokenize, max_images,
                               markup)


def shown_times(example: Example, config: PreprocessConfig, training: bool) -> np.ndarray:
  """Seconds of the frames that `encode` shows of the example's video file; none is decoded.

  Raises:
    MediaError: the video cannot be read.
  """
  settings = dataclasses.replace(config.video, **example.sampling)
  return video.sampled_times(
    example.video, settings.max_frames if training else settings.max_frames_eval, settings,
    example.clip, config.max_pixels)


def first_rows(inputs: Sequence[VisualInput]) -> np.ndarray:
  """Rows of the joined `pool_index` that begin an image, or a frame of a video: int [n]."""
  kinds = [visual.layout_index[:, 2] if visual.frame_times is not None
           else np.zeros(len(visual.pool_index), np.int32) for visual in inputs]
  changes = [np.diff(kind, prepend=-1) != 0 for kind in kinds]
  return np.flatnonzero(np.concatenate([np.zeros(0, bool), *changes]))


def _frame_resize(config: PreprocessConfig) -> Callable[[np.ndarray], np.ndarray] | None:
  """Resizes a frame once it is decoded: a long video in full size would fill the memory."""
  size = config.image.crop_size
  # its result is float and has a mask: done later, from the full frame
  if config.image.resize == 'letterbox':
    return None
  return lambda frame: images.fit(frame, size, size, config.image)[0]


def join_visual_inputs(inputs: Sequence[VisualInput],
                       config: PreprocessConfig) -> dict[str, np.ndarray | None]:
  """All crops of the example, and windows over all of them: indices go on from input to input."""
  image = config.image
  width = max((v.pool_index.shape[1] for v in inputs), default=math.prod(image.pooling))
  starts = np.cumsum([0, *(len(v.crops) * image.grid ** 2 for v in inputs)])
  windows = [shift_windows(v.pool_index, first) for v, first in zip(inputs, starts)]
  pixels = np.float32 if image.resize == 'letterbox' else np.uint8
  empty = {   # what there is without media
    'crops': np.zeros((0, image.crop_size, image.crop_size, 3), pixels),
    'layout_index': np.zeros((0, 4), np.int32), 'layout_box': np.zeros((0, 4), np.float32),
    'patch_mask': np.zeros((0, image.grid ** 2), np.float32) if image.has_patch_mask else None}
  return {
    'pool_index': np.concatenate([np.zeros((0, width), np.int32), *(
      np.pad(w, ((0, 0), (0, width - w.shape[1])), constant_values=-1) for w in windows)]),
    **{name: None if none is None else np.concatenate([none, *(getattr(v, name) for v in inputs)])
       for name, none in empty.items()}}
