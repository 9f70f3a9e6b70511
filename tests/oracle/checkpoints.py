"""Random checkpoints of Molmo2, written by transformers itself: every seed another architecture,
all numbers odd.

Weights, tokenizer and processor are files as a release has them. No parameter has a default value,
norms and biases included, so that one that is forgotten shows.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.torch import load_file, save_file

from molmo_jax.processor.chat_template import TEMPLATES
from tests.oracle.reference import torch, transformers

EXTRA = ('<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<low_res_im_start>', '<|image|>',
         '<im_low>',
         '<frame_start>', '<frame_end>', '<|video|>', '<|points|>', '<|token_index|>',
         '<|vit_index|>', '<|vit_loc|>')
TEXT = ('An orange kite hangs in the birch above the river. How many boats are there, and which '
        'one is the fastest?\n'
        'Describe the picture in 12 words. Compare image 1 with image 2. What happens after 3.5 '
        'seconds? The user asks, the\n'
        'assistant answers: it was 1984, it rained for 40 days, and nobody had brought an '
        'umbrella. Point to every lantern.')
GOLDEN_TEMPLATE = Path(__file__).parents[1] / 'golden/molmo2_qwen_hub/chat_template.jinja'


@dataclasses.dataclass(frozen=True)
class Design:
  """What a checkpoint is like. `vit`, `adapter` and `text` are keyword arguments of transformers'
  configurations.
  """
  seed: int
  family: Literal['qwen', 'olmo']
  layout: Literal['hub', 'native']
  dtype: Literal['float32', 'bfloat16']
  side: int                       # of a crop, pixels
  margins: tuple[int, int]
  declared: int                   # blocks of the tower in the configuration
  read: tuple[int, ...]           # those that are read, negative: from the end of the declared ones
  vit: dict[str, Any]
  adapter: dict[str, Any]
  text: dict[str, Any]
  theta: float
  yarn: dict[str, Any] | None     # None: plain rotary

  @property
  def resolved(self) -> list[int]:
    return [i % self.declared for i in self.read]


def design(seed: int) -> Design:
  """The architecture of a seed: families alternate, layouts every two seeds, sizes are drawn."""
  rng = np.random.default_rng([seed, 41])
  pick = lambda *choices: choices[rng.integers(len(choices))]
  family = ('qwen', 'olmo')[seed % 2]
  vit_heads, vit_dim = pick(2, 3, 4), pick(8, 12, 16)
  pool_heads, width, layers = pick(2, 4), pick(48, 64, 80), pick(2, 3, 4)
  heads, kv_heads = pick((4, 2), (6, 2), (4, 1)) if family == 'qwen' else pick((4, 4), (4, 2),
                                                                               (3, 3))
  vit = dict(hidden_size=vit_heads * vit_dim, intermediate_size=pick(72, 88),
             num_attention_heads=vit_heads,
             num_key_value_heads=vit_heads, head_dim=vit_dim, hidden_act='gelu_pytorch_tanh',
             layer_norm_eps=1e-6)
  adapter = dict(hidden_size=vit_heads * vit_dim, num_attention_heads=pool_heads,
                 num_key_value_heads=pool_heads,
                 head_dim=pick(8, 12), hidden_act='silu', intermediate_size=pick(72, 100),
                 text_hidden_size=width)
  text = dict(hidden_size=width, intermediate_size=pick(80, 112), hidden_act='silu',
              vocab_size=pick(512, 576),
              additional_vocab_size=pick(64, 128), num_hidden_layers=layers,
              num_attention_heads=heads,
              num_key_value_heads=kv_heads, head_dim=pick(16, 24, 32), norm_after=family == 'olmo',
              qk_norm_type='qwen3' if family == 'qwen' else 'olmo', max_position_embeddings=4096)
  yarn = None
  if family == 'olmo':
    scaled = sorted(rng.choice(layers, pick(1, layers - 1), replace=False).tolist())
    text['rope_scaling_layers'] = scaled
    yarn = dict(rope_type='yarn', factor=pick(4.0, 8.0), attention_factor=pick(1.2, 1.1),
                beta_fast=pick(32.0, 16.0), beta_slow=1.0,
                original_max_position_embeddings=pick(64, 256, 8192))
  side, margins = (378, (4, 4)) if seed % 4 == 2 else (126, pick((2, 2), (1, 2), (2, 1)))
  return Design(
    seed, family, layout=('hub', 'native')[seed // 2 % 2 ^ seed % 2],
    dtype='bfloat16' if seed % 4 == 3 else 'float32',
    side=side, margins=margins, declared=pick(6, 7), read=pick((-3, -5), (-2, -4), (-3, -6, -4)),
    vit=vit,
    adapter=adapter, text=text, theta=pick(1e4, 5e5, 5e6), yarn=yarn)


def native_config(d: Design) -> Any:
  """transformers' configuration."""
  first = d.text['vocab_size']
  ids = {key: first + EXTRA.index(token) for key, token in (
    ('image_start_token_id', '<im_start>'), ('image_end_token_id', '<im_end>'),
    ('image_patch_id', '<im_patch>'),
    ('low_res_image_start_token_id', '<low_res_im_start>'),
    ('frame_start_token_id', '<frame_start>'),
    ('frame_end_token_id', '<frame_end>'))}
  rope = dict(d.yarn or dict(rope_type='default'), rope_theta=d.theta)
  return transformers.Molmo2Config(
    vision_config=dict(d.vit, num_hidden_layers=max(d.resolved) + 1, image_size=[d.side, d.side],
                       patch_size=14),
    adapter_config=dict(d.adapter, vision_feature_layer=d.resolved),
    text_config=dict(d.text, rms_norm_eps=1e-6, rope_parameters=rope), **ids)


def hub_config(d: Design) -> dict[str, Any]:
  """config.json in the words of the released repositories (docs/model.md §9.2): all blocks of the
  tower are declared.
  """
  first, off = d.text['vocab_size'], dict(attention_dropout=0.0, residual_dropout=0.0,
                                          initializer_range=0.02)
  tokens = dict(image_start_token_id=0, image_end_token_id=1, image_patch_id=2, image_high_res_id=2,
                image_col_id=3,
                low_res_image_start_token_id=4, image_low_res_id=6, frame_start_token_id=7,
                frame_end_token_id=8)
  scaled = d.text.get('rope_scaling_layers')
  return dict(
    architectures=['Molmo2ForConditionalGeneration'], model_type='molmo2', dtype=d.dtype,
    use_cache=True,
    vit_config=dict(d.vit, **off, model_type='molmo2', num_hidden_layers=d.declared,
                    float32_attention=True,
                    image_default_input_size=[d.side, d.side], image_patch_size=14,
                    image_num_pos=(d.side // 14) ** 2),
    adapter_config=dict(d.adapter, **off, model_type='molmo2', vit_layers=list(d.read),
                        pooling_attention_mask=True,
                        float32_attention=True, image_feature_dropout=0.0),
    text_config=dict(d.text, **off, model_type='molmo2_text', embedding_dropout=0.0, qkv_bias=False,
                     use_qk_norm=True,
                     layer_norm_eps=1e-6, rope_theta=d.theta, rope_scaling=d.yarn,
                     rope_scaling_layers=scaled,
                     use_cache=True, tie_word_embeddings=False),
    use_frame_special_tokens=True, tie_word_embeddings=False,
    **{key: first + n for key, n in tokens.items()})


def random_weights(model: Any, d: Design) -> dict[str, Any]:
  """Every parameter drawn at a scale that keeps activations near one."""
  rng, weights = np.random.default_rng([d.seed, 43]), {}
  for name, parameter in sorted(model.state_dict().items()):
    x = rng.standard_normal(tuple(parameter.shape)).astype(np.float32)
    if name.endswith('bias'):
      x = 0.15 * x
    elif 'norm' in name:
      # after a post-norm a sub-layer should not drown the token itself
      x = (1 + 0.25 * x) * (0.4 if d.text['norm_after'] and 'layernorm' in name else 1.0)
    elif 'embed' in name and 'patch' not in name:
      x = 0.6 * x
    else:
      x = x / np.sqrt(x.shape[-1])
    weights[name] = torch.from_numpy(x)
  return weights


def train_tokenizer(d: Design) -> Any:
  """Byte-level BPE with the family's rules for digits; fillers up to the base vocabulary, then the
  extra tokens.
  """
  from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
  control = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'] + ['<|pad|>'] * (d.family == 'olmo')
  digits, base = (r'\p{N}' if d.family == 'qwen' else r'\p{N}{1,3}'), d.text['vocab_size']
  words = (
    r"'(?:s|t|re|ve|m|ll|d)|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
  inner = Tokenizer(models.BPE())
  inner.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(f'{digits}|{words}'), 'isolated'),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
  inner.decoder = decoders.ByteLevel()
  inner.train_from_iterator(TEXT.splitlines(), trainers.BpeTrainer(
    vocab_size=base - len(control) - 24 * (d.family == 'qwen'), show_progress=False,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
  inner.add_special_tokens(control)
  extra = [f'|<EXTRA_TOKENS_{i}>|' for i in range(base - inner.get_vocab_size())] + list(EXTRA)
  inner.add_special_tokens(extra)
  assert [inner.token_to_id(token) for token in EXTRA] == list(range(base, base + len(EXTRA)))
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=inner, eos_token='<|im_end|>',
    bos_token='<|im_end|>' if d.family == 'qwen' else '<|endoftext|>',
    pad_token='<|endoftext|>' if d.family == 'qwen' else '<|pad|>', additional_special_tokens=extra,
    padding_side='left', clean_up_tokenization_spaces=False)


def write(folder: Path, d: Design) -> None:
  """Writes config.json, weights, tokenizer, processor and generation_config.json."""
  model = transformers.Molmo2ForConditionalGeneration(native_config(d))
  model.load_state_dict(random_weights(model, d))
  model.to(getattr(torch, d.dtype))
  if d.layout == 'native':
    model.save_pretrained(folder, save_original_format=False, max_shard_size='200KB')
  else:
    model.save_pretrained(folder)
    _restore_release(folder, d)
  tokenizer = train_tokenizer(d)
  write_processor(folder, d, tokenizer)
  transformers.GenerationConfig(bos_token_id=tokenizer.bos_token_id,
                                eos_token_id=tokenizer.eos_token_id,
                                pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)


def _restore_release(folder: Path, d: Design) -> None:
  """Tables as released: transformers cuts the joint embedding in halves, a release after the base
  vocabulary.
  """
  file, names = folder / 'model.safetensors', [f'model.transformer.wte.{n}embedding'
                                               for n in ('', 'new_')]
  tensors = load_file(file)
  table = torch.cat([tensors[name] for name in names])
  cut = d.text['vocab_size']
  assert len(table) == cut + d.text['additional_vocab_size']
  tensors |= {names[0]: table[:cut].clone(), names[1]: table[cut:].clone()}
  save_file(tensors, file, metadata={'format': 'pt'})
  (folder / 'config.json').write_text(json.dumps(hub_config(d)))


def write_processor(folder: Path, d: Design, tokenizer: Any) -> None:
  """processor_config.json, tokenizer and template; even seeds have the template of the golden
  checkpoints.
  """
  size = dict(height=d.side, width=d.side)
  # transformers leaves rescaling and normalisation of videos unset in its class; releases have them
  # in the file
  pixels = dict(do_resize=True, do_rescale=True, do_normalize=True, do_convert_rgb=True)
  template = TEMPLATES['qwen3'] if d.seed % 2 else GOLDEN_TEMPLATE.read_text()
  transformers.Molmo2Processor(
    transformers.Molmo2ImageProcessor(size=size, max_crops=(8, 6)[d.seed % 3 == 1],
                                      overlap_margins=list(d.margins),
                                      patch_size=14, pooling_size=[2, 2]),
    transformers.Molmo2VideoProcessor(size=size, patch_size=14, pooling_size=[3, 3], num_frames=16,
                                      max_fps=2,
                                      sampling_fps=2, frame_sample_mode='uniform_last_frame',
                                      **pixels),
    tokenizer, chat_template=template, image_use_col_tokens=True, use_single_crop_col_tokens=False,
    use_single_crop_start_token=True, video_use_col_tokens=False,
    use_frame_special_tokens=True).save_pretrained(folder)
