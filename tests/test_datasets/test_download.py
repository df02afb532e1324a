"""Downloads against a server on this machine that breaks off, knows ranges or not, or is gone."""

import http.server
import threading
import zipfile
from pathlib import Path

import pytest
from small_data import BOXES, CLASSES, voc, write_images

from mmdet_vanilla.datasets import sources
from mmdet_vanilla.datasets.download import DownloadError, checksum, fetch, unpack

CONTENT = bytes(range(256)) * 20_000  # 5 MB


class Server:
    """Serves a folder; ``break_after`` bytes of a file it hangs up, ``breaks`` times."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.break_after, self.breaks, self.ranges = None, 0, True
        self.chunked = False
        self.requests, self.sent = [], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.serve(self)

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, request):
        wanted = request.headers.get('Range')
        self.requests.append(wanted)
        path = self.folder / request.path.lstrip('/')
        if not path.is_file():
            return request.send_error(404)
        data = path.read_bytes()
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if start >= len(data):
            request.send_response(416)
            request.send_header('Content-Range', f'bytes */{len(data)}')
            request.end_headers()
            return None
        request.send_response(206 if start else 200)
        if self.chunked:
            request.send_header('Transfer-Encoding', 'chunked')
        else:
            request.send_header('Content-Length', str(len(data) - start))
        request.end_headers()
        rest = data[start:]
        if self.breaks:
            self.breaks -= 1
            rest = rest[: self.break_after]
        chunk = b'%x\r\n' % (len(data) - start) if self.chunked else b''
        request.wfile.write(chunk + rest)
        if self.chunked and start + len(rest) == len(data):
            request.wfile.write(b'\r\n0\r\n\r\n')
        self.sent += len(rest)
        request.close_connection = True
        return None

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / 'served'
    folder.mkdir()
    (folder / 'file.bin').write_bytes(CONTENT)
    server = Server(folder)
    yield server
    server.close()


@pytest.mark.parametrize('ranges', [True, False])
def test_goes_on_where_it_broke(server, tmp_path, ranges):
    server.ranges, server.breaks, server.break_after = ranges, 2, 2_000_000
    path = tmp_path / 'out' / 'file.bin'
    md5 = checksum(server.folder / 'file.bin')
    seen = []
    fetch(f'{server.url}/file.bin', path, md5, lambda *args: seen.append(args), pause=0)
    assert path.read_bytes() == CONTENT and not list(path.parent.glob('*.part'))
    assert server.requests == [None, 'bytes=2000000-', f'bytes={4 if ranges else 2}000000-']
    if ranges:
        assert server.sent == len(CONTENT)
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    fetch('http://127.0.0.1:1/never-asked', path)


def test_goes_on_within_a_chunk(server, tmp_path):
    server.chunked, server.breaks, server.break_after = True, 3, 300_000
    path = tmp_path / 'file.bin'
    fetch(f'{server.url}/file.bin', path, checksum(server.folder / 'file.bin'), pause=0)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, *(f'bytes={i}00000-' for i in (3, 6, 9))]


def test_goes_on_in_a_later_call(server, tmp_path):
    server.breaks, server.break_after = 1, 0
    path = tmp_path / 'file.bin'
    (tmp_path / 'file.bin.part').write_bytes(CONTENT[:3_000_000])
    with pytest.raises(DownloadError, match='goes on after 3000000 bytes'):
        fetch(f'{server.url}/file.bin', path, attempts=1)
    assert not path.exists()
    fetch(f'{server.url}/file.bin', path)
    assert path.read_bytes() == CONTENT and server.requests[-1] == 'bytes=3000000-'


def test_all_there_but_the_name(server, tmp_path):
    (tmp_path / 'file.bin.part').write_bytes(CONTENT)
    assert fetch(f'{server.url}/file.bin', tmp_path / 'file.bin').read_bytes() == CONTENT


def test_damaged(server, tmp_path):
    (tmp_path / 'file.bin.part').write_bytes(b'x' * 3_000_000)
    md5 = checksum(server.folder / 'file.bin')
    with pytest.raises(DownloadError, match='Start again'):
        fetch(f'{server.url}/file.bin', tmp_path / 'file.bin', md5)
    assert not (tmp_path / 'file.bin').exists()
    fetch(f'{server.url}/file.bin', tmp_path / 'file.bin', md5)


def test_offline_and_missing(server, tmp_path):
    with pytest.raises(DownloadError, match='answers 404'):
        fetch(f'{server.url}/other.bin', tmp_path / 'x')
    with pytest.raises(DownloadError, match='Is this machine online.*by hand'):
        fetch('http://127.0.0.1:1/file.bin', tmp_path / 'x', pause=0)
    with pytest.raises(DownloadError, match='cannot be downloaded'):
        fetch('http://no-such-host.invalid/file.bin', tmp_path / 'x', attempts=1)
    assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('mirror', ['foo', 'http://host:port', 'http://a b', 'http://[x'])
def test_addresses_that_are_none(tmp_path, mirror):
    with pytest.raises(DownloadError, match='is not an address'):
        sources.download('bccd', tmp_path, mirror=mirror)


@pytest.mark.parametrize('out', ['file', 'file/below'])
def test_no_folder_to_download_to(tmp_path, out):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DownloadError, match=f'{out} cannot be made a folder'):
        sources.download('bccd', tmp_path / out, mirror='http://127.0.0.1:1')


def make_zip(path, members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_unpack(tmp_path):
    path = make_zip(tmp_path / 'a.zip', {'x/a.txt': 'one', 'x/b.txt': 'two', 'x/c/': ''})
    unpack(path, tmp_path / 'out')
    (tmp_path / 'out' / 'x' / 'a.txt').write_text('eno')  # of the same size: taken as there
    (tmp_path / 'out' / 'x' / 'b.txt').write_text('half of it')
    unpack(path, tmp_path / 'out')
    assert (tmp_path / 'out' / 'x' / 'a.txt').read_text() == 'eno'
    assert (tmp_path / 'out' / 'x' / 'b.txt').read_text() == 'two'


@pytest.mark.parametrize('name', ['../a', '/tmp/a', 'x/../../a', '..\\a', 'C:/a'])
def test_archives_stay_inside(tmp_path, name):
    path = make_zip(tmp_path / 'a.zip', {'good': 'x', name: 'bad'})
    with pytest.raises(DownloadError, match='outside of its folder'):
        unpack(path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'a').exists()


def test_links_bombs_and_damage(tmp_path):
    link = zipfile.ZipInfo('link')
    link.external_attr = 0o120777 << 16
    path = tmp_path / 'link.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(link, '/etc/passwd')
    with pytest.raises(DownloadError, match='holds a link'):
        unpack(path, tmp_path / 'out')
    bomb = make_zip(tmp_path / 'bomb.zip', {'zeros': bytes(101_000_000)})
    with pytest.raises(DownloadError, match='--largest-ratio'):
        unpack(bomb, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    unpack(bomb, tmp_path / 'out', largest_ratio=2000)
    assert (tmp_path / 'out' / 'zeros').stat().st_size == 101_000_000
    bomb.write_bytes(bomb.read_bytes()[:500])
    with pytest.raises(DownloadError, match='damaged archive'):
        unpack(bomb, tmp_path / 'other')


@pytest.mark.parametrize('method', [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_flipped_bytes(tmp_path, method):
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w', method) as archive:
        archive.writestr('a.txt', bytes(range(256)) * 2)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 2):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
        try:
            unpack(path, tmp_path / str(place))
        except DownloadError:
            refused += 1
    assert refused > len(data) / 4


def test_coco_archives(server, tmp_path, monkeypatch):
    content = {'val2017/1.jpg': 'a', 'val2017/2.jpg': 'b'}
    path = make_zip(server.folder / 'val2017.zip', content)
    archives = dict(coco2017=(sources.Archive(f'{sources.COCO}/val2017.zip', checksum(path)),))
    monkeypatch.setattr(sources, 'ARCHIVES', archives)
    for _ in range(2):
        sources.download('coco2017', tmp_path / 'coco', mirror=server.url, only='val')
        assert (tmp_path / 'coco' / 'val2017' / '2.jpg').read_text() == 'b'
    assert len(server.requests) == 1 and not (tmp_path / 'coco' / 'val2017.zip').exists()
    with pytest.raises(DownloadError, match="no archive with 'test'"):
        sources.download('coco2017', tmp_path / 'coco', only='test')


def test_bccd(server, tmp_path, monkeypatch):
    """An archive laid out as BCCD's becomes what configs/bccd reads; other photographs do not."""
    root = tmp_path / 'BCCD_Dataset-master' / 'BCCD'
    names = dict(zip(BOXES, CLASSES * 2))
    write_images(root / 'JPEGImages', names)
    (root / 'Annotations').mkdir()
    for name in names:
        text = voc(name, [('WBC', *box) for _, *box in BOXES[name]])
        (root / 'Annotations' / name.replace('.jpg', '.xml')).write_text(text)
    main = root / 'ImageSets' / 'Main'
    main.mkdir(parents=True)
    for split, members in (('train', 'ab'), ('val', 'cd'), ('test', 'e')):
        (main / f'{split}.txt').write_text('\n'.join(members))
    files = {str(p.relative_to(tmp_path)): p.read_bytes() for p in root.rglob('*') if p.is_file()}
    make_zip(server.folder / 'master.zip', files)
    with pytest.raises(DownloadError, match='has changed, or the download is damaged'):
        sources.download('bccd', tmp_path / 'bccd', mirror=server.url)
    monkeypatch.setattr(sources, '_BCCD_IMAGES', 5)
    digest = sources.photograph_digest((root / 'JPEGImages').iterdir())
    monkeypatch.setattr(sources, '_BCCD_DIGEST', digest)
    sources.download('bccd', tmp_path / 'bccd', mirror=server.url)
    found = sorted(p.name for p in (tmp_path / 'bccd').iterdir() if not p.name.startswith('.'))
    assert found == ['test', 'test.json', 'train', 'train.json', 'val', 'val.json']
    assert sorted(p.name for p in (tmp_path / 'bccd' / 'val').iterdir()) == ['c.jpg', 'd.jpg']
