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
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


DELETE = ['delete', 'jobset', 'molmo', '--ignore-not-found', '--cascade=foreground']
APPLY = ['apply', '-f', '-']


def submit(folder, state, *arguments):
  """Exit status, output, and what kubectl was asked for after it had said `state` of the JobSet."""
  kubectl = f'[ "$1" != get ] || printf %s {shlex.quote(state)}'
  done = run(LAUNCH / 'gke/submit.sh', *arguments, **programs(folder, kubectl=kubectl))
  return done.returncode, done.stdout, [call for call in calls(folder, 'kubectl')
                                        if call[0] != 'get']


@pytest.mark.parametrize('state, asked', [
  ('', [APPLY]), ('molmo/Completed', [DELETE, APPLY]), ('molmo/Failed', [DELETE, APPLY])])
def test_a_new_run_is_applied_and_one_that_ended_makes_room(tmp_path, state, asked):
  status, printed, calls = submit(tmp_path, state, 'tpu')
  assert (status, calls) == (0, asked), printed


def test_a_run_that_goes_on_is_deleted_only_where_that_is_asked_for(tmp_path):
  status, printed, calls = submit(tmp_path, 'molmo/', 'tpu')
  assert (status, calls) == (2, []) and '--replace ends it after a checkpoint' in printed
  status, printed, calls = submit(tmp_path, 'molmo/', 'tpu', '--replace')
  assert (status, calls) == (0, [DELETE, APPLY]), printed


@pytest.mark.parametrize('arguments', [(), ('cpu',), ('tpu', '--prnt'), ('tpu', '--print', 'more')])
def test_submit_prints_its_usage_and_does_nothing(tmp_path, arguments):
  status, printed, calls = submit(tmp_path, 'molmo/', *arguments)
  assert (status, calls) == (2, [])
  assert 'launch/gke/submit.sh tpu --replace' in printed and 'set -e' not in printed


@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_pods_run_as_a_user_without_privileges_and_their_shared_memory_is_bounded(kind):
  _, _, pod = pods_of(jobset(kind, SHM='7Gi'))
  [container] = pod['containers']
  assert pod['securityContext']['runAsNonRoot']
  assert container['securityContext'] == {'allowPrivilegeEscalation': False,
                                          'capabilities': {'drop': ['ALL']}}
  [shm] = [v['emptyDir'] for v in pod['volumes'] if v['name'] == 'shm']
  assert shm == {'medium': 'Memory', 'sizeLimit': '7Gi'}
  user = re.search(r'^USER (\d+):(\d+)$', (LAUNCH / 'Dockerfile').read_text(), re.MULTILINE)
  assert list(map(int, user.groups())) == [pod['securityContext'][k]
                                           for k in ('runAsUser', 'runAsGroup')]


# ---- hostile values ------------------------------------------------------------------------------
HOSTILE = ["a b", "it's", 'say "hi"', '$(touch touched)', '`touch touched`', '$HOME',
           'a\nb: c\n- d', '# no comment', "'; touch touched; '", '*', '\\', '{a: 1}',
           '"$(touch touched)"', '&x !y']
MORE = '--a=* --b=$(touch${IFS}touched)'          # FLAGS: words


@pytest.fixture
def untouched(tmp_path, monkeypatch):
  """A folder to work in, which holds no file `touched` at the end."""
  monkeypatch.chdir(tmp_path)
  yield tmp_path
  assert not list(tmp_path.rglob('touched')) and not (ROOT / 'touched').exists()


def of_data(value):
  return [f'--config={value}', f'--workdir={value}', f'--config.data.train={value}/train.jsonl',
          f'--config.data.validation={value}/val.jsonl',
          f'--config.data.tokenizer={value}/tokenizer.json']


def settings(value):
  return dict.fromkeys(('CONFIG', 'WORKDIR', 'DATA'), value)


@pytest.mark.parametrize('value', HOSTILE)
@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_values_of_a_jobset_stay_text(untouched, kind, value):
  others = dict.fromkeys(('IMAGE', 'CLAIM', 'ACCELERATOR', 'SHM'), value)
  _, _, pod = pods_of(jobset(kind, **settings(value), **others))
  [container] = pod['containers']
  # Kubernetes reads '$$' in arguments as one dollar sign
  assert [a.replace('$$', '$') for a in container['args'][:5]] == of_data(value)
  assert not re.search(r'(?<!\$)(\$\$)*\$\((?!JOB_COMPLETION_INDEX)', ''.join(container['args']))
  assert container['image'] == pod['volumes'][0]['persistentVolumeClaim']['claimName'] == value
  assert pod['volumes'][1]['emptyDir']['sizeLimit'] == value
  assert value in pod['nodeSelector'].values()


@pytest.mark.parametrize('value', ['--all', 'a b', '$(touch touched)', 'A', 'a' * 41, 'a\nb'])
def test_a_name_that_kubectl_could_misread_is_refused(untouched, value):
  for script, arguments in (('gke/submit.sh', ['tpu', '--replace']), ('tpu_vm.sh', ['delete'])):
    done = run(LAUNCH / script, *arguments, NAME=value,
               **programs(untouched, kubectl='', gcloud=''))
    if len(value) < 41 or 'gke' in script:
      assert done.returncode == 2 and 'error: NAME=' in done.stdout
      assert not calls(untouched, 'kubectl') and not calls(untouched, 'gcloud')


@pytest.mark.parametrize('script, arguments, name', [
  ('gke/submit.sh', ['gpu', '--print'], 'NODES'), ('gke/submit.sh', ['tpu', '--print'], 'GRACE'),
  ('tpu_vm.sh', ['create'], 'SLICES'), ('cpu.sh', ['--workdir=x'], 'PROCESSES')])
@pytest.mark.parametrize('value', ['a[$(touch touched)]', '1 2', '-1', '1\n2'])
def test_a_number_is_a_number(untouched, script, arguments, name, value):
  done = run(LAUNCH / script, *arguments, **{name: value},
             **programs(untouched, gcloud='', python=''))
  assert done.returncode == 2 and f'error: {name}=' in done.stdout, done.stdout


@pytest.mark.parametrize('value', HOSTILE)
def test_values_for_the_hosts_of_a_tpu_vm_stay_text(untouched, value):
  start = tpu_vm(untouched, 'start', value, **settings(value), FLAGS=MORE)
  [remote] = [a.removeprefix('--command=') for a in start[0] if a.startswith('--command=')]
  (untouched / 'molmo').mkdir()
  fakes = programs(untouched, nohup='shift; printf "%s\\0" "$@" > ../given')
  assert run('bash', '-c', remote.replace(' & echo $!', '; echo 1'), cwd=untouched,
             **fakes).returncode == 0
  given = (untouched / 'given').read_text().split('\0')[:-1]
  assert given == [*of_data(value), *MORE.split(), value, '--distributed=auto']


@pytest.mark.parametrize('value', HOSTILE)
def test_the_shared_file_system_of_a_tpu_vm_is_mounted_as_named(untouched, value):
  call = tpu_vm(untouched, 'setup', NFS=value, SHARE=value)[-1]
  [remote] = [a.removeprefix('--command=') for a in call if a.startswith('--command=')]
  fakes = programs(untouched, sudo='', mountpoint='exit 1', tar='', pip='')
  (untouched / '.local/bin').mkdir(parents=True)
  (untouched / '.local/bin/uv').symlink_to(untouched / 'bin/pip')
  done = run('bash', '-c', remote, cwd=untouched, **fakes)
  assert done.returncode == 0, done.stdout
  assert calls(untouched, 'mountpoint') == [['-q', '--', value]]
  assert calls(untouched, 'sudo')[1:] == [['mkdir', '-p', '--', value],
                                          ['mount', '-t', 'nfs', '--', value, value]]


@pytest.mark.parametrize('value', HOSTILE)
def test_values_in_the_command_of_xpk_stay_text(untouched, value):
  done = run(LAUNCH / 'gke/xpk.sh', value, NAME=value, IMAGE=value, **settings(value),
             **programs(untouched, xpk=''))
  assert done.returncode == 0, done.stdout
  [call] = calls(untouched, 'xpk')
  flags = dict(a.removeprefix('--').split('=', 1) for a in call if a.startswith('--'))
  assert (flags['workload'], flags['docker-image'], call[-1]) == (value, value, value)
  assert '\n' not in flags['command']             # it becomes a line of a YAML file
  read = run('bash', '-c', 'exec() { printf "%s\\0" "$@"; }; ' + flags['command']).stdout
  assert read.split('\0')[1:6] == of_data(value)


@pytest.mark.parametrize('value', HOSTILE)
@pytest.mark.parametrize('name', ['tpu.yaml', 'gpu.yaml'])
def test_values_of_a_skypilot_task_stay_text(untouched, name, value):
  call = skypilot(untouched, name, **settings(value), FLAGS=MORE)
  assert call[:5] == of_data(value) and call[5:7] == MORE.split()


@pytest.mark.parametrize('value', HOSTILE)
@pytest.mark.parametrize('name', ['node.sbatch', 'gpu.sbatch'])
def test_values_of_a_slurm_job_stay_text(untouched, name, value):
  _, call = submitted(untouched, name, **settings(value))
  assert call[call.index('launch/run.sh') + 1:][:5] == of_data(value)


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


def test_the_image_is_made_of_pinned_packages_in_files_that_exist():
  text = (LAUNCH / 'Dockerfile').read_text()
  locks = set(re.findall(r'launch/requirements-\w+\.lock', text))
  assert '--require-hashes' in text and locks == {relative(p) for p in LAUNCH.glob('*.lock')}
  assert re.search(r'^ARG BASE=python:3\.12\.\d+-slim-\w+$', text, re.MULTILINE)
  for lock in locks:
    pinned = dict(re.findall(r'^([\w-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}', (
      ROOT / lock).read_text(), re.MULTILINE))
    assert len(pinned) == len(re.findall('==', (ROOT / lock).read_text()))
    for line in (ROOT / 'requirements.txt').read_text().splitlines():
      if not line.startswith('#'):
        wanted = Requirement(line)
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, f'{lock}: make it again'
  [entrypoint] = json.loads(re.search(r'^ENTRYPOINT (.*)$', text, re.MULTILINE)[1])
  assert (ROOT / entrypoint) == LAUNCH / 'run.sh'


# ---- SLURM ---------------------------------------------------------------------------------------
def submitted(folder, name, status=0, **environment):
  env = programs(folder, srun=f'echo "$JAX_LOCAL_DEVICE_IDS" > {folder}/devices; exit {status}',
                 scontrol='')
  env |= dict(SLURM_JOB_NAME='molmo', SLURM_JOB_ID='17', SLURM_GPUS_ON_NODE='8')
  done = run('bash', LAUNCH / 'slurm' / name, **env, **environment)
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
def tpu_vm(folder, *arguments, **environment):
  done = run(LAUNCH / 'tpu_vm.sh', *arguments, **programs(folder, gcloud=''), **environment)
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
def skypilot(folder, name, **environment):
  """The arguments that a task gives to launch/run.sh."""
  task = yaml.safe_load((LAUNCH / 'sky' / name).read_text())
  env = {key: str(value) for key, value in task['envs'].items()} | environment
  env |= dict(SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2', SKYPILOT_NODE_RANK='1',
              SKYPILOT_NUM_NODES='2')
  (folder / 'launch').mkdir()
  env |= programs(folder, **{'run.sh': ''})
  (folder / 'launch' / 'run.sh').symlink_to(folder / 'bin' / 'run.sh')
  done = run('bash', '-c', task['run'], cwd=folder, **env)
  assert done.returncode == 0, done.stdout
  [call] = calls(folder, 'run.sh')
  return call


@pytest.mark.parametrize('name, distributed',
                         [('tpu.yaml', 'auto'), ('gpu.yaml', '10.0.0.1:4321,1,2')])
def test_skypilot_tasks_run_train(tmp_path, name, distributed):
  task = yaml.safe_load((LAUNCH / 'sky' / name).read_text())
  call = skypilot(tmp_path, name)
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
