"""Applies the wrong edits of table.py one at a time and runs the test that should notice.

What is edited is a copy of the tree in a temporary folder, never the tree itself. Every test runs
in a process forked from one that has imported the libraries, and has to pass on the copy as it is
first.

Example:
    python tests/mutation/run.py --only losses --out docs/mutations.md
"""

import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ('mmdet_vanilla', 'tools', 'tests', 'configs', 'pyproject.toml', 'setup.py', 'README.md')
SECONDS = 300
HEADER = """# Deliberate faults, and what notices them

Written by `make mutate` (`tests/mutation/run.py`): each small wrong edit of
`tests/mutation/table.py` is made in a copy of the tree, and the test beside it is run there. None
of the tests is slow.

"""


def apply(folder: Path, mutation) -> Callable[[], None]:
    """Makes an edit below a folder.

    Returns:
        The function that undoes it.

    Raises:
        SystemExit: If the text to replace is not there exactly once.
    """
    path = folder / mutation.file
    text = path.read_text(encoding='utf-8')
    count = text.count(mutation.old)
    if count != 1:
        sys.exit(
            f'error: stale: {mutation.file} holds {mutation.old!r} {count} times, expected once: '
            'correct tests/mutation/table.py.'
        )
    path.write_text(text.replace(mutation.old, mutation.new), encoding='utf-8')
    return lambda: path.write_text(text, encoding='utf-8')


def run_test(folder: Path, node: str, log: Path) -> int:
    """Runs one test in a forked process.

    Returns:
        pytest's exit status: 0 passed, 1 failed, others: it could not be run. 1 also if it did not
        end in time.
    """
    child = os.fork()
    if child == 0:
        with open(log, 'w') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        os.environ['PYTHONPATH'] = str(folder)
        sys.path.insert(0, str(folder))
        status = 70
        try:
            import pytest

            import mmdet_vanilla

            assert Path(mmdet_vanilla.__file__).is_relative_to(folder), mmdet_vanilla.__file__
            options = ['-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist']
            status = int(pytest.main([*options, f'--timeout={SECONDS}', node]))
        except BaseException as error:  # the process has nowhere else to go
            print(f'{type(error).__name__}: {error}', flush=True)
        finally:
            sys.stdout.flush()
            os._exit(status)
    deadline = time.monotonic() + 2 * SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return 1
        time.sleep(0.02)


@contextlib.contextmanager
def copied_tree():
    """The tree in a temporary folder, without what was compiled of it."""
    with tempfile.TemporaryDirectory(prefix='mutation-') as name:
        folder = Path(name).resolve()
        for part in COPIED:
            source = ROOT / part
            if source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__', '.mim')
                shutil.copytree(source, folder / part, ignore=ignore)
            else:
                shutil.copy2(source, folder / part)
        yield folder


def check(mutations) -> list[tuple]:
    """Pairs of a mutation and its result: ``caught``, ``survived`` or ``not run``."""
    results = []
    with copied_tree() as folder:
        log = folder / 'log.txt'
        nodes = dict.fromkeys(m.node for m in mutations)
        print(f'{len(mutations)} edits; first their {len(nodes)} tests without any', flush=True)
        for node in nodes:
            print(node, flush=True)
            if run_test(folder, node, log):
                sys.exit(f'error: {node} fails without any edit:\n{log.read_text()[-3000:]}')
        for i, mutation in enumerate(mutations, 1):
            undo = apply(folder, mutation)
            start = time.perf_counter()
            try:
                status = run_test(folder, mutation.node, log)
            finally:
                undo()
            result = {0: 'survived', 1: 'caught'}.get(status, 'not run')
            results.append((mutation, result))
            seconds = time.perf_counter() - start
            print(f'[{i}/{len(mutations)}] {result} ({seconds:.0f} s): {mutation.what}', flush=True)
            if result == 'not run':
                print(log.read_text()[-2000:], flush=True)
    return results


def page(results) -> str:
    """The results as Markdown."""
    counts = Counter(result for _, result in results)
    lines = [f'{len(results)} edits: {", ".join(f"{n} {what}" for what, n in counts.items())}.', '']
    area = None
    for mutation, result in results:
        if mutation.area != area:
            area = mutation.area
            lines += ['', f'## {area}', '', '| fault | in | test | result |', '|---|---|---|---|']
        why = f' ({mutation.accepted})' if mutation.accepted and result != 'caught' else ''
        test = mutation.node.split('/')[-1].replace('|', r'\|')
        file = mutation.file.removeprefix('mmdet_vanilla/')
        lines.append(f'| {mutation.what} | `{file}` | `{test}` | {result}{why} |')
    return HEADER + '\n'.join(lines) + '\n'


def import_libraries() -> None:
    """Imports what the forked processes then need not: all but the package and its tests."""
    spec = importlib.util.spec_from_file_location(
        'operators',
        ROOT / 'mmdet_vanilla' / 'ops' / '__init__.py',
        submodule_search_locations=[str(ROOT / 'mmdet_vanilla' / 'ops')],
    )
    operators = sys.modules['operators'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(operators)
    operators.install()  # mmdet imports mmcv's operators, which need not be compiled
    for name in ('torch', 'mmengine.runner', 'mmdet.models', 'mmdet.datasets', 'hypothesis'):
        importlib.import_module(name)
    importlib.import_module('torch').set_num_threads(1)
    assert 'mmdet_vanilla' not in sys.modules


def main() -> None:
    # Compiled files go by a second's resolution, and two edits may have the same size.
    sys.dont_write_bytecode = True
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', help='part of an area, file, fault or test')
    parser.add_argument('--out', type=Path, help='Markdown file to write')
    args = parser.parse_args()
    from table import MUTATIONS

    import_libraries()
    chosen = [m for m in MUTATIONS if args.only in '\n'.join(map(str, m))]
    results = check(chosen)
    if args.out:
        args.out.write_text(page(results), encoding='utf-8')
    bad = [m.what for m, result in results if result != 'caught' and not m.accepted]
    if bad:
        sys.exit('error: not caught:\n' + '\n'.join(bad))


if __name__ == '__main__':
    main()
