"""What a front door says when the plugin behind it is not there, or is there and lacks something itself."""

from __future__ import annotations

__all__ = ["closed"]


def closed(plugin: str, error: ModuleNotFoundError) -> ImportError:
    """Return the error that a door raises, for ``error``, which importing the package ``plugin`` raised."""
    distribution = plugin.replace("_", "-")
    install = f"from the checkout: pip install ./pythia_core ./plugins/{plugin}"
    if error.name == plugin:
        text = f"the plugin {distribution} is not installed; install it {install}"
    else:
        text = f"the plugin {distribution} is installed, but {error.name}, which it needs, is not; repair it {install}"
    return ImportError(text, name=error.name)
