"""The running pool: programs offer named arrays and demand them in the layout they want.

See `connect`. What is here stands in ``__init__.pyi``, and is loaded when it is first asked for:
Dask takes more than a second, which `maestro --help` need not wait for.
"""

import _maestro_pool  # noqa: F401  (refuses foreign packages of our names)

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
