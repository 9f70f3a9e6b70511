"""Molmo v1 checkpoints in the released layout, for the tests: golden models, and a tiny mixture of
experts.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tokenizers
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parents[1] / 'golden/molmo_v1_model'
CASES = ('qwen2_openai', 'olmo_openai', 'qwen2_siglip_pad')
EXTRA = ('<im_start>', '<im_end>', '<im_patch>', '<im_col>', '<|image|>')
VOCAB = 160
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
# the words of Molmo-7B-D, 7B-O and 72B for those of the training code
RELEASED = {'d_model': 'hidden_size', 'n_heads': 'num_attention_heads',
            'n_kv_heads': 'num_key_value_heads',
            'n_layers': 'num_hidden_layers', 'mlp_hidden_size': 'intermediate_size'}
KEPT = ('attention_layer_norm', 'embedding_size', 'layer_norm_eps', 'layer_norm_type', 'norm_after',
        'qkv_bias',
        'rope_theta', 'vocab_size', 'weight_tying', 'additional_vocab_size', 'vision_backbone',
        'vit_layers',
        'image_pooling_2d')
EXPERTS = dict(   # as config.json of MolmoE: what the training code means unasked is left out
  model_type='molmo', d_model=16, n_heads=2, n_kv_heads=2, n_layers=2, mlp_hidden_size=12,
               block_type='moe',
  moe_num_experts=3, moe_top_k=2, vocab_size=VOCAB, embedding_size=176, additional_vocab_size=8,
               rope=True,
  include_bias=False, weight_tying=False, layer_norm_type='rms', layer_norm_eps=1e-5,
               attention_layer_norm=True,
  image_pooling_2d='attention-meanq', image_padding_embed='pad_and_partial_pad',
               vit_layers=[-2, -3],
  torch_dtype='float32', vision_backbone=dict(
    image_model_type='openai', image_default_input_size=[56, 56], image_patch_size=14,
    image_pos_patch_size=14,
    image_emb_dim=8, image_num_heads=2, image_num_key_value_heads=2, image_num_layers=3,
    image_head_dim=4,
    image_mlp_dim=10, image_mlp_activations='quick_gelu', image_num_pos=17, image_norm_eps=1e-5))


def meta(case: str) -> dict:
  """What the golden data say about a case."""
  return json.loads((GOLDEN / f'{case}.config.json').read_text())


def arrays(case: str) -> dict[str, np.ndarray]:
  with np.load(GOLDEN / f'{case}.data.npz') as data:
    return dict(data)


def write_case(folder: Path, case: str, words: str = 'released') -> Path:
  """A golden model as a checkpoint; its config.json in the words of the releases or in those of the
  training code.
  """
  given = meta(case)['model_config']
  config = given
  if words == 'released':
    config = {RELEASED.get(k, k): v for k, v in given.items() if k in RELEASED or k in KEPT}
    config |= dict(clip_qkv=None, max_position_embeddings=4096, tie_word_embeddings=False,
                   use_position_ids=True)
  tensors = load_file(GOLDEN / f'{case}.weights.safetensors')
  vit = given['vision_backbone']
  statistics = CLIP if vit['image_model_type'] == 'openai' else ([0.5] * 3, [0.5] * 3)
  return write(folder, config | dict(model_type='molmo', torch_dtype='float32'),
               {f'model.{name}': x for name, x in tensors.items()}, statistics, vit,
               given['max_crops'],
               given['overlap_margins'])


def write_experts(folder: Path) -> Path:
  """A tiny model in the layout of MolmoE."""
  return write(folder, EXPERTS, expert_tensors(), CLIP, EXPERTS['vision_backbone'], 3, [0, 0])


def write(folder: Path, config: dict, tensors: dict[str, np.ndarray], statistics: tuple, vit: dict,
          max_crops: int,
          margins: list[int]) -> Path:
  folder.mkdir(parents=True)
  save_file(tensors, folder / 'model.safetensors')
  side, patch = vit['image_default_input_size'][0], vit['image_patch_size']
  tokens = -(-side // patch // 2)
  files = {
    'config.json': config,
    'preprocessor_config.json': {
      'auto_map': {'AutoProcessor': 'preprocessing_molmo.MolmoProcessor'},
      'base_image_input_size': [side, side],
      'do_normalize': True, 'image_mean': statistics[0], 'image_padding_mask': True,
      'image_patch_size': patch,
      'image_processor_type': 'MolmoImageProcessor', 'image_std': statistics[1],
      'image_token_length_h': tokens,
      'image_token_length_w': tokens, 'max_crops': max_crops, 'overlap_margins': margins,
      'processor_class': 'MolmoProcessor'},
    'processor_config.json': {'processor_class': 'MolmoProcessor'},
    'generation_config.json': {'_from_model_config': True},
    'tokenizer_config.json': {
      'bos_token': None, 'eos_token': '<eos>', 'pad_token': '<eos>',
      'additional_special_tokens': list(EXTRA),
      'chat_template': "{% for message in messages %}{{ '<|im_start|>' + message['content'] }}{% "
      "endfor %}"}}
  for name, content in files.items():
    (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + '\n')
  tokenizer().save(str(folder / 'tokenizer.json'))
  return folder


def tokenizer() -> tokenizers.Tokenizer:
  """Every character is a token, its number is its code; 2 ends a text; fillers; the extra tokens of
  v1.
  """
  vocab = {chr(i): i for i in range(128)} | {f'|<EXTRA_TOKENS_{i - 128}>|': i
                                             for i in range(128, VOCAB)}
  del vocab[chr(2)]
  inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab | {'<eos>': 2}, unk_token='<eos>'))
  inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r'[\s\S]'),
                                                        behavior='isolated')
  inner.decoder = tokenizers.decoders.Fuse()
  inner.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in EXTRA])
  return inner


def expert_tensors() -> dict[str, np.ndarray]:
  """Random tensors of `EXPERTS`, with the names and shapes that MolmoE has on the Hub."""
  c, v, rng = EXPERTS, EXPERTS['vision_backbone'], np.random.default_rng(0)
  d, e, half, f = c['d_model'], v['image_emb_dim'], c['mlp_hidden_size'] // 2, v['image_mlp_dim']
  shapes = {'model.transformer.wte.embedding': (c['embedding_size'], d),
            'lm_head.weight': (c['embedding_size'], d),
            'model.transformer.wte.new_embedding': (c['additional_vocab_size'], d),
            'model.transformer.ln_f.weight': (d,), 'model.vision_backbone.pad_embed': (2, 2 * e)}
  for i in range(c['n_layers']):
    block = f'model.transformer.blocks.{i}'
    shapes |= {f'{block}.attn.att_proj.weight': (3 * d, d), f'{block}.attn.attn_out.weight': (d, d),
               f'{block}.mlp.gate.weight': (c['moe_num_experts'], d)}
    shapes |= {f'{block}.{norm}.weight': (d,)
               for norm in ('attn.q_norm', 'attn.k_norm', 'attn.attn_norm',
                            'mlp.ff_norm')}
    for j in range(c['moe_num_experts']):
      shapes |= {f'{block}.mlp.experts.{j}.{w}_proj.weight': (half, d) for w in ('gate', 'up')}
      shapes[f'{block}.mlp.experts.{j}.down_proj.weight'] = (d, half)
  tower, pooling = 'model.vision_backbone.image_vit', 'model.vision_backbone.image_pooling_2d'
  linear = lambda name, rows, columns: {f'{name}.weight': (rows, columns), f'{name}.bias': (rows,)}
  shapes |= {f'{tower}.class_embedding': (e,),
             f'{tower}.positional_embedding': (v['image_num_pos'], e),
             f'{tower}.patch_embedding.weight': (e, v['image_patch_size'] ** 2 * 3),
             f'{tower}.pre_ln.weight': (e,),
             f'{tower}.pre_ln.bias': (e,)}
  for i in range(v['image_num_layers']):
    block = f'{tower}.transformer.resblocks.{i}'
    shapes |= linear(f'{block}.feed_forward.w1', f, e) | linear(f'{block}.feed_forward.w2', e, f)
    for w in 'qkvo':
      shapes |= linear(f'{block}.attention.w{w}', e, e)
    shapes |= {f'{block}.{norm}.{leaf}': (e,) for norm in ('attention_norm', 'ffn_norm')
               for leaf in ('weight', 'bias')}
  for w, columns in zip('qkvo', (2 * e, 2 * e, 2 * e, e)):
    shapes |= linear(f'{pooling}.w{w}', e, columns)
  projector = 'model.vision_backbone.image_projector'
  shapes |= {f'{projector}.w1.weight': (half, e), f'{projector}.w3.weight': (half, e),
             f'{projector}.w2.weight': (d, half)}
  return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
