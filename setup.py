"""Build script: package metadata, and the folder that mmengine and mim look configs up in."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What `mmdet_vanilla::...` and mim find below mmdet_vanilla/.mim.
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Puts configs, tools and the model index into ``mmdet_vanilla/.mim``.

    A wheel carries copies; an editable install gets links to the originals.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            self._fill(ROOT / 'mmdet_vanilla' / '.mim', self._link)
        else:
            self._fill(Path(self.build_lib) / 'mmdet_vanilla' / '.mim', self._copy)

    def _fill(self, folder, put):
        if folder.is_symlink() or folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for name in MIM_CONTENT:
            put(ROOT / name, folder / name)

    @staticmethod
    def _link(source, target):
        target.symlink_to(os.path.relpath(source, target.parent))

    @staticmethod
    def _copy(source, target):
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(source, target)


def read_version():
    text = (ROOT / 'mmdet_vanilla' / 'version.py').read_text()
    return re.search(r"__version__ = '(.+)'", text).group(1)


def read_requirements(name):
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    lines = [line.split('#')[0].strip() for line in lines]
    return [line for line in lines if line and not line.startswith('-')]


EXTRAS = {
    # The default stack: to be named, never implied.
    'onedl': read_requirements('stack.txt'),
    'demo': read_requirements('demo.txt'),
    # All but mmdeploy, which would install OpenMMLab's mmengine over the other: docs/deployment.md.
    'export': read_requirements('deploy.txt'),
    'tests': read_requirements('tests.txt') + read_requirements('demo.txt'),
}
EXTRAS['all'] = sorted({line for name in ('demo', 'export') for line in EXTRAS[name]})

setup(
    name='mmdet_vanilla',
    version=read_version(),
    description='VanillaNet backbones and RT-DETR for MMDetection 3.x',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmdet_vanilla', 'mmdet_vanilla.*']),
    # torch, mmengine, mmcv and mmdet come from one of two stacks with the same import names: as
    # requirements, pip would install one stack over the other. The package checks them on import.
    install_requires=read_requirements('runtime.txt'),
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
