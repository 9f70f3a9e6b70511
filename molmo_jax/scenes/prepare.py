"""Prepares the data of a run: generated scenes and their tokenizer, or the user's own files."""

from __future__ import annotations

from pathlib import Path

from molmo_jax.configuration import ConfigError
from molmo_jax.data.pipeline import DataConfig
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.progress import Display
from molmo_jax.scenes.config import ScenesConfig
from molmo_jax.scenes.generate import all_text, generate
from molmo_jax.terminal import Terminal

POINT_MARKUP = ('<points coords="', '</points>')


def prepare(config: DataConfig, scenes: ScenesConfig | None, vocab: int,
            console: Terminal) -> Tokenizer:
  """Generates the scenes and trains their tokenizer where they are missing; loads the tokenizer.

  Args:
    scenes: what to generate into `config.scenes_root` if a manifest of `config` lies there;
      otherwise all files are the user's own.
    vocab: rows of the model's base embedding: the ids of the extra tokens begin there.
  """
  folder = Path(config.scenes_root)
  asked_for = folder in (Path(config.train).parent, Path(config.validation).parent)
  if scenes is not None and config.scenes_root and asked_for:
    if not (folder / 'dataset.json').exists():
      console.print(f'generating scenes into {folder}')
    with Display(console, 'generating', 1) as display:
      generate(scenes, folder, display.of)
    if not Path(config.tokenizer).exists():
      # every message format puts a blank or a line break before a message: the first word must be a
      # token with it too
      train_tokenizer((f' {text}' for text in all_text(folder)), vocab, config.tokenizer,
                      whole=POINT_MARKUP)
  try:
    return Tokenizer.from_file(config.tokenizer, base_vocab_size=vocab)
  except (OSError, ValueError) as error:
    raise ConfigError(f'data.tokenizer: {error}') from None
