__version__ = "0.2.0"

from .process import prepare_process as _prepare_process

__all__ = ["Project", "Run", "TextureStudio", "Textures", "UserError", "load_images"]

_prepare_process()   # before any module here loads PyTorch


def __getattr__(name):
    "A name of the front door, which is loaded when it is first asked for"
    if name in __all__:
        from . import front

        return getattr(front, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
