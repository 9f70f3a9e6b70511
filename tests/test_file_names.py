"""Names of files that come from data: one file in a folder, or an error that says where."""

import pytest

from molmo_jax.errors import MolmoError
from molmo_jax.files import file_name


@pytest.mark.parametrize('name', ['dog', 'bmx-trees', '..hidden', 'a b', 'Straße', '犬', 'x' * 200])
def test_a_plain_name_stays(name):
  assert file_name(name, 'here') == name


@pytest.mark.parametrize('name', ['', '.', '..', '/', 'a/b', '/etc/passwd', '../a', 'a\\b', 'a\0',
                                  'a\n', '\x1b[2J', '\ud800', 'x' * 201, 'ä' * 101, None, 3, b'a'])
def test_anything_else_is_refused_and_its_place_named(name):
  with pytest.raises(MolmoError, match='file.pkl: .* cannot be the name of a file'):
    file_name(name, 'file.pkl')
