"""README and docs: what they name exists, what they tell to type is understood."""

import itertools
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *ROOT.glob('docs/**/*.md')])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r'```(\w*)\n(.*?)```', re.DOTALL)
# A command in a sentence, also over the end of a line.
INLINE = re.compile(r'(?<!`)`((?:[A-Z_]+=\S+ )*(?:python |make )[^`]+)`(?!`)')
SHELLS = ('shell', 'bash', 'sh', 'console')


def text_of(page):
    return page.read_text()


def anchors(text):
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r'^#+ (.+)$', BLOCK.sub('', text), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = BLOCK.sub('', text_of(page))
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'\w+:', target):
            continue
        path, _, anchor = target.partition('#')
        found = (page.parent / path) if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(text_of(found)), target


def expand(pattern):
    """What a shell makes of braces: ``a{b,c}`` is ``ab`` and ``ac``."""
    found = re.search(r'\{([^{}]*,[^{}]*)\}', pattern)
    if not found:
        return [pattern]
    start, end = found.span()
    return list(
        itertools.chain.from_iterable(
            expand(pattern[:start] + part + pattern[end:]) for part in found[1].split(',')
        )
    )


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_files_that_a_page_names_exist(page):
    folders = 'configs|tools|tests|mmdet_vanilla|requirements|docs'
    for name in re.findall(rf'(?<![\w/:.])((?:{folders})/[\w./*{{}},-]+\w)', text_of(page)):
        for path in expand(name):
            assert list(ROOT.glob(path.rstrip('.'))), name


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_tests_that_a_page_names_exist(page):
    functions = {
        (path.name, name)
        for path in (ROOT / 'tests').glob('**/test_*.py')
        for name in re.findall(r'^    ?\s*def (test_\w+)|^def (test_\w+)', path.read_text(), re.M)
        for name in name
    }
    files = {name for name, _ in functions}
    for file, function in re.findall(r'(test_\w+\.py)(?:::(test_\w+))?', text_of(page)):
        assert file in files, file
        assert not function or (file, function) in functions, f'{file}::{function}'


def commands(page):
    """Every command line of a page, joined where it goes over several lines."""
    text = text_of(page)
    for language, block in BLOCK.findall(text):
        if language in SHELLS:
            yield from block.replace('\\\n', ' ').splitlines()
    for command in INLINE.findall(BLOCK.sub('', text)):
        yield ' '.join(command.split())


def words_of(line):
    """The words of a command without its comment, its environment and where it writes to."""
    words = shlex.split(line.split('  #')[0].split(' # ')[0], posix=True)
    words = list(itertools.chain.from_iterable(map(expand, words)))
    for stop in ('|', '>', '&&', ';'):
        words = words[: words.index(stop)] if stop in words else words
    while words and re.match(r'[A-Z_]+=', words[0]):
        words = words[1:]
    return [word for word in words if word not in ('...', '…', '[...]')]


TOOL = re.compile(r'(?:.*/)?tools/([\w/]+\.py)$')
LINES = sorted(
    {(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page)},
)
TOOL_LINES = [
    (page, line) for page, line in LINES if any(TOOL.match(word) for word in line.split())
]


@pytest.mark.parametrize('page, line', TOOL_LINES)
def test_a_tool_understands_its_documented_command_line(page, line, monkeypatch, capsys):
    words = words_of(line)
    place = next(number for number, word in enumerate(words) if TOOL.match(word))
    path = ROOT / 'tools' / TOOL.match(words[place])[1]
    assert path.is_file(), line
    monkeypatch.setattr(sys, 'path', [str(path.parent), *sys.path])
    parse = runpy.run_path(str(path), run_name='tool')['parse_args']
    monkeypatch.setattr(sys, 'argv', [str(path), *words[place + 1 :]])
    try:
        parse()
    except SystemExit as stop:
        pytest.fail(f'{line}\n{capsys.readouterr().err}' if stop.code else f'{line} stopped')


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    for page, line in LINES:
        words = words_of(line) if 'make ' in line else []
        if words and words[0] == 'make':
            named = [word for word in words[1:] if re.fullmatch(r'[a-z-]+', word)]
            assert set(named) <= targets, (page, line)


def figure_tables(page):
    """(line, table, section around it) of every table most of whose cells are figures."""
    section = []
    lines = text_of(page).splitlines()
    intro = list(itertools.takewhile(lambda line: not line.startswith('## '), lines))
    table = []
    for number, line in enumerate([*lines, '']):
        if line.startswith('## '):
            section = []
        if line.startswith('|'):
            table.append(line)
        elif table:
            cells = [cell.strip() for row in table[2:] for cell in row.strip('|').split('|')]
            figures = [cell for cell in cells if re.match(r'[\d.*~±−-]*\d', cell)]
            if len(figures) * 2 > len(cells):
                end = next(
                    (n for n in range(number, len(lines)) if lines[n].startswith('## ')), len(lines)
                )
                start = number - len(section)
                yield number, table, '\n'.join([*intro, *lines[start:end]])
            table = []
        section.append(line)


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_tables_of_figures_say_how_where_and_when(page):
    for number, table, around in figure_tables(page):
        if 'published' in around.lower() or 'counted by' in around.lower():
            continue  # the authors' own, or what a test counts
        place = f'{page.name}:{number}: {table[0]}'
        assert re.search(r'20\d\d-\d\d-\d\d', around), f'{place}: no date'
        assert re.search(r'\d cores|two cores|GPU', around, re.I), f'{place}: no hardware'
        assert re.search(r'`[^`]*(tools/|pytest|make )|```(shell|bash)', around), (
            f'{place}: no command'
        )
