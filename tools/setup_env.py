# Copyright (c) mmdet_vanilla contributors. All rights reserved.
"""Makes the virtual environment behind ``make demo`` and ``make test``.

Every step leaves a stamp in the environment, so that a finished set-up costs nothing and an
interrupted one goes on where it stopped. Only the standard library is used, because this runs
before anything is installed. The syntax is that of Python 3.6: an old Python has to get as far as
the sentence that says it is too old.

Example:
    python3 tools/setup_env.py --venv .venv
"""

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MINIMUM_PYTHON = (3, 10)

BUILD_REQUIREMENTS = 'requirements/build.txt'
STACK = 'requirements/stack.txt'
EXTRA_REQUIREMENTS = (
    'requirements/runtime.txt',
    'requirements/demo.txt',
    'requirements/tests.txt',
    'requirements/peers.txt',
    'requirements/deploy.txt',
)
MMDEPLOY = 'requirements/mmdeploy.txt'

# Measured: 78 files take 11 minutes with two jobs on two idle cores, and a compiler needs up to
# 2 GB of memory.
MMCV_CORE_MINUTES = 22
GIGABYTES_PER_JOB = 2
GIGABYTE = 1024**3
TEMPORARY_GIGABYTES = 1

# What `python -m venv`, killed before it has written pyvenv.cfg, leaves, and what this script adds.
ENTRIES_OF_A_VENV = {'bin', 'include', 'lib', 'lib64', 'pyvenv.cfg', 'setup-logs', 'setup-stamps'}


class SetupError(Exception):
    """Something that only the user can mend; the message is one sentence that says how."""


# Checks before anything is downloaded


def check_python(version: tuple) -> None:
    if tuple(version[:2]) < MINIMUM_PYTHON:
        raise SetupError(
            'Python {}.{} is too old: install Python {}.{} or newer and name it, for example '
            'PYTHON=python3.11.'.format(*version[:2], *MINIMUM_PYTHON)
        )


def check_venv_module() -> None:
    """Debian's python3 comes without ensurepip until another package is installed."""
    if util.find_spec('ensurepip') is None:
        raise SetupError(
            f'{sys.executable} lacks ensurepip, which virtual environments need: install that part '
            'of it (on Debian and Ubuntu: apt-get install python3-venv) and run the same command '
            'again.'
        )


def find_compiler(environment: dict) -> str:
    """The command of a C++ compiler, or nothing."""
    chosen = environment.get('CXX', '').strip()
    for command in [chosen] if chosen else ['c++', 'g++', 'clang++']:
        if shutil.which(shlex.split(command)[0], path=environment.get('PATH')):
            return command
    return ''


def check_compiler(environment: dict) -> None:
    if not find_compiler(environment):
        raise SetupError(
            'There is no C++ compiler, which mmcv needs: install one (on Debian and Ubuntu: '
            'apt-get install g++) or name an installed one in CXX, and run the same command again.'
        )


def check_python_headers(include: str) -> None:
    if not os.path.exists(os.path.join(include, 'Python.h')):
        raise SetupError(
            f'Python.h, which compiling mmcv needs, is not in {include}: install the headers of '
            'this Python (on Debian and Ubuntu: apt-get install python3-dev) and run the same '
            'command again.'
        )


def existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def device_of(path: Path) -> int:
    return os.stat(str(path)).st_dev


def check_space(venv: Path, needed: float, temporary: Path) -> None:
    """Pip builds and unpacks in the temporary folder, often another, smaller file system."""
    place = existing_parent(venv)
    same = device_of(place) == device_of(temporary)
    wanted = [(place, needed + TEMPORARY_GIGABYTES if same else needed, 'choose another with VENV')]
    if not same:
        wanted.append((temporary, TEMPORARY_GIGABYTES, 'choose another with TMPDIR'))
    for folder, gigabytes, choose in wanted:
        free = shutil.disk_usage(str(folder)).free / GIGABYTE
        if free < gigabytes:
            raise SetupError(
                f'The set-up needs about {gigabytes:.1f} GB at {folder}, where {free:.1f} GB are '
                f'free: make room or {choose}=/another/folder, and run the same command again.'
            )


def check_is_venv(venv: Path) -> None:
    """A mistyped VENV must not cost somebody a folder."""
    if not venv.exists():
        return
    if not venv.is_dir():
        raise SetupError(f'{venv} is not a folder: choose another place with VENV=/another/folder.')
    entries = set(os.listdir(str(venv)))
    if 'pyvenv.cfg' not in entries and not entries <= ENTRIES_OF_A_VENV:
        raise SetupError(
            f'{venv} holds files that are not of a virtual environment: choose another place with '
            'VENV=/another/folder.'
        )


# How many compilers at once


def usable_cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_gigabytes(
    meminfo: str = '/proc/meminfo', limit: str = '/sys/fs/cgroup/memory.max'
) -> float:
    """Memory that is free now, within the limit of a container if there is one."""
    try:
        with open(meminfo) as lines:
            kilobytes = next(
                int(line.split()[1]) for line in lines if line.startswith('MemAvailable:')
            )
        available = kilobytes * 1024
    except (OSError, StopIteration):
        available = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    try:
        with open(limit) as file:
            available = min(available, int(file.read()))
    except (OSError, ValueError):
        pass  # no such limit: the file is absent or says "max"
    return available / GIGABYTE


def job_count(cores: int, gigabytes: float) -> int:
    return min(cores, max(1, int(gigabytes // GIGABYTES_PER_JOB)))


def compile_jobs() -> int:
    chosen = os.environ.get('MAX_JOBS', '')
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    return job_count(usable_cores(), available_gigabytes())


# What a command that failed says, and what the user can do about it

UNREACHABLE = (
    'Temporary failure in name resolution|Name or service not known|nodename nor servname|'
    'getaddrinfo failed|NewConnectionError|ConnectTimeout|Connection (refused|reset|aborted)|'
    'Network is unreachable|No route to host|Max retries exceeded|Read timed out|ProxyError|'
    'SSLError'
)

# The first that matches counts. A build that failed comes before the network: pip's warnings about
# a connection that it had to try twice may stand above it.
FAILURES = (
    (
        r'No space left on device|\[Errno 28\]|Disk quota exceeded',
        'The disk is full: make room (or choose another place with VENV=/another/folder, and for '
        'temporary files with TMPDIR) and run the same command again.',
    ),
    (
        r'Killed signal terminated program|virtual memory exhausted|Cannot allocate memory',
        'The C++ compiler ran out of memory: run the same command again with MAX_JOBS=1 in front.',
    ),
    (
        r'fatal error: Python\.h|Python\.h: No such file',
        'Python.h, which compiling mmcv needs, is missing: install the headers of this Python (on '
        'Debian and Ubuntu: apt-get install python3-dev) and run the same command again.',
    ),
    (r'Failed building wheel|metadata-generation-failed|subprocess-exited-with-error', ''),
    (
        r'^foreign distributions: (.+)$',
        'The environment also holds {0}, which overwrites files of the OneDL stack: remove the '
        "environment, run the same command again, and install whatever requires {0} with pip's "
        '--no-deps.',
    ),
    (
        UNREACHABLE,
        "Pip cannot reach its package index: check the network connection, a proxy and pip's own "
        'settings (pip config list), and run the same command again.',
    ),
    (
        r'Could not find a version that satisfies the requirement (\S+)',
        "Pip's index offers no {0} for this Python and this machine: choose another Python with "
        'PYTHON=python3.11, or another index with PIP_INDEX_URL or PIP_EXTRA_INDEX_URL.',
    ),
)


def explain(output: str) -> str:
    """The sentence for a known failure, or nothing."""
    for pattern, sentence in FAILURES:
        found = re.search(pattern, output, re.MULTILINE)
        if found:
            return sentence.format(*found.groups())
    return ''


def telling_lines(output: str, count: int = 8) -> list:
    """The lines of a failure's output that are about the failure, or its last ones."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r'(error|failed|killed)\b', line, re.IGNORECASE)]
    return [line[:300] for line in (telling or lines)[-count:]]


# Progress


def clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


class Reader:
    """Turns the growing output of pip into a few words on where it is."""

    def __init__(self) -> None:
        self.words = ''
        self.building_since = 0.0
        self.rest = ''

    def read(self, text: str, now: float) -> str:
        lines = (self.rest + text).split('\n')
        self.rest = lines.pop()
        for line in lines:
            compiled = re.match(r'\s*\[(\d+)/(\d+)\] ', line)
            if compiled:
                self.words = self._compiled(*map(int, compiled.groups()), now=now)
            elif re.match(
                r'\s*(Collecting|Downloading|Installing|Preparing|Building wheel) ', line
            ):
                self.words = line.strip()
                self.building_since = now
        return self.words

    def _compiled(self, done: int, total: int, now: float) -> str:
        left = (now - self.building_since) / done * (total - done)
        return f'{done} of {total} files compiled, about {max(1, round(left / 60))} min to go'


class Display:
    """One line that is rewritten on a terminal, and a plain line now and then elsewhere."""

    PLAIN_EVERY = 15.0

    def __init__(self, title: str, stream=sys.stdout) -> None:
        self.title = title
        self.stream = stream
        self.terminal = stream.isatty()
        self.started = self.printed = time.monotonic()

    def show(self, words: str) -> None:
        now = time.monotonic()
        line = f'{self.title}  {clock(now - self.started)}  {words}'
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            self._write('\r\033[K' + line[:width])
        elif now - self.printed >= self.PLAIN_EVERY:
            self.printed = now
            self._write(line[:100] + '\n')

    def close(self, outcome: str) -> None:
        line = f'{self.title}  {clock(time.monotonic() - self.started)}  {outcome}\n'
        self._write('\r\033[K' + line if self.terminal else line)

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


# Running commands


def stop(process: subprocess.Popen) -> None:
    """Ends pip with everything that it started; an interrupt lets it remove its temporary files."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


class Installer:
    """Runs the commands of one step in the environment, with their output in that step's log."""

    def __init__(self, venv: Path, log: Path, display: Display, lock) -> None:
        self.venv = venv
        self.python = str(venv / 'bin' / 'python')
        self.log = log
        self.display = display
        self.lock = lock
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b'')

    def run(self, command: list, **variables: str) -> None:
        """Runs a command; if it fails, the error says what to do."""
        if self.succeeds(command, **variables):
            return
        self.display.close('failed')
        output = self.log.read_text(errors='replace')
        sentence = explain(output)
        if not sentence:
            for line in telling_lines(output):
                print('    ' + line, file=sys.stderr)
            sentence = (
                f'The lines above say what failed: mend it (all output is in {self.log}) and run '
                'the same command again.'
            )
        raise SetupError(sentence)

    def succeeds(self, command: list, **variables: str) -> bool:
        environment = dict(os.environ, **variables)
        # torch looks for ninja there, and without it compiles one file after the other
        environment['PATH'] = os.pathsep.join([str(self.venv / 'bin'), environment.get('PATH', '')])
        # what compilers say is looked at here, in English
        environment['LC_ALL'] = 'C.UTF-8'
        environment['PIP_NO_INPUT'] = '1'
        environment['PIP_USER'] = '0'
        environment['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
        reader = Reader()
        with open(str(self.log), 'ab') as output, open(str(self.log), 'rb') as tail:
            output.write(('$ ' + ' '.join(command) + '\n').encode())
            output.flush()
            # The command inherits the lock: if only this script is killed, the next one waits for
            # what it left running.
            process = subprocess.Popen(
                command,
                cwd=str(ROOT),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self.lock.fileno(),),
            )
            try:
                while process.poll() is None:
                    text = tail.read().decode(errors='replace')
                    self.display.show(reader.read(text, time.monotonic()))
                    try:
                        process.wait(timeout=0.3)
                    except subprocess.TimeoutExpired:
                        continue
            except BaseException:
                stop(process)
                raise
        return process.returncode == 0

    def pip(self, *arguments: str, **variables: str) -> None:
        self.run([self.python, '-m', 'pip', 'install'] + list(arguments), **variables)


# The steps


def is_healthy(venv: Path) -> bool:
    """Whether there is an environment of this Python version with a pip that works."""
    question = 'import sys, pip; print(*sys.version_info[:2])'
    try:
        answer = subprocess.run(
            [str(venv / 'bin' / 'python'), '-c', question],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    return answer.stdout.decode().split() == [str(part) for part in sys.version_info[:2]]


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def make_venv(installer: Installer) -> None:
    if is_healthy(installer.venv):
        return
    check_is_venv(installer.venv)
    empty(installer.venv)
    installer.log.parent.mkdir()
    # Run from within a virtual environment, this is the Python that it was made from.
    installer.run([sys._base_executable, '-m', 'venv', str(installer.venv)])


def pins(*names: str) -> list:
    """The lines of these packages in the stack's requirements."""
    lines = (ROOT / STACK).read_text().splitlines()
    return [line for line in lines if re.split('[=<>]', line)[0] in names]


def pip_install(*arguments: str) -> Callable:
    def install(installer: Installer) -> None:
        installer.pip(*arguments)

    return install


def install_torch(installer: Installer) -> None:
    # With numpy, because torch warns at every import when it is missing.
    installer.pip(*pins('torch', 'numpy'))


# Loads mmcv's operators without the rest of mmcv, whose requirements are not there yet.
LOAD_OPERATORS = """
import glob, sysconfig, torch
from importlib import util
(file,) = glob.glob(sysconfig.get_path('platlib') + '/mmcv/_ext*.so')
util.module_from_spec(util.spec_from_file_location('mmcv._ext', file))
"""


def install_mmcv(installer: Installer) -> None:
    variables = {
        'MMCV_WITH_OPS': '1',
        'FORCE_CUDA': os.environ.get('FORCE_CUDA', '0'),
        'MAX_JOBS': str(compile_jobs()),
    }
    compiler = find_compiler(os.environ)
    if compiler and compiler != 'c++':
        variables['CXX'] = compiler  # torch takes c++ otherwise
    if variables['FORCE_CUDA'] == '0':
        # As soon as mmcv sees a GPU it compiles for CUDA, which takes the CUDA toolkit of torch's
        # version and far longer.
        variables['CUDA_VISIBLE_DEVICES'] = ''
    arguments = ['-v', '--no-deps', '--no-build-isolation', *pins('onedl-mmcv')]
    installer.pip(*arguments, **variables)
    # Pip keeps the wheels that it built, but not what they were built with: this one may be for
    # another torch, or without the operators.
    if not installer.succeeds([installer.python, '-c', LOAD_OPERATORS]):
        installer.pip('--no-cache-dir', '--force-reinstall', *arguments, **variables)
        installer.run([installer.python, '-c', LOAD_OPERATORS])


def install_stack(installer: Installer) -> None:
    installer.pip('--no-build-isolation', '-r', STACK)
    # Both OpenCV packages are required (requirements/stack.txt says by what) and both write the
    # folder cv2, so that the last one written is the one imported. It has to be the headless one:
    # the other needs libGL and X11's libraries, which a server or a container does not have.
    installer.pip('--no-deps', '--force-reinstall', *pins('opencv-python-headless'))


# A package that requires OpenMMLab's mmengine makes pip write it over the files of OneDL's.
CHECK = """
import sys
from importlib import metadata
names = {distribution.metadata['Name'] for distribution in metadata.distributions()}
foreign = names & {'mmengine', 'mmengine-lite', 'mmcv', 'mmcv-lite', 'mmdet'}
if foreign:
    sys.exit('foreign distributions: ' + ' '.join(sorted(foreign)))
import torch, mmcv.ops, mmdet.apis, mmdet_vanilla
"""


def check_imports(installer: Installer) -> None:
    installer.run([installer.python, '-c', CHECK])


class Step(NamedTuple):
    name: str  # of its stamp and its log
    what: str
    inputs: tuple  # the files that it depends on, besides those of the steps before it
    gigabytes: float
    run: Callable


STEPS = (
    Step('venv', 'a virtual environment', ('tools/setup_env.py',), 0.1, make_venv),
    Step(
        'build',
        'build tools: setuptools, wheel, ninja',
        (BUILD_REQUIREMENTS,),
        0.1,
        pip_install('-r', BUILD_REQUIREMENTS),
    ),
    Step(
        'torch',
        "torch: a download of 200 MB, or of several GB where pip's index has only the CUDA build",
        (STACK,),
        1.2,
        install_torch,
    ),
    Step('mmcv', 'mmcv: {compile}', (STACK,), 0.2, install_mmcv),
    Step('stack', 'mmengine, mmdetection and what they require', (STACK,), 1.0, install_stack),
    Step(
        'extras',
        'what the package, the demo and the tests require',
        EXTRA_REQUIREMENTS,
        0.7,
        pip_install('-c', STACK, *[part for path in EXTRA_REQUIREMENTS for part in ('-r', path)]),
    ),
    Step(
        'mmdeploy',
        'mmdeploy, without what it requires',
        (MMDEPLOY,),
        0.1,
        pip_install('--no-deps', '-r', MMDEPLOY),
    ),
    Step(
        'package',
        'mmdet_vanilla itself, in editable mode',
        ('setup.py', 'pyproject.toml', 'mmdet_vanilla/version.py'),
        0.0,
        pip_install('--no-deps', '--no-build-isolation', '-e', '.'),
    ),
    Step('check', 'a check that everything can be imported', (), 0.0, check_imports),
)


# Which steps are done


def identity() -> str:
    """What an environment is tied to: the Python it was made with and the clone's folder."""
    return '{} {}.{} {} {}'.format(
        platform.python_implementation(), *sys.version_info[:2], platform.machine(), ROOT
    )


def step_keys(steps: tuple, root: Path, made_for: str) -> dict:
    """One key per step, which also covers the steps before it: mmcv is compiled against torch."""
    digest = hashlib.sha256(made_for.encode())
    keys = {}
    for step in steps:
        digest.update(step.name.encode())
        for path in step.inputs:
            digest.update((root / path).read_bytes())
        keys[step.name] = digest.hexdigest()
    return keys


def stamp_of(venv: Path, step: Step) -> Path:
    return venv / 'setup-stamps' / step.name


def pending_steps(venv: Path, steps: tuple, keys: dict) -> list:
    if not (venv / 'bin' / 'python').exists():
        return list(steps)

    def is_done(step: Step) -> bool:
        stamp = stamp_of(venv, step)
        return stamp.exists() and stamp.read_text() == keys[step.name]

    return [step for step in steps if not is_done(step)]


def needed_gigabytes(venv: Path, steps: list) -> float:
    """A step that was done before, with other requirements, has its files there."""
    return sum(step.gigabytes for step in steps if not stamp_of(venv, step).exists())


# The whole set-up


def check_machine(venv: Path, steps: list) -> None:
    names = [step.name for step in steps]
    check_is_venv(venv)
    if 'venv' in names:
        check_venv_module()
    if 'mmcv' in names and not list(venv.glob('lib/python*/site-packages/onedl_mmcv-*')):
        check_compiler(os.environ)
        check_python_headers(sysconfig.get_paths()['include'])
    check_space(venv, needed_gigabytes(venv, steps), Path(tempfile.gettempdir()))


def announce(venv: Path, steps: list) -> None:
    jobs = compile_jobs()
    compiling = (
        f'compiles 78 C++ files, {jobs} at once (MAX_JOBS changes that), in about '
        f'{max(1, round(MMCV_CORE_MINUTES / jobs))} minutes, or seconds if pip kept an earlier '
        'result'
    )
    print('Setting up {} with Python {}.{}, once:'.format(venv, *sys.version_info[:2]))
    for step in steps:
        print('  - ' + step.what.format(compile=compiling))
    gigabytes = needed_gigabytes(venv, steps)
    if gigabytes >= 1:
        print(
            f'It takes {gigabytes:.0f} GB of disk, and several more with the CUDA build of torch.'
        )
    print(
        "Packages come from where pip's configuration says; PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and"
    )
    print('PIP_FIND_LINKS choose another place, for example one with the CPU build of torch.')
    print('After an interruption the same command goes on where it stopped.', flush=True)


def take_lock(venv: Path):
    """An open file, locked until it is closed here and in every command that inherits it."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    lock = open(f'{venv}.lock', 'w')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f'Another set-up of {venv} is running: waiting for it.', flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def set_up(venv: Path) -> None:
    keys = step_keys(STEPS, ROOT, identity())
    if not pending_steps(venv, STEPS, keys):
        return
    with take_lock(venv) as lock:
        # again, because another set-up may have done them meanwhile
        steps = pending_steps(venv, STEPS, keys)
        if steps and steps[0].name == 'venv' and not is_healthy(venv):
            steps = list(STEPS)
            if venv.exists():
                print(f'{venv} is incomplete or of another Python version: it is made anew.')
        if not steps:
            return
        check_machine(venv, steps)
        announce(venv, steps)
        for number, step in enumerate(steps, 1):
            display = Display(f'[{number}/{len(steps)}] {step.name}')
            step.run(Installer(venv, venv / 'setup-logs' / f'{step.name}.log', display, lock))
            stamp = stamp_of(venv, step)
            stamp.parent.mkdir(exist_ok=True)
            stamp.write_text(keys[step.name])
            display.close('done')


def interrupt(number: int, frame) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(
        description='Make the environment of `make demo` and `make test`.'
    )
    parser.add_argument('--venv', default='.venv', help='its folder, default: %(default)s')
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        check_python(sys.version_info)
        set_up(Path(os.path.abspath(arguments.venv)))
    except SetupError as error:
        print(f'setup: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        sentence = (
            explain(str(error))
            or f'{error}: mend that or choose another place with VENV=/another/folder.'
        )
        print(f'setup: {sentence}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            '\nsetup: interrupted, the same command goes on where this one stopped.',
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
