"""The processor of a released checkpoint: messages → the arrays that the model reads (docs/model.md
§6–8, §10, §11).

It reproduces the inputs of `transformers` 5.23's `Molmo2Processor`. Where the released code bases
differ (the numbers are those of docs/model.md §11):

  16  a side below 112 px is not clamped: the tiling of the released code, not of the training code;
  17  pixels are always rescaled and normalised, whatever a file leaves unset;
  18  frames of a video file are chosen by time, the last one included, as the released models were
      trained and their own code does; transformers' loader, which leaves the last frame out, is not
      followed;
  19  frames of an array are chosen by index, and the last one has its own time, (N − 1)/fps;
  20  crops stay uint8 and are normalised on the device, within 6e-8 of transformers'; transparency
      is composited on white, whether the image comes from a file, Pillow or an array (only
      transformers' file loader drops it); a file is turned upright by its EXIF orientation, a
      Pillow image that is passed in is not;
  25  a beginning-of-sequence token is added to each prompt that lacks one, one by one, as
      transformers 5.23 does.

A conversation that ends with an answer is continued: the prompt ends with the text of that answer
(`continue_final_message` in transformers). Any other conversation gets a generation prompt.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmo_jax.preprocess.encode import (
  VISUAL_TOKENS,
  feature_index,
  first_rows,
  join_visual_inputs,
  visual_index,
)
from molmo_jax.preprocess.padding import pad_field
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import (
  PADDING_VALUES,
  SEQUENCE_FIELDS,
  EncodingError,
  PreprocessConfig,
)
from molmo_jax.processor import chat_template, processor_files
from molmo_jax.processor.conversation import Chat, Message, located, read_conversation
from molmo_jax.processor.pixel_points import pixel_points
from molmo_jax.processor.processor_media import read_media

IMAGE, VIDEO = '<|image|>', '<|video|>'
_PLACEHOLDERS = re.compile(r'(<\|(?:image|video)\|>)')


class Processor:
  """Messages → arrays, and ids → text (docs/model.md §6–8).

  Attributes:
    tokenizer: text ↔ ids.
    config: how images and videos are cut; the numbers for inference (`…_eval`) hold.
    template: the chat template.
    eos_ids: ids that end an answer.
    points: the points that an answer gives, in pixels (`pixel_points.pixel_points`).
  """

  points = staticmethod(pixel_points)

  def __init__(self, tokenizer: Tokenizer, config: PreprocessConfig, *, template: str | None = None,
               template_file: Path | None = None, eos_ids: Sequence[int] | None = None,
               files: Mapping[str, bytes] | None = None):
    """A processor of one's own parts.

    Args:
      template: a chat template; None: the one of `config.text.message_format`.
      template_file: where the template was read, for errors.
      eos_ids: ids that end an answer; None: the tokenizer's.
      files: contents of the files it came from, which `save` writes back.
    """
    self.tokenizer, self.config = tokenizer, config
    self.template = chat_template.default_template(config) if template is None else template
    self.eos_ids = tuple(eos_ids) if eos_ids else (tokenizer.eos_id,)
    self._files = files
    # The released templates write `Image k` themselves; other layouts write their own text.
    self._numbers_images = config.layout_format != 'released' and config.image.number_images
    self._template_name = f'the chat template{f" of {template_file}" if template_file else ""}'
    chat_template.check_template(self.template, self._template_name)

  @classmethod
  def from_pretrained(cls, folder: str | os.PathLike[str]) -> Processor:
    """Reads the processor of a checkpoint's folder.

    Raises:
      FileNotFoundError: no tokenizer.json in the folder.
      CheckpointError: no such folder, or a file with a value that is not supported; the message
        names file, key and value.
    """
    return cls(**processor_files.read_processor_files(Path(folder)))

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the files that `from_pretrained` and transformers' `AutoProcessor` read.

    A processor that came from a folder writes that folder's files back byte for byte.
    """
    if self._files is not None:
      processor_files.write_contents(self._files, Path(folder))
    else:
      processor_files.write_files(Path(folder), self.tokenizer, self.config, self.template,
                                   self.eos_ids)

  @property
  def bos_id(self) -> int:
    """The id with which every prompt begins."""
    return self.tokenizer.bos_id

  @property
  def eos_id(self) -> int:
    """The first of the ids that end an answer."""
    return self.eos_ids[0]

  @property
  def pad_id(self) -> int:
    """The id of the padding token in the checkpoint's files; rows of a batch are padded with −1."""
    return self.tokenizer.pad_id

  def decode(self, ids: Iterable[int] | np.ndarray) -> str:
    """The text of generated ids [n], without control tokens and padding (−1)."""
    return self.tokenizer.decode(index for index in ids if index >= 0)

  def __call__(self, messages: Sequence[Message] | Sequence[Sequence[Message]],
               padding: str = 'left', *, add_generation_prompt: bool | None = None
               ) -> dict[str, np.ndarray]:
    """The arrays of a conversation, or of a batch of conversations.

    Args:
      messages: a conversation in Hugging Face's chat format (see `conversation.read_conversation`),
        or a list of them.
      padding: side on which shorter rows of a batch are filled: 'left' or 'right'.
      add_generation_prompt: whether the template opens an answer; None: unless the last message is
        an answer, which is then continued.

    Returns:
      The batch's fields (docs/data.md) without targets and loss weights, for one conversation
      without the axis `B`; and, of all conversations one after the other, what
      `processor_media.Media.grids` gives: image_grids, image_num_crops, image_sizes, video_grids,
      video_sizes, frame_times.

    Raises:
      EncodingError: messages that cannot become a prompt.
      MediaError: an image or video that cannot be read.
    """
    if padding not in ('left', 'right'):
      raise ValueError(f"padding is {padding!r}; it must be 'left' or 'right'")
    if not isinstance(messages, (list, tuple)) or not messages:
      raise EncodingError('messages must be a list of messages, or a list of such lists, with at '
                          'least one message')
    is_batch = isinstance(messages[0], (list, tuple))
    chats, prompts = [], []
    for number, turns in enumerate(messages if is_batch else [messages]):
      with located(f'conversation {number}') if is_batch else contextlib.nullcontext():
        chats.append(read_conversation(turns, self._check_text))
        prompts.append(self._prompt(chats[-1], add_generation_prompt))
    # media are read when all conversations are known to be right
    rows = [self._row(prompt, chat) for prompt, chat in zip(prompts, chats, strict=True)]
    return batch_rows(rows, padding) if is_batch else rows[0]

  def from_prompt(self, prompt: str, images: Sequence[Any] = (), video: Any = None,
                  fps: float | None = None) -> dict[str, np.ndarray]:
    """The arrays of a finished prompt, as of one conversation.

    Args:
      prompt: text in which control tokens are meant, with `<|image|>` for every image and
        `<|video|>` for the video.
      images: path, bytes, Pillow image or uint8 array each.
      video: path, or uint8 [T,h,w,3] with `fps`.

    Raises:
      EncodingError: placeholders that do not match the media, or visual tokens in the text.
      MediaError: media that cannot be read.
    """
    if len(images) and video is not None:
      raise EncodingError('there are images and a video; the model takes one or the other')
    chat = Chat(images=images, video=video, fps=fps)
    self._check_prompt(prompt, chat)
    return self._row(prompt, chat)

  def _check_text(self, text: str) -> None:
    for placeholder in (IMAGE, VIDEO):
      if placeholder in text:
        raise EncodingError(f'the text contains {placeholder}; the template writes it for a part '
                            f"{{'type': '{placeholder[2:-2]}', …}}")
    self.tokenizer.check_plain(text)

  def _check_prompt(self, prompt: str, chat: Chat, named: str = 'the prompt') -> None:
    for placeholder, count in ((IMAGE, len(chat.images)), (VIDEO, int(chat.video is not None))):
      if prompt.count(placeholder) != count:
        raise EncodingError(f'{named} has {prompt.count(placeholder)} {placeholder} for {count} '
                            f'{placeholder[2:-2]}(s); there must be one for each')
    for token in VISUAL_TOKENS:
      if token in prompt:
        raise EncodingError(f'{named} contains {token}, a token for a part of an image; use '
                            f'{IMAGE} or {VIDEO}')

  def _prompt(self, chat: Chat, add_generation_prompt: bool | None) -> str:
    continues = add_generation_prompt is None and chat.is_continued
    prompt = chat_template.render(
      self.template, chat.messages, continue_final_message=continues,
      add_generation_prompt=not continues and add_generation_prompt is not False,
      name=self._template_name,
      **self.tokenizer.named_tokens)
    self._check_prompt(prompt, chat, f'the prompt that {self._template_name} makes')
    return prompt

  def _row(self, prompt: str, chat: Chat) -> dict[str, np.ndarray]:
    """The arrays of one prompt, whose placeholders match the media."""
    media = read_media(chat, self.config, self.tokenizer, self._numbers_images)
    tokens = self._tokens(prompt, [visual.tokens for visual in media.inputs])
    special = self.tokenizer.special
    row = {'tokens': tokens, 'positions': np.arange(len(tokens), dtype=np.int32),
           'segments': np.zeros_like(tokens), 'feature_index': feature_index(tokens, special),
           'visual': visual_index(tokens, special, first_rows(media.inputs)),
           **join_visual_inputs(media.inputs, self.config), **media.grids()}
    return {name: array for name, array in row.items() if array is not None}

  def _tokens(self, prompt: str, media: Sequence[np.ndarray]) -> np.ndarray:
    """int32 [S]: the prompt's ids with the media's tokens in the places of their placeholders, BOS
    in front.
    """
    waiting = iter(media)
    tokens = np.concatenate([
      next(waiting) if piece in (IMAGE, VIDEO) else self.tokenizer.encode_trusted(piece)
      for piece in _PLACEHOLDERS.split(prompt)]).astype(np.int32)
    return tokens if tokens[:1] == [self.bos_id] else np.insert(tokens, 0, self.bos_id)


def batch_rows(rows: Sequence[Mapping[str, np.ndarray]],
               padding: str = 'left') -> dict[str, np.ndarray]:
  """Conversations of different sizes as a batch; shorter ones are filled as docs/data.md says.

  Args:
    rows: what `Processor` returns for one conversation.
    padding: side of the tokens that is filled, 'left' or 'right'. Crops and windows are always
      filled at the end.
  """
  batch = {}
  for name in rows[0]:
    arrays = [row[name] for row in rows]
    if name not in PADDING_VALUES:
      batch[name] = np.concatenate(arrays)
      continue
    sizes = np.max([array.shape for array in arrays], axis=0)
    left = padding == 'left' and name in SEQUENCE_FIELDS
    batch[name] = np.stack([pad_field(name, array, sizes, left) for array in arrays])
  return batch
