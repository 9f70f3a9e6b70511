"""Text ↔ ids: Molmo's extra tokens on top of a `tokenizer.json` (docs/model.md §10)."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from molmo_jax.errors import CheckpointError, MolmoError
from molmo_jax.files import open_regular, write_atomically
from molmo_jax.json_section import Section
from molmo_jax.preprocess.layout import SPECIAL_TOKENS
from molmo_jax.preprocess.types import EncodingError
from molmo_jax.visible import well_formed

END_OF_TEXT, CHAT_START, CHAT_END = '<|endoftext|>', '<|im_start|>', '<|im_end|>'
CHAT_TOKENS = (END_OF_TEXT, CHAT_START, CHAT_END)

# characters of a piece, and pieces, that are remembered
_SHORT, _RECENT = 200, 10_000

# Words and single digits with the blank before them, punctuation, white space.
_SPLIT = r' ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+'


class Tokenizer:
  """A tokenizer whose ids from `base_vocab_size` on are Molmo's extra tokens.

  Args, also attributes but for the first:
    inner: the tokenizer of the language model.
    base_vocab_size: size of the base vocabulary, fillers included; extra token n has the id
      base_vocab_size + n.
    special: ids of Molmo's extra tokens.
    bos_id, eos_id, pad_id: ids that open a sequence, end an answer, fill a row.
  """

  def __init__(self, inner: tokenizers.Tokenizer, *, special: dict[str, int], base_vocab_size: int,
               bos_id: int, eos_id: int, pad_id: int):
    self._inner = inner
    self.special = special
    self.base_vocab_size = base_vocab_size
    self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
    self._recent: dict[str, tuple[int, ...]] = {}
    self._names = {index: name for name, index in special.items()}
    control = [name for name in CHAT_TOKENS if inner.token_to_id(name) is not None]
    control += [inner.id_to_token(i) for i in (bos_id, eos_id, pad_id)]
    self._extra_pattern = re.compile(f'({"|".join(map(re.escape, special))})')
    self._reserved_pattern = re.compile('|'.join(map(re.escape, sorted({*special, *control}))))

  @classmethod
  def from_file(cls, path: str | os.PathLike[str], base_vocab_size: int | None = None,
                special_tokens: Sequence[str] = SPECIAL_TOKENS) -> Tokenizer:
    """Loads `tokenizer.json`, and `tokenizer_config.json` beside it if there is one.

    Args:
      path: the file, or the folder that holds it.
      base_vocab_size: the id of the first extra token. Default: what the file says if it has
        Molmo's extra tokens, else its own size.
      special_tokens: the extra tokens, in order, for a file that has none of them; one that has
        some keeps its own.

    Raises:
      FileNotFoundError: no such file.
      CheckpointError: the file is not a tokenizer, has more tokens than `base_vocab_size`, or no
        end-of-sequence token.
    """
    path = Path(path)
    path = path / 'tokenizer.json' if path.is_dir() else path
    try:
      with open_regular(path) as file:
        inner = tokenizers.Tokenizer.from_buffer(file.read())
    except (FileNotFoundError, MolmoError):
      raise
    except Exception as error:  # the library raises a bare Exception
      raise CheckpointError(f'{path} is not a tokenizer.json: {error}') from error
    special, base = _extra_tokens(inner, base_vocab_size, special_tokens, path)
    return cls(inner, special=special, base_vocab_size=base, **_control_ids(inner, path))

  @property
  def named_tokens(self) -> dict[str, str]:
    """The control tokens under the names that a chat template knows them by."""
    ids = {'bos_token': self.bos_id, 'eos_token': self.eos_id, 'pad_token': self.pad_id}
    return {name: self._inner.id_to_token(index) for name, index in ids.items()}

  @property
  def extra_names(self) -> list[str]:
    """Names of the fillers up to the base vocabulary's end, and of the extra tokens."""
    fillers = range(self.base_vocab_size - self._own_size())
    return [f'|<EXTRA_TOKENS_{n}>|' for n in fillers] + sorted(self.special,
                                                               key=self.special.__getitem__)

  def to_json(self) -> str:
    """A `tokenizer.json` with every extra token at its id and fillers between, as released.

    Raises:
      ValueError: the file's own tokens leave ids unused, so that the others cannot follow.
    """
    complete = tokenizers.Tokenizer.from_str(self._inner.to_str())
    complete.add_special_tokens(
      [tokenizers.AddedToken(name, special=True, normalized=False) for name in self.extra_names])
    wrong = [name for name, index in self.special.items() if complete.token_to_id(name) != index]
    if wrong:
      raise ValueError(f'{wrong[0]} would get the id {complete.token_to_id(wrong[0])}, not '
                       f"{self.special[wrong[0]]}: the ids of the tokenizer's own tokens have gaps")
    return complete.to_str(pretty=True)

  def _own_size(self) -> int:
    return 1 + max(index for name, index in self._inner.get_vocab().items()
                   if name not in self.special)

  def encode(self, text: str) -> list[int]:
    """Ids of plain text, without BOS and EOS.

    Raises:
      EncodingError: the text contains the string of an extra token or of a control token such as
        `<|im_end|>`.
    """
    self.check_plain(text)
    return list(self._ids(text))

  def encode_trusted(self, text: str) -> list[int]:
    """Ids of text of our own, in which the strings of extra and control tokens mean these tokens.
    """
    ids: list[int] = []
    for piece in self._extra_pattern.split(text):
      if piece in self.special:
        ids.append(self.special[piece])
      elif piece:
        ids += self._ids(piece)
    return ids

  def _ids(self, text: str) -> tuple[int, ...]:
    """Ids of one piece; those of the latest short pieces are kept, for prompts repeat themselves.
    """
    ids = self._recent.get(text)
    if ids is None:
      ids = tuple(self._inner.encode(well_formed(text), add_special_tokens=False).ids)
      if len(text) <= _SHORT:
        if len(self._recent) >= _RECENT:
          self._recent.clear()
        self._recent[text] = ids
    return ids

  def check_plain(self, text: str, allowed: Iterable[str] = ()) -> None:
    """Raises EncodingError if `text` contains an extra or control token that is not `allowed`."""
    allowed = set(allowed)
    for match in self._reserved_pattern.finditer(text):
      if match.group() not in allowed:
        raise EncodingError(f'the text contains {match.group()!r}, which is the name of a reserved '
          'token; write it differently, e.g. with a blank inside')

  def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
    """Text of `ids`; control and extra tokens are left out unless `keep_special`.

    Raises:
      ValueError: a negative id, such as the −1 of padding.
    """
    parts = []
    for outside, group in itertools.groupby((int(i) for i in ids), key=self._is_outside):
      if outside:
        parts += [self._name(i) for i in group] if keep_special else []
      else:
        parts.append(self._inner.decode(list(group), skip_special_tokens=not keep_special))
    return ''.join(parts)

  def _is_outside(self, index: int) -> bool:
    if index < 0:
      raise ValueError(f'{index} is not the id of a token; remove padding before decoding')
    return index in self._names or self._inner.id_to_token(index) is None

  def _name(self, index: int) -> str:
    # Rows between the tokenizer's own size and the base are fillers, never written and never read.
    filler = index - self._inner.get_vocab_size()
    return self._names.get(index, f'|<EXTRA_TOKENS_{filler}>|')


def train_tokenizer(texts: Iterable[str], vocab_size: int, path: str | os.PathLike[str],
                    whole: Sequence[str] = ()) -> None:
  """Trains a byte-level BPE and writes it to `path`; the same texts give the same file.

  Every digit is a token of its own, as in Qwen's tokenizers, so coordinates and timestamps are read
  digit by digit.

  Args:
    texts: training text.
    vocab_size: tokens at most, the 256 bytes and the three control tokens included.
    path: file to write, usually `…/tokenizer.json`; it appears whole or not at all.
    whole: strings that are one token wherever they stand, for markup that would take many.

  Raises:
    ValueError: `vocab_size` below 259.
  """
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  if vocab_size < len(alphabet) + len(CHAT_TOKENS):
    raise ValueError(f'vocab_size is {vocab_size}; it must be at least '
      f'{len(alphabet) + len(CHAT_TOKENS)}: {len(alphabet)} bytes and {len(CHAT_TOKENS)} control '
      'tokens')
  inner = tokenizers.Tokenizer(tokenizers.models.BPE())
  inner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
    tokenizers.pre_tokenizers.Split(tokenizers.Regex(_SPLIT), behavior='isolated'),
    tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
  inner.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size - len(CHAT_TOKENS) - len(whole),
                                           initial_alphabet=alphabet, special_tokens=[],
                                           show_progress=False)
  inner.train_from_iterator(texts, trainer)
  inner.add_tokens([tokenizers.AddedToken(text, special=False, normalized=False) for text in whole])
  inner.add_special_tokens(list(CHAT_TOKENS))
  write_atomically(Path(path), inner.to_str(pretty=True))


def _extra_tokens(inner: tokenizers.Tokenizer, base_vocab_size: int | None,
                  special_tokens: Sequence[str], path: Path) -> tuple[dict[str, int], int]:
  """Ids of the extra tokens, and the size of the base vocabulary."""
  vocabulary = inner.get_vocab(with_added_tokens=True)
  found = {name: vocabulary[name] for name in SPECIAL_TOKENS if name in vocabulary}
  size = 1 + max(index for name, index in vocabulary.items() if name not in found)
  base = base_vocab_size
  if base is None:
    base = min(found.values()) if found else size
  if size > base:
    raise CheckpointError(
      f'{path} has {size} tokens, more than the base vocabulary has ids ({base})')
  if found and min(found.values()) != base:
    first = min(found, key=found.__getitem__)
    raise CheckpointError(f'{path} has {first} at id {found[first]}; extra tokens must start at '
                          f'the base vocabulary size, {base}')
  return found or {name: base + n for n, name in enumerate(special_tokens)}, base


def _control_ids(inner: tokenizers.Tokenizer, path: Path) -> dict[str, int]:
  settings = {}
  # what the second one says, holds
  for name in ('special_tokens_map.json', 'tokenizer_config.json'):
    beside = Section.read(path.with_name(name), optional=True)
    for key in filter(beside.values.get, ('eos_token', 'bos_token', 'pad_token')):
      nested = isinstance(beside.values[key], dict)
      settings[key] = (beside.section(key).take('content', kind=str) if nested else
                       beside.take(key, kind=str))

  def find(key: str, *fallbacks: str) -> int | None:
    for name in (settings.get(key), *fallbacks):
      if name is not None:
        index = inner.token_to_id(name.encode(errors='replace').decode())   # no half surrogate pair
        if index is not None:
          return index
    return None

  eos = find('eos_token', CHAT_END, END_OF_TEXT)
  if eos is None:
    raise CheckpointError(f'{path} has no end-of-sequence token: tokenizer_config.json names none, '
                          f'and neither {CHAT_END} nor {END_OF_TEXT} is in the vocabulary')
  bos, pad = find('bos_token'), find('pad_token', END_OF_TEXT)
  return {'eos_id': eos, 'bos_id': eos if bos is None else bos,
          'pad_id': eos if pad is None else pad}
