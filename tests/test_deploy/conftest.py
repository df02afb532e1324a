"""Needs the packages of requirements/deploy.txt and mmdeploy."""

import importlib.util

collect_ignore_glob = []
if not all(importlib.util.find_spec(name) for name in ('mmdeploy', 'onnx', 'onnxruntime')):
    collect_ignore_glob.append('test_*.py')
