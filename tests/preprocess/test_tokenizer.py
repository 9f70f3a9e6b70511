"""Text ↔ ids with Molmo's extra tokens (docs/model.md §10)."""

from __future__ import annotations

import json
import pickle

import pytest
import tokenizers

from molmo_jax.preprocess.layout import SPECIAL_TOKENS
from molmo_jax.preprocess.tokenizer import Tokenizer, train_tokenizer
from molmo_jax.preprocess.types import EncodingError

TEXTS = ['the red square is left of the blue circle', 'how many points? 12 34 567',
         'Grüße, 你好 👋\n\tend'] * 5


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer')
  train_tokenizer(TEXTS, 320, path / 'tokenizer.json')
  return path


@pytest.fixture
def tokenizer(folder):
  return Tokenizer.from_file(folder, base_vocab_size=400)


def with_tokens(folder, tmp_path, tokens, config=None):
  """A copy of the tokenizer with more tokens, and perhaps with a tokenizer_config.json."""
  inner = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
  inner.add_special_tokens(tokens)
  inner.save(str(tmp_path / 'tokenizer.json'))
  if config is not None:
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  return tmp_path


def test_training_twice_gives_the_same_file_and_leaves_nothing_beside_it(folder, tmp_path):
  train_tokenizer(iter(TEXTS), 320, tmp_path / 'new' / 'tokenizer.json')
  assert (tmp_path / 'new' / 'tokenizer.json').read_bytes() == (folder
                                                                / 'tokenizer.json').read_bytes()
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['tokenizer.json']


def test_a_vocabulary_that_cannot_hold_the_bytes_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='at least 259'):
    train_tokenizer(TEXTS, 200, tmp_path / 'tokenizer.json')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('text',
                         ['the red square', ' two  blanks ', 'line\n\nline\t.',
                          'ünseen ☃ 漢字', ''])
def test_decoding_gives_back_any_text(tokenizer, text):
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_digit_is_a_token_and_words_are_merged(tokenizer):
  assert len(tokenizer.encode('0123456789')) == 10
  tokens = [tokenizer.decode([i]) for i in tokenizer.encode(' 12.5 to 99 and 1000')]
  assert max(sum(c.isdigit() for c in token) for token in tokens) == 1
  assert len(tokenizer.encode(' square')) < len(' square')


def test_extra_tokens_start_at_the_base_vocabulary_size(tokenizer, folder):
  assert list(tokenizer.special) == list(SPECIAL_TOKENS)
  assert list(tokenizer.special.values()) == list(range(400, 400 + len(SPECIAL_TOKENS)))
  assert max(tokenizer.encode(' '.join(TEXTS))) < 400
  with pytest.raises(ValueError, match='more than the base'):
    Tokenizer.from_file(folder, base_vocab_size=300)


@pytest.mark.parametrize('name', [*SPECIAL_TOKENS, '<|im_end|>', '<|im_start|>', '<|endoftext|>'])
def test_names_of_reserved_tokens_in_plain_text_are_errors_that_name_them(tokenizer, name):
  with pytest.raises(EncodingError) as error:
    tokenizer.encode(f'what is {name}?')
  assert name in str(error.value)
  tokenizer.check_plain(f'what is {name}?', allowed=(name,))


def test_trusted_text_may_name_reserved_tokens(tokenizer):
  ids = tokenizer.encode_trusted('a<im_patch><|im_end|>b')
  assert ids == [*tokenizer.encode('a'), tokenizer.special['<im_patch>'], tokenizer.eos_id,
                 *tokenizer.encode('b')]
  assert tokenizer.decode(ids) == 'ab'
  assert tokenizer.decode(ids, keep_special=True) == 'a<im_patch><|im_end|>b'


def test_ids_between_the_tokenizer_and_the_base_are_fillers_and_padding_is_an_error(tokenizer):
  size = max(tokenizer.special.values()) - len(SPECIAL_TOKENS)
  assert tokenizer.decode([size, *tokenizer.encode('x')]) == 'x'
  assert tokenizer.decode([size], keep_special=True).startswith('|<EXTRA_TOKENS_')
  with pytest.raises(ValueError, match='-1'):
    tokenizer.decode([-1])


def test_extra_tokens_of_the_file_are_kept_with_its_base(folder, tmp_path):
  size = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json')).get_vocab_size()
  fillers = [f'|<EXTRA_TOKENS_{i}>|' for i in range(350 - size)]
  path = with_tokens(folder, tmp_path, [*fillers, *SPECIAL_TOKENS])
  tokenizer = Tokenizer.from_file(path)
  assert tokenizer.base_vocab_size == 350
  assert tokenizer.special == {name: 350 + n for n, name in enumerate(SPECIAL_TOKENS)}
  with pytest.raises(ValueError, match='must start at the base vocabulary size, 351'):
    Tokenizer.from_file(path, base_vocab_size=351)


def test_a_v1_file_keeps_its_own_five_extra_tokens(folder, tmp_path):
  names = ['<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<|image|>']
  tokenizer = Tokenizer.from_file(with_tokens(folder, tmp_path, names))
  assert tokenizer.special == {name: tokenizer.base_vocab_size + n for n, name in enumerate(names)}


def test_bos_is_eos_and_padding_is_end_of_text_where_the_file_says_nothing(tokenizer):
  chat_end, end_of_text = (tokenizer.encode_trusted(t)[0] for t in ('<|im_end|>', '<|endoftext|>'))
  assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id) == (chat_end, chat_end, end_of_text)


def test_tokenizer_config_names_bos_eos_and_padding(folder, tmp_path):
  config = {'bos_token': {'content': '<|endoftext|>'}, 'eos_token': '<|im_end|>',
            'pad_token': '<|pad|>'}
  tokenizer = Tokenizer.from_file(with_tokens(folder, tmp_path, ['<|pad|>'], config))
  names = [tokenizer.decode([i], keep_special=True)
           for i in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)]
  assert names == ['<|endoftext|>', '<|im_end|>', '<|pad|>']


def test_a_null_bos_in_the_config_means_eos(folder, tmp_path):
  tokenizer = Tokenizer.from_file(
    with_tokens(folder, tmp_path, [], {'bos_token': None, 'eos_token': '<|im_end|>'}))
  assert tokenizer.bos_id == tokenizer.eos_id


def test_a_missing_or_broken_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='tokenizer.json'):
    Tokenizer.from_file(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{}')
  with pytest.raises(ValueError, match='tokenizer.json is not'):
    Tokenizer.from_file(tmp_path)


def test_it_can_be_sent_to_worker_processes(tokenizer):
  copy = pickle.loads(pickle.dumps(tokenizer))
  assert copy.encode('red square 12') == tokenizer.encode(
    'red square 12') and copy.special == tokenizer.special


def test_markup_asked_for_is_one_token_and_decodes_to_itself(tmp_path):
  path = tmp_path / 'tokenizer.json'
  train_tokenizer(TEXTS, 400, path, whole=('<points coords="', '</points>'))
  tokenizer = Tokenizer.from_file(path)
  text = 'see <points coords="1 1 500 250">cat</points>.'
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  assert {'<points coords="', '</points>'} <= {tokenizer.decode([i]) for i in ids}
