from .compare import Comparison, compare
from .errors import ComparisonError
from .items import Item, parse_item, parse_items
from .race import Budget
from .settings import Settings

__all__ = [
    'Budget',
    'Comparison',
    'ComparisonError',
    'Item',
    'Settings',
    'compare',
    'parse_item',
    'parse_items',
]
