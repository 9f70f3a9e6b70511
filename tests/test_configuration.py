"""Mappings become typed dataclasses, and whatever does not fit is named."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal

import pytest
from ml_collections import ConfigDict

from molmo_jax.configuration import ConfigError, Range, build, convert, with_defaults
from molmo_jax.experiment import Experiment
from molmo_jax.tools.configuration import sections


@dataclasses.dataclass(frozen=True)
class Wheel:
  spokes: int = 32
  weight: float = 1.5


@dataclasses.dataclass(frozen=True)
class Bicycle:
  name: str
  front: Wheel = Wheel()
  gears: tuple[int, ...] = (1,)
  size: tuple[int, float] = (50, 1.0)
  brake: Literal['rim', 'disc'] = 'rim'
  light: bool = False
  lock: str | None = None
  bell: Wheel | None = None
  rings: tuple[str, ...] | int = 3
  bags: dict[str, Wheel] = dataclasses.field(default_factory=dict)


def test_defaults_stay_and_given_values_replace_them():
  made = build(Bicycle, {'name': 'a', 'front': {'spokes': 28}, 'brake': 'disc', 'light': True})
  assert made == Bicycle('a', Wheel(28, 1.5), brake='disc', light=True)


def test_config_dicts_become_dataclasses_at_every_depth():
  made = build(Bicycle, ConfigDict(
    {'name': 'a', 'front': {'weight': 2.0}, 'bags': {'left': {'spokes': 1}}}))
  assert made.front == Wheel(weight=2.0)
  assert made.bags == {'left': Wheel(1)}
  assert build(Bicycle, {'name': 'a', 'front': Wheel(9)}).front == Wheel(9)


def test_lists_become_tuples():
  made = build(Bicycle, {'name': 'a', 'gears': [1, 2, 3], 'size': [54, 2]})
  assert made.gears == (1, 2, 3)
  assert made.size == (54, 2.0)
  assert isinstance(made.size[1], float)


def test_an_integer_serves_as_a_float():
  weight = build(Wheel, {'weight': 2}).weight
  assert weight == 2.0
  assert isinstance(weight, float)


def test_optional_values_take_none_and_their_type():
  assert build(Bicycle, {'name': 'a', 'lock': None}).lock is None
  assert build(Bicycle, {'name': 'a', 'lock': 'u'}).lock == 'u'
  assert build(Bicycle, {'name': 'a', 'bell': {'spokes': 0}}).bell == Wheel(0)


@pytest.mark.parametrize('value, made', [(['x', 'y'], ('x', 'y')), (7, 7)])
def test_each_alternative_of_a_union_is_tried(value, made):
  assert build(Bicycle, {'name': 'a', 'rings': value}).rings == made


@pytest.mark.parametrize('mapping, message', [
  ({'name': 'a', 'gaers': (1,)}, "unknown configuration key 'bike.gaers'; did you mean 'gears'?"),
  ({'name': 'a', 'front': {'spoke': 3}},
   "unknown configuration key 'bike.front.spoke'; did you mean 'spokes'?"),
  ({'name': 'a', 'bags': {'left': {'wieght': 3.0}}},
   "'bike.bags.left.wieght'; did you mean 'weight'?"),
  ({}, "configuration 'bike' lacks: name"),
  ({'name': 3}, "bike.name is 3; it must be of type str"),
  ({'name': 'a', 'light': 1}, "bike.light is 1; it must be of type bool"),
  ({'name': 'a', 'front': {'spokes': 3.5}}, "bike.front.spokes is 3.5; it must be of type int"),
  ({'name': 'a', 'front': {'spokes': True}}, "bike.front.spokes is True; it must be of type int"),
  ({'name': 'a', 'front': {'weight': '2'}},
   "bike.front.weight is '2'; it must be of type finite float"),
  ({'name': 'a', 'front': {'weight': True}},
   "bike.front.weight is True; it must be of type finite float"),
  ({'name': 'a', 'front': 3}, "bike.front is 3; it must be of type section"),
  ({'name': 'a', 'front': None}, "bike.front is None; it must be of type section"),
  ({'name': 'a', 'gears': 3}, "bike.gears is 3; it must be of type several int"),
  ({'name': 'a', 'gears': '12'}, "bike.gears is '12'; it must be of type several int"),
  ({'name': 'a', 'gears': (1, 'b')}, r"bike.gears[1] is 'b'; it must be of type int"),
  ({'name': 'a', 'size': (1, 2, 3)}, "bike.size is (1, 2, 3); it must be of type 2 int"),
  ({'name': 'a', 'brake': 'drum'}, "bike.brake is 'drum'; it must be one of 'rim', 'disc'"),
  ({'name': 'a', 'lock': 4}, "bike.lock is 4; it must be of type str"),
  ({'name': 'a', 'bags': 4}, "bike.bags is 4; it must be of type section"),
  ({'name': 'a', 'rings': 2.5}, "bike.rings is 2.5; it must be of type several str or int"),
])
def test_what_does_not_fit_is_an_error_that_says_where(mapping, message):
  with pytest.raises(ConfigError) as error:
    build(Bicycle, mapping, 'bike')
  assert message in str(error.value)


def test_an_unknown_key_lists_the_known_ones():
  with pytest.raises(ConfigError, match='Wheel has: spokes, weight'):
    build(Wheel, {'tyre': 1})


def test_defaults_can_be_written_out_at_every_depth():
  given = {'name': 'a', 'front': {'spokes': 9}, 'bags': {'left': {'weight': 1.0}}}
  whole = with_defaults(Bicycle, ConfigDict(given))
  assert whole.front.to_dict() == {'spokes': 9, 'weight': 1.5}
  assert whole.bags.left.spokes == 32
  assert (whole.gears, whole.brake, whole['lock']) == ((1,), 'rim', None)
  assert 'bell' not in whole   # an optional section that nobody asked for
  assert build(Bicycle, whole) == build(Bicycle, given)


def test_unknown_keys_outlive_the_defaults():
  with pytest.raises(ConfigError, match="'front.spoke'; did you mean 'spokes'"):
    build(Bicycle, with_defaults(Bicycle, {'name': 'a', 'front': {'spoke': 1}}))


def test_a_check_of_a_section_says_where_the_section_is():
  @dataclasses.dataclass(frozen=True)
  class Tyre:
    bar: float = 3.0

    def __post_init__(self):
      if self.bar > 9:
        raise ValueError(f'bar={self.bar} is too much')

  with pytest.raises(ConfigError, match='^front.tyre: bar=10.0 is too much$'):
    build(Tyre, {'bar': 10}, 'front.tyre')


Age = Annotated[int, Range(0, 130)]
Part = Annotated[float, Range(0, 1, but=1)]


@pytest.mark.parametrize('kind, value', [
  (Age, 0), (Age, 130), (Part, 0.0), (Part, 0.999), (Age | None, None), (tuple[Age, ...], (1, 2))])
def test_the_ends_of_a_range_are_allowed(kind, value):
  assert convert(kind, value, 'a') == value


@pytest.mark.parametrize('kind, value, message', [
  (Age, -1, 'a is -1; it must be of type int from 0 to 130'), (Age, 131, 'a is 131'),
  (Part, 1, 'a is 1; it must be of type float from 0 to 1, not 1'),
  (Part, float('nan'), 'a is nan; it must be of type finite float'),
  (float, float('inf'), 'a is inf; it must be of type finite float'),
  (float, 10 ** 400, 'a is 1000'),
  (tuple[Age, ...], [3, 200], r'a\[1\] is 200'), (Age | None, 2 ** 63, 'from 0 to 130')])
def test_a_number_out_of_range_is_named_with_what_is_allowed(kind, value, message):
  with pytest.raises(ConfigError, match=message):
    convert(kind, value, 'a')


def test_a_long_value_is_not_printed_whole():
  with pytest.raises(ConfigError) as error:
    build(Wheel, {'spokes': 'x' * 10 ** 6})
  assert str(error.value).startswith("spokes is 'xxx")
  assert str(error.value).endswith('it must be of type int')
  assert len(str(error.value)) < 300


def numbers(hint: Any):
  """The number types in a type, with their ranges."""
  if hint in (int, float) or typing.get_origin(hint) is Annotated:
    yield hint
  elif typing.get_origin(hint) in (tuple, dict, typing.Union, types.UnionType):
    for part in typing.get_args(hint):
      yield from numbers(part)


def test_every_number_of_a_configuration_has_a_range():
  without = [f'{path}.{name}' for path, cls in sections(Experiment)
             for name, hint in typing.get_type_hints(cls, include_extras=True).items()
             if name in {f.name for f in dataclasses.fields(cls)}
             and any(typing.get_origin(n) is not Annotated for n in numbers(hint))]
  # counted from either end, and compared with the number of layers
  assert without == ['model.connector.vit_layers', 'model.llm.yarn.layers']
