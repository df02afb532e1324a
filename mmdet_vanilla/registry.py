"""A child of each of mmdet's registries, so that configs can name this package as their scope.

The package's classes are registered in mmdet's own registries; these are empty. mmengine marks
what it loads from ``mmdet_vanilla::...`` with the scope ``mmdet_vanilla`` and looks for a registry
of that scope: a child finds everything in its parents.
"""

import mmdet.registry as _mmdet
from mmengine.registry import Registry

SCOPE = 'mmdet_vanilla'

for _name, _parent in vars(_mmdet).copy().items():
    if isinstance(_parent, Registry) and _parent.scope == 'mmdet':
        # Without a location, mmengine would look for a function that registers everything.
        globals()[_name] = Registry(
            _parent.name, parent=_parent, scope=SCOPE, locations=['mmdet_vanilla']
        )
