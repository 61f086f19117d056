__version__ = "0.2.0"

from .process import prepare_process as _prepare_process

_prepare_process()   # before any module here loads PyTorch
