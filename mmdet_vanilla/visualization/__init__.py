from .contact_sheet import contact_sheet
from .curves import plot_curves, read_scalars

__all__ = ['contact_sheet', 'plot_curves', 'read_scalars']
