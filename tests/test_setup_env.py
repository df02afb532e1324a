"""The pure parts of tools/setup_env.py: what it checks, decides and says."""

import ast
import importlib.util
import io
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools' / 'setup_env.py')
setup_env = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(setup_env)

Usage = namedtuple('Usage', 'total used free')


def sentence_of(check, *args):
    """The message of a failed check, which has to be one sentence that says what to do."""
    with pytest.raises(setup_env.SetupError) as error:
        check(*args)
    message = str(error.value)
    assert_one_sentence(message)
    return message


def assert_one_sentence(message):
    assert '\n' not in message
    assert message.endswith('.')
    assert '. ' not in message


class TestChecks:
    @pytest.mark.parametrize('version', [(2, 7, 18), (3, 6, 0), (3, 9, 25)])
    def test_old_python(self, version):
        message = sentence_of(setup_env.check_python, version)
        assert f'Python {version[0]}.{version[1]} is too old' in message
        assert 'PYTHON=' in message

    @pytest.mark.parametrize('version', [(3, 10, 0), (3, 13, 1), (4, 0, 0)])
    def test_new_enough_python(self, version):
        setup_env.check_python(version)

    def test_syntax_is_that_of_python_36(self):
        source = (ROOT / 'tools' / 'setup_env.py').read_text()
        ast.parse(source, feature_version=(3, 6))

    def test_no_ensurepip(self, monkeypatch):
        monkeypatch.setattr(setup_env.util, 'find_spec', lambda name: None)
        assert 'python3-venv' in sentence_of(setup_env.check_venv_module)

    def test_no_compiler(self, tmp_path):
        environment = {'PATH': str(tmp_path)}
        assert setup_env.find_compiler(environment) == ''
        assert 'g++' in sentence_of(setup_env.check_compiler, environment)

    @pytest.mark.parametrize(
        ('installed', 'chosen', 'found'),
        [
            (['g++', 'c++'], '', 'c++'),
            (['clang++', 'g++'], '', 'g++'),
            (['clang++'], '', 'clang++'),
            (['c++', 'mine'], 'mine -v', 'mine -v'),
            (['c++'], 'mine', ''),
        ],
    )
    def test_compiler(self, tmp_path, installed, chosen, found):
        for name in installed:
            (tmp_path / name).touch(mode=0o755)
        assert setup_env.find_compiler({'PATH': str(tmp_path), 'CXX': chosen}) == found

    def test_no_headers(self, tmp_path):
        assert 'python3-dev' in sentence_of(setup_env.check_python_headers, str(tmp_path))
        (tmp_path / 'Python.h').touch()
        setup_env.check_python_headers(str(tmp_path))

    def test_too_little_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(0, 0, 2.5 * 1024**3))
        venv = tmp_path / 'not' / 'yet' / 'there'
        # on one file system the temporary files come on top
        message = sentence_of(setup_env.check_space, venv, 2.0, tmp_path)
        assert '3.0 GB' in message and '2.5 GB' in message and 'VENV=' in message
        setup_env.check_space(venv, 1.4, tmp_path)

    def test_too_little_temporary_disk(self, tmp_path, monkeypatch):
        venv, temporary = tmp_path / 'venv', tmp_path / 'tmp'
        device = {str(tmp_path): 1, str(temporary): 2}
        free = {str(tmp_path): 9 * 1024**3, str(temporary): 1024**2}
        monkeypatch.setattr(setup_env, 'existing_parent', lambda path: tmp_path)
        monkeypatch.setattr(setup_env.shutil, 'disk_usage', lambda path: Usage(0, 0, free[path]))
        monkeypatch.setattr(setup_env, 'device_of', lambda path: device[str(path)])
        assert 'TMPDIR=' in sentence_of(setup_env.check_space, venv, 2.0, temporary)

    def test_folder_of_somebody_else(self, tmp_path):
        setup_env.check_is_venv(tmp_path / 'absent')
        setup_env.check_is_venv(tmp_path)
        (tmp_path / 'bin').mkdir()
        setup_env.check_is_venv(tmp_path)
        (tmp_path / 'thesis.tex').touch()
        assert 'VENV=' in sentence_of(setup_env.check_is_venv, tmp_path)
        assert 'VENV=' in sentence_of(setup_env.check_is_venv, tmp_path / 'thesis.tex')
        (tmp_path / 'pyvenv.cfg').touch()
        setup_env.check_is_venv(tmp_path)


class TestJobs:
    @pytest.mark.parametrize(
        ('cores', 'gigabytes', 'jobs'),
        [(2, 24, 2), (16, 8.5, 4), (4, 1.2, 1), (1, 64, 1), (8, 3.9, 1), (8, 4.0, 2)],
    )
    def test_count(self, cores, gigabytes, jobs):
        assert setup_env.job_count(cores, gigabytes) == jobs

    def test_memory(self, tmp_path):
        meminfo, limit = tmp_path / 'meminfo', tmp_path / 'memory.max'
        meminfo.write_text('MemTotal: 99 kB\nMemAvailable:   6291456 kB\nSwapFree: 1 kB\n')
        assert setup_env.available_gigabytes(str(meminfo), str(limit)) == 6
        limit.write_text('max\n')
        assert setup_env.available_gigabytes(str(meminfo), str(limit)) == 6
        limit.write_text(f'{4 * 1024**3}\n')
        assert setup_env.available_gigabytes(str(meminfo), str(limit)) == 4

    def test_memory_unknown(self, tmp_path):
        absent = str(tmp_path / 'absent')
        assert setup_env.available_gigabytes(absent, absent) > 0

    @pytest.mark.parametrize(('chosen', 'jobs'), [('3', 3), ('0', 2), ('', 2), ('many', 2)])
    def test_max_jobs(self, monkeypatch, chosen, jobs):
        monkeypatch.setenv('MAX_JOBS', chosen)
        monkeypatch.setattr(setup_env, 'usable_cores', lambda: 2)
        monkeypatch.setattr(setup_env, 'available_gigabytes', lambda: 24)
        assert setup_env.compile_jobs() == jobs


NO_VERSION = """\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)
ERROR: No matching distribution found for torch==2.13.0
"""
RETRIES = """\
WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by \
'NewConnectionError(': Failed to establish a new connection: [Errno 111] Connection refused')': /x/
"""


class TestExplain:
    @pytest.mark.parametrize(
        ('output', 'words'),
        [
            (RETRIES + NO_VERSION, 'network connection'),
            ('socket.gaierror: [Errno -3] Temporary failure in name resolution', 'network'),
            ('OSError: [Errno 101] Network is unreachable', 'network'),
            ("HTTPSConnectionPool(host='x'): Max retries exceeded with url: /y/", 'network'),
            (NO_VERSION, 'offers no torch==2.13.0'),
            ('ERROR: Could not install packages: [Errno 28] No space left on device', 'disk'),
            ('a.cpp:9: fatal error: error writing to x.s: No space left on device', 'disk'),
            ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
            ('a.cpp:1:10: fatal error: Python.h: No such file or directory', 'python3-dev'),
            ('foreign distributions: mmcv mmengine\n', '--no-deps'),
        ],
    )
    def test_known(self, output, words):
        sentence = setup_env.explain('Collecting torch\n' + output)
        assert_one_sentence(sentence)
        assert words in sentence

    def test_unknown(self):
        assert setup_env.explain('RuntimeError: something else') == ''

    def test_build_failure_after_a_retry_is_not_the_network(self):
        output = RETRIES + 'a.cpp:3: error: x\nERROR: Failed building wheel for onedl-mmcv\n'
        assert setup_env.explain(output) == ''
        assert setup_env.telling_lines(output)[-1].startswith('ERROR: Failed building')

    def test_telling_lines(self):
        output = 'one\n\nRuntimeError: two  \nthree\n'
        assert setup_env.telling_lines(output) == ['RuntimeError: two']
        assert setup_env.telling_lines('one\n\ntwo\nthree\n', count=2) == ['two', 'three']


class TestProgress:
    def test_compiling(self):
        reader = setup_env.Reader()
        assert 'Building wheel' in reader.read('  Building wheel for onedl-mmcv: started\n', 100)
        assert 'Building wheel' in reader.read('  [12/7', 280)
        words = reader.read('8] c++ -MMD -MF x.o.d\n  a.h:3: warning: y\n', 280)
        assert words == '12 of 78 files compiled, about 16 min to go'

    def test_downloading(self):
        reader = setup_env.Reader()
        assert reader.read('Looking in indexes: x\n', 0) == ''
        words = reader.read('Collecting torch\n  Downloading torch.whl (190 MB)\nWARNING: x\n', 0)
        assert words == 'Downloading torch.whl (190 MB)'

    def test_plain_lines_are_rare(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(setup_env.time, 'monotonic', lambda: now[0])
        stream = io.StringIO()
        display = setup_env.Display('[1/2] torch', stream)
        for second in range(61):
            now[0] = float(second)
            display.show('x')
        display.close('done')
        lines = stream.getvalue().splitlines()
        assert lines[0] == '[1/2] torch  0:15  x'
        assert lines[-1] == '[1/2] torch  1:00  done'
        assert len(lines) == 5


def make_step(name, *inputs):
    return setup_env.Step(name, name, inputs, 0.5, lambda installer: None)


@pytest.fixture
def steps(tmp_path):
    for name in ('a.txt', 'b.txt'):
        (tmp_path / name).write_text(name)
    return (make_step('first', 'a.txt'), make_step('second', 'b.txt'), make_step('third'))


@pytest.fixture
def venv(tmp_path):
    venv = tmp_path / 'venv'
    (venv / 'bin').mkdir(parents=True)
    (venv / 'bin' / 'python').touch()
    (venv / 'setup-stamps').mkdir()
    return venv


def stamp(venv, steps, keys):
    for step in steps:
        setup_env.stamp_of(venv, step).write_text(keys[step.name])


def names(steps):
    return [step.name for step in steps]


class TestStamps:
    def test_nothing_is_pending_when_all_is_done(self, tmp_path, steps, venv):
        keys = setup_env.step_keys(steps, tmp_path, 'CPython 3.11')
        assert names(setup_env.pending_steps(venv, steps, keys)) == ['first', 'second', 'third']
        stamp(venv, steps, keys)
        assert setup_env.pending_steps(venv, steps, keys) == []

    def test_goes_on_where_it_stopped(self, tmp_path, steps, venv):
        keys = setup_env.step_keys(steps, tmp_path, 'CPython 3.11')
        stamp(venv, steps[:1], keys)
        assert names(setup_env.pending_steps(venv, steps, keys)) == ['second', 'third']

    def test_changed_file_concerns_the_steps_from_there(self, tmp_path, steps, venv):
        stamp(venv, steps, setup_env.step_keys(steps, tmp_path, 'CPython 3.11'))
        (tmp_path / 'b.txt').write_text('changed')
        keys = setup_env.step_keys(steps, tmp_path, 'CPython 3.11')
        assert names(setup_env.pending_steps(venv, steps, keys)) == ['second', 'third']

    def test_other_python(self, tmp_path, steps, venv):
        stamp(venv, steps, setup_env.step_keys(steps, tmp_path, 'CPython 3.11'))
        keys = setup_env.step_keys(steps, tmp_path, 'CPython 3.12')
        assert names(setup_env.pending_steps(venv, steps, keys)) == names(steps)

    def test_python_is_gone(self, tmp_path, steps, venv):
        keys = setup_env.step_keys(steps, tmp_path, 'CPython 3.11')
        stamp(venv, steps, keys)
        (venv / 'bin' / 'python').unlink()
        assert names(setup_env.pending_steps(venv, steps, keys)) == names(steps)

    def test_disk_is_only_for_steps_that_were_never_done(self, tmp_path, steps, venv):
        keys = setup_env.step_keys(steps, tmp_path, 'CPython 3.11')
        stamp(venv, steps[:2], keys)
        assert setup_env.needed_gigabytes(venv, list(steps)) == 0.5

    def test_inputs_of_all_steps_exist(self):
        keys = setup_env.step_keys(setup_env.STEPS, ROOT, setup_env.identity())
        assert len(set(keys.values())) == len(setup_env.STEPS)


class TestEnvironment:
    def test_pins(self):
        assert setup_env.pins('torch') == ['torch==2.13.0']
        assert all(pin.startswith('opencv-python=') for pin in setup_env.pins('opencv-python'))

    def test_half_made_venv_is_not_healthy(self, tmp_path):
        assert not setup_env.is_healthy(tmp_path / 'absent')
        python = tmp_path / 'bin' / 'python'
        python.parent.mkdir()
        python.write_text('#!/bin/sh\nexit 1\n')
        python.chmod(0o755)
        assert not setup_env.is_healthy(tmp_path)

    def test_empty_keeps_what_a_link_points_to(self, tmp_path):
        (tmp_path / 'venv' / 'lib').mkdir(parents=True)
        (tmp_path / 'kept').mkdir()
        (tmp_path / 'kept' / 'file').touch()
        (tmp_path / 'venv' / 'lib64').symlink_to(tmp_path / 'kept')
        setup_env.empty(tmp_path / 'venv')
        assert os.listdir(tmp_path / 'venv') == []
        assert (tmp_path / 'kept' / 'file').exists()


def test_makefile_names_a_missing_python(tmp_path):
    make = shutil.which('make')
    if make is None:
        pytest.skip('make is not installed')
    result = subprocess.run(
        [make, '--no-print-directory', 'setup', 'PYTHON=no-such-python', f'VENV={tmp_path}/venv'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert_one_sentence(result.stderr.splitlines()[0])
    assert 'PYTHON=' in result.stderr
    assert not (tmp_path / 'venv').exists()
