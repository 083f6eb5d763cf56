"""Under which name this package is installed, how its extras are added, and which version runs."""

from importlib import metadata

from keyhole import __version__
from keyhole.errors import MissingExtraError

IMPORTED = "keyhole"  # the module and the command
DISTRIBUTION = "keyhole-ae"  # on the package index `keyhole` is another project's name


def install_command(*extras: str, upgrade: bool = False) -> str:
    """The command that installs this package with these extras.

    Where it is installed already, pip adds what the extras need and asks no index for keyhole.
    """
    if upgrade:
        return f"pip install --upgrade {DISTRIBUTION}"
    return f'pip install "{DISTRIBUTION}[{",".join(extras)}]"'


def missing_extra(library: str, purpose: str, extra: str) -> MissingExtraError:
    """The error for an optional library that is not installed; `purpose` completes "needed to"."""
    return MissingExtraError(
        f"{library} is not installed, and is needed to {purpose}: {install_command(extra)}"
    )


def version_of(package: str) -> str:
    """The version of an installed package, or "unknown"; keyhole's own is the one that runs."""
    if package in {IMPORTED, DISTRIBUTION}:
        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
