"""The files of a Hugging Face processor: tokenizer, chat template, end tokens and, in
`processor_config`, how images and videos are cut (docs/model.md §6–8, §10).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from molmo_jax.configuration import Range
from molmo_jax.errors import CheckpointError
from molmo_jax.files import open_regular, write_atomically
from molmo_jax.json_section import Section
from molmo_jax.preprocess.layout import SPECIAL_TOKENS, V1_SPECIAL_TOKENS
from molmo_jax.preprocess.tokenizer import Tokenizer
from molmo_jax.preprocess.types import PreprocessConfig
from molmo_jax.processor.processor_config import config_files, is_v1, read_config

# Every file that a processor may consist of.
FILES = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json',
         'vocab.json', 'merges.txt', 'processor_config.json', 'preprocessor_config.json',
         'video_preprocessor_config.json', 'chat_template.jinja', 'chat_template.json',
         'generation_config.json')
TOKEN_IDS = {'image_patch_id': '<im_patch>', 'image_start_token_id': '<im_start>',
             'image_end_token_id': '<im_end>', 'frame_start_token_id': '<frame_start>'}


def read_processor_files(folder: Path) -> dict[str, Any]:
  """The arguments of `Processor` that the files of a checkpoint say, of Molmo2 or Molmo v1.

  Raises:
    FileNotFoundError: no tokenizer in the folder.
    CheckpointError: no such folder, a file that is not JSON, or a value that is not supported; the
      message names file, key and value.
  """
  if not folder.is_dir():
    raise CheckpointError(f'{folder}: no such folder')
  model = Section.read(folder / 'config.json', optional=True)
  text = model.section('text_config') if model.has('text_config') else model
  # The base vocabulary is what the configuration says: a table may have more rows (docs/model.md
  # §10, §11.5).
  tokenizer = Tokenizer.from_file(
    folder, base_vocab_size=text.size('vocab_size', default=None),
    special_tokens=V1_SPECIAL_TOKENS if is_v1(folder) else SPECIAL_TOKENS)
  for key, token in TOKEN_IDS.items():
    if model.has(key) and model.values[key] != tokenizer.special.get(token):
      model.fail(key, f'but the tokenizer has {token} at {tokenizer.special.get(token)}')
  template, file = _read_template(folder)
  return dict(tokenizer=tokenizer, config=read_config(folder), template=template,
              template_file=file, eos_ids=_read_eos_ids(folder, tokenizer),
              files=read_contents(folder))


def read_contents(folder: Path) -> dict[str, bytes]:
  """The files of the processor in a folder, by name."""
  return {name: _read(folder / name) for name in FILES if (folder / name).exists()}


def _read(file: Path) -> bytes:
  with open_regular(file) as opened:
    return opened.read()


def _read_template(folder: Path) -> tuple[str | None, Path | None]:
  """The chat template, if there is one, and the file it stands in."""
  file = folder / 'chat_template.jinja'
  if file.exists():
    try:
      return _read(file).decode('utf-8'), file
    except (OSError, UnicodeDecodeError) as error:
      raise CheckpointError(f'{file}: cannot be read as text ({error})') from None
  # of Molmo v1 the processor writes prompts itself; tokenizer_config.json has the language model's
  for name in () if is_v1(folder) else ('chat_template.json', 'processor_config.json',
                                        'tokenizer_config.json'):
    template = Section.read(folder / name, optional=True).take(
      'chat_template', kind=str | tuple[dict[str, str], ...], default=None)
    if isinstance(template, tuple):           # [{'name': 'default', 'template': …}, …]
      template = {entry.get('name'): entry.get('template') for entry in template}.get('default')
    if template:
      return template, folder / name
  return None, None


def _read_eos_ids(folder: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
  generation = Section.read(folder / 'generation_config.json', optional=True)
  index = Annotated[int, Range(0, tokenizer.base_vocab_size - 1)]
  ids = generation.take('eos_token_id', kind=index | tuple[index, ...], default=tokenizer.eos_id)
  if ids == ():
    generation.fail('eos_token_id', 'it must have an id')
  return ids if isinstance(ids, tuple) else (ids,)


def write_contents(contents: Mapping[str, bytes], folder: Path) -> None:
  """Writes the files of a checkpoint's processor as they were, byte for byte."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in contents.items():
    (folder / name).write_bytes(content)


def write_files(folder: Path, tokenizer: Tokenizer, config: PreprocessConfig, template: str,
                eos_ids: Sequence[int]) -> None:
  """Makes the files of a processor of one's own.

  Raises:
    CheckpointError: a configuration that the released processors cannot express; the message names
      the fields.
  """
  contents = config_files(config)
  contents['tokenizer_config.json'] = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'processor_class': contents['processor_config.json']['processor_class'],
    **tokenizer.named_tokens, 'clean_up_tokenization_spaces': False, 'padding_side': 'left',
    'model_max_length': 10 ** 6, 'extra_special_tokens': tokenizer.extra_names}
  contents['generation_config.json'] = {
    'bos_token_id': tokenizer.bos_id, 'pad_token_id': tokenizer.pad_id,
    'eos_token_id': eos_ids[0] if len(eos_ids) == 1 else list(eos_ids)}
  write_atomically(folder / 'tokenizer.json', tokenizer.to_json())
  for name, content in contents.items():
    write_atomically(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + '\n')
  write_atomically(folder / 'chat_template.jinja', template)
