"""The files of launch/: they parse, the commands in them fit train.py, and interrupted runs are
started again.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys

import pytest
import yaml

from configs import scenes
from tests.launches import LAUNCH, STOPPED, calls, check_flags_of_train, programs, run
from tests.programs import ROOT

DOCS = ROOT / 'docs' / 'launch.md'
FILES = sorted(path for path in LAUNCH.rglob('*') if path.is_file())
SHELL = [path for path in FILES if path.suffix in ('.sh', '.sbatch')]
ENOUGH = 300                 # seconds for a step and a checkpoint
relative = lambda path: str(path.relative_to(ROOT))


def jobset(kind, **environment):
  printed = run(LAUNCH / 'gke/submit.sh', kind, '--print', **environment)
  assert printed.returncode == 0, printed.stdout
  return yaml.safe_load(printed.stdout)


def pods_of(manifest):
  [job] = manifest['spec']['replicatedJobs']
  return job, job['template']['spec'], job['template']['spec']['template']['spec']


@pytest.mark.parametrize('path', SHELL, ids=relative)
def test_shell_files_parse(path):
  checked = run('bash', '-n', path)
  assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize('path', [p for p in SHELL if p.suffix == '.sh'], ids=relative)
def test_scripts_can_be_executed(path):
  assert os.access(path, os.X_OK)


@pytest.mark.parametrize('path', FILES, ids=relative)
def test_the_documentation_names_every_file(path):
  assert relative(path).removesuffix('.dockerignore') in DOCS.read_text()


# ---- GKE -----------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_jobsets_run_train_on_all_nodes_and_give_it_time_to_stop(kind):
  job, spec, pod = pods_of(jobset(kind, NODES='16'))
  assert spec['parallelism'] == spec['completions'] == 16
  assert spec['completionMode'] == 'Indexed'
  assert pod['terminationGracePeriodSeconds'] >= ENOUGH
  [container] = pod['containers']
  check_flags_of_train([a.replace('$(JOB_COMPLETION_INDEX)', '3') for a in container['args']])
  assert {m['name'] for m in container['volumeMounts']} == {v['name'] for v in pod['volumes']}


@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_jobsets_start_again_after_interruptions_without_counting_them(kind):
  manifest = jobset(kind)
  job, spec, pod = pods_of(manifest)
  assert spec['backoffLimit'] == 0
  assert pod['restartPolicy'] == 'Never'                       # a podFailurePolicy asks for it
  rules = spec['podFailurePolicy']['rules']
  assert {'type': 'DisruptionTarget', 'status': 'True'} in rules[0]['onPodConditions']
  assert rules[1]['onExitCodes'] == {'operator': 'In', 'values': [STOPPED]}
  assert {rule['action'] for rule in rules} == {'FailJob'}
  assert manifest['spec']['failurePolicy']['maxRestarts'] > 0
  [rule] = manifest['spec']['failurePolicy']['rules']
  assert (rule['action'], rule['onJobFailureReasons']) == ('RestartJobSetAndIgnoreMaxRestarts',
                                                           ['PodFailurePolicy'])


def test_the_nodes_are_those_of_the_slice_and_rows_can_be_divided_among_its_chips():
  job, spec, pod = pods_of(jobset('tpu'))
  [container] = pod['containers']
  chips = spec['parallelism'] * container['resources']['limits']['google.com/tpu']
  topology = pod['nodeSelector']['cloud.google.com/gke-tpu-topology']
  assert math.prod(map(int, topology.split('x'))) == chips
  assert check_flags_of_train(container['args']).data.batch_size % (chips * job['replicas']) == 0


def test_gpu_pods_meet_at_the_first_pod_by_the_name_that_jobset_gives_it():
  manifest = jobset('gpu', NAME='mine', NODES='4')
  job, _, pod = pods_of(manifest)
  assert f'--distributed=mine-{job["name"]}-0-0.mine:4321,$(JOB_COMPLETION_INDEX),4' in pod[
    'containers'][0]['args']


def test_slices_become_jobs_and_parts_of_the_data_axis():
  job, _, pod = pods_of(jobset('tpu', SLICES='2'))
  assert job['replicas'] == 2
  assert '--config.mesh.data=2' in pod['containers'][0]['args']


def test_submitting_waits_for_the_end_of_an_older_run_of_that_name(tmp_path):
  done = run(LAUNCH / 'gke/submit.sh', 'tpu', **programs(tmp_path, kubectl='cat > /dev/null'))
  assert done.returncode == 0, done.stdout
  delete, apply = calls(tmp_path, 'kubectl')
  assert delete == ['delete', 'jobset', 'molmo', '--ignore-not-found', '--cascade=foreground']
  assert apply == ['apply', '-f', '-']


def test_xpk_runs_the_same_command(tmp_path):
  done = run(LAUNCH / 'gke/xpk.sh', '--dry-run', **programs(tmp_path, xpk=''))
  assert done.returncode == 0, done.stdout
  [call] = calls(tmp_path, 'xpk')
  flags = dict(a.removeprefix('--').split('=', 1) for a in call if a.startswith('--') and '=' in a)
  assert int(flags['termination-grace-period-seconds']) >= ENOUGH
  assert str(STOPPED) in flags['restart-on-exit-codes'].split(',')
  program, script, *rest = shlex.split(flags['command'])
  assert (program, script) == ('exec', 'launch/run.sh')
  check_flags_of_train(rest)
  assert call[-1] == '--dry-run'


def test_the_image_is_made_of_files_that_exist():
  text = (LAUNCH / 'Dockerfile').read_text()
  for name in re.findall(r'requirements-\w+\.txt', text):
    assert (ROOT / name).exists()
  [entrypoint] = json.loads(re.search(r'^ENTRYPOINT (.*)$', text, re.MULTILINE)[1])
  assert (ROOT / entrypoint) == LAUNCH / 'run.sh'


# ---- SLURM ---------------------------------------------------------------------------------------
def submitted(folder, name, status=0):
  env = programs(folder, srun=f'echo "$JAX_LOCAL_DEVICE_IDS" > {folder}/devices; exit {status}',
                 scontrol='')
  env |= dict(SLURM_JOB_NAME='molmo', SLURM_JOB_ID='17', SLURM_GPUS_ON_NODE='8')
  done = run('bash', LAUNCH / 'slurm' / name, **env)
  [call] = calls(folder, 'srun')
  return done.returncode, call


def directives(name):
  text = (LAUNCH / 'slurm' / name).read_text()
  return dict((line.split('=', 1) + [''])[:2]
              for line in re.findall(r'^#SBATCH --(.*)$', text, re.MULTILINE))


@pytest.mark.parametrize('name', ['node.sbatch', 'gpu.sbatch'])
def test_slurm_jobs_run_train_and_end_with_its_status(tmp_path, name):
  status, call = submitted(tmp_path, name, status=1)
  assert status == 1
  first = call.index('launch/run.sh')
  assert check_flags_of_train(call[first + 1:])
  assert all(a.startswith('--') for a in call[:first])
  assert not (tmp_path / 'scontrol.called').exists()


@pytest.mark.parametrize('name', ['node.sbatch', 'gpu.sbatch'])
def test_slurm_jobs_that_ran_out_of_time_are_queued_again(tmp_path, name):
  status, _ = submitted(tmp_path, name, status=STOPPED)
  assert status == STOPPED
  assert calls(tmp_path, 'scontrol') == [['requeue', '17']]
  found = directives(name)
  assert 'requeue' in found
  number, seconds = re.fullmatch(r'(\w+)@(\d+)', found['signal']).groups()
  assert number == 'TERM'
  assert int(seconds) >= ENOUGH


def test_one_process_a_node_takes_all_gpus(tmp_path):
  submitted(tmp_path, 'node.sbatch')
  assert (tmp_path / 'devices').read_text().strip() == '0,1,2,3,4,5,6,7'
  assert directives('node.sbatch')['ntasks-per-node'] == '1'


def test_one_process_a_gpu_leaves_the_choice_to_jax(tmp_path):
  submitted(tmp_path, 'gpu.sbatch')
  assert not (tmp_path / 'devices').read_text().strip()
  found = directives('gpu.sbatch')
  assert found['ntasks-per-node'] == found['gpus-per-node']
  # every process would see one GPU, number 0
  assert 'gpus-per-task' not in found


# ---- TPU VMs -------------------------------------------------------------------------------------
def tpu_vm(folder, command, **environment):
  done = run(LAUNCH / 'tpu_vm.sh', command, **programs(folder, gcloud=''), **environment)
  assert done.returncode == 0, done.stdout
  return calls(folder, 'gcloud')


def test_a_tpu_vm_run_starts_on_all_hosts_of_all_slices_at_once(tmp_path):
  [call] = tpu_vm(tmp_path, 'start', SLICES='2', FLAGS='--config.training.steps=7')
  assert call[:5] == ['compute', 'tpus', 'queued-resources', 'ssh', 'molmo']
  assert {'--node=all', '--worker=all'} <= set(call)
  [remote] = [a.removeprefix('--command=') for a in call if a.startswith('--command=')]
  assert run('bash', '-n', '-c', remote).returncode == 0
  words = shlex.split(remote)
  flags = words[words.index('launch/run.sh') + 1:words.index('>>')]
  made = check_flags_of_train(flags)
  assert (made.mesh.data, made.training.steps) == (2, 7)


def test_several_slices_are_one_request(tmp_path):
  [call] = tpu_vm(tmp_path, 'create', SLICES='2', SPOT='yes')
  assert {'--node-count=2', '--node-prefix=molmo', '--spot'} <= set(call)


def test_one_slice_is_one_node(tmp_path):
  [call] = tpu_vm(tmp_path, 'create')
  assert '--node-id=molmo' in call
  assert '--spot' not in call


def test_stopping_a_tpu_vm_run_signals_the_process_that_was_started(tmp_path):
  [call] = tpu_vm(tmp_path, 'stop')
  assert '--command=kill -TERM "$(cat molmo.pid)"' in call
  assert '~/molmo.pid' in (LAUNCH / 'tpu_vm.sh').read_text()


def test_without_a_command_the_usage_is_printed():
  printed = run(LAUNCH / 'tpu_vm.sh')
  assert printed.returncode == 2
  for name in re.findall(r'^(\w+)\)$', (LAUNCH / 'tpu_vm.sh').read_text(), re.MULTILINE):
    assert f'launch/tpu_vm.sh {name}' in printed.stdout


# ---- SkyPilot ------------------------------------------------------------------------------------
@pytest.mark.parametrize('name, distributed',
                         [('tpu.yaml', 'auto'), ('gpu.yaml', '10.0.0.1:4321,1,2')])
def test_skypilot_tasks_run_train(tmp_path, name, distributed):
  task = yaml.safe_load((LAUNCH / 'sky' / name).read_text())
  env = {key: str(value) for key, value in task['envs'].items()}
  env |= dict(SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2', SKYPILOT_NODE_RANK='1',
              SKYPILOT_NUM_NODES='2')
  (tmp_path / 'launch').mkdir()
  env |= programs(tmp_path, **{'run.sh': ''})
  (tmp_path / 'launch' / 'run.sh').symlink_to(tmp_path / 'bin' / 'run.sh')
  done = run('bash', '-c', task['run'], cwd=tmp_path, **env)
  assert done.returncode == 0, done.stdout
  [call] = calls(tmp_path, 'run.sh')
  check_flags_of_train(call)
  assert f'--distributed={distributed}' in call
  assert run('bash', '-n', '-c', task['setup']).returncode == 0
  assert (ROOT / re.search(r'requirements-\w+\.txt', task['setup'])[0]).exists()


@pytest.mark.parametrize('name', ['tpu.yaml', 'gpu.yaml'])
def test_skypilot_gets_lost_machines_and_stopped_runs_back(name):
  task = yaml.safe_load((LAUNCH / 'sky' / name).read_text())
  assert task['resources']['use_spot']
  assert task['resources']['job_recovery']['recover_on_exit_codes'] == [STOPPED]
  share, = task['file_mounts']
  assert task['envs']['WORKDIR'].startswith(share + '/')
  assert task['envs']['DATA'].startswith(share + '/')


# ---- docs/launch.md ------------------------------------------------------------------------------
def test_the_documentation_links_to_files_that_exist():
  for target in re.findall(r'\]\(([^)#]+)', DOCS.read_text()):
    assert target.startswith('http') or (DOCS.parent / target).exists(), target


def test_paths_and_configuration_flags_in_the_documentation_exist():
  text = DOCS.read_text()
  for path in set(re.findall(r'(?:launch|configs)/[\w/.]+\.(?:sh|py|sbatch|yaml)', text)):
    assert (ROOT / path).exists(), path
  for flag in set(re.findall(r'config\.([a-z_]+\.[a-z_.]+)', text)) - {'json'}:
    section = scenes.get_config()
    for part in flag.rstrip('.').split('.'):
      assert part in section, flag
      section = section[part]


def test_the_xla_flags_of_the_documentation_are_known_to_jaxlib():
  flags = sorted(set(re.findall(r'`(--xla_gpu_\w+(?:=\w*)?)`', DOCS.read_text())))
  assert len(flags) >= 4
  done = run(sys.executable, '-c', 'import jax; jax.devices()', JAX_PLATFORMS='cpu',
             XLA_FLAGS=' '.join(flags))
  assert done.returncode == 0, done.stdout[-500:]
